from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib import accuracy_intervals
from calib.accuracy_noise import scatter
from calib.few import can_learn, carried, said
from calib.fit import Rows, errors, fit_part, held_units, parts_of, physical_stage, predicted, trained, with_floor
from calib.make import made, report, rows_on
from calib.network import Recipe
from calib.predict import predict, target
from calib.score import score, to_json
from calib.table import Measurements, read
from hwspecs import device
from hwspecs.errors import CalibrationError
from sim import fitted as fits
from sim.fitted import Fitted, Part
from sim.intervals import ABOVE, INSIDE
from sim.residual import BOUND
from tests.calib.synthetic import DEVICE, KNOWN, gemm_table

SMALL = Recipe(width=16, depth=2, epochs=1, least_steps=150, folds=4)


def rows_of(frame: Any) -> Rows:
    (rows,) = parts_of(frame)
    return replace(rows, family=replace(rows.family, size=(16, 1), fitted=tuple(KNOWN)))


@pytest.fixture(scope="module")
def learned() -> Part:
    """A fit of rows that a plain physical model cannot explain: one software is slower where m is small."""
    frame = gemm_table(1500)
    other = frame.assign(software="another", latency_us=frame.latency_us * np.where(frame.m < 4096, 1.3, 1.0))
    import pandas as pd

    return fit_part(rows_of(pd.concat([frame, other], ignore_index=True)), SMALL)


@pytest.fixture(scope="module")
def written(learned: Part, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "mine.yaml"
    fits.dump(Fitted("mine", {learned.name: learned}, {"seed": 0}), path)
    return path


def test_known_parameters_are_recovered_within_their_standard_errors() -> None:
    part = fit_part(rows_of(gemm_table(900)), SMALL)
    away = {name: (part.parameters[name].value - value) / part.parameters[name].error for name, value in KNOWN.items()}
    assert max(map(abs, away.values())) < 3, away
    assert np.mean(np.square(list(away.values()))) < 2.5, away
    assert all(p.error < 0.2 * p.value for p in part.parameters.values())


@pytest.mark.parametrize(("rows", "expected"), [(10, 1), (60, 6)])
def test_few_rows_refit_what_they_can_carry(rows: int, expected: int) -> None:
    part = fit_part(rows_of(gemm_table(rows)), SMALL)
    assert list(part.parameters) == list(KNOWN)[:expected]
    assert part.residual is None


def test_what_few_rows_carry_is_said() -> None:
    names = tuple("abcdefgh")
    assert said("gemm", 10, carried(names, 10), can_learn(np.arange(10))) == (
        "gemm: 10 rows: refitted a (from 50 rows on 6, from 400 all); no correction (from 75 rows of 40 shapes on)"
    )
    assert said("gemm", 100, carried(names, 100), can_learn(np.arange(100))) == (
        "gemm: 100 rows: refitted a, b, c, d, e, f (from 400 rows on all); "
        "a smooth correction (a finer one from 1000 rows on)"
    )
    assert said("gemm", 400, carried(names, 400), can_learn(np.arange(400))) == (
        "gemm: 400 rows: refitted a, b, c, d, e, f, g, h; a smooth correction (a finer one from 1000 rows on)"
    )
    assert not can_learn(np.arange(400) // 20)  # rows of 20 shapes only
    assert said("gemm", 1000, names, True) == ""


def test_a_new_device_from_few_rows() -> None:
    """Rows of a device whose parameters are not those that a fit starts from; whole pairs (n, k) are kept out."""
    known = {
        "tensor_sustained": 0.7, "hbm_tile": 0.7, "fill_drain_tile": 3900.0, "split_reduction": 4700.0,
        "operand_delivery": 0.0142, "loop_latency": 6.8,
    }  # fmt: skip
    everything = rows_of(gemm_table(2000, noise=0.03, known=known))
    held = held_units(everything.unit, 0)
    asked, pool = everything.take(held & (everything.measured > 50e-6)), np.flatnonzero(~held)
    most = {10: 10.0, 100: 8.0, 400: 7.0}  # percent
    drawn = np.random.default_rng(0).permutation(pool)
    for rows, target_ in most.items():
        part = trained(everything.take(np.sort(drawn[:rows])), SMALL)
        mape = errors(asked.measured, predicted(asked, part)[0])["mape"]
        assert mape <= target_, (rows, mape)


def test_ten_rows_find_the_sustained_rate() -> None:
    only = {"tensor_sustained": 0.6}
    from sim.fitted import base_terms

    known = {name: getattr(base_terms(), name) for name in KNOWN if name != "tensor_sustained"} | only
    frame = gemm_table(400, known=known)
    large = frame[frame.latency_us > 300].head(10).reset_index(drop=True)
    part = fit_part(rows_of(large), SMALL)
    assert part.parameters["tensor_sustained"].value == pytest.approx(0.6, rel=0.05)


def test_units_are_held_out_whole() -> None:
    unit = np.random.default_rng(0).integers(0, 50, 1000)
    held = held_units(unit, seed=1)
    assert not set(unit[held]) & set(unit[~held])
    assert 0.1 < held.mean() < 0.3


def test_a_fit_is_the_same_again() -> None:
    a, b = (fit_part(rows_of(gemm_table(1200)), SMALL) for _ in range(2))
    assert a.parameters == b.parameters
    assert a.held_out == b.held_out


def test_the_correction_explains_what_physics_does_not(learned: Part) -> None:
    assert learned.residual is not None
    frame = gemm_table(400, seed=9)
    slow = frame.assign(software="another", latency_us=frame.latency_us * np.where(frame.m < 4096, 1.3, 1.0))
    rows = rows_of(slow)
    error = np.abs(predicted(rows, learned)[0] / rows.measured - 1)
    plain = np.abs(predicted(rows, replace(learned, residual=None))[0] / rows.measured - 1)
    assert error.mean() < 0.8 * plain.mean()


def test_an_unknown_software_gets_what_lies_between(learned: Part) -> None:
    assert learned.residual is not None
    frame = gemm_table(200, seed=3)
    frame = frame[frame.m < 400].reset_index(drop=True)
    times = [predicted(rows_of(frame.assign(software=s)), learned)[0] for s in ("made up", "new", "another")]
    means = [float(np.log(t).mean()) for t in times]
    assert means[0] - 0.02 < means[1] < means[2] + 0.02


def test_the_correction_is_bounded_and_constant_beyond_its_range(learned: Part) -> None:
    r = learned.residual
    assert r is not None
    inside = {name: np.array([value]) for name, value in zip(r.names, r.high, strict=True)}
    beyond = {name: values + 100 * np.abs(values) + 100 for name, values in inside.items()}
    assert r(inside, ["new"]) == pytest.approx(r(beyond, ["new"]), abs=1e-6)
    assert r.outside(beyond).all()
    assert not r.outside(inside).any()
    wild = {name: np.random.default_rng(0).normal(0, 1e3, 500) for name in r.names}
    assert np.abs(r(wild, ["new"] * 500)).max() <= BOUND


def test_a_fit_comes_back_from_its_files(learned: Part, written: Path) -> None:
    back = fits.load(str(written)).parts[learned.name]
    rows = rows_of(gemm_table(50, seed=4))
    assert predicted(rows, back)[0] == pytest.approx(predicted(rows, learned)[0], rel=2e-3)
    assert back.devices == (DEVICE,)
    assert back.extents["m"] == pytest.approx(learned.extents["m"])


def test_a_fit_knows_the_values_that_it_saw(learned: Part, written: Path) -> None:
    back = fits.load(str(written)).parts[learned.name]
    assert set(back.known) == {"m", "n", "k"}
    assert back.known["n"].tolist() == [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
    assert {f"{c} {what}" for c in ("n", "k") for what in (INSIDE, ABOVE)} <= set(back.added)
    condition, seconds = np.full(3, "made up", dtype=object), np.full(3, 1e-4)
    m = np.full(3, back.known["m"][5])
    low, high = back.ends(
        condition, seconds, {"m": m, "n": np.array([4096.0, 3000.0, 20000.0]), "k": np.full(3, 1024.0)}
    )
    base, more = back.interval("made up", 1e-4), [0.0, *(back.added[f"n {new}"] for new in (INSIDE, ABOVE))]
    assert high == pytest.approx(np.hypot(base.high, more))
    assert low == pytest.approx(-np.hypot(base.low, more))


def test_a_fit_knows_of_which_rows_it_is_unsure(learned: Part, written: Path) -> None:
    back = fits.load(str(written)).parts[learned.name]
    assert back.doubt is not None
    assert back.residual is not None
    assert len(back.doubt.networks) == 2 < len(back.residual.layers)
    assert 0.0 < back.doubt.floor < back.doubt.typical
    count, scale = 3, np.array([[0.5, 1.0], [1.0, 3.0], [2.0, 0.1]])
    low, high = back.ends(np.full(count, "made up", dtype=object), np.full(count, 1e-4), None, scale)
    base = back.interval("made up", 1e-4)
    assert high.tolist() == pytest.approx((base.high * scale[:, 1]).tolist())
    assert low.tolist() == pytest.approx((base.low * scale[:, 0]).tolist())


def test_coverage_counts_how_unsure_each_row_is(learned: Part) -> None:
    rows = rows_of(gemm_table(200, seed=5))
    guess = predicted(rows, learned)[0]
    found = accuracy_intervals.inside(rows, guess, learned)
    assert found["inside"] > 50.0
    assert found["width"] != accuracy_intervals.inside(rows, guess, replace(learned, doubt=None))["width"]
    ratio = accuracy_intervals.nearer(rows, guess, learned)["nearer"]
    assert ratio == pytest.approx(1.0, abs=0.2)
    alone = accuracy_intervals.nearer(rows, guess, replace(learned, doubt=None))["nearer"]
    assert alone < ratio + 0.05  # one network is no nearer than two


def test_a_correction_is_for_its_own_device_only() -> None:
    own = device.load(DEVICE)
    assert fits.applies(own, (DEVICE,))
    assert not fits.applies(own, ("l40s",))
    assert not fits.applies(replace(own, hbm=replace(own.hbm, bandwidth=own.hbm.bandwidth * 1.01)), (DEVICE,))


def test_rows_on_other_devices_are_priced_by_physics(written: Path) -> None:
    frame = gemm_table(40).assign(device_id="l40s")
    frame["flops"], frame["read_bytes"], frame["write_bytes"] = 1e9, 1e6, 1e6
    on = target(str(written))
    assert set(predict(frame, on).why) == {"another device"}
    alone = predict(frame, replace(on, devices=("l40s",)))
    assert set(alone.level) == {"physical"}
    assert not alone.in_range.any()


def test_levels_and_intervals(written: Path) -> None:
    frame = gemm_table(60)
    frame["flops"] = 2 * frame.m * frame.n * frame.k
    frame["read_bytes"], frame["write_bytes"] = 2 * frame.k * (frame.m + frame.n), 2 * frame.m * frame.n
    on = target(str(written))
    times = {level: predict(frame, on, level) for level in ("roofline", "physical", "calibrated")}
    assert (times["roofline"].predicted <= times["physical"].predicted * 1.2).all()
    best = times["calibrated"]
    assert (best.low < best.predicted).all()
    assert (best.predicted < best.high).all()
    assert best.in_range.all()
    assert not predict(frame.assign(m=1e6), on).in_range.any()
    with pytest.raises(ValueError, match=r"level: found 'best', expected one of roofline, physical, calibrated"):
        predict(frame, on, "best")


def test_a_score_has_what_it_promises(written: Path) -> None:
    frame = gemm_table(200, seed=5).assign(path="t.csv", line=np.arange(200) + 2)
    frame["flops"], frame["read_bytes"], frame["write_bytes"] = 1e9, 1e6, 1e6
    found = to_json(score(Measurements(frame, (), ()), target(str(written)), "mine"))
    (cell,) = found["ops"]
    keys = "op dtype device software rows scored mape median p90 worst bias coverage80"
    assert set(keys.split()) == set(cell)
    assert cell["scored"] == found["overall"]["scored"] == 200
    assert cell["mape"] < 8
    assert len(found["worst"]) == 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("l40sz", r"--hardware: found 'l40sz', expected a device or a fit; .*l40s"),
        ("a100-sxm-80g", r"--hardware: found 'a100-sxm-80g', expected a device or a fit; did you mean 'a100-sxm-80gb'"),
        ("a100-sxm-40", r"--hardware: found 'a100-sxm-40', expected a device or a fit; did you mean 'a100-sxm-40gb'"),
        ("nothing-like-it", r"--hardware: found 'nothing-like-it', expected a device or a fit"),
    ],
)
def test_unknown_hardware(name: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        target(name)


def test_nothing_to_fit() -> None:
    with pytest.raises(CalibrationError, match=r"no row of the tables is of l40s; nothing to fit"):
        rows_on(gemm_table(5), "l40s")


def test_no_fit(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("# kind: fit\nparts: 3\n")
    with pytest.raises(CalibrationError, match=r"bad.yaml: not a fit: .*; write it again with 'framecast calib fit'"):
        fits.load(str(bad))
    with pytest.raises(CalibrationError, match=r"cannot read the fit: No such file"):
        fits.load(str(tmp_path / "none.yaml"))


def test_a_fit_that_would_count_check_bits_twice_is_refused(learned: Part, tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    part = replace(learned, name="elementwise", devices=("l40s",), residual=None)
    fits.dump(Fitted("board", {part.name: part}, {}), path)
    assert fits.load(str(path)).devices == ("l40s",)
    text = path.read_text()
    wanted = (
        r"board.yaml: not a fit: elementwise: fitted before check bits beside the data were priced, which would count twice; "
        r"write it again with 'framecast"
    )
    path.write_text(text.replace("    check_bits: true\n", ""))
    fits.load.cache_clear()
    with pytest.raises(CalibrationError, match=wanted):
        fits.load(str(path))
    path.write_text(text.replace("    check_bits: true\n", "").replace("l40s", "a100-sxm-80gb"))
    fits.load.cache_clear()
    assert fits.load(str(path)).devices == ("a100-sxm-80gb",)


def test_a_fit_with_stretched_intervals_is_refused(learned: Part, tmp_path: Path) -> None:
    path = tmp_path / "older.yaml"
    fits.dump(Fitted("older", {"gemm": replace(learned, name="gemm", residual=None)}, {}), path)
    text = path.read_text()
    assert "    check_bits: true\n" in text
    path.write_text(text.replace("    check_bits: true\n", "    check_bits: true\n    stretches: {values: 1.2}\n"))
    fits.load.cache_clear()
    wanted = (
        r"older.yaml: not a fit: gemm: its intervals are made wider by stretches, which are no longer read; "
        r"write it again with 'framecast calib fit'"
    )
    with pytest.raises(CalibrationError, match=wanted):
        fits.load(str(path))


def test_a_fit_of_attention_in_other_blocks_is_refused(learned: Part, tmp_path: Path) -> None:
    path = tmp_path / "older.yaml"
    part = replace(learned, name="attention/prefill", devices=("a100-sxm-80gb",), residual=None)
    fits.dump(Fitted("older", {part.name: part}, {}), path)
    assert fits.load(str(path)).devices == ("a100-sxm-80gb",)
    path.write_text(path.read_text().replace("    check_bits: true\n", ""))
    fits.load.cache_clear()
    wanted = (
        r"older.yaml: not a fit: attention/prefill: fitted before fused attention was priced by the blocks of its kernels; "
        r"write it again with 'framecast calib fit'"
    )
    with pytest.raises(CalibrationError, match=wanted):
        fits.load(str(path))


def test_a_fit_of_an_older_form_is_refused(learned: Part, tmp_path: Path) -> None:
    assert learned.residual is not None
    older = tuple((*n[:-1], (n[-1][0][:, :1], n[-1][1][:1])) for n in learned.residual.layers)
    path = tmp_path / "older.yaml"
    fits.dump(
        Fitted("older", {learned.name: replace(learned, residual=replace(learned.residual, layers=older))}, {}), path
    )
    wanted = (
        r"older.yaml: not a fit: gemm/16-bit: the correction has 1 outputs, expected 3; write it again with 'framecast"
    )
    with pytest.raises(CalibrationError, match=wanted):
        fits.load(str(path))


def test_a_small_table_is_fitted_and_scored_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gemm_table(70).drop(columns="device_id").to_csv("mine.csv", index=False)
    lines: list[str] = []
    fitted = made(read("mine.csv"), DEVICE, "mine", ["mine.csv"], 0, 1, lines.append)
    fits.dump(fitted, tmp_path / "mine-fit.yaml")
    assert [line.split(":")[0] for line in lines] == ["gemm/16-bit"]
    assert len(fitted.provenance["tables"]["mine.csv"]) == 64
    found = score(read("mine.csv"), target("mine-fit"), "mine-fit")
    assert to_json(found)["overall"]["mape"] < 6


def test_rows_that_the_fit_does_not_explain_are_counted_and_the_worst_of_each_operator_named() -> None:
    frame = gemm_table(74).assign(path="folder/mine.csv", line=np.arange(74) + 2)
    wrong = np.arange(0, 66, 6)  # 11, of which 10 are named
    frame.loc[wrong, "latency_us"] *= 3.0 + 0.5 * np.arange(len(wrong))
    part = fit_part(rows_of(frame), SMALL)
    assert part.rows["outliers"] == len(wrong)
    places = [int(line.split(":")[1]) - 2 for line in part.outliers]
    assert len(places) == 10
    assert set(places) <= set(wrong)
    m, n, k = (frame[name].to_numpy(dtype=float)[60] for name in "mnk")
    start = f"mine.csv:62: linear bf16, batch 1, m {m:g}, n {n:g}, k {k:g}, made up: measured "
    assert part.outliers[0].startswith(start)
    shown = report(Fitted("mine", {part.name: part}, {}))
    assert "gemm/16-bit: 11 outliers (14.9 % of the rows), the worst of each operator\n  mine.csv:62: " in shown


def test_a_fit_without_outliers_names_none() -> None:
    part = fit_part(rows_of(gemm_table(74)), SMALL)
    assert (part.rows["outliers"], part.outliers) == (0, ())


def test_neighbours_of_a_smooth_curve_are_near_and_a_jump_is_seen() -> None:
    m = np.repeat(np.array([64.0, 128.0, 256.0, 512.0, 1024.0]), 3)
    frame = gemm_table(15).assign(m=m, n=np.tile([512.0, 1024.0, 2048.0], 5), k=1024.0)
    rows = rows_of(frame)
    smooth = replace(rows, measured=with_floor(rows, physical_stage(rows, 0)).time)
    away = scatter(smooth)
    assert np.isnan(away[(m == 64) | (m == 1024)]).all()
    assert np.nanmax(away) < 0.1
    jump = replace(smooth, measured=smooth.measured * np.where((m == 256) & (frame.n == 512), 1.5, 1.0))
    assert scatter(jump)[(m == 256) & (frame.n == 512)] > 0.3
