"""What a search says beside its front: how sure its order is, bounds, sensitivities, repeats; tables, plots, page, check."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore import objectives
from explore.answer import Answer, answer
from explore.answer_json import to_json
from explore.answer_page import page
from explore.answer_plots import plots
from explore.answer_report import search_text
from explore.evaluate import stack
from explore.propose import Tried, promising
from explore.ranking import Ranking, between_devices, rank
from explore.storage import Location
from explore.study import run
from framecast import main
from hwspecs.errors import SpecError
from sim.cost import BOUNDS
from sim.tiles import per_kernel
from tests.explore.toys import SEARCH, opened, use_toy, write

MIX = "  workloads:\n    - {weight: 3, name: one}\n    - {name: long, request.steps: 100}\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answer]:
    """A mix, two seeds."""
    folder = tmp_path_factory.mktemp("answer")
    with pytest.MonkeyPatch.context() as patch:
        use_toy(patch)
        search = objectives.read(opened(folder, SEARCH.replace("trials: 20", "trials: 40") + MIX))
        where = Location(str(folder / "s.journal"))
        yield answer(search, [run(one, where) for one in objectives.repeated(search, 2)], where)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


def test_a_ranking_is_a_probability_and_vanishes_for_the_same_design(found: Answer) -> None:
    r = found.ranking
    count = len(r.latency)
    assert count == 1 + len(found.shown())
    assert np.array_equal(r.sigma, r.sigma.T)
    assert not np.diag(r.sigma).any()
    for i in range(count):
        for j in range(count):
            assert r.faster(i, j) + r.faster(j, i) == pytest.approx(1)
            assert (r.faster(i, j) > 0.5) == (r.latency[i] < r.latency[j])
    ratio, low, high = r.speed(1)
    assert ratio == pytest.approx(r.latency[0] / r.latency[1])
    assert low < ratio < high
    assert ratio**2 == pytest.approx(low * high)


def test_near_designs_share_more_of_their_error_than_far_ones(found: Answer) -> None:
    search = found.search
    base = {axis.path: search.baseline[axis.path] for axis in search.axes}
    designs = [base | {"device.hbm.bandwidth": base["device.hbm.bandwidth"] * f} for f in (1.0, 1.01, 1.2, 3.0)]
    sigma = rank(search.mix, base, designs).sigma[0, 1:]
    assert sigma[0] == 0
    assert (np.diff(sigma) > 0).all()
    assert between_devices(["device.hbm.bandwidth"]) > 0.1
    assert between_devices(["device.hbm.bandwidth", "device.l2.capacity"]) > between_devices(["device.hbm.bandwidth"])


@given(st.floats(0.01, 0.5), st.floats(0.5, 2.0))
def test_less_error_makes_an_order_surer(sigma: float, ratio: float) -> None:
    def sure(s: float) -> float:
        return Ranking(np.array([1.0, ratio]), np.array([[0, s], [s, 0]]), np.eye(2), np.eye(2), {}, 1.0).faster(0, 1)

    assert abs(sure(sigma / 2) - 0.5) >= abs(sure(sigma) - 0.5)


def test_bounds_are_shares_of_each_workload(found: Answer) -> None:
    table = found.bounds_frame()
    assert set(table.workload) == {"one", "long"}
    assert table[list(BOUNDS)].sum(axis=1).to_numpy() == pytest.approx(np.ones(len(table)))
    assert (table.trial == -1).sum() == 2


def test_sensitivities_are_of_designs_that_were_priced(found: Answer) -> None:
    table = found.sensitivity_frame()
    row = table[(table.field == "device.sm_count") & (table.objective == "relative_resources")].iloc[0]
    design = found.design(int(row.trial))
    assert (row.low, row.high) == (min(round(0.9 * design["device.sm_count"]), design["device.sm_count"] - 1),
                                   max(round(1.1 * design["device.sm_count"]), design["device.sm_count"] + 1))  # fmt: skip
    more = design | {"device.sm_count": row.high}
    resources = found.search.prices({p: np.array([float(v)]) for p, v in more.items()})["relative_resources"][0]
    assert 1 + row.up == pytest.approx(resources / found.trials.outputs["relative_resources"][int(row.trial)])
    assert found.around.idle("relative_resources") == []


def test_repeats_tell_their_spread(found: Answer) -> None:
    assert (len(found.runs), len(found.trials)) == (2, 80)
    spread = found.spread()
    best = [float(run.outputs["latency_s"][run.feasible].min()) for run in found.runs]
    assert spread["latency_s"] == best
    assert max(spread["hypervolume"]) <= 1
    text = search_text(found)
    assert "2 seeds, 0 to 1" in text
    assert "hypervolume, share of all together" in text
    assert set(found.frame().seed) == {0, 1}


def test_everything_is_in_the_text_the_json_and_the_page(found: Answer) -> None:
    text, data, html = search_text(found), to_json(found), page(found)
    for part in ("faster than next", "share of kernel time bound by", "10 % less / more of", "one, the baseline"):
        assert part in text
        assert part in html
    assert html.count("<svg") == 4
    ids = [part.split('"')[0] for part in html.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    assert "http://" not in html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert len(data["ranking"]["faster"]) == len(data["ranking"]["trials"]) == len(found.shown())
    assert data["repeats"]["seeds"] == 2
    json.dumps(data, allow_nan=False)
    frame = found.front_frame()
    assert len(frame) == len(found.front)
    assert frame.differences.iloc[0] == found.search.differences(found.design(int(found.front[0])))


def test_plots_are_drawn(found: Answer, tmp_path: Path) -> None:
    drawn = plots(found)
    assert list(drawn) == ["front", "parallel", "tornado", "hypervolume"]
    for name, draw in drawn.items():
        draw(found, tmp_path / f"{name}.svg")
    assert "10 % less" in (tmp_path / "tornado.svg").read_text()
    assert "seed 1" in (tmp_path / "hypervolume.svg").read_text()
    assert "SMs" in (tmp_path / "parallel.svg").read_text()


def test_proposals_are_new_in_the_space_and_where_the_model_expects_most(tmp_path: Path) -> None:
    search = objectives.read(opened(tmp_path, SEARCH.replace("1..8 TB/s log", "1..8 TB/s step 1 TB/s")))
    rng = np.random.default_rng(0)
    fields: dict[str, Any] = {
        "device.sm_count": rng.integers(16, 65, 30) * 4.0,
        "device.hbm.bandwidth": rng.integers(1, 9, 30) * 1e12,
        "device.l2.capacity": rng.choice([20, 40, 80], 30) * 2.0**20,
    }
    outputs = search.prices(fields)
    tried = Tried(fields, search.goals.losses(outputs), np.zeros((30, 1)))
    asked = promising(search.axes, tried, 12, (0, 1))
    assert asked == promising(search.axes, tried, 12, (0, 1))
    known = set(zip(*(column.tolist() for column in fields.values()), strict=True))
    keys = [tuple(float(v) for v in design.values()) for design in asked]
    assert len(set(keys)) == 12
    assert not known & set(keys)
    for design in asked:
        assert isinstance(design["device.sm_count"], int)
        assert design["device.sm_count"] in range(64, 257, 4)
        assert design["device.l2.capacity"] in search.axes[2].values
    assert promising(search.axes, Tried(fields, tried.losses, np.ones((30, 1))), 12, (0, 1)) == []


def command(capsys: Any, monkeypatch: Any, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["framecast", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    out = capsys.readouterr()
    return int(done.value.code or 0), out.out, out.err


def test_the_command_with_repeats(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(write(tmp_path, SEARCH))
    code, text, err = command(capsys, monkeypatch, "search", path, "--trials", "8", "--repeats", "2", "--seed", "3")
    assert code == 0
    assert err.endswith("8 designs in all, 8 at a time (NSGA-II, seeds 3 to 4)\n")
    assert "2 seeds, 3 to 4" in text
    again = command(capsys, monkeypatch, "search", path, "--trials", "8", "--repeats", "2", "--seed", "3")
    assert again[1] == text


def test_check_tells_of_spaces(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    text = SEARCH.replace("1..8 TB/s log", "[1 TB/s, 2 TB/s]").replace("<= 2]", "<= 0.9]")
    path = str(write(tmp_path, text))
    code, out, _ = command(capsys, monkeypatch, "check", path)
    assert code == 0
    assert "search: 294 designs; 20 to price, about " in out  # 49 x 2 x 3
    assert "of an even sample of 512 miss relative_resources <= 0.9" in out
    assert "are feasible" not in out  # one limit says it
    both = ("--set", "search.constraints=[relative_resources <= 0.9, area_mm2 <= 700]")
    assert "\n11 % of it are feasible\n" in command(capsys, monkeypatch, "check", path, *both)[1] + "\n"
    data = json.loads(command(capsys, monkeypatch, "check", path, "--format", "json")[1])["spaces"]["search"]
    assert (data["size"], data["points"]) == (294, 20)
    assert 0 < data["infeasible"]["relative_resources <= 0.9"] < 1
    grid = "sweep: {device.sm_count: 64..256 step 4, objectives: {latency_s: minimize}, constraints: [area_mm2 <= 1]}\n"
    _, out, _ = command(capsys, monkeypatch, "check", str(write(tmp_path, grid)))
    assert "sweep: 49 designs; 49 to price, about " in out
    assert "100 % of an even sample of 49 miss area_mm2 <= 1\nnone of that sample is feasible" in out


def test_from_python(tmp_path: Path) -> None:
    import framecast

    found = framecast.search(write(tmp_path, SEARCH), ["search.trials=8"], study=str(tmp_path / "s.journal"), repeats=2)
    assert len(found.frame()) == 16
    table = framecast.sweep(write(tmp_path, "sweep: {device.sm_count: [64, 128]}\n"))
    assert table["device.sm_count"].tolist() == [64, 128]
    front = framecast.sweep(
        write(tmp_path, "sweep: {device.sm_count: [64, 128], objectives: {latency_s: minimize}}\n"),
        out=str(tmp_path / "points"),
    )
    assert front["device.sm_count"].tolist() == [128]
    assert (tmp_path / "points/sweep.json").exists()
    with pytest.raises(framecast.SpecError, match=r"^out: a sweep that is no larger than one table has no folder"):
        framecast.sweep(write(tmp_path, "sweep: {device.sm_count: [64, 128]}\n"), out="x")


def test_a_rate_that_varies_beside_one_that_does_not(tmp_path: Path) -> None:
    """Traces of two dtypes gather the rates of both into one array."""
    w = objectives.read(opened(tmp_path, SEARCH)).mix.parts[0].workload
    on = stack(w, {"device.tensor.fp16": np.array([1024.0, 2048.0, 4096.0])})
    assert per_kernel(on, ("fp16", "fp32", "fp16"), "tensor").shape == (3, 3)
    assert per_kernel(on, ("fp16", "fp32"), "matmul")[:, 0].tolist() == [1024.0, 2048.0, 4096.0]


def test_frames_per_second(tmp_path: Path) -> None:
    image = objectives.read(opened(tmp_path, SEARCH)).mix
    assert np.isnan(image.evaluate({}, ("frames_per_s",))["frames_per_s"][0])
    clips = "  workloads:\n    - {name: one}\n    - {name: clip, weight: 3, model: animatediff, request.frames: 16}\n"
    mix = objectives.read(opened(tmp_path, SEARCH + clips)).mix
    found = mix.evaluate({}, ("latency_s", "frames_per_s", "clip.latency_s", "clip.frames_per_s"))
    assert found["clip.frames_per_s"] == pytest.approx(16 / found["clip.latency_s"])
    assert found["frames_per_s"] == pytest.approx(3 * 16 / (4 * found["latency_s"]))
    longer = clips.replace("animatediff, request.frames: 16", "make-a-video, request.frames: 3")
    found = objectives.read(opened(tmp_path, SEARCH + longer)).mix.evaluate({}, ("clip.latency_s", "clip.frames_per_s"))
    assert found["clip.frames_per_s"] == pytest.approx(11 / found["clip.latency_s"])  # 3, and 4 between each two
    with pytest.raises(SpecError, match=r"search: stable-diffusion-1\.5 has no frames_per_s$"):
        objectives.read(opened(tmp_path, SEARCH.replace("{latency_s: minimize", "{frames_per_s: maximize")))
