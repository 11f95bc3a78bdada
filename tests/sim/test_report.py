"""Numbers as people read them; the order of the report; one row per operator."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import report
from sim.feasible import problem
from sim.result import Result
from tests.sim.toy import result


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Result:
    return result(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1230"),
        (0.012345, "0.0123"),
        (9.996, "10.0"),
        (999.6, "1000"),
        (12, "12.0"),
        (-3.14159, "-3.14"),
        (1.32e12, "1.32e+12"),
        (-4e-9, "-4.00e-09"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert report.number(value) == text


@given(st.floats(1e-12, 1e15))
def test_number_is_within_half_of_the_third_digit(value: float) -> None:
    assert float(report.number(value)) == pytest.approx(value, rel=0.005001)
    assert ("e" in report.number(value)) == (not 1e-6 <= value < 1e9)
    assert len(report.number(value)) <= 10


def test_size() -> None:
    sizes = [report.size(b) for b in (2.6e9, 1e8, 38e6, 1.5e3, 1, 1.1e12)]
    assert sizes == ["2.60 GB", "0.100 GB", "38.0 MB", "1.50 kB", "1.00 B", "1100 GB"]
    assert report.size_parts({"weights": 2e6, "scores": 3e7}, 3.2e7) == "weights 2.00, scores 30.0"


def test_seconds() -> None:
    assert [report.seconds(s) for s in (1.9, 0.0381, 7.5e-6)] == ["1.90 s", "38.1 ms", "7.50 us"]


def test_a_table_of_times_has_one_unit_that_can_be_read(toy: Result) -> None:
    assert [report.time_unit(s) for s in (0.0, 99.9, 100.0, 12000.0)] == [
        (1e3, "ms"),
        (1e3, "ms"),
        (1.0, "s"),
        (1.0, "s"),
    ]
    long = replace(toy, trace=replace(toy.trace, segments=tuple(replace(s, repeats=10**7) for s in toy.trace.segments)))
    assert long.gpu_time > report.LONG > toy.gpu_time
    for result_, unit in ((toy, "ms"), (long, "s")):
        shown = report.text(result_)
        assert shown.count(f"time {unit} ") == 2
        whole = next(line for line in shown.splitlines() if line.startswith("total "))
        assert whole.split()[2] == report.number(result_.gpu_time * (1e3 if unit == "ms" else 1.0))


def test_order_and_length(toy: Result) -> None:
    text = report.text(toy)
    heads = (
        "Latency ", "What dominates, by operator class", "By component", "What bounds it", "Attention unfused against flash-2",
        "Peak memory", "Not calibrated: ",
    )  # fmt: skip
    places = [text.index(head) for head in heads]
    assert places == sorted(places)
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 160
    assert "us per denoising step" in text


def test_changes_and_imaginary_parts_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = report.text(result(monkeypatch, tmp_path, "device=imaginary-1", "device.sm_count=99"))
    assert (
        "on Imaginary accelerator 1 (not a product) (imaginary-1, changed: sm_count) - all values are assumptions, level"
        in text
    )
    assert "(no measurement covers imaginary-1 as it is changed)" in text
    software = ("software.cuda_graphs=true", "software.fusion=pointwise", "software.attention=auto")
    text = report.text(result(monkeypatch, tmp_path, *software))
    assert (
        "\nwith pytorch-eager (changed: attention, fusion, cuda_graphs), attention auto (flash-2 for 50 calls)\n"
        in text
    )
    assert "a100-sxm-80gb), level calibrated" in text


def test_a_slow_host_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = result(monkeypatch, tmp_path, "software.host_time_per_launch=1 ms")
    paced = "a faster device changes little here: the host sets the pace"
    line = f"host-bound in text_encoder, unet: {paced}"  # the decoder takes less than 1 %
    assert f"\n{line}; software.cuda_graphs=true removes it\n" in report.text(slow)
    assert ", waiting for the host 9" in report.text(slow)
    assert slow.host_bound() > 0.9
    graphs = report.text(
        result(monkeypatch, tmp_path, "software.host_time_per_launch=1 s", "software.cuda_graphs=true")
    )
    assert f"\nhost-bound in text_encoder, unet, vae_decoder: {paced}\n" in graphs
    fast = report.text(result(monkeypatch, tmp_path, "software.host_time_per_launch=0 s"))
    assert "host-bound" not in fast
    assert "waiting for the host" not in fast
    assert ", gaps between kernels " in fast


def test_ops_csv_sums_to_the_result(toy: Result) -> None:
    rows = list(csv.DictReader(io.StringIO(report.ops_csv(toy))))
    assert len(rows) == 10
    assert sum(float(r["time_s"]) for r in rows) == pytest.approx(toy.gpu_time)
    assert sum(int(r["calls"]) for r in rows) == int(toy.trace.call_repeats().sum())
    assert sum(int(r["flops"]) for r in rows) == toy.trace.flops()
    attention = next(r for r in rows if r["kind"] == "attention")
    assert (attention["way"], attention["kernel"], attention["class"]) == ("flash-2", "flash attention", "Attention")
    assert "q_len=4096" in attention["dims"]
    assert attention["tile"].endswith(" of scores")
    assert next(r for r in rows if r["kind"] == "elementwise")["tile"] == ""


def test_what_does_not_fit_says_why_and_what_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert problem(result(monkeypatch, tmp_path)) == ""
    small = result(monkeypatch, tmp_path, "device.hbm.capacity=100 MB", "software.attention=unfused")
    line = problem(small)
    assert line.startswith(f"{tmp_path}/toy.yaml: does not fit a100-sxm-80gb: needs ")
    assert " GB of 0.100 GB (attention scores " in line
    assert line.endswith("; use software.attention: flash-2")
    need = result(monkeypatch, tmp_path).memory
    half = f"device.hbm.capacity={need.weights + 0.5 * (need.peak - need.weights)} B"
    assert problem(result(monkeypatch, tmp_path, half, "request.batch=8")).endswith("; use a request.batch of about 4")
    one = problem(result(monkeypatch, tmp_path, half))
    assert one.endswith(f"; use a smaller image, or a device with at least {report.size(need.peak)}")
    tiny = problem(result(monkeypatch, tmp_path, "device.hbm.capacity=1 kB"))
    assert " of 1.00 kB (" in tiny
    assert tiny.endswith(f"; use a device with at least {report.size(need.peak)}")
