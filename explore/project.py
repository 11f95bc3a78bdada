"""Projection: one model at many frame counts and image sizes on one device, and where temporal attention overtakes spatial.

The `project:` section names `frames` and `sizes`. Spatial attention is the self-attention of the network that has temporal
attention too (a text encoder's is not); the FLOPs of its two products grow with F, those of temporal attention with F².
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from explore import horizon
from explore.horizon import Horizon
from explore.project_spec import Project, Size
from hwspecs import spec
from hwspecs.errors import SpecError
from hwspecs.nodes import Node
from hwspecs.rates import rates
from sim.memory import memory
from sim.result import Floats, Priced, call_class, call_role
from sim.scenario import Scenario, section, uncorrected
from sim.simulate import price
from workloads.kind import REPORT_CLASSES, Ints
from workloads.model import denoising, find, models, shown
from workloads.ops.attention import ROLES
from workloads.parametric import missing, over_frames
from workloads.trace import Trace

SPATIAL, TEMPORAL, JOINT, CROSS, CONVOLUTION, LINEAR, REST = GROUPS = horizon.GROUPS
CAPTURE_SECONDS = 3.0  # one capture on two CPU cores (a UNet of 1,600 calls, twice); for what is said before the start
POINT_SECONDS = 0.4  # pricing one point, with what it is compared to


@dataclass(frozen=True)
class Group:
    """One group of operators over one inference: seconds of kernel time, FLOPs, HBM bytes, calls.

    peak_bytes: the most memory in use while one of its calls runs. scores_bytes: its largest score matrix, which unfused
    attention writes to memory; 0 where it has none.
    """

    time: float
    flops: int
    hbm_bytes: float
    calls: int
    peak_bytes: float
    scores_bytes: float


@dataclass(frozen=True)
class Point:
    """One size and frame count: `groups` by name, all GROUPS; seconds, bytes, where the peak of memory is.

    not_calibrated: share of kernel time without a measurement behind it.
    """

    height: int
    width: int
    frames: int
    groups: Mapping[str, Group]
    latency: float
    peak_bytes: float
    at: str
    fits: bool
    not_calibrated: float

    @property
    def gpu_time(self) -> float:
        """Seconds of kernel time."""
        return sum(group.time for group in self.groups.values())


@dataclass(frozen=True)
class Crossover:
    """Where temporal attention overtakes spatial attention at one size, in frames.

    Attributes:
        flops: A_s / A_t, with FLOPs A_s F of spatial and A_t F² of temporal attention; None where they are not of that form.
        times: every frame count at which the order of their times changes, interpolated between the counts asked for.
        first_above: temporal attention takes longer already at the least count asked for.
    """

    height: int
    width: int
    flops: Fraction | None
    times: tuple[float, ...]
    first_above: bool

    @property
    def time(self) -> float | None:
        """The first frame count at which temporal attention comes to take longer; None where it does not, or did before."""
        rising = self.times[1:] if self.first_above else self.times
        return rising[0] if rising else None


@dataclass(frozen=True)
class Projection:
    """Points in the order of sizes and then of frames; a crossover and a horizon for each size."""

    scenario: Scenario
    points: tuple[Point, ...]
    crossovers: tuple[Crossover, ...]
    horizons: tuple[Horizon, ...] = ()
    frames_per_second: float = 24.0

    def seconds(self, frames: float) -> float:
        """How long a clip of so many of the model's frames lasts, those that it puts between them too."""
        return shown(self.scenario.request, frames) / self.frames_per_second

    def of(self, height: int, width: int) -> tuple[Point, ...]:
        """The points of a size, in ascending frames."""
        return tuple(p for p in self.points if (p.height, p.width) == (height, width))


def load(scenario: Scenario) -> tuple[list[Size], list[int]]:
    """Sizes as they are listed and frame counts in ascending order. SpecError with every problem, placed in the file."""
    _check_model(scenario)
    asked = section(scenario, "project", Project)
    node = scenario.sections["project"]
    problems = [
        *_refused(scenario, node, "frames", ("frames",)),
        *_refused(scenario, node, "sizes", ("height", "width")),
    ]
    if problems:
        raise SpecError(problems)
    own = (scenario.request.height, scenario.request.width)
    return list(asked.sizes) or [own], _frames(scenario, asked)


def _frames(scenario: Scenario, asked: Project) -> list[int]:
    """The counts that are listed, of the clips in seconds (the next that the model makes), and of the chunks.
    SpecError for one that the model does not make."""
    model = find(scenario.model)
    step, first = model.frame_step, scenario.request.frames % model.frame_step
    between = getattr(scenario.request, "frames_between", 1)
    asked_for = ((s * asked.frames_per_second - 1) / between + 1 for s in asked.seconds)
    clips = [max(math.ceil((n - first) / step), 0) * step + first for n in asked_for]
    derived = {"seconds": clips, "chunks": [c.frames for c in asked.chunks]}
    problems = []
    for name, counts in derived.items():
        node = scenario.sections["project"].get(name)
        for i, count in enumerate(counts):
            item = node.value[i] if node and isinstance(node.value, list) else scenario.sections["project"]
            try:
                spec.build(
                    model.request, Node({"frames": Node(count, item.source, text=str(count))}, item.source), at=""
                )
            except SpecError as error:
                says = [p.partition("frames: ")[2] for p in error.problems]
                problems += [item.problem(f"project.{name}.{i}", f"{text} frames") for text in says]
    if problems:
        raise SpecError(problems)
    return sorted({*asked.frames, *clips, *derived["chunks"]})


def expected_seconds(scenario: Scenario, sizes: Sequence[Size], frames: Sequence[int]) -> tuple[int, float]:
    """How many captures are still to be made, and about how long a projection takes."""
    captures = sum(missing(scenario.model, _sized(scenario, size), frames) for size in sizes)
    return captures, captures * CAPTURE_SECONDS + len(sizes) * len(frames) * POINT_SECONDS


def project(scenario: Scenario, done: Callable[[int], object] | None = None) -> Projection:
    """Every size and frame count of a scenario's `project:` section. `done` is called with the number of points so far.

    Raises SpecError for a section that cannot be projected, or a module that cannot be captured.
    """
    scenario = uncorrected(scenario)
    sizes, frames = load(scenario)
    asked = section(scenario, "project", Project)
    others = horizon.checked(scenario, asked.devices)
    if asked.axis:
        others |= horizon.on_axis(scenario, asked.axis.field, asked.axis.factors)
    points: list[Point] = []
    horizons = []
    for size in sizes:
        compared = []
        for trace in over_frames(scenario.model, _sized(scenario, size), frames):
            groups = groups_of(trace, _denoiser(scenario, size))
            if not points:
                _check_temporal(scenario, groups, asked)
            points.append(_point(scenario, trace, groups))
            compared.append(horizon.priced(scenario, trace, groups, others, asked.windows, asked.strides))
            if done:
                done(len(points))
        chunks = [(c.frames, c.overlap) for c in asked.chunks]
        horizons.append(horizon.horizon(scenario, size, compared, others, chunks))
    by_size = [points[i : i + len(frames)] for i in range(0, len(points), len(frames))]
    crossovers = tuple(map(_crossover, by_size))
    return Projection(scenario, tuple(points), crossovers, tuple(horizons), asked.frames_per_second)


def groups_of(trace: Trace, denoiser: Collection[str] = ()) -> Ints:
    """Index into GROUPS of each call, (calls,). Attention counts where temporal attention runs in the same segment.

    Where none runs in the segments of `denoiser`, self-attention there is over space and time jointly, and no other counts.
    """
    index, role = call_class(trace), call_role(trace)
    temporal = role == ROLES.index("temporal")
    segment = trace.call_segment()
    denoises = np.array([s.name in denoiser for s in trace.segments])[segment]
    joint = bool(denoises.any() and not (temporal & denoises).any())
    video = denoises if joint else np.isin(segment, np.unique(segment[temporal]))
    group = np.full(trace.calls, GROUPS.index(REST))
    group[index == REPORT_CLASSES.index("Convolution")] = GROUPS.index(CONVOLUTION)
    group[index == REPORT_CLASSES.index("Linear")] = GROUPS.index(LINEAR)
    for name, of in ((JOINT if joint else SPATIAL, "self"), (TEMPORAL, "temporal"), (CROSS, "cross")):
        group[video & (role == ROLES.index(of))] = GROUPS.index(name)
    return group


def _denoiser(scenario: Scenario, size: Size) -> set[str]:
    """Names of the segments that a denoising step runs; of a user's own model, none are known."""
    model, request = find(scenario.model), _sized(scenario, size)
    if model.trace is not None:
        return set()
    stages = model.stages(request)
    return {stages[i].name for i in denoising(model, request)}


def _check_temporal(scenario: Scenario, groups: Ints, asked: Project) -> None:
    """Fewer keys are for temporal attention. SpecError for a model that has none."""
    wanted = [name for name in ("windows", "strides") if getattr(asked, name)]
    if wanted and not (groups == GROUPS.index(TEMPORAL)).any():
        node = scenario.sections["project"]
        text = f"{scenario.model} has no temporal attention; it attends over space and time jointly"
        raise SpecError((node.get(name) or node).problem(f"project.{name}", text) for name in wanted)


def _sized(scenario: Scenario, size: Size) -> Any:
    return replace(scenario.request, height=size[0], width=size[1])


def _point(scenario: Scenario, trace: Trace, groups: Ints) -> Point:
    priced = price(trace, scenario.software, rates(scenario.device), scenario.level)
    held = memory(trace, priced.cost)
    request, cost = trace.request, priced.cost
    time = {covered: cost.time * (cost.covered == covered) for covered in (True, False)}
    backed, other = (float(trace.call_repeats() @ cost.per_call(time[c])) for c in (True, False))
    return Point(
        request["height"], request["width"], request["frames"], dict(_groups(trace, groups, priced, held.profile)),
        priced.latency, held.peak, held.at, held.peak <= scenario.device.hbm.capacity, other / (backed + other),
    )  # fmt: skip


def _groups(trace: Trace, group: Ints, priced: Priced, profile: Floats) -> Iterator[tuple[str, Group]]:
    repeats, flops = trace.call_repeats(), trace.op_flops()[trace.call_op]
    time, hbm = priced.cost.per_call(priced.cost.time), priced.cost.per_call(priced.cost.hbm_bytes)
    scores = _scores(trace)
    for i, name in enumerate(GROUPS):
        mine = group == i
        runs = repeats[mine]
        yield (
            name,
            Group(
                time=float(runs @ time[mine]),
                flops=sum(
                    n * r for n, r in zip(flops[mine].tolist(), runs.tolist(), strict=True)
                ),  # Python ints: exact
                hbm_bytes=float(runs @ hbm[mine]),
                calls=int(runs.sum()),
                peak_bytes=float(profile[mine].max(initial=0.0)),
                scores_bytes=float(scores[mine].max(initial=0)) if name in (SPATIAL, TEMPORAL, JOINT, CROSS) else 0.0,
            ),
        )


def _scores(trace: Trace) -> Ints:
    """Bytes of the score matrix of each call, (calls,); 0 for what is no attention call."""
    sizes = np.zeros(len(trace.op_kind), dtype=np.int64)
    d = trace.dims("attention")
    sizes[trace.ops_of("attention")] = d.batch * d.heads * d.q_len * d.kv_len
    return (sizes * trace.op_itemsize())[trace.call_op]


def _crossover(points: Sequence[Point]) -> Crossover:
    spatial, temporal = ([p.groups[name].time for p in points] for name in (SPATIAL, TEMPORAL))
    return Crossover(
        points[0].height, points[0].width, closed_form(points),
        crossings([p.frames for p in points], spatial, temporal), temporal[0] > spatial[0],
    )  # fmt: skip


def closed_form(points: Sequence[Point]) -> Fraction | None:
    """Frames at which the FLOPs A_s F of spatial and A_t F² of temporal attention are equal: A_s / A_t, exactly.

    None where some point is not on these curves.
    """
    a_s = {Fraction(p.groups[SPATIAL].flops, p.frames) for p in points}
    a_t = {Fraction(p.groups[TEMPORAL].flops, p.frames**2) for p in points}
    return a_s.pop() / a_t.pop() if len(a_s) == len(a_t) == 1 and 0 not in a_t else None


def crossings(frames: Sequence[float], one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    """Where the order of two positive curves changes, interpolated on logarithmic axes; a touch is no change. () for curves of
    zeros, which nothing overtakes.
    """
    if not (np.all(one) and np.all(other)):
        return ()
    x, ratio = np.log(np.asarray(frames, float)), np.log(np.asarray(other, float) / np.asarray(one, float))
    apart = np.flatnonzero(ratio)
    x, ratio = x[apart], ratio[apart]
    turns = np.flatnonzero(np.sign(ratio[1:]) != np.sign(ratio[:-1]))
    return tuple(float(np.exp(x[i] + (x[i + 1] - x[i]) * ratio[i] / (ratio[i] - ratio[i + 1]))) for i in turns)


def _check_model(scenario: Scenario) -> None:
    """A model without frames has nothing to project over."""
    having = [m.id for m in models().values() if _has(m.request, "frames")]
    if not _has(find(scenario.model).request, "frames"):
        text = f"model {scenario.model} has no frames; models with frames: {', '.join(having)}"
        node = scenario.sections.get("project")
        raise SpecError(node.at_key().problem("project", text) if node else f"{scenario.path}: {text}")


def _has(request: type[Any], name: str) -> bool:
    return any(field.path == name for field in spec.fields(request))


def _refused(scenario: Scenario, node: Node, name: str, fields: tuple[str, ...]) -> Iterator[str]:
    """What the model's request says to each item of a list, at the item."""
    items = node.get(name)
    for i, item in enumerate(items.value if items and isinstance(items.value, list) else ()):
        sides = item.value if isinstance(item.value, list) else [item] * len(fields)
        asked = Node(dict(zip(fields, sides, strict=True)), node.source)
        try:
            spec.build(find(scenario.model).request, asked, at=f"project.{name}.{i}")
        except SpecError as error:
            own = re.compile(rf"(project\.{name}\.{i})\.({'|'.join(fields)}):")
            yield from dict.fromkeys(own.sub(r"\1:", problem) for problem in error.problems)
