"""What a projection says to someone who chooses hardware or a model: what dominates and where attention over frames overtakes
the rest, the longest clip that fits, what other devices and each improved number of the device change, and what windowed or
sparse temporal attention and generation in overlapping chunks would give.

Attention over frames is temporal attention, or, in a model that has none, the joint attention over space and time. Windowed
attention lets each frame attend to the `window` frames around it: a kernel that works on TILE queries at a time reads the keys
of all their windows. Sparse attention lets every frame attend to the same frames, each `stride`-th one. Chunked generation makes
clips of `frames` that share `overlap` frames with the one before, one after the other: its time is that of a chunk times their
number, its memory that of one chunk. None of them says anything about the quality of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs import device as devices
from hwspecs import power
from hwspecs.device import Device
from hwspecs.errors import SpecError, nearest
from hwspecs.rates import rates
from hwspecs.silicon import anchor
from sim.energy import activity, joules, summed
from sim.memory import memory
from sim.result import Priced
from sim.scenario import Scenario
from sim.simulate import price
from sim.vary import Number, numbers, with_number
from workloads.ops.attention import DIMS, ROLES
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
SPATIAL, TEMPORAL, JOINT, CROSS, CONVOLUTION, LINEAR, REST = GROUPS = (
    "spatial attention", "temporal attention", "joint attention", "cross attention", "convolution", "linear", "rest",
)  # fmt: skip
ELSE = "everything else"
OVERTAKEN = (SPATIAL, CONVOLUTION, LINEAR, ELSE)  # what attention over frames is held against
BETTER = 2.0  # times a number of the device, for what it moves
# Numbers that are doubled, as far as the device has them; the matrix rate is that of the request's dtype.
LEVERS = ("sm_count", "tensor.{dtype}", "exp", "l2.capacity", "l2.bandwidth", "hbm.bandwidth")
CAPACITY = "hbm.capacity"  # changes no time, only what fits
LINK = "silicon.link"  # carries nothing on one device: `Rates` has no link
TILE = 128  # queries that a block of FlashAttention-2 works on at head_dim 64 (its kernels' kBlockM)


@dataclass(frozen=True)
class Run:
    """One way to make a clip on one device: seconds, bytes, joules (None where the device does not say what it is made of).

    groups: seconds of kernel time by GROUPS, (groups,).
    """

    frames: int
    latency: float
    peak_bytes: float
    energy: float | None
    groups: Floats

    @property
    def dominant(self) -> tuple[str, float]:
        """The group with most kernel time, and its share."""
        at = int(np.argmax(self.groups))
        return GROUPS[at], float(self.groups[at] / self.groups.sum())

    def times(self, count: int, frames: int) -> Run:
        """`count` such runs one after the other, which together make `frames`."""
        energy = None if self.energy is None else self.energy * count
        return Run(frames, self.latency * count, self.peak_bytes, energy, self.groups * count)


@dataclass(frozen=True)
class Curve:
    """A way to make clips of one size, over frame counts: `runs` in ascending frames; `capacity` bytes of the device's memory."""

    name: str
    device: str
    capacity: float
    runs: tuple[Run, ...]

    @property
    def over_frames(self) -> str:
        """The group that attends over frames: TEMPORAL, or JOINT where that takes no time."""
        return TEMPORAL if any(run.groups[GROUPS.index(TEMPORAL)] for run in self.runs) else JOINT

    def overtakes(self) -> dict[str, float | None]:
        """Frames from which attention over frames takes longer than each of OVERTAKEN.

        None where it does not within the frames asked for, or where there is nothing to overtake; the least count asked for where
        it does from there on.
        """
        times = np.array([run.groups for run in self.runs])
        over = times[:, GROUPS.index(self.over_frames)]
        against = {name: times[:, GROUPS.index(name)] for name in OVERTAKEN if name != ELSE}
        against[ELSE] = times.sum(axis=1) - over
        frames = [run.frames for run in self.runs]
        return {name: last_rise(frames, other, over) if other.any() else None for name, other in against.items()}

    def longest(self) -> float:
        """Frames of the longest clip that fits: between two counts asked for, on a line; 0 where none does, inf where all do.

        Memory grows at least linearly with frames, so that no longer clip than this fits between the two, and nearly
        this one does.
        """
        return longest_fit([run.frames for run in self.runs], [run.peak_bytes for run in self.runs], self.capacity)


@dataclass(frozen=True)
class Lever:
    """One number of the device BETTER times better: what temporal attention overtakes when, and latency over that of
    the device.
    """

    path: str
    overtakes: Mapping[str, float | None]
    longest: float
    latency: float


@dataclass(frozen=True)
class Horizon:
    """One image size. curves: the scenario's own first, then its windows and chunks, then other devices. levers of
    the own device.
    """

    height: int
    width: int
    curves: tuple[Curve, ...]
    levers: tuple[Lever, ...]

    @property
    def own(self) -> Curve:
        """As the scenario says."""
        return self.curves[0]


@dataclass(frozen=True)
class Compared:
    """One trace of a size on all that is compared: the scenario's own device, others by name, fewer keys by what it is called,
    and levers' groups and latency.
    """

    own: Run
    others: Mapping[str, Run]
    fewer: Mapping[str, Run]
    levers: Mapping[str, tuple[Floats, float]]


def on_axis(scenario: Scenario, field: str, factors: Sequence[float]) -> dict[str, Device]:
    """The scenario's device with one number times each factor, by a name that says so. SpecError for a number that it has not."""
    of = {number.path: number for number in numbers(scenario.device)}
    path = field.removeprefix("device.")
    if path not in of:
        node = scenario.sections["project"].get("axis.field") or scenario.sections["project"]
        raise SpecError(
            node.problem("project.axis.field", f"unknown number '{field}' of the device{nearest(path, of)}")
        )
    number = of[path]
    made = {f"{path} x{f:g}": with_number(scenario.device, number, number.value * f) for f in factors}
    return {name: replace(other, name=name) for name, other in made.items()}


def checked(scenario: Scenario, names: Sequence[str]) -> dict[str, Device]:
    """Other devices by name. SpecError, placed in the file, for one that is unknown or lacks the request's dtype."""
    found, problems = {}, []
    node = scenario.sections["project"].get("devices")
    for i, name in enumerate(names):
        item = node.value[i] if node and isinstance(node.value, list) else scenario.sections["project"]
        try:
            found[name] = devices.load(name)
        except SpecError as error:
            problems += [item.problem(f"project.devices.{i}", text) for text in error.problems]
            continue
        dtype = scenario.request.dtype
        tensor, vector = (getattr(unit, dtype) for unit in (found[name].tensor, found[name].vector))
        if not (tensor or dtype == "fp32" or vector > found[name].vector.fp32):
            problems.append(item.problem(f"project.devices.{i}", f"{name} has no {dtype} arithmetic"))
    if problems:
        raise SpecError(problems)
    return found


def priced(
    scenario: Scenario, trace: Trace, groups: NDArray[np.int64], others: Mapping[str, Device], windows: Sequence[int],
    strides: Sequence[int] = (),
) -> Compared:  # fmt: skip
    """One trace on every device and with every choice of fewer keys; `groups` (calls,) index GROUPS."""
    fewer = {f"window of {w} frames": windowed(trace, w) for w in windows}
    fewer |= {f"every {n}{'nd' if n == 2 else 'rd' if n == 3 else 'th'} frame": sparse(trace, n) for n in strides}
    return Compared(
        run(scenario, trace, groups, scenario.device),
        {name: run(scenario, trace, groups, other) for name, other in others.items()},
        {name: run(scenario, other, groups, scenario.device) for name, other in fewer.items()},
        _levers(scenario, trace, groups),
    )


def horizon(
    scenario: Scenario, size: tuple[int, int], found: Sequence[Compared], others: Mapping[str, Device],
    chunks: Sequence[tuple[int, int]],
) -> Horizon:  # fmt: skip
    """One size from its frame counts in ascending order; `chunks` are (frames, overlap), whose frames are among them."""
    own = Curve("as it is", scenario.device.name, scenario.device.hbm.capacity, tuple(p.own for p in found))
    shorter = (replace(own, name=name, runs=tuple(p.fewer[name] for p in found)) for name in found[0].fewer)
    chunked = (replace(own, name=f"chunks of {c}, {o} shared", runs=tuple(_chunked(own.runs, c, o))) for c, o in chunks)
    elsewhere = (
        Curve("as it is", name, other.hbm.capacity, tuple(p.others[name] for p in found))
        for name, other in others.items()
    )
    return Horizon(
        *size,
        (own, *shorter, *chunked, *elsewhere),
        tuple(_moved(own, found, bool(scenario.device.silicon and scenario.device.silicon.link))),
    )


def run(scenario: Scenario, trace: Trace, groups: NDArray[np.int64], on: Device) -> Run:
    """A trace on a device, at the physical level, which all devices have."""
    done = price(trace, scenario.software, rates(on), "roofline" if scenario.level == "roofline" else "physical")
    times = _by_group(groups, done.cost.per_call(done.cost.time) * trace.call_repeats())
    return Run(trace.request["frames"], done.latency, memory(trace, done.cost).peak, _joules(trace, done, on), times)


def windowed(trace: Trace, window: int) -> Trace:
    """The trace with as many keys in temporal attention as a block of TILE queries with windows of `window` frames reads."""
    return _with_keys(trace, lambda keys, queries: np.minimum(keys, window + np.minimum(queries, TILE) - 1))


def sparse(trace: Trace, stride: int) -> Trace:
    """The trace with one key for every `stride` frames of temporal attention."""
    return _with_keys(trace, lambda keys, _: -(-keys // stride))


def _with_keys(trace: Trace, keys: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]) -> Trace:
    d = trace.op_dims.copy()
    kind = trace.kinds.index("attention") if "attention" in trace.kinds else -1
    mine = (trace.op_kind == kind) & (d[:, DIMS.index("role")] == ROLES.index("temporal"))
    kv_len, q_len = (d[mine, DIMS.index(name)] for name in ("kv_len", "q_len"))
    d[mine, DIMS.index("kv_len")] = keys(kv_len, q_len)
    return replace(trace, op_dims=d)


def chunk_count(frames: int, chunk: int, overlap: int) -> int:
    """Chunks that a clip needs, each but the first adding chunk - overlap frames."""
    return 1 + max(0, -(-(frames - chunk) // (chunk - overlap)))


def last_rise(frames: Sequence[float], other: Floats, one: Floats) -> float | None:
    """Frames from which `one` stays above `other`, interpolated on logarithmic axes; None where it ends below."""
    x, ratio = np.log(np.asarray(frames, float)), np.log(np.maximum(one, 1e-300) / np.maximum(other, 1e-300))
    if ratio[-1] <= 0:
        return None
    below = np.flatnonzero(ratio <= 0)
    if not len(below):
        return float(frames[0])
    i = int(below[-1])
    return float(np.exp(x[i] + (x[i + 1] - x[i]) * ratio[i] / (ratio[i] - ratio[i + 1])))


def longest_fit(frames: Sequence[int], peaks: Sequence[float], capacity: float) -> float:
    """Where a rising line through (frames, peaks) meets a capacity; 0 where it starts above, inf where it ends below."""
    fits = [peak <= capacity for peak in peaks]
    if all(fits) or not fits[0]:
        return float("inf") if all(fits) else 0.0
    i = fits.index(False)
    (a, b), (low, high) = frames[i - 1 : i + 1], peaks[i - 1 : i + 1]
    return float(int(a + (b - a) * (capacity - low) / (high - low)))


def _chunked(runs: Sequence[Run], chunk: int, overlap: int) -> Iterator[Run]:
    one = next(r for r in runs if r.frames == chunk)
    for r in runs:
        yield r if r.frames <= chunk else one.times(chunk_count(r.frames, chunk, overlap), r.frames)


def _levers(scenario: Scenario, trace: Trace, groups: NDArray[np.int64]) -> dict[str, tuple[Floats, float]]:
    """Path -> seconds by group and latency with that number BETTER times better."""
    known = _numbers(scenario)
    designs = [with_number(scenario.device, number, number.value * BETTER) for number in known]
    level = "roofline" if scenario.level == "roofline" else "physical"
    done = price(trace, scenario.software, rates(designs), level)
    each = done.cost.per_call(done.cost.time) * trace.call_repeats()
    latency = np.ravel(
        np.broadcast_to(done.makespan, (len(designs), 1)) if np.ndim(done.makespan) < 1 else done.makespan
    )
    return {number.path: (_by_group(groups, each[i]), float(latency[i])) for i, number in enumerate(known)}


def _by_group(groups: NDArray[np.int64], column: Floats) -> Floats:
    return np.asarray(np.bincount(groups, column, len(GROUPS)), dtype=np.float64)


def _numbers(scenario: Scenario) -> list[Number]:
    asked = [path.format(dtype=scenario.request.dtype) for path in LEVERS]
    of = {number.path: number for number in numbers(scenario.device)}
    return [of[path] for path in asked if path in of]


def _moved(own: Curve, found: Sequence[Compared], linked: bool) -> Iterator[Lever]:
    last = own.runs[-1]
    for path in found[0].levers:
        groups = [p.levers[path][0] for p in found]
        runs = tuple(replace(r, groups=g) for r, g in zip(own.runs, groups, strict=True))
        yield Lever(path, replace(own, runs=runs).overtakes(), own.longest(), found[-1].levers[path][1] / last.latency)
    yield Lever(CAPACITY, own.overtakes(), replace(own, capacity=BETTER * own.capacity).longest(), 1.0)
    if linked:
        yield Lever(LINK, own.overtakes(), own.longest(), 1.0)


def _joules(trace: Trace, done: Priced, on: Device) -> float | None:
    if on.silicon is None:
        return None
    work = summed(activity(done.cost.kernels, done.cost.hbm_bytes), done.runs(trace.call_repeats()))
    terms = joules(work, done.latency, rates(on), on.silicon, anchor(on))
    return float(power.at_board(terms, on.silicon).floats().value)
