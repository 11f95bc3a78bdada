"""Device: one accelerator as data. Every number has a unit, a range and, in `sources`, where it comes from."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from hwspecs import catalogue
from hwspecs.nodes import Node
from hwspecs.spec import CONFIG, Doc, Field, Quantity, RuleError, fields

DTYPES = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
# B/cycle of an SM: 32 banks of 32 bits (CUDA C++ Programming Guide, shared memory, compute capability 5 to 9)
SHARED_BANDWIDTH = 128.0
MARKS = ("unsure", "assumption")  # a source that starts with one of these and a colon does not back its value

# Bounds admit any chip that can be imagined, two or more orders of magnitude beyond what is built; a slip of unit is outside.
FlopPerCycle = Annotated[
    float, Quantity("FLOP/cycle", ge=0, le=1e9, doc="peak per SM and cycle for this dtype; 0: has none")
]
TileExtent = Annotated[
    int, Quantity(ge=1, le=65536, doc="extent of the matrix unit's own tile, a power of two; 1: not modelled")
]
VectorFlopPerCycle = Annotated[float, Quantity("FLOP/cycle", ge=1, le=1e9, doc="peak per SM and cycle for this dtype")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class StreamingMultiprocessor:
    """What blocks share on one SM."""

    shared_memory: Annotated[float, Quantity("B", ge=16384, le=1e12, doc="shared memory of one SM that blocks can use")]
    registers: Annotated[float, Quantity("B", ge=16384, le=1e12, doc="register file of one SM")]
    max_threads: Annotated[int, Quantity(ge=32, le=10_000_000, doc="resident threads of one SM")]
    shared_bandwidth: Annotated[
        float,
        Quantity(
            "B/cycle",
            ge=1,
            le=1e9,
            doc="reads of one SM's shared memory, which feed fp32 products that `predict` prices; no run depends on it",
            descriptive=True,
        ),
    ] = SHARED_BANDWIDTH


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class TensorTile:
    """What the matrix unit computes at least: m output rows, n output columns, k deep. Work is padded to whole tiles.

    A tensor core: its instruction. A weight-stationary systolic array of k x n cells: m is the rows that must stream
    through to hide the loading of the next weights. Powers of two, so that of two tiles the smaller never pads more.
    """

    m: TileExtent = 1
    n: TileExtent = 1
    k: TileExtent = 1

    def __post_init__(self) -> None:
        wrong = [(name, value) for name in "mnk" if (value := getattr(self, name)) & (value - 1)]
        if wrong:
            raise RuleError((name, f"found {value}, expected a power of two") for name, value in wrong)


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
        float, Quantity(ge=0.01, le=1, doc="sustained / peak rate of long matrix products (power, clocks)")
    ]
    older: Annotated[
        float,
        Quantity(
            ge=0.01,
            le=1,
            doc="share of the matrix rate that kernels written for the instructions of the generation before reach",
        ),
    ] = 1.0
    tile: TensorTile = TensorTile()
    fill: Annotated[
        float,
        Quantity(
            "cycle",
            ge=0,
            le=1e6,
            doc="to fill and drain the matrix unit, per pass of one weight tile, where nothing hides it",
        ),
    ] = 0.0


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

    capacity: Annotated[float, Quantity("B", ge=1024, le=1e15, doc="capacity of the L2")]
    partitions: Annotated[
        int, Quantity(ge=1, le=1000, doc="parts that may each hold a copy of a line that all SMs read")
    ]
    bandwidth: Annotated[float, Quantity("B/cycle", ge=1, le=1e9, doc="reads of all SMs together, per SM clock cycle")]
    port: Annotated[float, Quantity("B/cycle", ge=1, le=1e9, doc="reads of one SM, per SM clock cycle")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Hbm:
    """Device memory."""

    bandwidth: Annotated[float, Quantity("B/s", ge=1e9, le=1e18, doc="peak bandwidth of device memory")]
    capacity: Annotated[float, Quantity("B", ge=1000, le=1e18, doc="capacity of device memory")]
    latency: Annotated[
        float, Quantity("s", ge=1e-9, le=1e-2, doc="load to use of a read that misses every cache, unloaded")
    ]
    inline_ecc: Annotated[
        bool, Doc("check bits lie beside the data, as on GDDR boards with ECC on, and cost streams bandwidth")
    ] = False


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Launch:
    """Starting kernels."""

    gap: Annotated[float, Quantity("s", ge=0, le=1, doc="device idle between two dependent kernels of one stream")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Power:
    """Electrical power."""

    tdp: Annotated[float, Quantity("W", gt=0, le=1e7, doc="board power limit", descriptive=True)]


Enabled = Annotated[float, Quantity(gt=0, le=1, doc="enabled share of what the die has", descriptive=True)]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Silicon:
    """What the device is made of: decides area, power, energy and price, and no time."""

    node: Annotated[
        Literal["16FF", "12FFN", "8N", "N7", "N6", "N5", "4N", "N3E", "N2"], Doc("process node", descriptive=True)
    ]
    dies: Annotated[int, Quantity(ge=1, le=1000, doc="equal dies that share the work", descriptive=True)] = 1
    sm_enabled: Enabled = 1.0
    l2_enabled: Enabled = 1.0
    memory: Annotated[
        Literal["HBM2", "HBM2e", "HBM3", "HBM3e", "HBM4", "GDDR6", "GDDR6X", "GDDR7"],
        Doc("kind of device memory", descriptive=True),
    ]
    memory_unit: Annotated[
        float,
        Quantity("B/s", ge=1e9, le=1e14, doc="bandwidth of one HBM stack or 32-bit GDDR channel", descriptive=True),
    ]
    memory_enabled: Enabled = 1.0
    link: Annotated[
        float, Quantity("B/s", ge=0, le=1e15, doc="links off the package, both directions added", descriptive=True)
    ] = 0.0
    fp64: Annotated[
        float, Quantity("FLOP/cycle", ge=0, le=1e6, doc="double precision on vector lanes, per SM", descriptive=True)
    ] = 0.0
    graphics: Annotated[bool, Doc("the die has a graphics pipeline", descriptive=True)] = False
    area: Annotated[
        float,
        Quantity("mm2", ge=0, le=1e7, doc="known area of all dies, which then wins; 0: estimated", descriptive=True),
    ] = 0.0
    load_power: Annotated[
        float,
        Quantity("W", ge=0, le=1e7, doc="measured power at full load, which then wins; 0: estimated", descriptive=True),
    ] = 0.0


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Device:
    """One accelerator. Rates that follow from these numbers are methods, never stored."""

    name: Annotated[str, Doc("id: the name of the file", descriptive=True)]
    title: Annotated[str, Doc("name for people", descriptive=True)]
    vendor: Annotated[str, Doc("who makes it", descriptive=True)]
    imaginary: Annotated[bool, Doc("not a product: values are assumptions", descriptive=True)] = False
    aliases: Annotated[tuple[str, ...], Doc("names of this device in measurement tables", descriptive=True)] = ()
    sm_count: Annotated[int, Quantity(ge=1, le=100_000, doc="streaming multiprocessors that are enabled")]
    sm_clock: Annotated[float, Quantity("Hz", ge=1e6, le=1e12, doc="boost clock of the SMs")]
    sm: StreamingMultiprocessor
    tensor: Tensor
    vector: Vector
    exp: Annotated[float, Quantity("op/cycle", ge=0.01, le=1e9, doc="transcendental operations per SM and cycle")]
    l2: L2
    hbm: Hbm
    launch: Launch
    power: Power
    silicon: Silicon | None = None
    sources: Annotated[dict[str, str], Doc("field or group of fields -> where its value comes from", descriptive=True)]

    def __post_init__(self) -> None:
        usual = {
            "sm.shared_bandwidth": self.sm.shared_bandwidth == SHARED_BANDWIDTH,
            "hbm.inline_ecc": not self.hbm.inline_ecc,
            "silicon.graphics": not (self.silicon and self.silicon.graphics),
            "silicon": self.silicon is None,
        }
        catalogue.check_sources(self, tuple(path for path, left_out in usual.items() if left_out))

    def doubts(self) -> dict[str, str]:
        """Numbers that no source backs: path of the field -> "unsure" or "assumption", the mark that its source starts with."""
        marks = {f.path: mark(catalogue.source_of(self.sources, f.path)) for f in numbers(self)}
        return {path: found for path, found in marks.items() if found}

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


def numbers(device: Device) -> list[Field]:
    """The numeric fields that a device has, in the order of the file: those of a part that it leaves out are not among them."""
    return [f for f in fields(Device) if f.numeric and (device.silicon or not f.path.startswith("silicon."))]


def mark(source: str) -> str:
    """ "unsure" or "assumption" where a source starts with that word and a colon, else ""."""
    return next((word for word in MARKS if source.startswith(f"{word}:")), "")


def known_as(name: str) -> list[str]:
    """Ids of the devices that a measurement table may mean by `name` (an id or an alias): none, one or more.

    More than one where the name leaves the form open: 'A100-80GB' is an SXM or a PCIe part.
    """
    return list(_aliases().get(_plain(name), ()))


@cache
def _aliases() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for device in map(load, device_names()):
        for alias in dict.fromkeys(_plain(word) for word in (device.name, *device.aliases)):
            found[alias] = (*found.get(alias, ()), device.name)
    return found


def _plain(name: str) -> str:
    """'NVIDIA A100 80GB PCIe', 'a100_80gb_pcie' -> 'a100-80gb-pcie': lower case, hyphens, no vendor's word before it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").removeprefix("nvidia-").removeprefix("tesla-")


def device_names() -> list[str]:
    """The devices that framecast carries, sorted."""
    return catalogue.names(catalogue.DATA)


def device_node(name: str) -> Node:
    """The tree of a device, to override fields of and `build`; `name` is an id or a path to a YAML file. SpecError."""
    return catalogue.node("device", catalogue.DATA, name)


def load(name: str) -> Device:
    """A device by its id or the path to its YAML file. SpecError if there is none or it is not valid."""
    return catalogue.load(Device, "device", catalogue.DATA, name)
