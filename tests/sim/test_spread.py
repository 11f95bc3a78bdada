"""Intervals of runs: they hold the latency, shared errors do not average out, the file is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwspecs.errors import CalibrationError
from sim import report, spread
from sim.result import Result
from tests.sim.toy import result


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Result:
    return result(monkeypatch, tmp_path)


def test_the_interval_holds_the_latency(toy: Result) -> None:
    low, high = spread.latency_interval(toy)
    assert 0 < low < toy.latency < high
    assert toy.to_json()["latency_interval_s"] == [low, high]
    assert f"({report.seconds(low)} to {report.seconds(high)} with 80 %)" in report.text(toy)


def test_shared_errors_do_not_average_out(toy: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    known = spread.load()
    alone = {n: replace(s, shape=0.0) for n, s in known.abroad.items()}
    least = min(s.device for s in alone.values())
    monkeypatch.setattr(spread, "load", lambda: replace(known, abroad=alone, home=dict.fromkeys(alone, alone["gemm"])))
    assert spread.relative(toy.priced, toy.trace) >= least / np.sqrt(len(alone))


def test_shares_outside_add_up(toy: Result) -> None:
    out = spread.outside(toy)
    assert np.isclose(sum(out.values()), sum(toy.not_calibrated().values()))


def test_a_device_that_was_never_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = result(monkeypatch, tmp_path, "device=h100-sxm")
    assert spread.outside(other)["hardware"] > 0
    assert "utside the covered hardware" in report.text(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abroad: {}\n", "not a file of spreads: 'home'"),
        ("[", "not a file of spreads: "),
        (None, "cannot read the spreads: "),
    ],
)
def test_a_broken_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "spread.yaml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(spread, "FILE", path)
    with pytest.raises(CalibrationError) as found:
        spread.load.__wrapped__()
    assert found.value.problems[0].startswith(f"{path}: {message}")
