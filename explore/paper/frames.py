"""Attention over pixels, over frames, and over both jointly, as the number of frames and the resolution grow:
shapes, exact FLOPs, the closed form of their crossover, and their time.

A spatial call has batch ~ F and length H W, a temporal call batch ~ H W and length F, with heads and head_dim of the
network. Joint
attention, as video transformers of today have it, has batch of the clips and length F H W: FLOPs grow with F² H² W².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from explore.paper.suite import VIDEO, Suite, with_attention
from hwspecs.rates import Rates
from sim.cost import cost
from workloads.kind import kinds
from workloads.lower import lower
from workloads.ops.attention import ROLES
from workloads.trace import Segment, Trace
from workloads.views import attention

COUNTED = (
    1 << 62
)  # FLOPs that a column of 64 bits holds; a larger call is priced as one head, which fills any device, times heads
SPATIAL, TEMPORAL, JOINT = CALLS = ("spatial", "temporal", "joint")
NETWORKS = ("decoder", "interpolation")  # of Make-A-Video
FRAMES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
LONGER = (8192, 16384, 32768)  # for spatial and temporal attention alone, as long as the temporal one takes less time

Timed: TypeAlias = tuple[int, str, int, float]  # frames, call, FLOPs, seconds of one inference


@dataclass(frozen=True)
class Shape:
    """One level of a video network at one resolution: both attentions over [clips, frames, pixels] with heads of head_dim.

    extra: keys of the spatial attention beyond its pixels (of a prompt). spatial, temporal: calls of one pass; repeats: passes.
    label: of the attention operators, which names the library that unfused attention follows (`workloads.baselines`).
    interleaved: 1 where heads lie inside the tokens, so that an unfused product of several sequences copies them apart.
    """

    clips: int
    frames: int
    pixels: int
    heads: int
    head_dim: int
    extra: int
    spatial: int
    temporal: int
    repeats: int
    label: str = "attention"
    interleaved: int = 1

    def scaled(self, side: int) -> Shape:
        """At `side` times the height and width."""
        return replace(self, pixels=self.pixels * side * side)

    def at(self, frames: int) -> Shape:
        """At another frame count."""
        return replace(self, frames=frames)

    def dims(self, call: str) -> dict[str, int]:
        """Dimensions of one call of an attention."""
        both = {
            "heads": self.heads,
            "kv_heads": self.heads,
            "head_dim": self.head_dim,
            "causal": 0,
            "interleaved": self.interleaved,
            "mask": 0,
        }
        batch, q_len, extra, role = {
            SPATIAL: (self.clips * self.frames, self.pixels, self.extra, "self"),
            TEMPORAL: (self.clips * self.pixels, self.frames, 0, "temporal"),
            JOINT: (self.clips, self.frames * self.pixels, self.extra, "self"),
        }[call]
        return {"batch": batch, "q_len": q_len, "kv_len": q_len + extra, "role": ROLES.index(role), **both}

    def flops(self, call: str) -> int:
        """4 batch heads q_len kv_len head_dim of one call, exactly."""
        d = self.dims(call)
        return 4 * d["batch"] * d["heads"] * d["q_len"] * d["kv_len"] * d["head_dim"]

    def runs(self, call: str) -> int:
        """Calls of an attention in one inference; a joint one takes the place of a spatial one."""
        return self.repeats * (self.temporal if call == TEMPORAL else self.spatial)


def shapes(suite: Suite, component: str, model: str = VIDEO) -> tuple[Shape, ...]:
    """The levels of one network that has both attentions, read off its trace. ValueError where a level has only one."""
    trace = suite.member(model).trace
    a = attention(trace)
    dims = trace.dims("attention", trace.call_op[a.call])
    mine = np.array([a.components[c] == component for c in a.component])
    over_time = np.flatnonzero(mine & (a.role == ROLES.index("temporal")))
    over_space = np.flatnonzero(mine & (a.role == ROLES.index("self")))
    found: dict[tuple[int, int, int], list[int]] = {}
    for t in over_time:
        found.setdefault((int(a.q_len[t]), int(a.batch[t]), int(a.heads[t])), []).append(int(t))
    levels = []
    for (frames, batch, heads), temporal in found.items():
        spatial = [int(i) for i in over_space if a.heads[i] == heads and int(a.batch[i] * a.q_len[i]) == batch * frames]
        if not spatial:
            raise ValueError(f"{component}: temporal attention of batch {batch} has no spatial attention beside it")
        i = spatial[0]
        clips = int(a.batch[i]) // frames
        levels.append(
            Shape(
                clips=clips, frames=frames, pixels=int(a.q_len[i]), heads=heads, head_dim=int(dims.head_dim[i]),
                extra=int(a.kv_len[i] - a.q_len[i]), spatial=len(spatial), temporal=len(temporal), repeats=int(a.repeats[i]),
                label=trace.labels[int(trace.op_label[trace.call_op[a.call[i]]])],
            )
        )  # fmt: skip
    return tuple(sorted(levels, key=lambda s: -s.pixels))


def networks(suite: Suite) -> tuple[str, ...]:
    """Make-A-Video's components that attend over space and time: without interpolation there is one fewer."""
    names = {s.name for s in suite.member(VIDEO).trace.segments}
    return tuple(name for name in NETWORKS if name in names)


def exact_flops(found: Sequence[Shape]) -> tuple[int, int, int]:
    """FLOPs of one inference over all levels: spatial, temporal, joint."""
    spatial, temporal, joint = (sum(s.runs(call) * s.flops(call) for s in found) for call in CALLS)
    return spatial, temporal, joint


def crossover(found: Sequence[Shape]) -> Fraction:
    """Frames at which temporal FLOPs reach the spatial ones: A_s F = A_t F², F = A_s / A_t, exactly."""
    spatial, temporal, _ = exact_flops([s.at(1) for s in found])
    return Fraction(spatial, temporal)


def times(
    found: Sequence[Shape], calls: Sequence[str], way: str, on: Rates, level: str = "physical"
) -> dict[str, float]:
    """Seconds of one inference in each of the attentions, projections apart, over all levels."""
    priced = [(call, s) for call in calls for s in found]
    parts = [s.clips * s.heads if s.flops(call) > COUNTED else 1 for call, s in priced]
    asked = (s if n == 1 else replace(s, clips=1, heads=1) for n, (_, s) in zip(parts, priced, strict=True))
    trace = _trace([s.dims(call) for s, (call, _) in zip(asked, priced, strict=True)], [s.label for _, s in priced])
    kernels = lower(trace, with_attention(way))
    done = cost(kernels, on, level)
    each = done.per_call(done.time) * parts
    return {
        call: float(sum(t * s.runs(call) for t, (c, s) in zip(each, priced, strict=True) if c == call))
        for call in calls
    }


def over_frames(found: Sequence[Shape], way: str, on: Rates, level: str = "physical") -> list[Timed]:
    """The three attentions over FRAMES, and over LONGER until temporal attention has come to take longer than spatial."""
    rows: list[Timed] = []
    for n in (*FRAMES, *LONGER):
        at, calls = [s.at(n) for s in found], CALLS if n <= FRAMES[-1] else (SPATIAL, TEMPORAL)
        flops, seconds = dict(zip(CALLS, exact_flops(at), strict=True)), times(at, calls, way, on, level)
        rows += [(n, call, flops[call], seconds[call]) for call in calls]
        if n >= FRAMES[-1] and seconds[TEMPORAL] > seconds[SPATIAL]:
            break
    return rows


def crossed_at(rows: Sequence[Timed]) -> tuple[float, ...]:
    """Frame counts at which the order of spatial and temporal times changes."""
    from explore.project import crossings

    spatial, temporal = ({n: t for n, call, _, t in rows if call == which} for which in (SPATIAL, TEMPORAL))
    return crossings(list(spatial), list(spatial.values()), list(temporal.values()))


def _trace(calls: Sequence[dict[str, int]], said: Sequence[str], dtype: str = "fp16") -> Trace:
    """Attention calls alone, each of tensors that nobody touched before; `said`: their labels."""
    names, n, labels = kinds()["attention"].dims, len(calls), tuple(dict.fromkeys(said))
    index, zeros = np.arange(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    dims = np.array([[c[name] for name in names] for c in calls], dtype=np.int64)
    size = np.repeat(
        2 * np.array([c["batch"] * c["heads"] * c["kv_len"] * c["head_dim"] for c in calls], dtype=np.int64), 4
    )
    return Trace(
        model="attention", request={}, kinds=("attention",), dtypes=(dtype,), labels=labels, paths=("attention",),
        op_kind=zeros, op_dtype=zeros, op_dims=dims, call_op=index, call_path=zeros,
        op_label=np.array([labels.index(label) for label in said], dtype=np.int64),
        call_in_attention=np.ones(n, dtype=bool), input_offsets=np.arange(0, 3 * n + 1, 3, dtype=np.int64),
        input_ids=np.array([4 * i + j for i in range(n) for j in range(3)], dtype=np.int64),
        output_offsets=np.arange(n + 1, dtype=np.int64), output_ids=4 * index + 3, tensor_bytes=size,
        tensor_is_weight=np.zeros(4 * n, dtype=bool), segments=(Segment("attention", "attention", 0, n, 1, 0, 0),),
    )  # fmt: skip
