"""Values that were kept out of a fit whole: which, what is new of a row, and the intervals that come of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from calib import held_values
from calib.network import Recipe
from sim.fitted import Part
from sim.intervals import ABOVE, BELOW, INSIDE, Interval, news, stretched

POWERS = np.array([2.0**i for i in range(12)])
GRID = pd.DataFrame([(n, k) for n in POWERS for k in POWERS], columns=["n", "k"])


def test_each_network_misses_outermost_and_inner_values() -> None:
    masks = held_values.held(GRID, ("n", "k"), 0)
    assert len(masks) == 4
    for i, mask in enumerate(masks):
        edge = POWERS[-1] if i % 2 == 0 else POWERS[0]
        assert mask[((GRID["n"] == edge) | (GRID["k"] == edge)).to_numpy()].all()
        for name in ("n", "k"):
            lost = set(GRID[name]) - set(GRID[~mask][name])
            inner = lost - {edge}
            assert len(inner) == (2, 2, 1, 1)[i]
            assert not inner & {POWERS[0], POWERS[-1]}


def test_an_octave_is_missed_where_values_lie_close() -> None:
    close = np.array([1.0, 2.0, 3.0, 4.0, 8.0, 16.0, 100.0, 101.0])
    first, second, *_ = held_values.held(pd.DataFrame({"n": close}), ("n",), 0)
    assert {100.0, 101.0} <= set(close[first])
    assert {1.0} <= set(close[second])
    assert not first[0]
    assert not second[-2:].any()


def test_columns_that_are_no_grid_are_left_alone() -> None:
    many = pd.DataFrame({"n": np.arange(1.0, 1001.0)})
    assert held_values.held(many, ("n",), 0) == []
    assert held_values.held(GRID.iloc[:1], ("n", "k"), 0) == []


def test_networks_for_intervals_are_trained_for_less_long() -> None:
    mask = np.arange(5) == 3
    (first, recipe), (second, other) = held_values.recipes(
        [mask], np.arange(5), Recipe(epochs=100, least_steps=1000, folds=5, seed=3)
    )
    assert first.tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]  # the mask is of row 3; network 0 is blind to folds 0 and 1,
    assert second.tolist() == [True, False, False, True, True]  # network 4 to folds 4 and 0: the judges of a new row
    assert (recipe.epochs, recipe.least_steps, recipe.folds, recipe.spared, recipe.seed) == (30, 300, 1, 1, 8)
    assert other.seed == 9


@pytest.mark.parametrize(("n", "what"), [(256.0, ""), (300.0, INSIDE), (0.5, BELOW), (5000.0, ABOVE), (2048.0, "")])
def test_what_is_new_of_a_row(n: float, what: str) -> None:
    assert news({"n": np.array([n])}, {"n": POWERS})["n"].tolist() == [what]


def test_a_value_in_a_narrow_gap_is_not_new() -> None:
    assert news({"n": np.array([4097.0])}, {"n": np.array([4096.0, 4300.0])})["n"].tolist() == [""]


def test_each_column_has_news_of_its_own_and_the_widest_counts() -> None:
    columns = {"n": np.array([5000.0, 5000.0, 4.0]), "k": np.array([300.0, 4.0, 4.0])}
    found = news(columns, {"n": POWERS, "k": POWERS})
    assert {name: what.tolist() for name, what in found.items()} == {
        "n": [ABOVE, ABOVE, ""], "k": [INSIDE, "", ""],
    }  # fmt: skip
    wider = {f" | n {ABOVE}": Interval(-2, 3, 9), f" | {INSIDE}": Interval(-4, 2, 9)}
    low, high = stretched(np.full(3, -1.0), np.ones(3), wider, found)
    assert low.tolist() == [-4, -2, -1]
    assert high.tolist() == [3, 3, 1]


def test_stretches_of_new_values_are_those_of_their_errors() -> None:
    table = pd.concat([GRID] * 4, ignore_index=True)
    blind = held_values.held(table, ("n", "k"), 0)
    rng = np.random.default_rng(0)
    away = []
    for mask in blind:
        out = table[mask]
        known = held_values.measured_values(table[~mask], ("n", "k"))
        kind = news({c: out[c].to_numpy() for c in ("n", "k")}, known)
        sizes = [
            np.where(kind[c] == INSIDE, 2.0, 4.0) * np.where(kind[c] == "", 0.0, by) for c, by in (("n", 1), ("k", 2))
        ]
        away.append(np.maximum(*sizes) * rng.standard_normal(len(out)))
    found = held_values.stretches(table, ("n", "k"), blind, away)
    news_of = [f"{c} {w}" for c in ("n", "k") for w in (INSIDE, BELOW, ABOVE)]
    assert set(found) == {f" | {w}" for w in (*news_of, INSIDE, BELOW, ABOVE)}
    for name, size in ((f"n {INSIDE}", 2.0), (f"n {ABOVE}", 4.0), (f"k {INSIDE}", 4.0), (f"k {BELOW}", 8.0)):
        assert found[f" | {name}"].high == pytest.approx(size * 1.28, rel=0.3), name


def test_few_values_that_differ_have_a_wide_interval() -> None:
    rng = np.random.default_rng(0)
    value, noise = np.repeat(np.array(["a", "b", "c", "d", "e"], dtype=object), 200), rng.standard_normal(1000)
    assert held_values.clustered(noise, value).high == pytest.approx(1.28, rel=0.2)
    alone = held_values.clustered(noise[:200], value[:200])
    assert alone.rows == 200
    assert alone.high == pytest.approx(1.28, rel=0.2)
    unlike = held_values.clustered(noise + np.repeat([-20.0, -10.0, 0.0, 10.0, 20.0], 200), value)
    assert 20.0 < unlike.high < 100.0


def test_two_values_that_nothing_reconciles_have_the_widest_of_both() -> None:
    value, noise = np.repeat(np.array(["a", "b"], dtype=object), 200), np.random.default_rng(0).standard_normal(400)
    found = held_values.clustered(noise + np.repeat([-50.0, 0.0], 200), value)
    assert found.high == pytest.approx(50.84, abs=0.3)  # 80 % of the errors about -50 are less far off
    assert found.low == -found.high


def test_what_is_new_is_no_surer() -> None:
    found = held_values.clustered(0.01 * np.random.default_rng(0).standard_normal(300), np.full(300, "a", dtype=object))
    assert (found.low, found.high) == (-1.0, 1.0)


def test_errors_are_counted_in_ends_of_the_interval() -> None:
    bands = {"": Interval(-0.1, 0.2, 9)}
    away, some = np.array([-0.1, 0.1, 0.4]), np.full(3, "a", dtype=object)
    assert held_values.in_units(away, bands, some, np.full(3, 1e-4)).tolist() == pytest.approx([-1.0, 0.5, 2.0])
    scale = np.array([[1.0, 9.0], [9.0, 2.0], [9.0, 0.5]])
    wider = held_values.in_units(away, bands, some, np.full(3, 1e-4), scale)
    assert wider.tolist() == pytest.approx([-1.0, 0.25, 4.0])


def test_what_short_training_costs_is_no_matter_of_new_values() -> None:
    known = np.linspace(-2.0, 2.0, 1001)  # 80 % within 1.6
    assert held_values.against(np.array([3.2, -0.8]), known).tolist() == pytest.approx([2.0, -0.5])
    assert held_values.against(np.array([3.2]), known[:0]).tolist() == [3.2]


def test_ends_of_a_part_know_what_is_new() -> None:
    stretches = {f" | n {INSIDE}": Interval(-2, 3, 9), f" | {ABOVE}": Interval(-4, 5, 9)}
    part = Part(
        "x", (), (), {}, {}, {}, {"": Interval(-1, 2, 9)}, {}, {}, None, known={"n": POWERS}, stretches=stretches
    )
    condition, seconds = np.array(["a", "a", "a", "b", "b"], dtype=object), np.full(5, 1e-6)
    low, high = part.ends(condition, seconds, {"n": np.array([4.0, 5.0, 1e6, 1e6, 5.0])})
    assert low.tolist() == [-1, -2, -4, -4, -2]
    assert high.tolist() == [2, 6, 10, 10, 6]
    assert part.ends(condition, seconds)[1].tolist() == [2] * 5
