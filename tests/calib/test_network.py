from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calib.network import Recipe, folds, scaled, tasks, train
from hwspecs.errors import CalibrationError
from sim.fitted import load
from sim.residual import BOUND, Residual

RECIPE = Recipe(width=16, depth=2, batch=64, rate=1e-2, least_steps=400, epochs=1, folds=3)


@pytest.fixture(scope="module")
def learned() -> tuple[Residual, np.ndarray]:
    """Two softwares, one of them 0.2 above the other; fold of each row."""
    x = np.random.default_rng(0).uniform(-1.0, 1.0, 400)
    features = {"x": np.concatenate([x, x]), "one": np.ones(800)}
    condition = ["slow"] * 400 + ["fast"] * 400
    target = 0.3 * features["x"] + np.where(np.array(condition) == "slow", 0.2, 0.0)
    blank = scaled(features, condition)
    fold = folds(np.tile(np.arange(400) // 10, 2), RECIPE)
    networks = [train(task) for task in tasks(blank, blank.inputs(features), condition, target, fold, RECIPE)]
    return replace(blank, layers=tuple(networks)), fold


def test_constant_features_are_left_out(learned: tuple[Residual, np.ndarray]) -> None:
    residual, _ = learned
    assert residual.names == ("x",)
    assert residual.conditions == ("fast", "slow")


def test_units_are_dealt_whole_and_evenly(learned: tuple[Residual, np.ndarray]) -> None:
    fold = learned[1]
    assert all(len(set(fold[np.tile(np.arange(400) // 10, 2) == unit])) == 1 for unit in range(40))
    assert np.bincount(fold).tolist() == [280, 260, 260]


def test_softwares_share_what_they_have_in_common(learned: tuple[Residual, np.ndarray]) -> None:
    residual, x = learned[0], np.linspace(-0.8, 0.8, 9)
    of = {name: residual({"x": x}, [name] * 9) for name in ("slow", "fast", "unknown")}
    assert of["fast"] == pytest.approx(0.3 * x, abs=0.05)
    assert of["slow"] - of["fast"] == pytest.approx(np.full(9, 0.2), abs=0.05)
    assert (of["unknown"] > of["fast"] - 0.05).all()
    assert (of["unknown"] < of["slow"] + 0.05).all()


def test_networks_of_one_software_are_the_same_networks(learned: tuple[Residual, np.ndarray]) -> None:
    residual, x = learned[0], {"x": np.array([0.3])}
    for name in ("slow", "unknown"):
        own = replace(residual, conditions=(), layers=residual.of(name))
        assert own(x, [""]) == pytest.approx(residual(x, [name]), abs=1e-5)


def test_a_training_is_the_same_again() -> None:
    features, target = {"x": np.linspace(0.0, 1.0, 50)}, np.linspace(0.0, 2.0 * BOUND, 50)
    blank = scaled(features, [""] * 50)
    (task,) = tasks(blank, blank.inputs(features), [""] * 50, target, np.full(50, -1), replace(RECIPE, folds=1))
    first, again = train(task), train(task)
    assert all(
        np.array_equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True)
    )
    assert task.target.max() == BOUND


def test_rows_of_one_shape_and_software_count_as_their_mean() -> None:
    features = {"x": np.repeat([0.0, 1.0], 50)}
    target = np.where(np.arange(100) % 2 == 0, 0.1, 0.3)
    blank = scaled(features, ["a"] * 100)
    (task,) = tasks(blank, blank.inputs(features), ["a"] * 100, target, np.full(100, -1), replace(RECIPE, folds=1))
    residual = replace(blank, layers=(train(task),))
    assert residual({"x": np.array([0.0, 1.0])}, ["a", "a"]) == pytest.approx(np.full(2, 0.2), abs=0.03)


def test_a_correction_that_reads_what_is_not_computed_any_more_says_so() -> None:
    one = np.ones(1)
    stale = Residual(("n", "odd"), np.zeros(2), np.ones(2), np.zeros(2), np.ones(2), (), (), file="mine.yaml")
    says = (
        r"^mine\.yaml: a correction reads 'odd', which .*"
        r"\(it has c, n\); make the calibration again: `framecast"
    )
    for read in (stale.inputs, stale.outside):
        with pytest.raises(CalibrationError, match=says):
            read({"n": one, "c": one})


def test_a_loaded_fit_names_its_file_in_its_corrections() -> None:
    corrections = [part.residual for part in load("a100").parts.values() if part.residual]
    assert {Path(c.file).name for c in corrections} == {"a100.yaml"}
