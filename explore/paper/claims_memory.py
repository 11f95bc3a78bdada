"""Claims about caches and bandwidth, which rest on modelling assumptions: C21, C22, C27."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from explore.paper import checks
from explore.paper.caches import ELEMENTWISE, GEMM, SOFTMAX, differences, ratios, spread
from explore.paper.claims_shape import of_component
from explore.paper.finding import Finding
from explore.paper.suite import IMAGEN, PARTI, TITLE, UNFUSED, Floats, Suite
from explore.paper.table import CLAIMS
from sim.report import number
from workloads.views import attention

FOLLOWS = 0.5  # rank correlation above which one follows the other
NETWORK = {IMAGEN: "base", PARTI: "decode"}  # component in which attention calls are looked at


def c21(suite: Suite) -> Finding:
    """Misses per thousand instructions."""
    return _varied(suite, "C21", ratios, lambda r: {
        "GEMM above 1": r[GEMM] > 1, "elementwise above 1": r[ELEMENTWISE] > 1,
        "GEMM above elementwise": r[GEMM] > r[ELEMENTWISE],
    })  # fmt: skip


def c22(suite: Suite) -> Finding:
    """Mean access time."""
    found = _varied(suite, "C22", differences, lambda d: {
        **{f"{kind} above 0": d[kind] > 0 for kind in (GEMM, ELEMENTWISE, SOFTMAX)},
        "GEMM above softmax": d[GEMM] > d[SOFTMAX], "softmax above elementwise": d[SOFTMAX] > d[ELEMENTWISE],
    })  # fmt: skip
    return replace(found, check=checks.scores(suite))


def _varied(
    suite: Suite,
    claim: str,
    of: Callable[[Any], Mapping[str, float]],
    cases: Callable[[Mapping[str, float]], Mapping[str, bool]],
) -> Finding:
    """Base value, ends over the variations, and whether the cases hold under every one."""
    found = spread(suite)
    base = of(found[0][1])
    every = [of(f) for _, f in found]
    held = [all(cases(v).values()) for v in every]
    ends = ", ".join(f"{k} {number(min(v[k] for v in every))} to {number(max(v[k] for v in every))}" for k in base)
    rates = ", ".join(
        f"{kind} {found[0][1]['self', kind].miss_rate:.2f} / {found[0][1]['temporal', kind].miss_rate:.2f}"
        for kind in base
    )
    missed = ", ".join(name for name, yes in cases(base).items() if not yes)
    why = (
        f"{f'not: {missed}; ' if missed else ''}L2 miss rate spatial / temporal: {rates}; over the assumptions {ends}; "
    )
    numbers = [x for v in every for x in v.values()]
    return Finding(
        CLAIMS[claim],
        base,
        cases(base),
        min(numbers),
        max(numbers),
        f"{why}all hold in {sum(held)} of {len(held)} variations",
    )


def over_calls(suite: Suite, model: str) -> dict[str, Floats]:
    """Attention calls of a model's network in program order, one run of each component: keys and queries, HBM rate,
    L2 miss rate.
    """
    member = suite.member(model)
    a = of_component(attention(member.trace), NETWORK.get(model, ""))
    cost = member.priced[UNFUSED].cost
    time, hbm, l2 = (cost.per_call(c)[a.call] for c in (cost.time, cost.hbm_bytes, cost.l2_bytes))
    return {
        "call": a.first.astype(float), "q_len": a.q_len.astype(float), "kv_len": a.kv_len.astype(float),
        "role": a.role.astype(float),
        "hbm_bytes_per_s": hbm / time, "l2_miss_rate": np.minimum(hbm / l2, 1.0), "time_s": time,
        "repeats": a.repeats.astype(float),
    }  # fmt: skip


def c27(suite: Suite) -> Finding:
    """Whether bandwidth and misses follow the length; Parti's length is that of its keys."""
    values = {}
    for model, length in ((IMAGEN, "q_len"), (PARTI, "kv_len")):
        calls = over_calls(suite, model)
        own = calls["role"] == 0
        for what, name in (("hbm_bytes_per_s", "HBM"), ("l2_miss_rate", "L2 misses")):
            values[f"{TITLE[model]} {name}"] = rank_correlation(calls[length][own], calls[what][own])
    cases = {name: v > FOLLOWS for name, v in values.items()}
    return Finding(
        CLAIMS["C27"], values, cases, min(values.values()), max(values.values()), "self-attention calls, unfused"
    )


def rank_correlation(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> float:
    """Spearman's; equal values share their mean rank; 0 where one side is constant."""
    a, b = (_ranks(np.round(np.asarray(v, float), 9)) for v in (x, y))
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0


def _ranks(values: Floats) -> Floats:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[where])


FOUND = {"C21": c21, "C22": c22, "C27": c27}
