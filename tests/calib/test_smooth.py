"""The smooth correction of few rows: what it learns, what it leaves alone, and that it is kept and priced as it was fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calib.fit import Rows, held_units, parts_of, physical_stage, predicted, with_floor
from calib.smooth import MISSED, smooth
from sim import fitted as fits
from sim.fitted import Fitted, Part, dump, load
from sim.quick import predictor
from tests.calib.synthetic import DEVICE, gemm_table

RNG = np.random.default_rng(0)
X = {"log x": RNG.uniform(-3.0, 3.0, 300), "share y": RNG.uniform(-3.0, 0.0, 300), "z": RNG.uniform(0.0, 1.0, 300)}
WAVY = 0.15 * np.sin(X["log x"]) + 0.05 * X["share y"]


def rows_of(frame: pd.DataFrame) -> Rows:
    (rows,) = parts_of(frame)
    return rows


def test_a_smooth_function_is_found_between_points() -> None:
    seen, unseen = ({name: x[part] for name, x in X.items()} for part in (slice(0, 200), slice(200, None)))
    noise = 0.06 * RNG.standard_normal(200)
    found = smooth(seen, ["a"] * 200, WAVY[:200] + noise)(unseen, ["a"] * 100)
    assert np.abs(found - WAVY[200:]).mean() < 0.35 * np.abs(WAVY[200:] - WAVY[:200].mean()).mean()


def test_few_wild_rows_do_not_steer() -> None:
    wild = WAVY + np.where(np.arange(300) % 20 == 0, 0.9, 0.0)
    away = smooth(X, [""] * 300, wild)(X, [""] * 300) - WAVY
    assert np.abs(away).mean() < 0.02


def test_far_from_every_point_there_is_no_correction() -> None:
    near = {name: np.array([x.min(), x.min() + 0.01]) for name, x in X.items()}
    residual = smooth(
        {name: np.concatenate([v, X[name][:1]]) for name, v in near.items()}, [""] * 3, np.array([0.3, 0.3, 0.0])
    )
    values = residual({name: np.array([v[0], X[name].max()]) for name, v in near.items()}, ["", ""])
    assert values[0] > 0.2
    assert abs(values[1]) < 0.1 * values[0] + 0.5 * MISSED


def test_softwares_differ_by_a_constant_and_an_unknown_one_has_none() -> None:
    twice = {name: np.concatenate([x, x]) for name, x in X.items()}
    slow = np.repeat([0.1, -0.1], 300)
    residual = smooth(twice, ["slow"] * 300 + ["fast"] * 300, np.concatenate([WAVY, WAVY]) + slow)
    of = {name: residual(X, [name] * 300) for name in ("slow", "fast", "new")}
    assert of["slow"] - of["fast"] == pytest.approx(np.full(300, 0.2), abs=0.02)
    assert of["new"] == pytest.approx((of["slow"] + of["fast"]) / 2.0, abs=0.02)


@pytest.fixture(scope="module")
def part() -> Part:
    frame = gemm_table(300)
    odd = frame["n"].isin([32, 64, 128]).to_numpy()  # what no term explains
    return physical_stage(rows_of(frame.assign(latency_us=frame["latency_us"] * np.where(odd, 1.3, 1.0))), 0)


def test_a_correction_of_few_rows_helps_pairs_that_were_held_out() -> None:
    frame = gemm_table(700)
    rows = rows_of(frame.assign(latency_us=frame["latency_us"] * np.where(frame["m"] < 4096, 1.3, 1.0)))
    held = held_units(rows.unit, 0)
    fit, asked = physical_stage(rows.take(~held), 0), rows.take(held)
    assert fit.residual is not None
    assert fit.residual.kernel is not None
    with_it, without = predicted(asked, fit)[0], with_floor(asked, fit).time
    off = [np.abs(np.log(time / asked.measured)).mean() for time in (with_it, without)]
    assert off[0] < 0.75 * off[1]


def test_a_fit_of_few_rows_is_read_as_it_was_written_and_predicts_one_product_alike(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.yaml"
    dump(Fitted("new", {part.name: part}, {}), path)
    again = load(str(path))
    rows = rows_of(gemm_table(40, seed=3))
    expected = predicted(rows, part)[0]
    assert predicted(rows, again.parts[part.name])[0] == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr(fits, "find", lambda _: again)
    software = str(rows.frame["software"].iat[0])
    one = predictor(DEVICE, "bf16", software)
    found = [one(*row) for row in rows.frame[["m", "n", "k"]].itertuples(index=False)]
    assert found == pytest.approx(expected, rel=1e-3)
