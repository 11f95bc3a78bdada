"""A batch of designs -> what each of them costs: times, bytes, memory. Pure: no files, no Optuna.

A `Workload` holds what no device changes. Small stacks, and software that lets a call choose its way per device, go through
the array code of `sim.cost`; large ones through the compiled loops, which give the same to rounding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore import silicon
from hwspecs.device import DTYPES, Device
from hwspecs.rates import Rates, rates
from sim import compiled, traffic
from sim.calibration import load as load_calibration
from sim.cost import Cost, cost
from sim.energy import activity, summed
from sim.host import host_time, serial_makespan
from sim.memory import memory
from sim.packed import Packed, pack
from sim.result import call_class
from sim.scenario import Scenario, check_trace
from workloads.cache import trace_of
from workloads.fields import images_of
from workloads.kind import REPORT_CLASSES
from workloads.lower import Kernels, lower
from workloads.model import denoising, find, shown_frames
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
# Unit of every output; a class that the model does not have takes 0 s. Keys of sweeps, objectives and constraints.
OUTPUTS = {
    "latency_s": "s", "images_per_s": "1/s", "frames_per_s": "1/s", "step_time_s": "s", "gpu_time_s": "s", "hbm_bytes": "B",
    "peak_memory_bytes": "B", "fits": "",
} | {f"{name.lower()}_time_s": "s" for name in REPORT_CLASSES} | silicon.OUTPUTS  # fmt: skip
ARRAY_CHUNK, COMPILED_CHUNK = 32, 4096  # designs priced together: (designs, kernels) temporaries of some 10 and 20 MB
COMPILED_FROM = 512  # designs from which loading the compiled loops (0.5 s, 5 s when they are built) pays
RATES = {
    "device.sm_count": "sm_count",
    "device.sm_clock": "sm_clock",
    "device.sm.shared_memory": "shared_memory",
    "device.sm.registers": "registers",
    "device.sm.max_threads": "max_threads",
    "device.tensor.sustained": "tensor_sustained",
    "device.tensor.older": "tensor_older",
    "device.tensor.fill": "tensor_fill",
    **{f"device.tensor.tile.{extent}": f"tile_{extent}" for extent in "mnk"},
    "device.exp": "exp",
    "device.l2.capacity": "l2_capacity",
    "device.l2.partitions": "l2_partitions",
    "device.l2.bandwidth": "l2_bandwidth",
    "device.l2.port": "l2_port",
    "device.hbm.bandwidth": "hbm_bandwidth",
    "device.hbm.capacity": "hbm_capacity",
    "device.hbm.latency": "hbm_latency",
    "device.launch.gap": "launch_gap",
    **{f"device.{unit}.{dtype}": f"{unit}.{dtype}" for unit in ("tensor", "vector") for dtype in DTYPES},
}
STACKED = RATES | {"device.hbm.inline_ecc": "hbm_inline_ecc"}  # and what is no number, 1 or 0 in columns


@dataclass(frozen=True)
class Workload:
    """A scenario without its device's numbers: what every design of a stack has to run.

    Attributes:
        alone: cost on the scenario's own device.
        runs: (rows,) how often each priced row runs in one inference.
        by_class: (classes, rows) the same, per report class.
        steps: the trace up to the last denoising step, and up to the one before it; () where that has no meaning.
        peak: bytes, None where the way that a design chooses decides it.
    """

    scenario: Scenario
    trace: Trace
    kernels: Kernels
    alone: Cost
    runs: Floats
    by_class: Floats
    steps: tuple[Trace, ...]
    peak: float | None

    @property
    def images(self) -> int:
        """Images (or clips) of one inference."""
        return images_of(self.scenario.request)

    @property
    def frames(self) -> int:
        """Frames of all clips of one inference; 0 for a model of images."""
        return self.images * (shown_frames(self.scenario.request) or 0)

    @cached_property
    def packed(self) -> Packed:
        """The kernels as the compiled loops read them."""
        return pack(self.kernels)

    @cached_property
    def moved(self) -> tuple[Floats, Floats, float]:
        """Bytes of one inference that are read at each distance from their last use, the distances, and bytes written."""
        k, runs = self.kernels, self.runs[self.kernels.row]
        distance, which = np.unique(k.distances, return_inverse=True)
        read = np.bincount(which.reshape(-1), (k.reads * runs).reshape(-1), len(distance)).astype(np.float64)
        return read, distance.astype(np.float64), float((k.write_bytes * runs).sum())

    @property
    def is_compiled(self) -> bool:
        """The compiled loops can price it: the physical level, one way a call."""
        return self.peak is not None and self.scenario.level == "physical"


def prepare(scenario: Scenario) -> Workload:
    """Everything that no device changes. SpecError where the model cannot be captured.

    Designs are compared at the physical level: a learned correction is of one device, and would favour or burden it alone.
    """
    scenario = replace(scenario, level="physical") if scenario.level == "calibrated" else scenario
    trace = trace_of(scenario.model, scenario.request)
    check_trace(scenario, trace)
    kernels = lower(trace, scenario.software)
    alone = cost(kernels, rates(scenario.device), scenario.level)
    repeats, index = trace.call_repeats(), call_class(trace)
    by_class = [np.bincount(kernels.call_row, repeats * (index == c), kernels.rows) for c in range(len(REPORT_CLASSES))]
    return Workload(
        scenario=scenario,
        trace=trace,
        kernels=kernels,
        alone=alone,
        runs=np.bincount(kernels.call_row, repeats, kernels.rows).astype(np.float64),
        by_class=np.array(by_class, dtype=np.float64),
        steps=_steps(trace, denoising(find(scenario.model), scenario.request)),
        peak=memory(trace, alone).peak if len(kernels.starts) == kernels.rows else None,
    )


def evaluate(
    workload: Workload,
    columns: Mapping[str, Floats],
    wanted: Collection[str] = OUTPUTS,
    made: silicon.Made | None = None,
    compiled: bool | None = None,
) -> dict[str, Floats]:
    """Outputs by name, each (designs,), of stacks of device fields by path, each (designs,) in SI units.

    No columns: the scenario's own device alone. made: what each design is made of, where it is not that of the scenario's
    device. compiled: whether the compiled loops may price it, which else the number of designs decides. Raises ValueError for a
    path that is no number of a device and for an output that does not exist.
    """
    if unknown := [*(set(columns) - set(STACKED) - set(silicon.VARIED)), *(set(wanted) - set(OUTPUTS))]:
        raise ValueError(f"no such device field or output: {', '.join(sorted(unknown))}")
    count = len(next(iter(columns.values()))) if columns else 1
    made = made or silicon.Made((workload.scenario.device,), np.zeros(count, dtype=np.int64))
    if of_silicon := {path: column for path, column in columns.items() if path in silicon.VARIED}:
        of_each = silicon.variants(workload.scenario.device, of_silicon)
        made = made._replace(devices=of_each.devices, which=of_each.which)
        columns = timed(workload.scenario.device, columns)
    on_loops = workload.is_compiled and (count >= COMPILED_FROM if compiled is None else compiled)
    chunk = COMPILED_CHUNK if on_loops else ARRAY_CHUNK
    price = _compiled if on_loops else _array
    cut = [{path: column[lo : lo + chunk] for path, column in columns.items()} for lo in range(0, count, chunk)]
    parts = [price(workload, stack(workload, some), wanted, made.part(i * chunk, chunk)) for i, some in enumerate(cut)]
    return {name: np.concatenate([part[name] for part in parts]) for name in OUTPUTS if name in wanted}


def timed(device: Device, columns: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """The columns that times depend on; where there are none, the SMs of the device, so that as many designs are left."""
    kept = {path: column for path, column in columns.items() if path in STACKED}
    if kept or not columns:
        return kept
    return {"device.sm_count": np.full(len(next(iter(columns.values()))), float(device.sm_count))}


def as_columns(devices: Sequence[Device]) -> dict[str, Floats]:
    """Every number of some devices by path, each (devices,): columns of which `evaluate` makes one stack."""
    every = rates(devices)
    numbers: dict[str, Any] = {}
    for path, place in STACKED.items():
        name, _, dtype = place.partition(".")
        value = getattr(every, name)
        numbers[path] = (value[dtype] if dtype else value).reshape(-1)
    return numbers


def stack(workload: Workload, columns: Mapping[str, Floats]) -> Rates:
    """The scenario's device with some fields replaced by columns: arrays (designs, 1)."""
    base = rates(workload.scenario.device)
    count = len(next(iter(columns.values()))) if columns else 1
    tensor, vector = dict(base.tensor), dict(base.vector)
    plain: dict[str, Floats] = {"sm_count": np.full((count, 1), base.sm_count)}  # the one that carries the designs axis
    for path, column in columns.items():
        name, _, dtype = STACKED[path].partition(".")
        tall = np.asarray(column, dtype=np.float64)[:, None]
        if dtype:
            (tensor if name == "tensor" else vector)[dtype] = tall
        else:
            plain[name] = tall
    for of_dtype in (tensor, vector):  # where one dtype's rate differs from design to design, each has the designs axis
        if any(np.ndim(rate) for rate in of_dtype.values()):
            of_dtype.update({dtype: np.broadcast_to(rate, (count, 1)) for dtype, rate in of_dtype.items()})
    return replace(base, tensor=tensor, vector=vector, **plain)


def _array(w: Workload, on: Rates, wanted: Collection[str], made: silicon.Made) -> dict[str, Floats]:
    """By `sim.cost`, any level and any ways."""
    c = cost(w.kernels, on, w.scenario.level)
    gpu, host = c.per_call(c.time + c.gap), host_time(w.trace, c, w.scenario.software)

    def end(trace: Trace) -> Floats:
        stop = trace.segments[-1].stop if trace.segments else 0
        return serial_makespan(gpu[..., :stop], host[..., :stop], trace)

    hbm = c.per_row(c.hbm_bytes) @ w.runs
    peak = np.full(on.designs, w.peak) if w.peak is not None else _peaks(w, c)
    ends = [end(w.trace), *(end(t) for t in _asked(w, wanted))]
    found = _outputs(w, on, c.per_row(c.time).T, ends, peak, wanted) | {"hbm_bytes": hbm}
    return found | _silicon(w, on, found, c.chosen, wanted, made)


def _compiled(w: Workload, on: Rates, wanted: Collection[str], made: silicon.Made) -> dict[str, Floats]:
    """By the compiled loops."""
    priced = compiled.price(w.packed, on)

    def end(trace: Trace) -> Floats:
        if not trace.segments:
            return np.zeros(on.designs)
        return compiled.latency(priced, w.kernels, trace, on, w.scenario.software)

    ends = [end(w.trace), *(end(t) for t in _asked(w, wanted))]
    found = _outputs(w, on, priced.time, ends, np.full(on.designs, w.peak), wanted)
    if "hbm_bytes" in wanted or silicon.asked(wanted):
        found["hbm_bytes"] = _hbm_bytes(w, on)
    return found | _silicon(w, on, found, np.ones((1, len(w.kernels)), dtype=bool), wanted, made)


def _silicon(
    w: Workload,
    on: Rates,
    found: Mapping[str, Floats],
    chosen: NDArray[np.bool_],
    wanted: Collection[str],
    made: silicon.Made,
) -> dict[str, Floats]:
    """Energy, area, power and price, where they are wanted. chosen: (designs, kernels), or (1, kernels) of all designs."""
    if not silicon.asked(wanted):
        return {}
    per_kernel = activity(w.kernels, np.zeros(len(w.kernels)))  # bytes through HBM are summed already
    done = replace(summed(per_kernel, w.runs[w.kernels.row] * chosen), hbm_bytes=found["hbm_bytes"][:, None])
    return silicon.outputs(done, found["latency_s"], w.images, on, made, wanted)


def _asked(w: Workload, wanted: Collection[str]) -> tuple[Trace, ...]:
    return w.steps if "step_time_s" in wanted else ()


def _outputs(
    w: Workload, on: Rates, time: Floats, ends: list[Floats], peak: Floats, wanted: Collection[str]
) -> dict[str, Floats]:
    """time: (rows, designs) seconds of one run of each row. ends: of the whole, and of the last two denoising steps."""
    step = ends[1] - ends[2] if len(ends) == 3 else np.full(on.designs, np.nan)
    capacity = np.broadcast_to(np.asarray(on.hbm_capacity).reshape(-1), peak.shape)
    found: dict[str, Floats] = {
        "latency_s": ends[0],
        "images_per_s": w.images / ends[0],
        "frames_per_s": w.frames / ends[0] if w.frames else np.full(on.designs, np.nan),
        "step_time_s": step,
        "peak_memory_bytes": peak,
        "fits": np.asarray(peak <= capacity, dtype=bool),
    }
    if "gpu_time_s" in wanted:
        found["gpu_time_s"] = _summed(w.runs, time)
    for name, runs in zip(REPORT_CLASSES, w.by_class, strict=True):
        if (output := f"{name.lower()}_time_s") in wanted:
            found[output] = _summed(runs, time)
    return found


def _hbm_bytes(w: Workload, on: Rates) -> Floats:
    """Bytes through HBM of one inference, (designs,); they depend on how far the L2 reaches and on nothing else."""
    per_copy = np.broadcast_to(
        np.asarray(on.l2_capacity / on.l2_partitions, dtype=np.float64).reshape(-1), (on.designs,)
    )
    distinct, which = np.unique(per_copy, return_inverse=True)
    read, distance, written = w.moved
    on_each = replace(on, l2_capacity=distinct, l2_partitions=1.0)
    missing = traffic.miss(distance[:, None], on_each, load_calibration().terms)
    return np.asarray(written + _summed(read, missing))[which]


def _summed(weights: Floats, values: Floats) -> Floats:
    """weights (rows,) times values (rows, designs), summed over rows in their order, so that no design's sum depends on how
    many are priced with it."""
    out = np.zeros(values.shape[1])
    for row in np.flatnonzero(weights):
        out += weights[row] * values[row]
    return out


def _peaks(w: Workload, c: Cost) -> Floats:
    """Peak memory of each design, from the ways that it chose."""
    patterns, which = np.unique(c.chosen, axis=0, return_inverse=True)
    each = [memory(w.trace, replace(w.alone, chosen=pattern)).peak for pattern in patterns]
    return np.array(each)[which.reshape(-1)]


def _steps(trace: Trace, denoising: tuple[int, ...]) -> tuple[Trace, ...]:
    """The trace up to the end of the last step, and up to the one before it, of a model whose steps are of one segment."""
    if len(set(denoising)) != 1:
        return ()
    *before, last = trace.segments[: denoising[0] + 1]
    rest = last.repeats - len(denoising)
    shorter = (*before, replace(last, repeats=rest)) if rest else tuple(before)
    return replace(trace, segments=(*before, last)), replace(trace, segments=shorter)
