"""Views of a trace against what the reference study says, in closed form."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.trace import Trace
from workloads.view_tables import HEADS, View, rows, to_csv
from workloads.views import Period, attention, histogram, intensities, matrix_bytes_per_pass, period

TEXT, HEADS_SD, BATCH, BYTES = 77, 8, 2, 2  # of Stable Diffusion 1.5, guidance as a batch of 2, fp16
LEVELS = (
    (4096, 5),
    (1024, 5),
    (256, 5),
    (64, 1),
)  # positions -> blocks with attention: 2 down and 3 up, the bottom once


def test_period_of_sd_is_a_step_of_the_unet(sd: Trace) -> None:
    view = View("", sd)
    unet = next(s for s in sd.segments if s.name == "unet")
    kind = sd.kinds.index("attention")
    assert view.period is not None
    assert (
        view.period.calls
        == int((sd.call_kind()[unet.start : unet.stop] == kind).sum())
        == 2 * sum(n for _, n in LEVELS)
    )
    assert view.period.times == unet.repeats == 50


def test_similarity_memory_of_sd_is_the_studys_sum(sd: Trace) -> None:
    """Sum over levels of calls heads batch 2 P (P + text)."""
    found = matrix_bytes_per_pass(attention(sd))["unet"]
    assert found == sum(blocks * HEADS_SD * BATCH * BYTES * p * (p + TEXT) for p, blocks in LEVELS)


def test_flops_of_sds_attention_are_the_studys_sum(sd: Trace) -> None:
    """4 batch heads q kv head_dim, exactly: of a pass of the UNet, whose heads are an eighth of its 320, 640, 1280 channels."""
    unet = next(s for s in sd.segments if s.name == "unet")
    ops = sd.call_op[unet.start : unet.stop][sd.call_kind()[unet.start : unet.stop] == sd.kinds.index("attention")]
    widths = (40, 80, 160, 160)
    by_hand = sum(
        4 * BATCH * HEADS_SD * p * (p + TEXT) * d * blocks for (p, blocks), d in zip(LEVELS, widths, strict=True)
    )
    assert sum(sd.op_flops()[ops].tolist()) == by_hand


def test_histogram_of_sd(sd: Trace) -> None:
    found = histogram(attention(sd))
    unet = {p: 50 * 2 * blocks for p, blocks in LEVELS}
    assert found == {77: 24, **{p: unet[p] + (p == 4096) for p in sorted(unet)}} | {64: unet[64]}
    assert list(found) == sorted(found)


def test_intensity_of_the_study_is_flops_over_the_bytes_of_the_model(sd: Trace) -> None:
    *components, everything = intensities(sd)
    assert everything.of_study == pytest.approx(sd.flops() / sd.weight_bytes)
    assert everything.flops == sum(c.flops for c in components)
    unet = next(c for c in components if c.name == "unet")
    assert unet.of_study > 100 * unet.of_traffic[0]  # weights are read anew every step, and activations are most of it
    assert unet.traffic_bytes[0] > unet.traffic_bytes[1]  # scores stay on chip


def test_traffic_is_at_least_weights_and_results_of_every_pass(sd: Trace) -> None:
    for row, segment in zip(intensities(sd), sd.segments, strict=False):
        written = sum(int(sd.tensor_bytes[sd.outputs(c)].sum()) for c in range(segment.start, segment.stop))
        assert (
            row.traffic_bytes[1] >= segment.repeats * written * 0.9
        )  # a norm's moments are written too; views are smaller


def test_first_runs_are_places_in_the_whole_sequence(sd: Trace) -> None:
    found = attention(sd)
    for name in ("q_len", "kv_len", "call"):
        column = getattr(found, name)
        assert np.array_equal(found.over_inference(column)[found.first], column)
    assert len(found.over_inference(found.q_len)) == found.repeats.sum()


@given(
    cell=st.lists(st.integers(1, 4), min_size=1, max_size=8), times=st.integers(2, 9), before=st.integers(0, 6),
    after=st.integers(0, 6),
)  # fmt: skip
def test_period_is_found_between_other_calls(cell: list[int], times: int, before: int, after: int) -> None:
    """A cell repeated, between calls that are none of it; its own shortest period is what has to be found."""
    times = max(times, 2 + (before + after) // len(cell))
    lengths = np.array([*range(100, 100 + before), *cell * times, *range(200, 200 + after)])
    shortest = next(p for p in range(1, len(cell) + 1) if len(cell) % p == 0 and cell == cell[:p] * (len(cell) // p))
    found = period(lengths)
    assert found is not None
    if found.calls != shortest:  # a shorter one may hold over a third of the sequence, though not over all of the cells
        assert found.calls < shortest
        assert found.stop - found.start >= len(lengths) / 3
    else:
        assert found == Period(shortest, before, before + len(cell) * times)
    stretch = lengths[found.start : found.stop]
    assert np.array_equal(stretch[found.calls :], stretch[: -found.calls])


@pytest.mark.parametrize("lengths", [[], [7], [1, 2, 3, 4, 5, 6], [1, 2]])
def test_no_period(lengths: list[int]) -> None:
    assert period(np.array(lengths, np.int64)) is None


def test_constant_lengths_have_period_one() -> None:
    assert period(np.full(9, 256)) == Period(1, 0, 9)


def test_tables_have_their_columns(sd: Trace) -> None:
    tables = rows([View("height=512", sd), View("again", sd)])
    assert set(tables) == set(HEADS)
    for name, found in tables.items():
        assert {len(row) for row in found} == {len(HEADS[name])}
        assert {row[0] for row in found} == {"height=512", "again"}
        assert to_csv(name, found).count("\n") == len(found) + 1
    calls = tables["attention_calls"]
    at = {name: i for i, name in enumerate(HEADS["attention_calls"])}
    for row in calls:
        assert row[at["matrix_bytes"]] == BYTES * prod(row[at[n]] for n in ("batch", "heads", "q_len", "kv_len"))
