"""How a wrong `pods:` section reads: one line a problem that names the field, the pod and the step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import framecast
from sim import concurrent
from tests.sim.toy import trace_of, write

HEAD = "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\nrequest: {steps: 10}\n"
FIELDS = "members, count, budget, search, schedule, objective, trials, seed)"
REQUESTS = "pods: {members: requests, count: 4}\n"
STEPS = "pods:\n  members: steps\n  budget: {largest: 3, serial_first: 1, serial_last: 1}\n  search: {size: [1, 3]}\n"


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrent, "trace_of", trace_of)


def lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], text: str, *args: str
) -> tuple[int, list[str]]:
    path = write(folder, HEAD + text)
    monkeypatch.setattr(sys, "argv", ["framecast", "pods", str(path), *args])
    with pytest.raises(SystemExit) as done:
        framecast.main()
    out, err = capfd.readouterr()
    assert out == ""
    return int(done.value.code or 0), err.replace(f"{folder}/", "").splitlines()


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["toy.yaml: pods: missing; expected what runs together, for example `pods: {members: requests, count: 4}`"]),
        ("pods: 3\n", ["toy.yaml:4:7: pods: found '3', expected fields (" + FIELDS]),
        (
            "pods: {members: request, cuont: 4}\n",
            ["toy.yaml:4:17: pods.members: found 'request', expected one of steps, requests; did you mean 'requests'?",
             "toy.yaml:4:26: pods.cuont: unknown field; did you mean 'count'? "
             "(allowed: members, count, budget, search, schedule, objective, trials, seed)"],
        ),
        ("pods: {members: requests}\n", ["toy.yaml:4:1: pods.count: missing; expected the number of requests, for example 8"]),
        (
            "pods: {members: requests, count: 0, trials: 0}\n",
            ["toy.yaml:4:34: pods.count: found '0', expected a whole number of at least 1",
             "toy.yaml:4:45: pods.trials: found '0', expected a whole number of at least 1"],
        ),
        (
            "pods: {members: requests, count: 4, budget: {}}\n",
            ["toy.yaml:4:37: pods.budget: requests do not depend on one another; leave it out, or use members: steps"],
        ),
        (
            "pods: {members: steps, count: 10}\n",
            ["toy.yaml:4:1: pods.budget: missing; expected how far steps may be relaxed, for example "
             "`budget: {largest: 4, serial_first: 4, serial_last: 4}`",
             "toy.yaml:4:24: pods.count: the request says how many steps there are (request.steps); leave it out"],
        ),
        (
            "pods: {members: requests, count: 4, search: {size: [1, 8, 16]}}\n",
            ["toy.yaml:4:46: pods.search.size: found 8, 16, expected at most count, 4"],
        ),
        (
            "pods: {members: steps, budget: {largest: 3}, search: {size: [4]}}\n",
            ["toy.yaml:4:55: pods.search.size: found 4, expected at most budget.largest, 3"],
        ),
        (
            "pods: {members: requests, count: 4, search: {size: [], stagger: {low: 0.8, high: 0.2}}}\n",
            ["toy.yaml:4:52: pods.search.size: found a list of 0, expected at least 1 in the list",
             "toy.yaml:4:76: pods.search.stagger.high: found 0.2, expected at least low, 0.8"],
        ),
        (
            "pods: {members: requests, count: 4, search: {size: [0], stagger: {low: -1, high: 2}}}\n",
            ["toy.yaml:4:53: pods.search.size.0: found '0', expected a whole number of at least 1",
             "toy.yaml:4:72: pods.search.stagger.low: found '-1', expected a number of at least 0 and at most 1",
             "toy.yaml:4:82: pods.search.stagger.high: found '2', expected a number of at least 0 and at most 1"],
        ),
        (
            STEPS + "  schedule: {pods: ['1', '2-4', '4-5', '6-8', '9', '10']}\n",
            ["toy.yaml:8:20: pods.schedule.pods: step 4 appears in two pods (pod 2 and pod 3); a step belongs to exactly one"],
        ),
        (
            STEPS + "  schedule: {pods: ['1', '2-4', '6-8', '9', '10'], offsets: [0.5, 1.5], streams: 4}\n",
            ["toy.yaml:8:20: pods.schedule.pods: step 5 is in no pod; every step from 1 to 10 belongs to one",
             "toy.yaml:8:61: pods.schedule.offsets: step 4 of pod 2 starts 1.5 steps after the one before it; expected 0 to 1",
             "toy.yaml:8:61: pods.schedule.offsets: step 8 of pod 3 starts 1.5 steps after the one before it; expected 0 to 1",
             "toy.yaml:8:82: pods.schedule.streams: found 4, but pod 2, the largest, has 3 steps; expected 1 to 3"],
        ),
        (
            STEPS + "  schedule: {pods: ['1-4', '5-7', '8-10']}\n",
            ["toy.yaml:8:20: pods.schedule.pods: pod 1 (steps 1–4) holds 4 steps; the staleness budget allows 3 (budget.largest)",
             "toy.yaml:8:20: pods.schedule.pods: step 1 of pod 1 would not run alone; budget.serial_first is 1",
             "toy.yaml:8:20: pods.schedule.pods: step 10 of pod 3 would not run alone; budget.serial_last is 1"],
        ),
        (
            "pods: {members: requests, count: 4, objective: makespn, search: {partition: [half], streams: [0]}}\n",
            ["toy.yaml:4:48: pods.objective: found 'makespn', expected one of makespan, images_per_s, first_image, hbm_mean, "
             "hbm_peak, energy, gain; did you mean 'makespan'?",
             "toy.yaml:4:78: pods.search.partition.0: found 'half', expected one of shared, equal, uneven",
             "toy.yaml:4:95: pods.search.streams.0: found '0', expected a whole number of at least 1"],
        ),
        (
            STEPS.replace("[1, 3]", "[1, 3], overlap: true"),
            ["toy.yaml:7:26: pods.search.overlap: only stages of different requests may overlap; leave it out, or use "
             "members: requests"],
        ),
        (
            "pods: {members: requests, count: 4, search: {hardware: {device.hbm.bandwith: 1..2 TB/s}}}\n",
            ["toy.yaml:4:57: pods.search.hardware.device.hbm.bandwith: unknown field; did you mean 'device.hbm.bandwidth'?"],
        ),
        (
            "pods:\n  members: requests\n  count: 4\n  search:\n    hardware:\n      device.hbm.bandwidth: 4..2 TB/s\n"
            "      device.sm_count: 64..128 step 4\n      device.l2.capacity: 0..40 MiB\n      device.hbm.capacity: 40..80 GB\n",
            ["toy.yaml:9:29: pods.search.hardware.device.hbm.bandwidth: found '4..2 TB/s': the range is reversed; expected the "
             "low end first, '2 TB/s..4 TB/s'",
             "toy.yaml:10:24: pods.search.hardware.device.sm_count: found '64..128 step 4': a search draws from the whole range; "
             "leave out the points or the step",
             "toy.yaml:11:27: pods.search.hardware.device.l2.capacity: found '0..40 MiB': 0 B is not possible",
             "toy.yaml:12:28: pods.search.hardware.device.hbm.capacity: it decides what fits, not how fast that runs; leave it "
             "out"],
        ),
        (
            "pods: {members: requests, count: 4, schedule: {pods: ['1-2', '3-4'], partition: [0.9, 0.3], priority: [1]}}\n",
            ["toy.yaml:4:81: pods.schedule.partition: found shares that add up to 1.2, expected at most 1",
             "toy.yaml:4:103: pods.schedule.priority: found 1, expected 2, one for each stream"],
        ),
        (
            STEPS + "  schedule: {pods: ['1', two, '5-2']}\n",
            ["toy.yaml:8:26: pods.schedule.pods.1: found 'two', expected members such as '7', '31-35' or '1-4, 9'",
             "toy.yaml:8:31: pods.schedule.pods.2: found '5-2', expected members such as '7', '31-35' or '1-4, 9'"],
        ),
    ],
    ids=range(20),
)  # fmt: skip
def test_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], text: str, messages: list[str]
) -> None:
    assert lines(tmp_path, monkeypatch, capfd, text) == (2, messages)


def test_overrides_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = lines(tmp_path, monkeypatch, capfd, REQUESTS, "--set", "pods.trials=many", "--set", "pods.triasl=3")
    assert found == (
        2,
        ["--set pods.trials: found 'many', expected a whole number of at least 1",
         "--set pods.triasl: unknown field; did you mean 'trials'? "
         "(allowed: members, count, budget, search, schedule, objective, trials, seed)"],
    )  # fmt: skip
    code, said = lines(tmp_path, monkeypatch, capfd, REQUESTS, "--trials", "0")
    assert (code, said) == (
        2,
        ["Invalid value for '--trials': 0 is not in the range x>=1; see 'framecast pods --help'"],
    )


def test_memory_over_capacity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    small = ("--set", "device.hbm.capacity=40 MB")
    code, said = lines(
        tmp_path, monkeypatch, capfd, "pods: {members: requests, count: 4, schedule: {pods: ['1', '2-4']}}\n", *small
    )
    assert code == 3
    assert said == [
        "toy.yaml: pods.schedule: pod 2 (3 requests at a time) does not fit a100-sxm-80gb: needs 0.0685 GB of 0.0400 GB "
        "(weights 0.00000600, activations 0.0684); use pods of at most 1"
    ]
    code, said = lines(tmp_path, monkeypatch, capfd, REQUESTS, "--set", "device.hbm.capacity=1 MB")
    assert code == 3
    assert said[0].endswith("; use a smaller request or a larger device")


def test_a_model_without_steps(tmp_path: Path) -> None:
    from explore.pods_spec import load as load_pods
    from hwspecs.errors import SpecError
    from sim.scenario import load

    scenario = load(write(tmp_path, HEAD + STEPS))
    with pytest.raises(
        SpecError, match=r"toy.yaml:5:12: pods.members: stable-diffusion-1.5 has no denoising steps; use"
    ):
        load_pods(scenario, None)


def test_an_unwritable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code, said = lines(tmp_path, monkeypatch, capfd, REQUESTS, "--trials", "2", "--out", str(tmp_path / "file/x"))
    assert (code, said) == (2, ["--out file/x: cannot write the results: not a directory"])


def test_energy_of_a_device_that_does_not_say_what_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "pods: {members: requests, count: 4, objective: energy}\n"
    assert lines(tmp_path, monkeypatch, capfd, text, "--set", "device.silicon=null") == (
        2,
        [
            "toy.yaml:4:48: pods.objective: energy is not known of a100-sxm-80gb, which has no section `silicon`; choose another"
        ],
    )
