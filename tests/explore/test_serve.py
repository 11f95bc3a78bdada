"""Requests over time: queues by hand, what holds for any arrivals, the command and its messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import framecast
from explore.serve import Served, Service, _paced, batches, pods, serve
from explore.serve_cli import to_json, verdict
from sim import concurrent
from sim.concurrent import inference
from sim.engine import DEFAULT, FLUID
from sim.scenario import load
from tests.explore.test_pods import trace_of
from tests.sim.toy import write

HEAD = "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\nsoftware: {base: pytorch-eager, cuda_graphs: true}\n"
HEAD += "request: {steps: 6}\n"
SERVE = HEAD + "serve: {arrivals: {every: 3 ms, count: 30}, deadline: 20 ms}\n"


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrent, "trace_of", trace_of)


@pytest.mark.parametrize(
    ("arrive", "most", "wait", "devices", "done"),
    [
        ([0, 1, 2], 1, 0, 1, [2, 4, 6]),  # one at a time, 2 s each
        ([0, 1, 2], 1, 0, 2, [2, 3, 4]),  # the third when the first device is free
        ([0, 10], 1, 0, 1, [2, 12]),
        ([0, 1, 1.5], 2, 0, 1, [2, 5, 5]),  # at 2 two wait: a batch of two takes 3
        ([0, 1, 5], 2, 2, 1, [4, 4, 9]),  # full at 1; the third waits its 2 s in vain
        ([0, 0.5, 1, 1.5], 4, 1, 1, [5, 5, 5, 5.0 + 2]),  # three are there at 1, and take 4; the last then alone
    ],
)
def test_queues_by_hand(arrive: Any, most: int, wait: float, devices: int, done: Any) -> None:
    found = batches(np.array(arrive, dtype=float), lambda n: 1.0 + n, most, wait, devices)
    assert found.tolist() == pytest.approx(done)


@given(
    st.lists(st.floats(0, 20), min_size=1, max_size=30), st.integers(1, 5), st.floats(0, 3), st.integers(1, 3)
)  # fmt: skip
def test_no_request_is_done_sooner_than_it_can_be(arrive: list[float], most: int, wait: float, devices: int) -> None:
    at = np.sort(np.array(arrive))
    done = batches(at, lambda n: 1.0 + 0.5 * n, most, wait, devices)
    assert (done - at >= 1.5 - 1e-9).all()
    assert done.max() - at[0] >= len(at) * (1 + 0.5 * most) / most / devices - 1e-6
    more = batches(at, lambda n: 1.0 + 0.5 * n, 1, 0.0, devices + 1)
    assert (more <= batches(at, lambda n: 1.0 + 0.5 * n, 1, 0.0, devices) + 1e-9).all()


def test_pods_of_one_are_first_come_first_served(tmp_path: Path) -> None:
    one = inference(load(write(tmp_path, SERVE)))
    arrive = np.cumsum(np.random.default_rng(0).exponential(0.003, 12))
    alone = float(_paced(one.brief).seconds[0, np.concatenate([one.brief.of(s) for s in one.order("whole")])].sum())
    assert pods(one, arrive, 1, 1, DEFAULT) == pytest.approx(batches(arrive, lambda _: alone, 1, 0.0, 1))
    kept, fluid = (pods(one, arrive, 4, 1, c) for c in (DEFAULT, FLUID))
    assert (kept - arrive >= alone * (1 - 1e-9)).all()
    assert fluid.mean() <= kept.mean()
    assert pods(one, arrive, 4, 3, DEFAULT).mean() < kept.mean()


def test_json(tmp_path: Path) -> None:
    data = json.loads(json.dumps(to_json(serve(load(write(tmp_path, SERVE))))))
    assert set(data["policies"]) == {"fcfs", "batch", "pods"}
    page = (Path(__file__).parents[2] / "docs/pods.md").read_text()
    for key in {*data, *data["policies"]["fcfs"]}:
        assert f"`{key}`" in page or f".{key}`" in page, key
    for row in data["policies"].values():
        assert row["p50_s"] <= row["p90_s"] <= row["p99_s"]
        assert row["good_per_s"] <= row["done_per_s"]


def test_the_verdict_is_undecided_where_contention_turns_it(tmp_path: Path) -> None:
    found = serve(load(write(tmp_path, SERVE)))
    arrive = np.zeros(2)

    def row(policy: Any, last: float) -> Served:
        return Served(policy, arrive, np.array([0.01, last]))

    clear = Service(found.scenario, found.serve, found.one, found.alone, (row("batch", 0.5), row("pods", 0.015)), None)
    assert verdict(clear) == "pods is best: 100.0 % in time, p99 0.0149 s"
    hinges = Service(
        found.scenario, found.serve, found.one, found.alone, (row("batch", 0.015), row("pods", 0.5)), row("pods", 0.012)
    )
    assert verdict(hinges) == (
        "undecided, because it hinges on how kernels share the device: batch is best: 100.0 % in time, p99 0.0149 s; if any mix "
        "of kernels runs side by side, pods: 100.0 % in time, p99 0.012 s"
    )


def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["framecast", "serve", *args])
    with pytest.raises(SystemExit) as done:
        framecast.main()
    out, err = capfd.readouterr()
    return int(done.value.code or 0), out, err


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "arrivals.txt").write_text("# seconds\n0.5\n\n0.1\n")
    text = HEAD + "serve: {arrivals: {file: arrivals.txt}, deadline: 20 ms, policies: [fcfs]}\n"
    code, out, err = run(monkeypatch, capfd, str(write(tmp_path, text)))
    assert (code, err) == (0, "")
    assert "2 requests of stable-diffusion-1.5 over 500 ms" in out
    code, out, _ = run(monkeypatch, capfd, str(write(tmp_path, SERVE)), "--format", "json")
    assert json.loads(out)["requests"] == 30


@pytest.mark.parametrize(
    ("section", "arrivals", "messages"),
    [
        ("", "", ["toy.yaml: serve: missing; expected requests over time, for example "
                  "`serve: {arrivals: {every: 0.8 s}, deadline: 5 s}`"]),
        ("serve: {arrivals: {}, deadline: 5 s}", "",
         ["toy.yaml:5:9: serve.arrivals.every: found neither of every and file, expected one, for example `every: 0.8 s`"]),
        ("serve: {arrivals: {every: 0.8}, deadline: 5 s, policies: [fifo]}", "",
         ["toy.yaml:5:27: serve.arrivals.every: found '0.8', expected a time with its unit, for example '1.2 us'",
          "toy.yaml:5:59: serve.policies.0: found 'fifo', expected one of fcfs, batch, pods"]),
        ("serve: {arrivals: {file: none.txt}, deadline: 5 s}", "",
         ["toy.yaml:5:26: serve.arrivals.file: cannot read 'none.txt': no such file or directory"]),
        ("serve: {arrivals: {file: a.txt}, deadline: 5 s}", "1\nsoon\n-2\n",
         ["a.txt:2: found 'soon', expected the second of an arrival, for example 12.5",
          "a.txt:3: found '-2', expected the second of an arrival, for example 12.5"]),
        ("serve: {arrivals: {file: a.txt}, deadline: 5 s}", "# none\n",
         ["a.txt: found no arrivals, expected the second of one in each line"]),
    ],
    ids=range(6),
)  # fmt: skip
def test_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], section: str, arrivals: str,
    messages: list[str],
) -> None:  # fmt: skip
    (tmp_path / "a.txt").write_text(arrivals)
    code, out, err = run(monkeypatch, capfd, str(write(tmp_path, HEAD + section + "\n")))
    assert (code, out, err.replace(f"{tmp_path}/", "").splitlines()) == (2, "", messages)


def test_memory_over_capacity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(monkeypatch, capfd, str(write(tmp_path, SERVE)), "--set", "device.hbm.capacity=60 MB")
    assert code == 3
    assert err.replace(f"{tmp_path}/", "").strip() == (
        "toy.yaml: serve.most: 4 requests at a time do not fit a100-sxm-80gb: needs 0.0913 GB of 0.0600 GB; use serve.most: 2"
    )
