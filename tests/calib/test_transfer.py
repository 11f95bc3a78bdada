"""The law of power, and chips that are left out: what is recovered, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import accuracy_intervals, accuracy_transfer, cells, lanes, power, transfer, transfer_report
from calib.carried import STREAMS, on_chip
from calib.families.base import families
from calib.families.gemm import EDGE
from calib.fit import parts_of
from calib.intervals import conformal
from calib.predict import Target, predict
from calib.work import work
from hwspecs import device
from hwspecs.errors import CalibrationError
from hwspecs.power import LANES
from hwspecs.rates import rates
from sim.fitted import Part, base_terms
from sim.intervals import Interval, size_of
from sim.spread import load as load_spreads
from sim.tiles import TILES

LAW = power.Law(0.86e-9, 0.35e-9, 0.89)


@given(st.sampled_from(device.device_names()), st.floats(1.0, 3.0))
@settings(deadline=None, max_examples=30)
def test_more_power_never_lowers_the_share_and_never_reaches_the_cap(id_: str, factor: float) -> None:
    d = device.load(id_)
    more = replace(d, power=replace(d.power, tdp=d.power.tdp * factor))
    assert LAW.share(d) <= LAW.share(more) * (1 + 1e-12)
    assert LAW.share(more) <= LAW.cap + 1e-12


def test_the_law_meets_a_chip_that_it_has_not_seen() -> None:
    for id_ in ("a100-sxm-80gb", "l40s"):  # the cited shares are fits to public tables, 0.87 and 0.63
        d = device.load(id_)
        assert abs(power.law([id_]).share(d) / d.tensor.sustained - 1.0) < 0.1
    assert 0.04 < power.scored().spread < 0.12


def made_up(chip: str, rows: int, share: float, seed: int) -> pd.DataFrame:
    """Products timed by the physical model of a device with this sustained share, 2 % of noise."""
    rng = np.random.default_rng(seed)
    extents = [64.0, 256.0, 1024.0, 4096.0, 8192.0]
    frame = pd.DataFrame({
        "device_id": chip, "device": chip, "software": "made up", "op": "linear", "dtype": "bf16", "batch": 1.0,
        "m": rng.choice(extents, rows), "n": rng.choice(extents, rows), "k": rng.choice(extents, rows), "timing": "kernel",
    })  # fmt: skip
    on = replace(rates(device.load(chip)), tensor_sustained=share)
    abroad = families()["gemm"].abroad
    assert abroad is not None
    frame["latency_us"] = 1e6 * abroad(frame, on, base_terms()).time * np.exp(0.02 * rng.standard_normal(rows))
    frame["flops"], frame["read_bytes"], frame["write_bytes"] = work(frame.assign(family="gemm"))
    return frame


@pytest.fixture(scope="module")
def found() -> list[transfer.Left]:
    frame = pd.concat([made_up("a100-sxm-80gb", 400, 0.8, 0), made_up("l40s", 300, 0.5, 1)], ignore_index=True)
    return transfer.left_out(frame, "l40s")


def test_ten_points_find_the_share_of_a_chip(found: list[transfer.Left]) -> None:
    (left,) = found
    assert (left.chip, left.others, left.part) == ("l40s", ("a100",), "gemm/16-bit")
    assert abs(left.sustained[0] - power.law(["l40s"]).share(device.load("l40s"))) < 1e-9
    assert abs(left.sustained[1] - 0.5) < 0.03
    after, before, plain = (left.by[name][0]["mape"] for name in ("ten points", "spec", "roofline"))
    assert after < 5.0 < before < plain


def test_the_report_of_a_chip(found: list[transfer.Left]) -> None:
    assert "gemm/16-bit" in transfer_report.text(found)
    (part,) = transfer_report.to_json(found)["parts"]
    assert part["left_out"] == "l40s"
    assert part["interval80"]["low"] < part["interval80"]["high"]


def test_what_cannot_be_left_out() -> None:
    frame = made_up("l40s", 20, 0.5, 0)
    with pytest.raises(CalibrationError, match=r"^--leave-out: found 'l40x', expected a device; did you mean 'l40'\?$"):
        transfer.left_out(frame, "l40x")
    with pytest.raises(
        CalibrationError, match=r"^--leave-out: found 'h200', which the tables have no row of \(they have l40s\)$"
    ):
        transfer.left_out(frame, "h200")
    with pytest.raises(
        CalibrationError, match=r"^--leave-out: every row of the tables is of l40s; add tables of other devices$"
    ):
        transfer.left_out(frame, "l40s")


def batched(chip: str, rows: int, edge: float, seed: int) -> pd.DataFrame:
    """Batched fp32 products timed by the physical model of a device whose library has no smaller tile than `edge`."""
    rng = np.random.default_rng(seed)
    extents = np.array([24.0, 40.0, 72.0, 200.0, 500.0])
    frame = pd.DataFrame({
        "device_id": chip, "device": chip, "software": "made up", "op": "bmm", "dtype": "fp32", "timing": "with_launch",
        "batch": rng.choice([64.0, 256.0], rows), "m": rng.choice(extents, rows), "n": rng.choice(extents, rows),
        "k": rng.choice(extents, rows),
    })  # fmt: skip
    (made,) = parts_of(frame.assign(latency_us=1.0, **{EDGE: edge}))
    time = on_chip(made, base_terms(), LANES).time + 30e-6
    frame["latency_us"] = 1e6 * time * np.exp(0.02 * rng.standard_normal(rows))
    return frame


@pytest.mark.parametrize("edge", transfer.EDGES)
def test_the_tiles_of_a_library_are_found(edge: float) -> None:
    (rows,) = parts_of(batched("a100-pcie-40gb", 200, edge, 0))
    found = transfer.with_edges(rows, transfer.least(rows), {"a100": LANES})
    assert set(found.frame[EDGE]) == {edge}


def test_power_leaves_the_lanes_of_a_t4_half_of_their_rate() -> None:
    share = {id_: lanes.share(device.load(id_)) for id_ in ("t4", "v100-pcie", "a100-sxm-80gb")}
    rate = share["t4"] / float(lanes.feed(*lanes.LARGE, 128.0, device.load("t4").sm.shared_bandwidth))
    assert 0.4 < rate < 0.6 < share["v100-pcie"] == share["a100-sxm-80gb"] == LANES
    assert rate < share["t4"] < LANES  # lanes that wait for operands draw less, and keep more of the clock
    tdp = device.load("t4").power.tdp
    clocks = [
        lanes.share(replace(device.load("t4"), power=replace(device.load("t4").power, tdp=w))) for w in (tdp, 2 * tdp)
    ]
    assert clocks[0] < clocks[1]


@given(st.floats(1e-7, 1.0), st.floats(1.0, 4.0), st.floats(1.0, 2.0))
def test_a_long_call_is_throttled_and_a_short_one_is_not(boost: float, slower: float, more: float) -> None:
    first, limited = np.array(boost), np.array(boost * slower)
    time = float(lanes.throttled(first, limited))
    assert boost * (1 - 1e-12) <= time <= boost * slower * (1 + 1e-12)
    # more power, or less to do, is never slower
    assert time <= float(lanes.throttled(first, limited * more)) * (1 + 1e-12)
    assert time <= float(lanes.throttled(np.minimum(first * more, limited), limited)) * (1 + 1e-12)
    if boost * slower < lanes.IDLE:
        assert time == pytest.approx(boost)
    if boost > 100.0 * lanes.IDLE:
        assert time > 0.95 * boost * slower


@given(st.sampled_from(TILES), st.floats(16.0, 512.0), st.floats(16.0, 512.0), st.floats(1.0, 8.0))
def test_wider_shared_memory_is_never_slower(tile: tuple[int, int], lanes_: float, width: float, more: float) -> None:
    narrow, wide = (float(lanes.feed(*tile, lanes_, w)) for w in (width, width * more))
    assert wide <= narrow * (1 + 1e-12)


def test_half_the_shared_memory_slows_lanes_by_a_quarter() -> None:
    """By hand: 8 x 8 of C in a thread take 16 operands of 4 B for 128 FLOP, and blocks of 128 x 128 pass twice 8 B for 256:
    0.5625 B a FLOP, so that 128 FLOP a cycle want 72 B: 1.125 of 64 B, 0.5625 of 128 B."""
    assert float(lanes.feed(128.0, 128.0, 128.0, 64.0)) == pytest.approx(((1 + 1.125**4) / (1 + 0.5625**4)) ** 0.25)
    assert float(lanes.feed(128.0, 128.0, 128.0, 128.0)) == 1.0
    small = [float(lanes.feed(*tile, 128.0, 128.0)) for tile in ((128, 128), (128, 64), (64, 64), (32, 64), (32, 32))]
    assert small == sorted(small)  # threads of small blocks hold less of C, and read more for it


def test_a_byte_of_memory_takes_power_from_the_lanes() -> None:
    t4 = device.load("t4")
    byte = 52e-12 * 1.3  # J: GDDR6, and what the board and rest draw of the power
    assert t4.power.tdp * lanes.per_byte(t4) == pytest.approx(byte, rel=0.2)
    assert lanes.per_byte(replace(t4, power=replace(t4.power, tdp=140.0))) < lanes.per_byte(t4)
    assert lanes.per_byte(replace(t4, silicon=None)) == 0.0
    limits = [replace(t4, power=replace(t4.power, tdp=watts)) for watts in (1.0, 15.0, 30.0, 70.0)]
    per_byte = [lanes.per_byte(chip) for chip in limits]
    assert per_byte == sorted(per_byte, reverse=True), (
        "a limit below what a device at rest draws leaves nothing for work"
    )
    assert min(per_byte) > 0.0


def test_shared_memory_of_the_device_feeds_the_lanes() -> None:
    t4 = device.load("t4")
    wide = replace(t4, sm=replace(t4.sm, shared_bandwidth=128.0))
    frame = batched("t4", 20, 64.0, 0)
    (rows,) = parts_of(frame)
    assert rows.family.abroad is not None
    narrow, fed = (rows.family.abroad(rows.frame, rates(chip), base_terms()).time for chip in (t4, wide))
    assert (narrow > fed).any()
    assert (narrow >= fed * (1 - 1e-12)).all()
    assert lanes.share(t4) > lanes.share(wide)  # lanes that wait draw less


@pytest.mark.parametrize(("op", "dtype"), [("layernorm", "fp32"), ("softmax", "fp32"), ("add", "fp32")])
def test_check_bits_beside_the_data_take_bandwidth_once(op: str, dtype: str) -> None:
    frame = pd.DataFrame({
        "device_id": ["l40s"], "device": ["l40s"], "software": ["made up"], "op": [op], "dtype": [dtype],
        "timing": ["with_launch"], "rows": [2**17], "cols": [2**13], "latency_us": [1.0],
    })  # fmt: skip
    (rows,) = parts_of(frame)
    assert rows.family.name in STREAMS
    own, all_of_it, left = (
        on_chip(rows, base_terms(), share).time[0] for share in (None, 1.0, base_terms().inline_ecc)
    )
    assert own == pytest.approx(left, rel=1e-12)
    assert own / all_of_it == pytest.approx(1.0 / 0.87, rel=0.02)
    assert transfer._shares(rows, "l40s") == {"l40s": pytest.approx(0.87)}
    assert transfer._shares(rows, "a100-sxm-80gb") == {"a100": 1.0}


def test_floors_of_layers_follow_the_clock_and_those_of_hosts_do_not() -> None:
    family, terms = families()["attention"], base_terms()
    frame = pd.DataFrame({"timing": ["kernel", "with_launch"]})
    assert family.floor_unit is not None
    slow, fast = (family.floor_unit(frame, rates(device.load(id_)), terms) for id_ in ("a100-sxm-80gb", "l40s"))
    assert slow[0] > fast[0] > 0.66e-6
    assert slow[1] == fast[1] == 1.0


def left(chip: str, middle: float, width: float, seed: int) -> transfer.Left:
    rng = np.random.default_rng(seed)
    away = middle + width * rng.standard_normal(2000)
    errors = ({"mape": 0.0}, {"mape": 0.0})
    by = dict.fromkeys(transfer_report.STAGES, errors)
    return transfer.Left("gemm/16-bit", "", chip, ("other",), 2000, by, (1.0, 1.0), away, np.full(2000, 1e-4))


def test_an_interval_for_new_chips_is_as_wide_as_chips_differ() -> None:
    alike = cells.cells([left("a", 0.0, 0.1, 0), left("b", 0.0, 0.1, 1)])["gemm/16-bit"]
    assert alike.margin <= 0.01
    assert (alike.low, alike.high) == pytest.approx((-0.128, 0.128), abs=0.02)
    unlike = cells.cells([left("a", -0.3, 0.1, 0), left("b", 0.3, 0.1, 1)])["gemm/16-bit | 2"]
    assert unlike.margin > 0.1
    assert np.mean(list(unlike.covered.values())) >= 0.8 > np.mean(list(unlike.pooled.values()))
    (alone,) = cells.cells([left("a", 0.1, 0.1, 0)]).values()
    assert (alone.margin, dict(alone.covered)) == (0.0, {})


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_intervals_cover_what_they_are_made_of(seed: int) -> None:
    rng = np.random.default_rng(seed)
    guess = 10.0 ** rng.uniform(-6, -3, 3000)
    wide = np.where(guess < 50e-6, 0.3, 0.05)
    measured = guess * np.exp(wide * rng.standard_normal(3000))
    some = np.full(3000, "library", dtype=object)
    held = conformal(some, np.arange(3000), measured, guess)
    part = Part("x", (), (), {}, {}, {}, held, {}, {}, None)
    ends = [part.interval("library", float(s)) for s in guess]
    inside = [e.low <= a <= e.high for e, a in zip(ends, np.log(measured / guess), strict=True)]
    assert 0.79 <= np.mean(inside) <= 0.82
    assert part.interval("library", 1e-3).high < 0.5 * part.interval("library", 1e-6).high
    assert part.interval("another", 1e-6) == held[f" | {size_of(1e-6)}"]


def test_few_units_share_an_interval() -> None:
    away = np.linspace(-0.1, 0.1, 100)
    held = conformal(np.full(100, "a", dtype=object), np.zeros(100, np.int64), np.exp(away), np.ones(100))
    assert set(held) == {""}
    assert isinstance(held[""], Interval)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_prediction_lies_within_its_interval(side: float) -> None:
    """Also where all rows are off to one side; the outer end stays the quantile."""
    away = side * np.linspace(0.1, 0.2, 100)
    held = conformal(np.full(100, "", dtype=object), np.arange(100), np.exp(away), np.ones(100))[""]
    assert held.low <= 0.0 <= held.high
    assert max(-held.low, held.high) == pytest.approx(0.19, abs=0.002)


@pytest.mark.parametrize(("rows", "wide"), [(1, True), (8, True), (9, False)])
def test_rows_too_few_for_a_quantile_have_a_wide_interval(rows: int, wide: bool) -> None:
    """Of n rows the outermost two hold a new one with (n - 1) / (n + 1): 80 % from 9 on."""
    away = np.linspace(-0.1, 0.1, rows)
    held = conformal(np.full(rows, "", dtype=object), np.arange(rows), np.exp(away), np.ones(rows))[""]
    assert ((held.low, held.high) == (-np.log(2.0), np.log(2.0))) == wide
    assert np.isfinite([held.low, held.high]).all()


def test_sections_are_replaced_in_place() -> None:
    page = f"# Page\n\n{accuracy_transfer.NEXT}\nlast"
    once = accuracy_transfer.spliced(page, f"{accuracy_transfer.HEAD}\nnew\n")
    assert once == f"# Page\n\n{accuracy_transfer.HEAD}\nnew\n\n{accuracy_transfer.NEXT}\nlast"
    assert accuracy_transfer.spliced(once, f"{accuracy_transfer.HEAD}\nnew\n") == once


def test_the_template_names_what_is_filled_in() -> None:
    text = Path(accuracy_transfer.__file__).with_suffix(".md").read_text()
    assert text.startswith(accuracy_transfer.HEAD)


def test_intervals_of_a_mean_are_narrower() -> None:
    away = 0.1 * np.random.default_rng(0).standard_normal(500)
    some, unit = np.full(500, "a", dtype=object), np.arange(500)
    one, mean = (conformal(some, unit, np.exp(away), np.ones(500), nearer)[""] for nearer in (1.0, 0.9))
    assert (mean.low, mean.high) == pytest.approx((0.9 * one.low, 0.9 * one.high))


def test_ends_are_those_of_each_row() -> None:
    part = Part(
        "x",
        (),
        (),
        {},
        {},
        {},
        {"": Interval(-1, 1, 9), "a": Interval(-2, 2, 9), "a | < 10 us": Interval(-3, 3, 9)},
        {},
        {},
        None,
    )
    condition, seconds = np.array(["a", "a", "b", ""], dtype=object), np.array([1e-6, 1e-3, 1e-6, 1e-6])
    low, high = part.ends(condition, seconds)
    assert low.tolist() == [-3, -2, -1, -1]
    assert high.tolist() == [3, 2, 1, 1]


def test_exact_intervals_of_normal_errors_are_twice_the_median_error_or_more() -> None:
    """1.9 where all rows are alike; more where they differ, as drawn errors of the same scales do."""
    one, rng = np.ones(2000), np.random.default_rng(0)
    assert accuracy_intervals.normal(-one, one) == pytest.approx(1.2816 / 0.6745, abs=0.01)
    scale = np.exp(rng.standard_normal(2000))
    drawn = np.abs(scale[:, None] / 1.2816 * rng.standard_normal((2000, 100)))
    assert accuracy_intervals.normal(-scale, scale) == pytest.approx(np.median(scale) / np.median(drawn), rel=0.02)
    assert accuracy_intervals.normal(-scale, scale) > 2.1
    assert accuracy_intervals.normal(-3.0 * scale, 3.0 * scale) == pytest.approx(
        accuracy_intervals.normal(-scale, scale)
    )


def test_cells_of_the_coverage_table() -> None:
    fifths = {"alike": 2.04, "normal": 2.1} | {f"fifth {i}": 78.0 + i for i in range(5)}
    numbers = {
        "": {"median": 2.0, "nearer": 0.94},
        "a": {"median": 2.0, "rows": 2000.0, "inside": 79.0, "width": 3.0, "units": 40.0, "band": 5.0, **fifths},
        "b": {"median": 2.0, "rows": 100.0, "inside": 73.0, "width": 4.5, "units": 9.0, "band": 9.0, **fifths},
    }
    lines = accuracy_intervals.section([("some", numbers, 2100)]).splitlines()
    assert [cell.strip() for cell in lines[-2].split("|")[1:-1]] == [
        "some",
        "a",
        "2000",
        "40",
        "79.0",
        "78–82",
        "5.0",
        "3.0",
        "2.0",
        "2.0",
        "1.50",
        "2.10",
        "78 79 80 81 82",
        "yes",
    ]
    assert [cell.strip() for cell in lines[-1].split("|")[1:-1]] == [
        "some",
        "b",
        "100",
        "9",
        "73.0",
        "72–88",
        "9.0",
        "4.5",
        "2.0",
        "2.0",
        "2.25",
        "2.10",
        "78 79 80 81 82",
        "no",
    ]


def test_hosts_of_chips_are_told_apart() -> None:
    slow, fast = batched("v100-pcie", 60, 64.0, 0), batched("a100-pcie-40gb", 60, 64.0, 1)
    slow["latency_us"] += 30.0
    (rows,) = parts_of(pd.concat([slow, fast], ignore_index=True))
    found = transfer.fitted(transfer.with_edges(rows, transfer.least(rows), {}))
    floors = {name.rsplit(" @ ", 1)[1]: value for name, value in found.items() if name.startswith("floor ")}
    assert floors["v100"] - floors["a100"] == pytest.approx(30e-6, rel=0.2)


def test_rows_of_a_known_host_have_its_dispatch() -> None:
    frame = batched("v100-pcie", 40, 64.0, 0).assign(
        software="torch 2.1.0 cu121 cudnn 8902", batch=1.0, m=16.0, n=16.0, k=16.0
    )
    frame["flops"], frame["read_bytes"], frame["write_bytes"] = work(frame.assign(family="gemm"))
    seconds = predict(frame, Target()).predicted
    host = load_spreads().hosts["v100"]["bmm | torch 2.1.0 cu121 cudnn 8902"]
    assert host < seconds[0] < 1.1 * host
    assert host > load_spreads().hosts["a100"]["bmm | torch 2.1.0 cu121 cudnn 8902"]


def test_a_label_without_short_rows_has_the_floor_of_the_others() -> None:
    frame = made_up("l40s", 60, 0.6, 3).assign(op="linear_bias", timing="with_launch")
    frame["software"] = np.repeat(["a", "b", "c"], 20)
    frame["latency_us"] = np.repeat([40.0, 60.0, 900.0], 20)
    floors = transfer.least(next(rows for rows in parts_of(frame)))
    assert floors == pytest.approx({"linear_bias | a": 40e-6, "linear_bias | b": 60e-6, "linear_bias | c": 60e-6})
