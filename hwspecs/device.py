"""Device: one accelerator as data. Every number has a unit, a range and, in `sources`, where it comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from hwspecs import catalogue
from hwspecs.nodes import Node
from hwspecs.spec import CONFIG, Doc, Quantity

DTYPES = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")

FlopPerCycle = Annotated[float, Quantity("FLOP/cycle", ge=0, doc="peak per SM and cycle for this dtype; 0: has none")]
VectorFlopPerCycle = Annotated[float, Quantity("FLOP/cycle", gt=0, doc="peak per SM and cycle for this dtype")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class StreamingMultiprocessor:
    """What blocks share on one SM."""

    shared_memory: Annotated[float, Quantity("B", gt=0, doc="shared memory of one SM that blocks can use")]
    registers: Annotated[float, Quantity("B", gt=0, doc="register file of one SM")]
    max_threads: Annotated[int, Quantity(ge=1, doc="resident threads of one SM")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Tensor:
    """Matrix units: FLOP (multiply and add are 2) per cycle and SM, dense; integer operations for int8."""

    fp32: FlopPerCycle = 0.0
    tf32: FlopPerCycle = 0.0
    fp16: FlopPerCycle = 0.0
    bf16: FlopPerCycle = 0.0
    int8: FlopPerCycle = 0.0
    fp8: FlopPerCycle = 0.0
    sustained: Annotated[
        float, Quantity(gt=0, le=1, doc="sustained / peak rate of long matrix products (power, clocks)")
    ]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Vector:
    """Vector lanes: FLOP per cycle and SM; dtypes without packed arithmetic run at the rate of fp32."""

    fp32: VectorFlopPerCycle
    tf32: VectorFlopPerCycle
    fp16: VectorFlopPerCycle
    bf16: VectorFlopPerCycle
    int8: VectorFlopPerCycle
    fp8: VectorFlopPerCycle


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class L2:
    """The cache that all SMs share."""

    capacity: Annotated[float, Quantity("B", gt=0, doc="capacity of the L2")]
    partitions: Annotated[int, Quantity(ge=1, doc="parts that may each hold a copy of a line that all SMs read")]
    bandwidth: Annotated[float, Quantity("B/cycle", gt=0, doc="reads of all SMs together, per SM clock cycle")]
    port: Annotated[float, Quantity("B/cycle", gt=0, doc="reads of one SM, per SM clock cycle")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Hbm:
    """Device memory."""

    bandwidth: Annotated[float, Quantity("B/s", gt=0, doc="peak bandwidth of device memory")]
    capacity: Annotated[float, Quantity("B", gt=0, doc="capacity of device memory")]
    latency: Annotated[float, Quantity("s", gt=0, doc="load to use of a read that misses every cache, unloaded")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Launch:
    """Starting kernels."""

    gap: Annotated[float, Quantity("s", ge=0, doc="device idle between two dependent kernels of one stream")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Power:
    """Electrical power."""

    tdp: Annotated[float, Quantity("W", gt=0, doc="board power limit", descriptive=True)]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Device:
    """One accelerator. Rates that follow from these numbers are methods, never stored."""

    name: Annotated[str, Doc("id: the name of the file", descriptive=True)]
    title: Annotated[str, Doc("name for people", descriptive=True)]
    vendor: Annotated[str, Doc("who makes it", descriptive=True)]
    imaginary: Annotated[bool, Doc("not a product: values are assumptions", descriptive=True)] = False
    sm_count: Annotated[int, Quantity(ge=1, doc="streaming multiprocessors that are enabled")]
    sm_clock: Annotated[float, Quantity("Hz", gt=0, doc="boost clock of the SMs")]
    sm: StreamingMultiprocessor
    tensor: Tensor
    vector: Vector
    exp: Annotated[float, Quantity("op/cycle", gt=0, doc="transcendental operations per SM and cycle")]
    l2: L2
    hbm: Hbm
    launch: Launch
    power: Power
    sources: Annotated[dict[str, str], Doc("field or group of fields -> where its value comes from", descriptive=True)]

    def __post_init__(self) -> None:
        catalogue.check_sources(self)

    def flop_rate(self, engine: Literal["tensor", "vector"], dtype: str) -> float:
        """Peak FLOP/s of the whole device on one engine, at boost clock; 0 if it lacks the dtype there."""
        if dtype not in DTYPES:
            raise ValueError(f"unknown dtype '{dtype}' (known: {', '.join(DTYPES)})")
        per_cycle: float = getattr(self.tensor if engine == "tensor" else self.vector, dtype)
        return self.sm_count * self.sm_clock * per_cycle

    def matmul_rate(self, dtype: str) -> float:
        """Peak FLOP/s of matrix products: the matrix units where they have the dtype, else the vector lanes."""
        return self.flop_rate("tensor", dtype) or self.flop_rate("vector", dtype)

    def ridge(self, dtype: str) -> float:
        """Arithmetic intensity in FLOP/B at which peak matrix rate and peak memory bandwidth take the same time."""
        return self.matmul_rate(dtype) / self.hbm.bandwidth

    @property
    def l2_rate(self) -> float:
        """Peak L2 read bandwidth of all SMs in B/s."""
        return min(self.l2.bandwidth, self.l2.port * self.sm_count) * self.sm_clock

    @property
    def exp_rate(self) -> float:
        """Transcendental operations per second of the whole device."""
        return self.sm_count * self.sm_clock * self.exp


def device_names() -> list[str]:
    """The devices that framecast carries, sorted."""
    return catalogue.names(catalogue.DATA)


def device_node(name: str) -> Node:
    """The tree of a device, to override fields of and `build`; `name` is an id or a path to a YAML file. SpecError."""
    return catalogue.node("device", catalogue.DATA, name)


def load(name: str) -> Device:
    """A device by its id or the path to its YAML file. SpecError if there is none or it is not valid."""
    return catalogue.load(Device, "device", catalogue.DATA, name)
