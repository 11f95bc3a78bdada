"""Claims about what is computed, before any hardware: C01, C02, C13 to C17, C19, C23, C29, C31 (C02 and C17 have
times or a roof).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from explore.paper import checks
from explore.paper.finding import Finding, Times, exact, greatest, named
from explore.paper.frames import Shape, crossover, exact_flops, networks, shapes
from explore.paper.suite import DIFFUSION_TTI, FLASH, LLM, MUSE, PARTI, SD, TITLE, TRANSFORMER_TTI, VIDEO, Suite
from workloads.ops.attention import ROLES
from workloads.views import Attention, attention, histogram, intensities, matrix_bytes_per_pass, period

SIDES = (64, 128, 256, 512, 1024, 2048)  # pixels; the study's go to 512
UNET = "unet"
FAR = SIDES[-1]  # where C17 looks on
GROWN = (64, 512)  # of C17
RESOLUTIONS = (1, 2, 4)  # times the side of Make-A-Video's frames
MOVED = 0.2  # share of the calls (C16)


def lengths(suite: Suite, side: int) -> Attention:
    """Attention calls of Stable Diffusion's UNet at an image side."""
    return of_component(attention(suite.member(SD, height=side, width=side).trace), UNET)


def of_component(found: Attention, name: str) -> Attention:
    """The calls of the components whose names begin so."""
    mine = np.array([found.components[c].startswith(name) for c in found.component])
    columns = ("component", "call", "first", "repeats", "role", "batch", "heads", "q_len", "kv_len", "matrix_bytes")
    return replace(found, **{c: getattr(found, c)[mine] for c in columns})


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of a straight line through the logarithms."""
    return float(np.polyfit(np.log(np.asarray(x, float)), np.log(np.asarray(y, float)), 1)[0])


def c01(suite: Suite) -> Finding:
    """FLOPs over bytes of the model."""
    of_all = {m: intensities(suite.member(m).trace)[-1].of_study for m in (LLM, *DIFFUSION_TTI, *TRANSFORMER_TTI)}
    ratios = named(DIFFUSION_TTI, lambda m: of_all[m] / of_all[LLM])
    prompt = suite.member(LLM).scenario.request.prompt_len
    decode = of_all[LLM] / _share_of_decode(suite)
    said = ", ".join(f"{TITLE[m]} {v:,.0f}" for m, v in of_all.items())
    why = (
        f"FLOP/B: {said}; the LLM's grows with its prompt, here {prompt} tokens, which the study does not give: for its decode "
        f"alone {max(of_all[m] for m in DIFFUSION_TTI) / decode:.0f}x"
    )
    return exact("C01", greatest(ratios), reason=why)


def _share_of_decode(suite: Suite) -> float:
    """All FLOPs of the language model over those of its decode."""
    rows = intensities(suite.member(LLM).trace)
    return rows[-1].flops / sum(r.flops for r in rows if r.name.startswith("decode"))


def c02(suite: Suite) -> Finding:
    """Traffic of the kernels against the ridge."""
    ridge = suite.scenario(LLM).device.matmul_rate("bf16") / suite.scenario(LLM).device.hbm.bandwidth
    rows = {m: intensities(suite.member(m).trace) for m in TRANSFORMER_TTI}
    values = named(TRANSFORMER_TTI, lambda m: rows[m][-1].of_traffic[1])
    cases = {name: v < ridge for name, v in values.items()}
    study = ", ".join(f"{TITLE[m]} {rows[m][-1].of_study:,.0f}" for m in TRANSFORMER_TTI)
    found = exact("C02", values, cases, f"ridge {ridge:.0f} FLOP/B; by the study's own intensity: {study}")
    return replace(found, check=checks.tokens_at_ridge(suite))


def c13(suite: Suite) -> Finding:
    """Neighbouring lengths, U and period."""
    found = lengths(suite, 512)
    own = found.q_len[found.role == ROLES.index("self")]
    ratio = float(np.max(np.maximum(own[1:] / own[:-1], own[:-1] / own[1:])))
    once = np.diff(own)
    turn = int(np.argmin(own))
    u_shaped = bool((once[:turn] <= 0).all() and (once[turn:] >= 0).all())
    repeats = period(found.over_inference(found.q_len))
    shape = f"period {repeats.calls} calls, {repeats.times} times" if repeats else "no period"
    words = (
        f"{'falls, then rises' if u_shaped else 'not U-shaped'} in a pass, {shape}; "
        f"{own.max() / own.min():.0f}x from top to bottom"
    )
    return exact("C13", {"": ratio}, {"U": u_shaped, "period": repeats is not None}, words)


def c14(suite: Suite) -> Finding:
    """Parti's keys over its tokens, Muse's queries over its steps."""
    parti = attention(suite.member(PARTI).trace)
    mine = (parti.role == 0) & np.array([parti.components[c].startswith("decode") for c in parti.component])
    middle, keys = np.unique(parti.first[mine] * 0 + parti.component[mine]), []
    at, tokens = [], 0
    for component in middle:
        here = mine & (parti.component == component)
        runs = int(parti.repeats[here][0])
        at.append(tokens + (runs - 1) / 2)
        keys.append(float(parti.kv_len[here][0]))
        tokens += runs
    fit = np.polyfit(at, keys, 1)
    linear = bool(np.allclose(np.polyval(fit, at), keys, rtol=1e-9, atol=1e-6)) and fit[0] > 0
    muse = of_component(attention(suite.member(MUSE).trace), "base")
    constant = len(np.unique(muse.q_len[muse.role == 0])) == 1
    values = {"Parti, keys a token": float(fit[0]), "Muse, queries": float(muse.q_len[0])}
    return exact(
        "C14", values, {"Parti grows linearly": linear, "Muse constant": constant}, f"{len(at)} spans of Parti's tokens"
    )


def c15(suite: Suite) -> Finding:
    """Exponent of the self-attention matrices."""
    sizes = {s: _self_bytes(lengths(suite, s)) for s in SIDES}
    both = {s: matrix_bytes_per_pass(lengths(suite, s))[UNET] for s in SIDES}
    with_text = slope(SIDES, [both[s] for s in SIDES])
    return exact("C15", {"": slope(SIDES, [sizes[s] for s in SIDES])}, reason=f"with cross-attention {with_text:.2f}")


def _self_bytes(found: Attention) -> int:
    return int(found.matrix_bytes[found.role == 0].sum())


def c16(suite: Suite) -> Finding:
    """Histogram."""
    counts = np.array(list(histogram(lengths(suite, 512)).values()), float)
    moved = float(np.abs(counts / counts.sum() - 1 / len(counts)).sum() / 2)
    means = [float(np.average(found.q_len, weights=found.repeats)) for found in (lengths(suite, s) for s in SIDES)]
    rises = all(b > a for a, b in pairwise(means))
    said = ", ".join(f"{s}: {m:,.0f}" for s, m in zip(SIDES, means, strict=True))
    buckets = ", ".join(f"{length}: {count:,}" for length, count in histogram(lengths(suite, 512)).items())
    cases = {"near uniform": moved <= MOVED, "right with size": rises}
    return exact("C16", {"to be moved": moved}, cases, f"calls by length {buckets}; mean length by side {said}")


def c17(suite: Suite) -> Finding:
    """Growth of time with the image."""
    both, apart = (_convolution_attention(suite, which) for which in (True, False))
    low, high = GROWN
    added = {name: 1000 * (both[high][name] - both[low][name]) for name in both[high]}
    alone = {name: 1000 * (apart[high][name] - apart[low][name]) for name in apart[high]}
    factor = {name: apart[high][name] / apart[low][name] for name in apart[high]}
    each = ", ".join(f"{1000 * t['convolution']:.0f} / {1000 * t['attention']:.0f} ms" for t in both.values())
    more = ", ".join(f"{name} {both[FAR][name] / both[high][name]:.1f}x" for name in both[FAR])
    why = (
        f"convolution / attention at {', '.join(map(str, both))}: {each}; as a factor from {low} to {high}, without "
        f"projections: convolution {factor['convolution']:.2f}x, attention {factor['attention']:.1f}x, since at {low} both wait "
        f"for launches and weights; from {high} to {FAR} the other way round: {more}"
    )
    faster = "convolution faster"
    found = exact("C17", added, {faster: added["convolution"] > added["attention"]}, why)
    return replace(
        found, other=alone, other_cases={faster: alone["convolution"] > alone["attention"]},
        first_cases={faster: factor["convolution"] > factor["attention"]},
    )  # fmt: skip


def _convolution_attention(suite: Suite, projections: bool) -> dict[int, dict[str, float]]:
    """Image side -> seconds after flash-2 of convolution and of attention."""
    found = {}
    names = {"convolution": "Convolution", "attention": "attention"}
    for side in dict.fromkeys((GROWN[0], *(s for s in SIDES if s in range(GROWN[0], GROWN[1])), GROWN[1], FAR)):
        times = suite.member(SD, height=side, width=side).times[FLASH].sum(axis=(0, 2))
        counted = Times(suite, projections=projections).names
        found[side] = {
            name: float(sum(t for t, n in zip(times, counted, strict=True) if n.startswith(begins)))
            for name, begins in names.items()
        }
    return found


def c19(suite: Suite) -> Finding:
    """Temporal over spatial, FLOPs."""
    by_network = {n: shapes(suite, n) for n in networks(suite)}
    totals = {n: exact_flops(s) for n, s in by_network.items()}
    spatial, temporal = (sum(t[i] for t in totals.values()) for i in (0, 1))
    frames = {n: s[0].frames for n, s in by_network.items()}
    said = ", ".join(f"{n} ({frames[n]} frames) 1/{s / t:.1f}" for n, (s, t, _) in totals.items())
    return exact(
        "C19",
        {"": temporal / spatial},
        reason=f"1/{spatial / temporal:.1f}; {said}; at one level it is frames over pixels",
    )


def c23(suite: Suite) -> Finding:
    """Closed forms and their crossover."""
    found = shapes(suite, "decoder")
    linear, square = (_power(found, i) for i in (0, 1))
    at = [float(crossover([s.scaled(r) for s in found])) for r in RESOLUTIONS]
    cases = {
        "spatial F": linear,
        "temporal F^2": square,
        **{f"later at {r}x": b > a for r, a, b in zip(RESOLUTIONS[1:], at, at[1:], strict=False)},
    }
    sides = [suite.member(VIDEO).scenario.request.height // 12 * r for r in RESOLUTIONS]
    return exact("C23", {f"{s} px": a for s, a in zip(sides, at, strict=True)}, cases, "sides of the decoder's frames")


def _power(found: Sequence[Shape], which: int) -> bool:
    """FLOPs at twice the frames are exactly 2 or 4 times."""
    once, twice = (exact_flops([s.at(n) for s in found])[which] for n in (16, 32))
    return twice == once * (2, 4)[which]


def c29(suite: Suite) -> Finding:
    """Mean lengths against the language model's."""
    request = suite.member(LLM).scenario.request
    longest = request.prompt_len + request.output_len
    values = named(DIFFUSION_TTI, lambda m: longest / _mean(suite, m))
    cases = {f"{name} shorter": v > 1 for name, v in values.items()}
    cases["an order of magnitude"] = math.sqrt(10) <= max(values.values()) <= 10 * math.sqrt(10)
    why = (
        "mean lengths: " + ", ".join(f"{TITLE[m]} {_mean(suite, m):,.0f}" for m in DIFFUSION_TTI) + f"; LLaMA {longest}"
    )
    return exact("C29", values, cases, why)


def _mean(suite: Suite, model: str) -> float:
    found = attention(suite.member(model).trace)
    return float(np.average(found.q_len, weights=found.repeats))


def c31(suite: Suite) -> Finding:
    """Longest length against the side."""
    return exact("C31", {"": slope(SIDES, [float(lengths(suite, s).q_len.max()) for s in SIDES])})


FOUND = {
    "C01": c01, "C02": c02, "C13": c13, "C14": c14, "C15": c15, "C16": c16, "C17": c17, "C19": c19, "C23": c23, "C29": c29,
    "C31": c31,
}  # fmt: skip
