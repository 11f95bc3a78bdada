"""report.html without a browser: one file, no network, everything escaped, the same bytes again; and `report DIR`."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import framecast
from sim import html, profile_plots, profiles, report, simulate
from sim.result import Result
from tests.sim.toy import result, trace_of, write


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Result:
    return result(monkeypatch, tmp_path)


def test_one_file_without_a_network(toy: Result) -> None:
    text = html.page(toy)
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
    assert "@import" not in text
    assert "url(" not in text
    assert text == html.page(toy)
    assert text.count("<script") == 2
    assert "$" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_it_has_every_part(toy: Result) -> None:
    text = html.page(toy)
    for part in ("classes", "components", "bounds", "roofline", "step", "memory", "operators", "scenario"):
        assert f'<section id="{part}">' in text
    assert toy.scenario.hash in text
    assert "framecast run toy.yaml" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_times_of_long_runs_are_in_seconds(toy: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    long = replace(toy, trace=replace(toy.trace, segments=tuple(replace(s, repeats=10**7) for s in toy.trace.segments)))
    for result_, unit, other in ((toy, "ms", "s"), (long, "s", "ms")):
        text = html.page(result_)
        assert text.count(f"time, {unit}<") == 4
        assert f"time, {other}<" not in text
        assert 'aria-sort="descending"' in text
    assert "kernel time of one run of every component, ms" in html.page(long)  # one run of each is short
    monkeypatch.setattr(report, "LONG", 0.0)
    text = html.page(toy)
    assert "kernel time of one run of every component, s<" in text
    assert re.search(r"kernel time of [^<]*step[^<]*, s<", text)


def test_names_are_escaped(toy: Result) -> None:
    rude = replace(toy, scenario=replace(toy.scenario, name="</script><b>$x&"), command="run '<i>'")
    text = html.page(rude)
    assert "<b>$x" not in text
    assert "&lt;/script&gt;&lt;b&gt;$x&amp;" in text
    assert "<i>'" not in text
    data = re.search(r'id="result">(.*?)</script>', text, re.DOTALL)
    assert data
    assert json.loads(data[1])["name"] == "</script><b>$x&"


def test_what_it_warns_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = html.page(result(monkeypatch, tmp_path, "device=imaginary-1", "device.hbm.capacity=1 MB"))
    assert "is not a product; all of its values are assumptions." in text
    assert "Changed from imaginary-1 and pytorch-eager: device.hbm.capacity." in text
    assert "does not fit imaginary-1" in text


def test_a_notebook_shows_a_table_and_a_short_repr(toy: Result) -> None:
    shown = toy._repr_html_()
    assert "<table" in shown
    assert "Convolution" in shown
    assert repr(toy).startswith("<Result toy: stable-diffusion-1.5 on a100-sxm-80gb, latency ")
    assert len(repr(toy)) < 120


def test_profiles(toy: Result) -> None:
    step = profiles.step_profile(toy)
    (unet,) = (s for s in toy.trace.segments if s.name == "unet")
    assert len(step.start) == unet.stop - unet.start
    assert step.end[-1] == pytest.approx(toy.by_component()["unet"].time / unet.repeats)
    moved = float(((step.end - step.start) * step.hbm_rate).sum())
    assert moved == pytest.approx(toy.by_component()["unet"].hbm_bytes / unet.repeats)
    assert list(step.q_len) == [4096]
    assert step.roles == ["self"]
    used = profiles.memory_profile(toy)
    assert used.used.max() == toy.memory.peak
    assert [name for name, *_ in used.components] == ["text_encoder", "unet", "vae_decoder"]


@pytest.mark.parametrize("draw", [profile_plots.step, profile_plots.memory])
def test_plots_are_the_same_bytes_again(toy: Result, tmp_path: Path, draw: Any) -> None:
    for name in ("a.svg", "b.svg", "a.png"):
        draw(toy, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert toy.scenario.hash in (tmp_path / "a.svg").read_text()


def test_a_model_without_steps_shows_its_longest_component(toy: Result) -> None:
    assert profiles.step_profile(replace(toy, denoising=())).name == "one run of unet"
    assert "over one run of unet" in html.page(replace(toy, denoising=()))


def test_report_makes_the_page_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "out"
    code, _, _ = _main(monkeypatch, capfd, "run", str(write(tmp_path)), "--out", str(out))
    assert code == 0
    before = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    assert _main(monkeypatch, capfd, "report", str(out)) == (0, f"{out}/report.html\n", "")
    assert (out / "report.html").read_bytes() == before
    data = json.loads((out / "result.json").read_text())
    (out / "result.json").write_text(json.dumps({**data, "latency_s": 1.0}))
    _, _, err = _main(monkeypatch, capfd, "report", str(out))
    assert err.startswith(f"warning: {out}: result.json has a latency of 1 s, this version gives ")
    assert err.endswith(" s; run it again with --out to have both agree\n")
    assert _main(monkeypatch, capfd, "report", str(out), "--quiet")[2] == ""


def _main(monkeypatch: pytest.MonkeyPatch, capfd: Any, *args: str) -> tuple[int, str, str]:
    monkeypatch.setattr(simulate, "trace_of", trace_of)
    monkeypatch.setattr(sys, "argv", ["framecast", *args])
    with pytest.raises(SystemExit) as done:
        framecast.main()
    out, err = capfd.readouterr()
    return int(done.value.code or 0), out, err
