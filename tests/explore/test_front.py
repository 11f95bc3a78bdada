"""The front of small sets, and designs in words."""

from __future__ import annotations

import numpy as np
import pytest

from explore.front import differences, hypervolume, pareto, ratio, spread


def test_pareto() -> None:
    points = np.array([[1.0, 5.0], [2.0, 2.0], [2.0, 2.0], [2.0, 3.0], [5.0, 1.0], [5.0, 5.0]])
    assert pareto(points).tolist() == [True, True, True, False, True, False]
    assert pareto(points[:, :1]).tolist() == [True, False, False, False, False, False]
    assert pareto(np.empty((0, 2))).tolist() == []
    assert pareto(np.array([[1e20, 2.0], [1e20, 1.0]])).tolist() == [False, True]  # sums alone would not tell
    with pytest.raises(ValueError, match="objectives must not be NaN"):
        pareto(np.array([[np.nan]]))


@pytest.mark.parametrize("size", [1, 3, 90, 700])
@pytest.mark.parametrize("kind", ["any", "equal ones", "all on the front", "equal on the front"])
def test_the_front_of_three_is_what_every_pair_says(size: int, kind: str) -> None:
    rng = np.random.default_rng(size)
    points = (
        rng.random((size, 3)) if kind in ("any", "all on the front") else rng.integers(0, 30, (size, 3)).astype(float)
    )
    if kind.endswith("front"):
        points[:, 2] = 60.0 - points[:, 0] - points[:, 1]
    beaten = ((points[:, None] <= points[None]).all(2) & (points[:, None] < points[None]).any(2)).any(0)
    assert pareto(points).tolist() == (~beaten).tolist()


def test_spread() -> None:
    assert spread(np.array([3.0, 1.0, 2.0]), 15).tolist() == [1, 2, 0]
    assert spread(np.arange(100.0), 3).tolist() == [0, 50, 99]


def test_words() -> None:
    assert [ratio(v, 10.0) for v in (16.0, 20.0, 9.0, 4.0, 10.01, 123.0)] == ["+60 %", "x2", "-10 %", "x0.4", "", "x12"]
    assert ratio(1.0, 0.0) == "new"
    base = {"device.hbm.bandwidth": 10.0, "device.l2.capacity": 1.0, "device.sm_count": 10, "device.tensor.fp8": 0.0}
    design = {"device.hbm.bandwidth": 16.0, "device.l2.capacity": 2.0, "device.sm_count": 9, "device.tensor.fp8": 0.0}
    assert differences(design, base) == "L2 x2, HBM +60 %, SMs -10 %"
    assert differences(base, base) == "as the baseline"


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_hypervolume_is_what_a_grid_counts(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    points = rng.integers(0, 8, (12, objectives)).astype(float)
    cells = np.stack(np.meshgrid(*[np.arange(6)] * objectives, indexing="ij"), axis=-1).reshape(-1, objectives)
    covered = (points[:, None] <= cells[None]).all(axis=2).any(axis=0).sum()
    assert hypervolume(points, np.full(objectives, 6.0)) == covered
    assert hypervolume(points + 10, np.full(objectives, 6.0)) == 0
    with pytest.raises(ValueError, match="at most 3 objectives"):
        hypervolume(np.zeros((1, 4)), np.ones(4))
