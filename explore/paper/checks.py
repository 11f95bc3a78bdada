"""What holds of a claim whatever the cost model says: counts of FLOPs and bytes against the device's peaks.

Each is one sentence with its numbers, which anyone can compute again from the trace (`framecast trace`) and the device's file.
"""

from __future__ import annotations

import numpy as np

from explore.paper.finding import Times
from explore.paper.suite import (
    FLASH,
    GROUPS,
    MUSE,
    PARTI,
    PROJECTIONS,
    TITLE,
    UNFUSED,
    VIDEO,
    Floats,
    Suite,
)
from sim.report import number
from sim.result import call_class
from workloads.kind import REPORT_CLASSES
from workloads.ops.attention import ROLES

CONVOLUTION, GROUP_NORM = "Convolution", "GroupNorm"
SPATIAL, TEMPORAL, TWICE = "attention, self", "attention, temporal", 2
SCORES = (
    "q k^t",
    "scale",
    "mask",
    "scores to fp32",
    "softmax",
    "from fp32",
    "p v",
)  # kernels that read or write scores


def flops_by_group(suite: Suite, model: str, component: str = "") -> Floats:
    """Matrix FLOPs of one inference by GROUPS, (groups,); of all components, or of those whose name begins with one."""
    member = suite.member(model)
    trace = member.trace
    inside = np.array([s.name.startswith(component) for s in trace.segments])[trace.call_segment()]
    each = trace.op_flops()[trace.call_op].astype(float) * trace.call_repeats() * inside
    return np.asarray(np.bincount(member.call_group(), each, len(GROUPS)), dtype=np.float64)


def floor(suite: Suite, model: str, way: str, name: str, least: float) -> float:
    """Percent of a model's kernel time that one class would take in `least` seconds, all else as priced."""
    times = Times(suite)
    return 100 * least / (least + times.total(model, way) - times.of(model, way, name))


def convolution(suite: Suite, model: str, way: str) -> str:
    """The floor of convolutions at the device's peak rate, in words."""
    scenario = suite.member(model).scenario
    flops = flops_by_group(suite, model)[GROUPS.index(CONVOLUTION)]
    share = floor(suite, model, way, CONVOLUTION, float(flops / scenario.device.matmul_rate(scenario.request.dtype)))
    return (
        f"were every convolution of {TITLE[model]} to run at the device's peak and all else as priced, "
        f"they would still take {share:.0f} %"
    )


def group_norm(suite: Suite, model: str, way: str) -> str:
    """The floor of group norms that read their input twice and write it once at the HBM's peak rate, in words."""
    member = suite.member(model)
    trace = member.trace
    mine = np.flatnonzero(call_class(trace) == REPORT_CLASSES.index(GROUP_NORM))
    d = trace.dims("group_norm", trace.call_op[mine])
    moved = 3 * trace.op_itemsize()[trace.call_op[mine]] * d.n * d.c * d.positions
    least = float(moved.astype(float) @ trace.call_repeats()[mine]) / member.scenario.device.hbm.bandwidth
    return (
        f"were every group norm of {TITLE[model]} to read its input twice and write it once at the HBM's peak, "
        f"they would take {floor(suite, model, way, GROUP_NORM, least):.1f} %: torch's kernel has a block a sample and group"
    )


def attention_flops(suite: Suite, model: str) -> str:
    """What share of a model's FLOPs its attention modules have."""
    flops = flops_by_group(suite, model)
    share = 100 * sum(v for v, g in zip(flops, GROUPS, strict=True) if g.startswith(("attention", PROJECTIONS)))
    return f"attention modules have {share / flops.sum():.1f} % of {TITLE[model]}'s matrix FLOPs"


def twice_spatial(suite: Suite) -> str:
    """How much slower than priced, and than at the device's peaks, temporal attention is if it takes twice as long as spatial."""
    times, far = Times(suite), TWICE * Times(suite).of(VIDEO, UNFUSED, SPATIAL)
    roof = Times(suite.otherwise(level="roofline"))
    least = {name: roof.of(VIDEO, UNFUSED, name) for name in (SPATIAL, TEMPORAL)}
    inside, all_ = between(suite), times.of(VIDEO, UNFUSED, TEMPORAL)
    return (
        f"with every kernel at the device's peaks the ratio is {least[TEMPORAL] / least[SPATIAL]:.2f}, so temporal attention "
        f"would have to stay {TWICE * least[SPATIAL] / least[TEMPORAL]:.1f} times further from its peaks than spatial does; its "
        f"two products and what stands between them are {100 * inside / all_:.0f} % of its time, the rest copies and projections "
        f"that spatial attention has too, and would have to take {(far - all_ + inside) / inside:.0f} times as long as priced"
    )


def between(suite: Suite) -> float:
    """Seconds of Make-A-Video's unfused temporal attention in its two products, its softmax and the casts of its scores."""
    member = suite.member(VIDEO)
    cost, runs = member.priced[UNFUSED].cost, member.trace.call_repeats()
    mine = np.where(member.call_group() == GROUPS.index(TEMPORAL), runs, 0)
    of = np.array([name in SCORES for name in cost.kernels.name])
    return float(mine @ cost.per_call(cost.time * of))


def weights_bound(suite: Suite) -> str:
    """Least time of Parti's decode: its weights, read once a token."""
    member = suite.member(PARTI)
    read = sum(s.weight_bytes * s.repeats for s in member.trace.segments if s.name.startswith("decode"))
    least = read / member.scenario.device.hbm.bandwidth
    tokens = sum(s.repeats for s in member.trace.segments if s.name.startswith("decode"))
    each = number(read / tokens / 1e9)
    return (
        f"Parti reads {each} GB of weights for each of {tokens:,} tokens, which takes {least:.1f} s at the HBM's peak"
    )


def tokens_at_ridge(suite: Suite) -> str:
    """How few tokens a pass Muse's base network would need to be bound by its weights."""
    member = suite.member(MUSE)
    (base,) = (s for s in member.trace.segments if s.name == "base")
    flops = flops_by_group(suite, MUSE, "base").sum() / base.repeats
    ridge = member.scenario.device.matmul_rate("bf16") / member.scenario.device.hbm.bandwidth
    return (
        f"a pass of Muse's base has {flops / base.weight_bytes:.0f} FLOP for each byte of its weights, for 256 tokens with and "
        f"without the prompt; below the ridge it would need at most {256 * ridge / (flops / base.weight_bytes):.0f} tokens"
    )


def reading(suite: Suite) -> str:
    """Why the projections of attention modules are attention: what else Parti's linear layers would take of its bytes."""
    member = suite.member(PARTI)
    group, trace = member.call_group(), member.trace
    inside = np.array([s.name.startswith("decode") for s in trace.segments])[trace.call_segment()]
    cost = member.priced[FLASH].cost
    moved = cost.per_call(cost.kernels.reads.sum(axis=0) + cost.kernels.write_bytes) * trace.call_repeats() * inside
    by = np.bincount(group, moved, len(GROUPS)) / moved.sum() * 100
    linear = float(by[GROUPS.index("Linear")])
    projections = float(sum(v for v, g in zip(by, GROUPS, strict=True) if g.startswith(PROJECTIONS)))
    return (
        f"of the bytes of Parti's decode {linear:.0f} % are those of linear layers outside attention modules, "
        f"{projections:.0f} % of projections inside; were these linear layers too, linear layers would take some "
        f"{linear + projections:.0f} % of its time on any device that its bytes bound; the study has at most 49 %"
    )


def moved(suite: Suite, models: tuple[str, ...]) -> str:
    """How many times the bytes of flash-2 the attention modules of models read and write unfused."""
    ratios = []
    for model in models:
        member = suite.member(model)
        runs, totals = member.trace.call_repeats(), []
        mine = np.array([g.startswith(("attention", PROJECTIONS)) for g in GROUPS])[member.call_group()]
        for way in (UNFUSED, FLASH):
            cost = member.priced[way].cost
            each = cost.per_call(cost.kernels.reads.sum(axis=0) + cost.kernels.write_bytes)
            totals.append(float(np.where(mine, runs, 0) @ each))
        ratios.append(f"{TITLE[model]}'s {totals[0] / totals[1]:.2f}")
    return f"attention modules move {', '.join(ratios)} times the bytes unfused that they move with flash-2"


def scores(suite: Suite) -> str:
    """Sizes of the score matrices of both attentions against the L2, by which reads miss it."""
    member = suite.member(VIDEO)
    trace = member.trace
    calls = np.flatnonzero(trace.call_kind() == trace.kinds.index("attention"))
    d, itemsize = trace.dims("attention", trace.call_op[calls]), trace.op_itemsize()[trace.call_op[calls]]
    size = itemsize * d.batch * d.heads * d.q_len * d.kv_len / 1e6
    inside = np.isin(
        trace.call_segment()[calls], np.unique(trace.call_segment()[calls][d.role == ROLES.index("temporal")])
    )
    spatial, temporal = (float(np.median(size[inside & (d.role == ROLES.index(r))])) for r in ("self", "temporal"))
    return (
        f"a longer access means more misses, and temporal attention has the smaller score matrices (median {temporal:,.0f} MB "
        f"against {spatial:,.0f} MB; the L2 holds {member.scenario.device.l2.capacity / 1e6:.0f} MB)"
    )
