"""Networks that are blind to a row: which, how far they are off, and how unsure they are of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calib import blind
from calib.families.base import Physical
from calib.forest import LEAST_END
from calib.intervals import conformal
from calib.network import Recipe, blind_to, spares
from sim.fitted import Fitted, Part, dump, load
from sim.forest import LEAF, Forest
from sim.intervals import Doubt, Interval
from sim.residual import BOUND, Residual

RECIPE = Recipe(folds=4)
FOLD = np.arange(4)


def constant(*values: float) -> Residual:
    """Networks of one layer that say the same of every row."""
    layers = tuple(((np.zeros((1, 1), np.float32), np.array([value], np.float32)),) for value in values)
    one = np.ones(1)
    return Residual(("x",), 0.0 * one, one, -one, one, (), layers)


def stump() -> Forest:
    """One tree: up to x = 0.5 half as far below and twice as far above, beyond three times and once."""
    ends = np.array([[0.0, 0.0], [0.5, 2.0], [3.0, 1.0]], np.float32)
    cut = np.array([0.5, LEAF, LEAF], np.float32)
    feature, child = np.zeros(3, np.int32), np.array([1, 1, 2], np.int32)
    return Forest(np.zeros(1, np.int32), feature, cut, child, ends, 1)


def held(fold: NDArray[np.int64]) -> blind.Held:
    """Rows that take 1.1 s."""
    rows = len(fold)
    none = np.full(rows, "", dtype=object)
    return blind.Held(np.zeros((rows, 1), np.float32), none, fold, np.arange(rows), np.full(rows, 1.1), flat(rows))


def flat(rows: int) -> Physical:
    """A second each, at least half of one."""
    one = np.ones(rows)
    return Physical(one, {}, one.astype(np.int64), 0.5 * one)


def test_as_many_networks_are_blind_to_every_fold() -> None:
    for fold in range(4):
        own = [i for i in range(4) if spares(FOLD, i, RECIPE)[fold]]
        assert tuple(own) == blind_to(fold, RECIPE)
        assert len(own) == 2
    assert blind_to(0, RECIPE) == (0, 3)
    assert blind_to(2, replace(RECIPE, spared=1)) == (2,)
    assert not spares(np.full(3, -1), 1, RECIPE).any()


def test_a_row_is_judged_by_those_that_did_not_see_it_alone() -> None:
    seconds, scale, doubt = blind.held_out(constant(0.0, 0.1, 0.4, 0.8), held(FOLD), RECIPE)
    pairs = np.array([[0.0, 0.8], [0.0, 0.1], [0.1, 0.4], [0.4, 0.8]])
    spread = pairs.std(axis=1, ddof=1)
    assert np.log(seconds) == pytest.approx(pairs.mean(axis=1))
    assert doubt is not None
    assert doubt.networks == (0, 3)
    assert doubt.floor == pytest.approx(blind.FLOOR * np.median(spread))
    wide = (spread + doubt.floor) / (np.median(spread) + doubt.floor)
    assert doubt.wider(spread) == pytest.approx(wide)
    assert doubt.forest is not None
    assert doubt.forest.depth == 0  # four rows are no forest
    assert (scale / wide[:, None]).min() == pytest.approx(LEAST_END)


def test_what_is_judged_is_bounded() -> None:
    low, _ = blind.judged(constant(-5.0, -5.0), (0, 1), held(FOLD[:1]))
    high, _ = blind.judged(constant(5.0, 5.0), (0, 1), held(FOLD[:1]))
    assert low.tolist() == [0.5]
    assert np.log(high) == pytest.approx([BOUND])


def test_one_network_says_nothing_of_doubt() -> None:
    one = replace(RECIPE, spared=1)
    seconds, scale, doubt = blind.held_out(constant(0.0, 0.1, 0.2, 0.3), held(FOLD), one)
    assert np.log(seconds) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert doubt is None
    assert scale.tolist() == [[1.0, 1.0]] * 4


def test_judges_of_what_was_kept_out_come_after_each_other() -> None:
    assert [blind.judges(i, RECIPE) for i in range(2)] == [(0, 1), (2, 3)]


def test_a_new_row_is_judged_by_the_networks_that_are_named() -> None:
    doubt = Doubt((0, 2), floor=0.01, typical=0.03)
    each = np.array([[0.0, 0.1], [9.0, 9.0], [0.0, 0.1 + 0.02 * np.sqrt(2.0)]])
    rows = np.zeros((2, 1), np.float32), np.zeros(2, np.int64), np.ones(2)
    assert doubt.scale(each, *rows) == pytest.approx(np.array([[1.0 / 3.0] * 2, [1.0] * 2]))


def test_intervals_are_narrow_where_networks_agree_and_hold_as_many_rows() -> None:
    """Errors are twice as large where networks differ twice as much, of rows that the intervals were not made of."""
    rng, count = np.random.default_rng(0), 4000
    scale = np.exp(rng.normal(0.0, 0.7, count))
    away, unit = 0.02 * scale * rng.standard_normal(count), np.arange(count) // 20
    first = np.arange(count) < count // 2
    some = np.full(count // 2, "", dtype=object)
    ratio, inside = {}, {}
    for name, width in (("plain", np.ones(count)), ("scaled", scale)):
        both = np.column_stack([width[first], width[first]])
        made = conformal(some, unit[first], np.exp(away[first]), np.ones(count // 2), 1.0, both)[""]
        low, high = made.low * width[~first], made.high * width[~first]
        inside[name] = float(((low <= away[~first]) & (away[~first] <= high)).mean())
        ratio[name] = float(np.median(high - low) / 2.0 / np.median(np.abs(away[~first])))
    assert inside == {"plain": pytest.approx(0.8, abs=0.03), "scaled": pytest.approx(0.8, abs=0.03)}
    assert ratio["plain"] > 2.1
    assert ratio["scaled"] < 2.0


def test_doubt_comes_back_from_its_file_and_widens_intervals(tmp_path: Path) -> None:
    doubt = Doubt((0, 3), floor=0.01, typical=0.03, forest=stump())
    part = Part("gemm/fp32", (), (), {}, {}, {}, {"": Interval(-0.1, 0.2, 9)}, {}, {}, None, doubt=doubt)
    path = tmp_path / "own.yaml"
    dump(Fitted("own", {part.name: part}, {}), path)
    back = load(str(path)).parts[part.name]
    assert back.doubt is not None
    assert (back.doubt.networks, back.doubt.floor, back.doubt.typical) == ((0, 3), 0.01, 0.03)
    x = np.array([[0.0], [1.0]], np.float32)
    scale = back.doubt.ends(np.array([0.02, 0.05]), x, np.zeros(2, np.int64), np.full(2, 1e-4))
    assert scale == pytest.approx(np.array([[0.5, 2.0], [6.0, 2.0]]))  # twice as unsure in the second row
    low, high = back.ends(np.full(2, "a", dtype=object), np.full(2, 1e-4), None, scale)
    assert low == pytest.approx([-0.05, -0.6])
    assert high == pytest.approx([0.4, 0.4])
