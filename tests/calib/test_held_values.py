"""Values that were kept out of a fit whole: which, what is new of a row, and the intervals that come of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from calib import held_values
from calib.network import Recipe
from sim.fitted import Part
from sim.intervals import BEYOND, INSIDE, Interval, groups

POWERS = np.array([2.0**i for i in range(12)])
GRID = pd.DataFrame([(n, k) for n in POWERS for k in POWERS], columns=["n", "k"])


def test_each_network_misses_outermost_and_inner_values() -> None:
    masks = [b.mask for b in held_values.held(GRID, ("n", "k"), 0)]
    assert len(masks) == 6
    for i, mask in enumerate(masks):
        edge = POWERS[-1] if i % 2 == 0 else POWERS[0]
        assert mask[((GRID["n"] == edge) | (GRID["k"] == edge)).to_numpy()].all()
        for name in ("n", "k"):
            lost = set(GRID[name]) - set(GRID[~mask][name])
            inner = lost - {edge}
            assert len(inner) == (0 if name != ("n", "k")[i % 2] else held_values.ADJACENT[i // 2])
            assert not inner & {POWERS[0], POWERS[-1]}


def test_columns_that_are_no_grid_are_left_alone() -> None:
    many = pd.DataFrame({"n": np.arange(1.0, 1001.0)})
    assert held_values.held(many, ("n",), 0) == []
    assert held_values.held(GRID.iloc[:1], ("n", "k"), 0) == []


def test_networks_for_intervals_are_trained_for_less_long() -> None:
    mask = np.ones(3, dtype=bool)
    ((got, recipe),) = held_values.recipes(
        [held_values.Blind(mask, "n")], Recipe(epochs=100, least_steps=1000, folds=5, seed=3)
    )
    assert got is mask
    assert (recipe.epochs, recipe.least_steps, recipe.folds, recipe.seed) == (40, 400, 1, 8)


@pytest.mark.parametrize(
    ("n", "what"), [(256.0, "< 10 us"), (300.0, INSIDE), (0.5, BEYOND), (5000.0, BEYOND), (2048.0, "< 10 us")]
)
def test_what_is_new_of_a_row(n: float, what: str) -> None:
    assert groups(np.array([1e-6]), {"n": np.array([n])}, {"n": POWERS}).tolist() == [what]


def test_a_value_in_a_narrow_gap_is_not_new() -> None:
    assert groups(np.array([1e-3]), {"n": np.array([4097.0])}, {"n": np.array([4096.0, 4300.0])}).tolist() == [
        "< 2000 us"
    ]


def test_beyond_one_column_counts_before_between_of_another() -> None:
    columns = {"n": np.array([5000.0]), "k": np.array([300.0])}
    assert groups(np.array([1e-6]), columns, {"n": POWERS, "k": POWERS}).tolist() == [BEYOND]


def test_intervals_of_new_values_are_those_of_their_errors() -> None:
    blind, some = held_values.held(GRID, ("n", "k"), 0), np.full(len(GRID), "library", dtype=object)
    rng = np.random.default_rng(0)
    away = []
    for mask in (b.mask for b in blind):
        out = GRID[mask]
        known = held_values.measured_values(GRID[~mask], ("n", "k"))
        kind = groups(np.zeros(len(out)), {c: out[c].to_numpy() for c in ("n", "k")}, known)
        away.append(np.where(kind == BEYOND, 0.4, 0.1) * rng.standard_normal(len(out)))
    found = held_values.intervals(GRID, ("n", "k"), some, blind, away)
    assert set(found) == {f"{s} | {w}" for s in ("", "library") for w in (INSIDE, BEYOND)}
    wide, narrow = (found[f"library | {w}"] for w in (BEYOND, INSIDE))
    assert wide.high == pytest.approx(0.4 * 1.28, rel=0.4)
    assert narrow.high == pytest.approx(0.1 * 1.28, rel=0.4)


def test_few_values_that_differ_have_a_wide_interval() -> None:
    rng = np.random.default_rng(0)
    value = np.repeat(np.array(["a", "b", "c", "d", "e"], dtype=object), 200)
    noise = 0.01 * rng.standard_normal(1000)
    alike = held_values.clustered(noise, value)
    assert alike.high == pytest.approx(0.0128, rel=0.2)
    away = noise + np.repeat([-0.2, -0.1, 0.0, 0.1, 0.2], 200)
    unlike = held_values.clustered(away, value)
    assert -0.3 > unlike.low > -1.0
    alone = held_values.clustered(noise[:200], value[:200])
    assert alone.rows == 200
    assert alone.high == pytest.approx(0.0128, rel=0.2)


def test_ends_of_a_part_know_what_is_new() -> None:
    bands = {"": Interval(-1, 1, 9), f"a | {INSIDE}": Interval(-2, 2, 9), f" | {BEYOND}": Interval(-3, 3, 9)}
    part = Part("x", (), (), {}, {}, {}, bands, {}, {}, None, known={"n": POWERS})
    condition, seconds = np.array(["a", "a", "a", "b"], dtype=object), np.full(4, 1e-6)
    n = np.array([4.0, 5.0, 1e6, 1e6])
    assert part.ends(condition, seconds, {"n": n})[1].tolist() == [1, 2, 3, 3]
    assert part.ends(condition, seconds)[1].tolist() == [1, 1, 1, 1]
