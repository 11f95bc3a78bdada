"""Values that were kept out of a fit whole: which, what is new of a row, and the intervals that come of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from calib import held_values
from calib.network import Recipe
from sim.fitted import Part
from sim.intervals import ABOVE, BELOW, INSIDE, Interval, news, widened

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


def test_each_column_has_news_of_its_own_and_all_of_it_counts() -> None:
    columns = {"n": np.array([5000.0, 5000.0, 4.0]), "k": np.array([300.0, 4.0, 4.0])}
    found = news(columns, {"n": POWERS, "k": POWERS})
    assert {name: what.tolist() for name, what in found.items()} == {
        "n": [ABOVE, ABOVE, ""], "k": [INSIDE, "", ""],
    }  # fmt: skip
    low, high = widened(np.full(3, -3.0), np.full(3, 12.0), {f"n {ABOVE}": 4.0, INSIDE: 12.0}, found)
    assert low.tolist() == [-13, -5, -3]  # errors add by their squares; what is new in any column stands in for k
    assert high.tolist() == pytest.approx([np.sqrt(144 + 16 + 144), np.sqrt(144 + 16), 12.0])


def test_what_is_added_for_new_values_is_what_their_errors_lack() -> None:
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
    one = np.ones(len(table))
    more = [held_values.excess((a, one[: len(a)]), (one[:0], one[:0])) for a in away]
    found = held_values.added(table, ("n", "k"), blind, more)
    news_of = [f"{c} {w}" for c in ("n", "k") for w in (INSIDE, BELOW, ABOVE)]
    assert set(found) == {*news_of, INSIDE, BELOW, ABOVE}
    for name, size in ((f"n {INSIDE}", 2.0), (f"n {ABOVE}", 4.0), (f"k {INSIDE}", 4.0), (f"k {BELOW}", 8.0)):
        assert np.hypot(found[name], 1.0) == pytest.approx(size * 1.28, rel=0.3), name


def test_few_values_that_differ_have_more_added() -> None:
    rng = np.random.default_rng(0)
    value, lack = np.repeat(np.array(["a", "b", "c", "d", "e"], dtype=object), 200), np.abs(rng.standard_normal(1000))
    assert held_values.clustered(lack, value) == pytest.approx(1.28, rel=0.2)
    assert held_values.clustered(lack[:200], value[:200]) == pytest.approx(1.28, rel=0.2)
    unlike = held_values.clustered(lack + np.repeat([0.0, 0.0, 5.0, 10.0, 20.0], 200), value)
    assert 10.0 < unlike < 23.0  # four of the five are held then


def test_two_values_that_nothing_reconciles_have_the_most_of_both() -> None:
    value, lack = np.repeat(np.array(["a", "b"], dtype=object), 200), np.linspace(0.0, 1.0, 400)
    assert held_values.clustered(lack + np.repeat([50.0, 0.0], 200), value) == pytest.approx(50.4, abs=0.01)


def test_nothing_is_added_where_intervals_hold_new_values() -> None:
    away, end = np.linspace(-1.0, 1.0, 300), np.full(300, 0.9)
    none = held_values.excess((away, 1.1 * end), (away, end))
    assert held_values.clustered(none, np.full(300, "a", dtype=object)) == 0.0


def test_errors_stand_beside_the_end_of_the_interval_on_their_side() -> None:
    bands = {"": Interval(-0.1, 0.2, 9)}
    away, some = np.array([-0.1, 0.1, 0.4]), np.full(3, "a", dtype=object)
    assert held_values.beside(away, bands, some, np.full(3, 1e-4))[1].tolist() == pytest.approx([0.1, 0.2, 0.2])
    scale = np.array([[1.0, 9.0], [9.0, 2.0], [9.0, 0.5]])
    same, end = held_values.beside(away, bands, some, np.full(3, 1e-4), scale)
    assert same.tolist() == away.tolist()
    assert end.tolist() == pytest.approx([0.1, 0.4, 0.1])


def test_what_short_training_costs_is_no_matter_of_new_values() -> None:
    known, one = np.linspace(-2.0, 2.0, 1001), np.ones(1001)  # 80 % within 1.6
    new = np.array([8.0, -0.8]), np.array([3.0, 1.0])
    assert held_values.excess(new, (known, one)).tolist() == pytest.approx([4.0, 0.0])  # 5 against 3
    assert held_values.excess(new, (known[:0], one[:0])).tolist() == pytest.approx([np.sqrt(55.0), 0.0])


def test_ends_of_a_part_know_what_is_new() -> None:
    added = {f"n {INSIDE}": 4.0, ABOVE: 12.0}
    part = Part("x", (), (), {}, {}, {}, {"": Interval(-3, 5, 9)}, {}, {}, None, known={"n": POWERS}, added=added)
    condition, seconds = np.array(["a", "a", "a", "b", "b"], dtype=object), np.full(5, 1e-6)
    low, high = part.ends(condition, seconds, {"n": np.array([4.0, 5.0, 1e6, 1e6, 5.0])})
    assert low == pytest.approx(-np.hypot(3, [0, 4, 12, 12, 4]))
    assert high == pytest.approx(np.hypot(5, [0, 4, 12, 12, 4]))
    assert part.ends(condition, seconds)[1].tolist() == [5] * 5
