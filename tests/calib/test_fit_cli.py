from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

import framecast
from calib import accuracy
from calib.accuracy import CASES, Found, page
from hwspecs.errors import CalibrationError
from tests.calib.synthetic import DEVICE, gemm_table


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command in a folder with `shapes.csv` (no latencies) and `mine.csv`; errors of ours are raised."""
    monkeypatch.chdir(tmp_path)
    table = gemm_table(60).drop(columns="device_id")
    table.to_csv("mine.csv", index=False)
    table.drop(columns=["latency_us", "device"]).to_csv("shapes.csv", index=False)

    def call(*words: str) -> Any:
        return CliRunner().invoke(framecast.commands(), words, catch_exceptions=False)

    return call


def test_fit_then_score(run: Callable[..., Any], tmp_path: Path) -> None:
    said = run("calib", "fit", "mine.csv", "--hardware", DEVICE, "--out", "mine-fit", "--workers", "1")
    assert "gemm/16-bit" in said.output
    assert "tensor_sustained" in said.output
    assert "mine-fit.yaml: written" in said.output
    scored = run("calib", "score", "mine.csv", "--hardware", "mine-fit", "--format", "json", "--out", "scores")
    found = json.loads(scored.stdout)
    assert found["overall"]["scored"] == 60
    assert found["levels"] == {"calibrated": 60}
    assert sorted(p.name for p in (tmp_path / "scores").iterdir()) == ["parity.png", "rows.csv", "score.json"]


def test_score_says_what_it_did_not_use(run: Callable[..., Any]) -> None:
    table = pd.read_csv("mine.csv")
    table.loc[0, "latency_us"] = -1.0
    table.loc[1, "device"] = "L40S"
    table.to_csv("other.csv", index=False)
    said = run("calib", "score", "other.csv", "--hardware", DEVICE, "--level", "physical").output
    assert "58 rows physical" in said
    assert "not scored: 1 rows (another device)" in said
    assert "not used: 1 rows" in said
    assert "The 10 worst rows" in said


def test_predict_appends_its_columns(run: Callable[..., Any]) -> None:
    run("predict", "shapes.csv", "--hardware", DEVICE, "--out", "out.csv")
    out, given = pd.read_csv("out.csv"), pd.read_csv("shapes.csv")
    assert list(out.columns) == [*given.columns, "predicted_us", "low_us", "high_us", "bound", "in_range"]
    assert (out.low_us < out.predicted_us).all()
    assert (out.predicted_us < out.high_us).all()
    assert set(out.bound) <= {"compute", "l2", "hbm", "latency", "launch", "link"}


def test_predict_leaves_empty_what_it_cannot_price(run: Callable[..., Any]) -> None:
    table = pd.read_csv("shapes.csv")
    table.loc[0, "op"] = "sorting"
    table.loc[1, "dtype"] = "fp8"
    table.to_csv("odd.csv", index=False)
    said = run("predict", "odd.csv", "--hardware", DEVICE, "--out", "out.csv").output
    assert "odd.csv:2: no model prices this operator" in said
    assert "odd.csv:3: the device lacks this dtype" in said
    assert pd.read_csv("out.csv").predicted_us.isna().sum() == 2


def test_bad_tables_are_refused(run: Callable[..., Any]) -> None:
    pd.read_csv("mine.csv").drop(columns="latency_us").to_csv("bad.csv", index=False)
    with pytest.raises(CalibrationError, match=r"bad.csv:1: column 'latency_us' is missing"):
        run("calib", "score", "bad.csv")
    with pytest.raises(CalibrationError, match=r"none.csv: no such file"):
        run("predict", "none.csv")


def test_the_page_says_what_was_missed() -> None:
    good = {"median": 1.0, "mape": 2.0, "p90": 3.0, "bias": 0.0}
    bad = {"median": 50.0, "mape": 50.0, "p90": 90.0, "bias": 0.0}
    levels = {"physical": bad, "physical, refitted": bad}
    found = [Found(0, 10, {"": good}, levels), Found(3, 10, {"": bad}, levels)]
    text = page(found, gemm_table(5), [Path("gemm.csv")], ["", "## More"])
    assert "\n\n## More\n\n" in text
    assert f"Missed: {CASES[3].title}." in text
    assert "Every figure that was asked for is met." in page(found[:1], gemm_table(5), [Path("gemm.csv")], [])
    assert accuracy.HARDWARE == "a100"
