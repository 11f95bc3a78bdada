"""Attention over pixels, frames and both: FLOPs exact, the closed form of the crossover, and a time that follows."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore.paper.frames import (
    CALLS,
    FRAMES,
    JOINT,
    LONGER,
    SPATIAL,
    TEMPORAL,
    Shape,
    crossed_at,
    crossover,
    exact_flops,
    over_frames,
    shapes,
    times,
)
from explore.paper.suite import UNFUSED, VIDEO, Suite
from explore.paper.tables import similarity_bytes, study_form
from tests import build
from workloads.kind import Dims
from workloads.ops.attention import flops

LEVELS = st.lists(
    st.builds(
        Shape, clips=st.integers(1, 4), frames=st.integers(1, 4096), pixels=st.integers(1, 1 << 14), heads=st.integers(1, 32),
        head_dim=st.sampled_from([32, 64, 128]), extra=st.integers(0, 77), spatial=st.integers(1, 8), temporal=st.integers(1, 8),
        repeats=st.integers(1, 50),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@given(LEVELS)
def test_flops_are_those_of_the_operator_and_powers_of_the_frames(levels: list[Shape]) -> None:
    for s in levels:
        for call in CALLS:
            d = s.dims(call)
            assert s.flops(call) == 4 * d["batch"] * d["heads"] * d["q_len"] * d["kv_len"] * d["head_dim"]
            if s.flops(call) < 1 << 60:
                assert int(flops(Dims(d))) == s.flops(call)
    spatial, temporal, _ = exact_flops(levels)
    doubled = exact_flops([s.at(2 * s.frames) for s in levels])
    assert doubled[0] == 2 * spatial
    assert doubled[1] == 4 * temporal


@given(LEVELS)
def test_the_crossover_is_where_the_flops_are_equal_and_moves_right_with_resolution(levels: list[Shape]) -> None:
    at = crossover(levels)
    spatial, temporal, _ = exact_flops([s.at(1) for s in levels])
    assert at * spatial == at**2 * temporal  # A_s F = A_t F^2
    assert crossover([s.scaled(2) for s in levels]) > at
    alone = [Shape(1, 1, 256, 8, 64, 0, 3, 3, 1)]
    assert crossover(alone) == Fraction(256)  # one level of P pixels: at P frames


def test_times_add_up_over_levels_and_rise_with_frames() -> None:
    levels = [Shape(2, 16, 1024, 16, 64, 4, 7, 7, 50), Shape(2, 16, 64, 32, 64, 4, 8, 8, 50)]
    on = build.a100()
    whole = times(levels, CALLS, "flash-2", on)
    parts = [times([s], CALLS, "flash-2", on) for s in levels]
    assert all(whole[c] == pytest.approx(sum(p[c] for p in parts), rel=1e-9) for c in CALLS)
    more = times([s.at(64) for s in levels], CALLS, "flash-2", on)
    assert all(more[c] > whole[c] for c in CALLS)
    assert whole[JOINT] > whole[SPATIAL]
    fewer = times(
        [s.at(8) for s in levels], CALLS, "flash-2", on
    )  # the blocks of 128 x 128 are as many as of 16 frames
    assert fewer[TEMPORAL] == pytest.approx(whole[TEMPORAL], rel=0.02)
    assert fewer[SPATIAL] == pytest.approx(whole[SPATIAL] / 2, rel=0.05)
    assert times(levels, (SPATIAL,), "unfused", on)[SPATIAL] > whole[SPATIAL]


def test_a_call_that_overflows_64_bits_is_priced_as_its_heads() -> None:
    on = build.a100()
    small, large = ([Shape(2, n, 16384, 16, 64, 0, 1, 1, 1)] for n in (512, 4096))
    assert large[0].flops(JOINT) > 1 << 63
    ratio = times(large, (JOINT,), "flash-2", on)[JOINT] / times(small, (JOINT,), "flash-2", on)[JOINT]
    assert ratio == pytest.approx(64, rel=0.01)


def test_unfused_attention_of_the_sweep_is_that_of_the_models_own_library() -> None:
    """Its kernels are those that the model's trace is priced with, at the same shapes."""
    suite = Suite()
    member = suite.member(VIDEO)
    (level, *_) = shapes(suite, "decoder")
    assert "guided-diffusion" in level.label
    cost, trace = member.priced[UNFUSED].cost, member.trace
    d = trace.dims("attention", trace.call_op)
    calls = (trace.call_kind() == trace.kinds.index("attention")) & (d.heads == level.heads) & (d.kv_len > 512)
    calls &= np.array([s.name == "decoder" for s in trace.segments])[trace.call_segment()]
    own = float((cost.per_call(cost.time) * trace.call_repeats())[calls].sum())
    assert times([level], (SPATIAL,), UNFUSED, suite.rates)[SPATIAL] == pytest.approx(own, rel=0.02)
    plain = replace(level, label="attention")
    assert times([plain], (SPATIAL,), UNFUSED, suite.rates)[SPATIAL] < 0.8 * own  # no casts of the scores to fp32


def test_a_sweep_goes_on_until_the_times_have_crossed() -> None:
    on, early, late = build.a100(), Shape(2, 16, 256, 16, 64, 0, 3, 3, 1), Shape(2, 16, 8192, 16, 64, 0, 3, 3, 1)
    rows = over_frames([early], "flash-2", on)
    assert [n for n, call, _, _ in rows if call == JOINT] == list(FRAMES)
    assert rows[-1][0] == FRAMES[-1]
    rows = over_frames([late], "flash-2", on)
    further = [n for n, call, _, _ in rows if call == TEMPORAL][len(FRAMES) :]
    assert further == list(LONGER[: len(further)])
    assert FRAMES[-1] < crossed_at(rows)[-1] < further[-1]
    assert all(call != JOINT for n, call, _, _ in rows if n > FRAMES[-1])


def test_similarity_memory() -> None:
    p = [4096, 1024, 256, 64]
    by_hand = sum(n * 8 * 2 * 2 * q * (q + 77) for n, q in zip((5, 5, 5, 1), p, strict=True))
    assert similarity_bytes(64) == by_hand
    assert study_form(64, 2, 3, 77) == 2 * (2 * sum(q * (q + 77) for q in p[:3]) + p[3] * (p[3] + 77))
