"""Forests that say how far off rows are: they find what errors depend on, and no row is judged by its own unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import forest
from calib.families.base import Floats
from calib.forest import Growth, grown, growth
from calib.intervals import conformal

ROWS = 6000


def skewed(seed: int) -> tuple[forest.Inputs, Floats]:
    """Errors that are five times as large where the first of three features is positive, and there three times as far above."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, (ROWS, 3)).astype(np.float32)
    z = rng.standard_normal(ROWS)
    return x, np.where(x[:, 0] > 0.0, np.where(z > 0.0, 0.15, 0.05), 0.01) * z


@pytest.mark.parametrize("seed", [0, 1])
def test_a_forest_finds_where_errors_are_large_and_on_which_side(seed: int) -> None:
    x, away = skewed(seed)
    made, ends = grown(x, away, np.arange(ROWS) % 4, Growth())
    new, _ = skewed(seed + 100)
    found = made(new)
    small, large = (np.median(found[mask], axis=0) for mask in (new[:, 0] < -0.1, new[:, 0] > 0.1))
    assert large[0] / small[0] == pytest.approx(5.0, rel=0.2)
    assert large[1] / large[0] == pytest.approx(3.0, rel=0.2)
    assert np.median(ends.mean(axis=1)) == pytest.approx(1.0)


def test_rows_that_were_not_fitted_lie_in_their_intervals_wherever_they_are() -> None:
    """In intervals that are far narrower, where errors are small, than those that are alike for all rows."""
    (x, away), (new, off) = skewed(0), skewed(7)
    some = np.full(ROWS, "", dtype=object)
    made, ends = grown(x, away, np.arange(ROWS) % 4, Growth())
    scaled = conformal(some, np.arange(ROWS), np.exp(away), np.ones(ROWS), 1.0, ends)[""]
    low, high = scaled.low * made(new)[:, 0], scaled.high * made(new)[:, 1]
    inside = (low <= off) & (off <= high)
    for rows in (new[:, 0] > 0.0, new[:, 0] < 0.0, high - low > np.median(high - low)):
        assert inside[rows].mean() == pytest.approx(0.8, abs=0.03)
    plain = conformal(some, np.arange(ROWS), np.exp(away), np.ones(ROWS))[""]
    assert np.median((high - low)[new[:, 0] < 0.0]) < 0.3 * (plain.high - plain.low)


def test_no_row_is_judged_by_its_own_group() -> None:
    """Errors of a group alone that are ten times as large change what is said of others, and nothing of that group: but for what
    is typical of all rows, by which ends are counted."""
    x, away = skewed(0)
    group = np.arange(ROWS) % 4
    own = group == 2
    ends = [grown(x, a, group, Growth())[1] for a in (away, np.where(own, 10.0 * away, away))]
    forests = [forest._without(x, a, group, 2, Growth()) for a in (away, np.where(own, 10.0 * away, away))]
    wide = [f(x[own]) for f in forests]
    assert np.ptp(ends[1][own] / ends[0][own]) < np.ptp(ends[1][~own] / ends[0][~own])
    assert np.array_equal(wide[0], wide[1])


def test_leaves_hold_more_rows_than_a_unit_has() -> None:
    assert growth(np.arange(1000), 3) == Growth(least=forest.LEAST_ROWS, seed=3)
    assert growth(np.arange(1000) // 100, 0).least == 100
    x, away = skewed(0)
    made, _ = grown(x[:300], away[:300], np.arange(300) % 4, Growth(least=100))
    leaves = made.child[made.threshold == np.inf]
    assert len(leaves) <= 2 * len(made.roots)  # trees of 225 rows: at most two leaves
    flat, ends = grown(x[:8], away[:8], np.arange(8) % 4, Growth())
    assert flat.depth == 0  # too few rows to split
    assert (ends > 0.0).all()


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=10)
def test_ends_are_positive_also_where_rows_err_to_one_side_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((400, 2)).astype(np.float32)
    made, ends = grown(x, np.abs(rng.standard_normal(400)), np.arange(400) % 4, Growth(trees=2))
    assert (ends >= forest.LEAST_END).all()
    assert (made(x) >= forest.LEAST_END - 1e-6).all()
