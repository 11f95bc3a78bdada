"""Intervals of many rows are the shortest that hold 80 %; of few, both tails are alike."""

from __future__ import annotations

import numpy as np
import pytest

from calib.families.base import Floats
from calib.intervals import MANY, conformal
from sim.intervals import Interval


def _interval(away: Floats, scale: Floats | float = 1.0) -> Interval:
    condition = np.full(len(away), "", dtype=object)
    return conformal(condition, np.arange(len(away)), np.exp(away), np.ones(len(away)), scale=scale)[""]


def _leaning(rows: int, seed: int) -> Floats:
    """Errors that are mostly slow: an exponential law, shifted to a median of 0."""
    away: Floats = np.random.default_rng(seed).exponential(0.1, rows) - 0.1 * np.log(2.0)
    return away


def test_errors_that_lean_to_one_side_have_a_shorter_interval_that_holds_as_many() -> None:
    away = _leaning(20_000, 0)
    found, tails = _interval(away), np.quantile(away, (0.1, 0.9))
    assert found.high - found.low < 0.95 * (tails[1] - tails[0])
    assert found.low < tails[0]  # what is fast is dense: little is gained by leaving it out
    new = _leaning(20_000, 1)
    assert ((found.low <= new) & (new <= found.high)).mean() == pytest.approx(0.8, abs=0.01)


def test_few_rows_keep_tails_that_are_alike() -> None:
    away = _leaning(MANY - 1, 0)
    tail = 0.1 - 0.9 / len(away)
    assert _interval(away).high == pytest.approx(np.quantile(away, 1.0 - tail))
    assert _interval(away).low == pytest.approx(np.quantile(away, tail))


def test_alike_sides_have_alike_tails() -> None:
    half = np.random.default_rng(0).normal(0.0, 0.1, 20_000)
    found = _interval(np.concatenate([half, -half]))
    assert -found.low == pytest.approx(found.high, rel=0.1)


def test_lengths_count_as_far_as_each_side_reaches() -> None:
    """A side on which rows are taken to be four times as far off costs four times as much to hold."""
    away = np.random.default_rng(0).normal(0.0, 0.1, 20_000)
    wide = np.column_stack([np.full(len(away), 4.0), np.ones(len(away))])
    found, plain = _interval(np.where(away > 0.0, away, 4.0 * away), wide), _interval(away)
    assert found.low > plain.low
    assert found.high > plain.high
