"""Plans: every kind, the same again for a seed, most informative first."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib import plan as planning
from calib import shapes
from calib.measure_files import PLAN
from calib.measure_ops import OPERATORS
from calib.shapes import At, design, extents, kernel, rows_of
from tests import build
from workloads.kind import kinds
from workloads.trace import Trace

KINDS = ("conv", "attention", "gemm", "group_norm", "layer_norm", "softmax", "elementwise", "permute", "resample")
SCALE = 0.2  # of the design, for speed


@pytest.fixture(scope="module")
def trace() -> Trace:
    """Every example of every kind that is planned, once."""
    return build.trace([(kind, example) for kind in KINDS for example in kinds()[kind].examples])


@pytest.fixture(scope="module")
def order(trace: Trace) -> list[tuple[planning.Candidate, float]]:
    return planning.ordered(planning.candidates([("test", trace)], 0, SCALE))


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_same_seed_gives_the_same_plan(trace: Trace) -> None:
    texts = [
        planning.to_csv(planning.ordered(planning.candidates([("test", trace)], seed, SCALE))) for seed in (3, 3, 4)
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_every_kind_is_covered(order: list[tuple[planning.Candidate, float]]) -> None:
    found = [one.row for one, _ in order]
    assert {row["op"] for row in found} >= {
        "conv1d", "conv2d", "conv3d", "encoder", "prefill", "groupnorm", "layernorm", "softmax", "add", "silu", "permute", "copy",
        "cat", "to_nhwc", "to_nchw", "upsample_nearest2d", "linear", "linear_bias", "bmm",
    }  # fmt: skip
    assert {row["op"] for row in found} <= set(OPERATORS)
    assert {row.get("layout") for row in found if row["op"] == "conv2d"} == {"nchw", "nhwc"}
    assert {row["implementation"] for row in found if row["op"] == "encoder"} == {"sdpa", "sdpa_flash", "unfused"}
    assert {40, 64, 80, 160} <= {row["head_dim"] for row in found if row["op"] == "encoder"}
    assert any(row["op"] == "encoder" and row["q_len"] <= 64 and row["batch"] >= 4096 for row in found)
    assert {row["condition"] for row in found} == {"cold", "warm"}


def test_what_is_only_checked_comes_last(order: list[tuple[planning.Candidate, float]]) -> None:
    uses = [one.row["use"] for one, _ in order]
    assert uses == sorted(uses, reverse=True)
    checked = {one.row["op"] for one, _ in order if one.row["use"] == "check"}
    assert checked == {"linear", "linear_bias", "bmm", "prefill", "decode"}
    for use in ("fit", "check"):
        gains = [gain for one, gain in order if one.row["use"] == use]
        assert all(a >= b for a, b in pairwise(gains))


def test_each_row_is_there_once(order: list[tuple[planning.Candidate, float]]) -> None:
    rows = _rows(planning.to_csv(order))
    assert len({(row["plan_id"], row["condition"]) for row in rows}) == len(rows) == len(order)
    assert list(rows[0]) == list(PLAN)
    assert [int(row["priority"]) for row in rows] == list(range(1, len(rows) + 1))


def test_what_was_measured_moves_back(trace: Trace, order: list[tuple[planning.Candidate, float]]) -> None:
    first = order[0][0].row
    again = planning.ordered(planning.candidates([("test", trace)], 0, SCALE), [first])
    assert again[0][0].row != first
    assert next(gain for one, gain in again if one.row == first) == 0


def test_a_budget_keeps_the_first_rows(order: list[tuple[planning.Candidate, float]]) -> None:
    whole, part = _rows(planning.to_csv(order)), _rows(planning.to_csv(order, 0.25))
    assert part == whole[: int(0.25 * 60 / planning.ROW_SECONDS)]


@given(st.integers(1, 1 << 22), st.integers(1, 3), st.integers(1, 32))
def test_extents_keep_the_product(positions: int, rank: int, frames: int) -> None:
    found = extents(positions, rank, frames)
    assert len(found) == rank
    assert prod(found) == positions


@pytest.mark.parametrize(
    ("taps", "rank", "found"),
    [(9, 2, (3, 3)), (27, 3, (3, 3, 3)), (3, 3, (3, 1, 1)), (9, 3, (1, 3, 3)), (1, 2, (1, 1)), (3, 1, (3,))],
)
def test_kernels(taps: int, rank: int, found: tuple[int, ...]) -> None:
    assert kernel(taps, rank) == found


@given(st.integers(1, 200), st.integers(1, 7), st.integers(1, 3), st.integers(0, 3))
def test_padding_is_found(size: int, taps: int, stride: int, pad: int) -> None:
    result = (size + 2 * pad - taps) // stride + 1
    if result >= 1 and pad < taps:
        found = shapes.padding(size, result, taps, stride)
        assert (size + 2 * found - taps) // stride + 1 == result


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_the_work_of_their_operator(kind: str) -> None:
    """FLOPs of the first row are the kind's own."""
    for example in kinds()[kind].examples:
        rows = rows_of(kind, example, At("fp16", "aten.x"))
        trace = build.trace([(kind, example)])
        same = kind not in ("conv", "attention", "gemm") or example.get("stride", 1) > 1
        assert same or shapes.size_of(rows[0])[1] == pytest.approx(float(trace.op_flops()[0]))


def test_the_design_is_spread_log_uniformly() -> None:
    channels = np.log2([row["in_channels"] for _, row in design(0) if row["op"] == "conv2d"])
    counts, _ = np.histogram(channels, bins=4, range=(4, 11.4))
    assert counts.min() > 0.5 * counts.mean()


def test_the_design_fits_into_memory() -> None:
    for _, row in design(1, 0.3):
        elements, flop = shapes.size_of(row)
        assert elements <= shapes.MOST_ELEMENTS
        assert flop <= shapes.MOST_FLOP
