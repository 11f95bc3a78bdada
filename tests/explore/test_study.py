"""Searches: the same study whatever happens to it, and what it says in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explore import objectives
from explore.answer import answer
from explore.answer_report import search_text
from explore.front import pareto
from explore.storage import Location
from explore.study import Trials, run
from framecast import main
from hwspecs.errors import StudyError
from tests.explore.toys import HEAD, SEARCH, opened, use_toy, write

ROOT = Path(__file__).parents[2]
KILLED = """
import sys
from explore import evaluate
from tests.sim.toy import trace_of
evaluate.trace_of = trace_of
import framecast
framecast.main()
"""


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


def searched(folder: Path, *overrides: str, study: str = "s.journal", text: str = SEARCH) -> Trials:
    return run(objectives.read(opened(folder, text, *overrides)), Location(str(folder / study)))


def same(one: Trials, other: Trials) -> bool:
    return list(one.params) == list(other.params) and all(
        np.array_equal(a, b) for a, b in zip(one.params.values(), other.params.values(), strict=True)
    )


def command(capsys: Any, monkeypatch: Any, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["framecast", "search", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    out = capsys.readouterr()
    return int(done.value.code or 0), out.out, out.err


@pytest.mark.parametrize("goal", ["latency_s: minimize", "latency_s: minimize, relative_resources: minimize"])
def test_a_study_is_a_function_of_space_seed_and_batch(tmp_path: Path, goal: str) -> None:
    text = SEARCH.replace("latency_s: minimize, relative_resources: minimize", goal)
    whole = searched(tmp_path, study="whole.journal", text=text)
    assert len(whole) == 20
    assert same(whole, searched(tmp_path, study="again.journal", text=text))
    for trials in (3, 8, 13, 20):  # stopped within a batch, at its end, and done
        part = searched(tmp_path, f"search.trials={trials}", study="part.journal", text=text)
        assert len(part) == trials
    assert same(whole, part)
    assert not same(whole, searched(tmp_path, "search.seed=1", study="seed.journal", text=text))
    assert not same(whole, searched(tmp_path, "search.batch=7", study="batch.journal", text=text))


def test_plain_optuna_reads_it(tmp_path: Path) -> None:
    import optuna

    trials = searched(tmp_path)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "s.journal"))
    study = optuna.load_study(study_name="toy", storage=optuna.storages.JournalStorage(backend))
    assert [t.number for t in study.trials] == list(range(20))
    assert {t.state.name for t in study.trials} == {"COMPLETE"}
    assert study.metric_names == ["latency_s", "relative_resources"]
    assert study.trials[3].params["device.sm_count"] == trials.params["device.sm_count"][3]
    assert study.trials[3].user_attrs["design"]
    ours = answer(objectives.read(opened(tmp_path, SEARCH)), trials, Location("s")).front
    assert {t.number for t in study.best_trials} >= set(ours.tolist())


def test_kill_and_go_on(tmp_path: Path) -> None:
    path, journal = write(tmp_path, SEARCH), tmp_path / "s.journal"
    arguments = [sys.executable, "-c", KILLED, "search", str(path), "--study", str(journal), "--trials", "400"]
    environment = {**os.environ, "FRAMECAST_CACHE": str(tmp_path)}
    lines = 0
    for until in (40, 150):
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and lines < until:
            time.sleep(0.002)
            lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run([*arguments, "--format", "json"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"] == 400
    killed = searched(tmp_path, "search.trials=400")
    assert same(killed, searched(tmp_path, "search.trials=400", study="whole.journal"))


def test_what_a_kill_leaves_in_the_file(tmp_path: Path) -> None:
    whole = searched(tmp_path, study="whole.journal")
    searched(tmp_path, "search.trials=10")
    journal = tmp_path / "s.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x","stu')
    (tmp_path / "s.journal.lock").symlink_to(journal)
    start = time.monotonic()
    assert same(whole, searched(tmp_path))
    assert time.monotonic() - start < 10
    first = journal.read_bytes().partition(b"\n")[0]
    for cut in (1, 5, 30, len(first)):  # of the very first line
        journal.write_bytes(first[:cut])
        assert same(whole, searched(tmp_path))


def test_running_trials_of_others_do_not_count(tmp_path: Path) -> None:
    import optuna

    whole = searched(tmp_path, study="whole.journal")
    searched(tmp_path, "search.trials=10")
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "s.journal"))
    optuna.load_study(study_name="toy", storage=optuna.storages.JournalStorage(backend)).ask()
    assert same(whole, searched(tmp_path))


@pytest.mark.parametrize(
    ("override", "change"),
    [
        (
            "search.device.hbm.bandwidth=1..12 TB/s log",
            "device.hbm.bandwidth was 1–8 TB/s log, is 1–12 TB/s log; start with --study NEW or restore the range",
        ),
        ("search.seed=3", "seed was 0, is 3; start with --study NEW or restore the space"),
        (
            "search.objectives={relative_resources: maximize}",
            "objective 2 was minimize relative_resources, is maximize relative_resources; start with --study NEW or"
            " restore the space",
        ),
        (
            "search.objectives={gpu_time_s: minimize}",
            "objective 3 was not there, is minimize gpu_time_s; start with --study NEW or restore the space",
        ),
    ],
)
def test_a_changed_space_is_refused(tmp_path: Path, override: str, change: str) -> None:
    searched(tmp_path)
    with pytest.raises(StudyError) as caught:
        searched(tmp_path, override)
    assert str(caught.value) == f"{tmp_path}/s.journal: space changed since trial 20: {change}"


def test_a_changed_scenario_is_refused(tmp_path: Path) -> None:
    searched(tmp_path)
    for settings, change in (
        (["request.steps=3"], "request.steps was 50, is 3"),
        (["software.attention=unfused", "device.hbm.latency=500 ns"],
         "device.hbm.latency was 404 ns, is 500 ns, software.attention was flash-2, is unfused"),
    ):  # fmt: skip
        with pytest.raises(StudyError) as caught:
            searched(tmp_path, *settings)
        way_out = "start with --study NEW or restore the space"
        assert str(caught.value) == f"{tmp_path}/s.journal: space changed since trial 20: {change}; {way_out}"
    with pytest.raises(StudyError, match=r"device\.name was a100-sxm-80gb, is h100-sxm, .*, \d+ more fields; start"):
        searched(tmp_path, "device=h100-sxm")


@pytest.mark.parametrize("content", ["hello", "hello\n", '{"a": 1}\n', "\x00\x00\n"])
def test_a_file_that_is_no_journal(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.journal").write_text(content)
    with pytest.raises(StudyError) as caught:
        searched(tmp_path)
    text = "not a journal of Optuna, or damaged; start with --study NEW"
    assert str(caught.value) == f"{tmp_path}/s.journal:1: {text}"
    assert (tmp_path / "s.journal").read_text() == content


def test_a_damaged_journal(tmp_path: Path) -> None:
    searched(tmp_path)
    journal = tmp_path / "s.journal"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines[:5], lines[5][:50] + "\n", *lines[6:]]))
    with pytest.raises(StudyError, match=r"s\.journal:6: not a journal of Optuna, or damaged; start with --study NEW"):
        searched(tmp_path)
    journal.write_text("".join(['{"op_code":77}\n', *lines]))
    with pytest.raises(StudyError, match=r"^\S*s\.journal: cannot use the study \(.*\); start with --study NEW"):
        searched(tmp_path)


def test_a_study_that_another_search_holds_or_that_cannot_be_written(tmp_path: Path) -> None:
    import fcntl

    journal = tmp_path / "s.journal"
    with journal.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(
            StudyError, match=r"s\.journal: another search is using it; wait for it, or start with --study"
        ):
            searched(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(StudyError, match=r"folder: cannot write the study \(is a directory\)"):
        searched(tmp_path, study="folder")


def test_a_study_that_is_not_ours(tmp_path: Path) -> None:
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "s.journal"))
    study = optuna.create_study(study_name="toy", storage=optuna.storages.JournalStorage(backend))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(
        StudyError, match=r"s\.journal: the study 'toy' in it is none of framecast's; start with --study NEW"
    ):
        searched(tmp_path)


def test_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    search = objectives.read(opened(tmp_path, SEARCH))
    assert same(run(search, Location(url)), searched(tmp_path))
    with pytest.raises(
        StudyError, match=r"^nosuch://x: cannot use the study \(.*\); start with --study NEW or mend it$"
    ):
        run(search, Location("nosuch://x"))


def test_the_answer(tmp_path: Path) -> None:
    text = SEARCH.replace("trials: 20", "trials: 64").replace("<= 2]", "<= 1.5, latency_s <= 1 s]")
    text += "  resources: {device.sm_count: 3, device.hbm.bandwidth: 1}\n"
    search = objectives.read(opened(tmp_path, text, "search.device.hbm.capacity=[1 MB, 80 GB]"))
    trials = run(search, Location(str(tmp_path / "s.journal")))
    found = answer(search, trials, Location("s.journal"))
    misses = found.infeasible()
    assert set(misses) == {"memory", "relative_resources <= 1.5"}
    assert trials.feasible.sum() + sum(misses.values()) >= 64
    small = trials.params["device.hbm.capacity"] == 1e6
    assert misses["memory"] == small.sum()
    assert not trials.feasible[small].any()
    kept = np.column_stack([trials.outputs[n] for n in search.objectives])[trials.feasible]
    assert sorted(found.front.tolist()) == sorted(set(np.flatnonzero(trials.feasible)[pareto(kept)].tolist()))
    share = trials.params["device.sm_count"] / 108 * 0.75 + trials.params["device.hbm.bandwidth"] / 2.039e12 * 0.25
    assert trials.outputs["relative_resources"] == pytest.approx(share)
    lines = search_text(found).splitlines()
    assert lines[0].startswith(
        "toy: stable-diffusion-1.5 around NVIDIA A100 SXM4 80 GB (a100-sxm-80gb); varied: sm_count, hbm"
    )
    assert f"{misses['memory']} do not fit into memory" in lines[1]
    assert lines[3].endswith("designs on the front, best in latency_s first")
    assert lines[5].split()[-3:] == [f"{search.own()['latency_s']:.3g}", "1.00", "1.00"]
    assert "It is not a price." in search_text(found)
    assert lines[-1] == "  optuna-dashboard s.journal"


def test_bounds_that_were_hit(tmp_path: Path) -> None:
    text = "search: {device.sm_count: [8, 16], device.sm_clock: 1..1.4 GHz, objectives: {latency_s: minimize}, trials: 40}\n"
    search = objectives.read(opened(tmp_path, text))
    found = answer(search, run(search, Location(str(tmp_path / "s.journal"))), Location("s"))
    assert "the upper bound of device.sm_count" in found.bounds_hit()["latency_s"]
    line = next(line for line in search_text(found).splitlines() if line.startswith("Best latency_s at "))
    assert ": widen " in line
    assert 1 <= len(found.shown()) <= 5


def test_no_feasible_design(tmp_path: Path) -> None:
    text = SEARCH.replace("<= 2]", "<= 0.1]")
    search = objectives.read(opened(tmp_path, text))
    found = answer(search, run(search, Location(str(tmp_path / "s.journal"))), Location("s"))
    assert "0 of 20 designs are feasible; 20 miss relative_resources <= 0.1" in search_text(found)
    assert "No design is feasible: relax the constraint that most designs miss" in search_text(found)


def test_the_command(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path, out = str(write(tmp_path, SEARCH)), tmp_path / "out"
    code, text, err = command(
        capsys, monkeypatch, path, "--trials", "10", "--seed", "4", "--format", "json", "--out", "out"
    )
    assert code == 0
    goals = "minimize latency_s, minimize relative_resources; fits into memory, relative_resources <= 2"
    assert err == f"search: 3 fields, {goals}; 10 designs in all, 8 at a time (NSGA-II, seed 4)\n"
    found = json.loads(text)
    assert (found["trials"], found["seed"], found["study"]) == (10, 4, "out/study.journal")
    assert found["dashboard"] == "optuna-dashboard out/study.journal"
    assert found == json.loads((out / "search.json").read_text())
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert names == [
        "bounds.csv",
        "front.csv",
        *(f"plots/{name}.{end}" for name in ("front", "hypervolume", "parallel", "tornado") for end in ("png", "svg")),
        "ranking.csv",
        "scenario.resolved.yaml",
        "search.html",
        "search.json",
        "sensitivity.csv",
        "study.journal",
        "trials.csv",
    ]
    code, text, _ = command(capsys, monkeypatch, path, "--format", "csv")
    assert (code, len(text.splitlines())) == (0, 21)
    assert (tmp_path / "toy.journal").exists()


def test_the_command_with_one_objective(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    text = SEARCH.replace(", relative_resources: minimize", "")
    path = str(write(tmp_path, text))
    code, out, err = command(capsys, monkeypatch, path, "--out", str(tmp_path / "out"))
    assert code == 0
    assert "(TPE, seed 0)" in err
    assert "The best designs, best in latency_s first" in out
    assert "best so far" in (tmp_path / "out/plots/front.svg").read_text()


def test_where_results_cannot_be_is_said_before_the_search(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(write(tmp_path, SEARCH))
    for out, told in (
        ("", "--out: empty; expected the name of a folder"),
        ("x.csv", "--out x.csv: a search writes many files; expected a folder, whose name has no ending"),
    ):
        assert command(capsys, monkeypatch, path, "--out", out) == (2, "", f"{told}\n")
    assert [p.name for p in tmp_path.iterdir()] == ["toy.yaml"]


def test_a_sampler_that_does_not_know_of_constraints(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    pytest.importorskip("cmaes")
    monkeypatch.chdir(tmp_path)
    path = str(write(tmp_path, SEARCH.replace(", relative_resources: minimize", "")))
    _, _, err = command(capsys, monkeypatch, path, "--sampler", "cmaes")
    told = "CMA-ES does not know of constraints, and may try many designs that miss them; tpe and gp do"
    assert err.splitlines()[1:] == [f"warning: {told}"]
    _, _, err = command(capsys, monkeypatch, path, "--study", "t.journal")
    assert len(err.splitlines()) == 1


def test_memory_is_the_only_constraint_that_is_always_there(tmp_path: Path) -> None:
    text = HEAD + "search: {device.sm_count: 64..128, objectives: {gpu_time_s: minimize}, trials: 2, batch: 2}\n"
    (tmp_path / "x.yaml").write_text(text)
    from explore.space import origin

    search = objectives.read(origin(str(tmp_path / "x.yaml")))
    assert list(search.identity())[:2] == ["device.sm_count", "objective 1"]
    assert list(search.prices({"device.sm_count": np.array([64.0])})) == search.outputs
    assert run(search, Location(str(tmp_path / "s.journal"))).constraints == ["violation: memory"]


def test_quiet_says_nothing_before_a_search(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path = str(write(tmp_path, SEARCH))
    monkeypatch.chdir(tmp_path)
    assert command(capsys, monkeypatch, path, "--trials", "4", "-q")[2] == ""
    one = ("--set", "search.device.sm_count=null", "--set", "search.device.l2.capacity=null", "--study", "one.journal")
    err = command(capsys, monkeypatch, path, "--trials", "4", *one)[2]
    assert err.startswith("search: 1 field, minimize latency_s")


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    import resource

    searched(tmp_path, "search.trials=8")
    size, limits = (tmp_path / "s.journal").stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, limits[1]))
    try:
        with pytest.raises(
            StudyError,
            match=r"^\S+s\.journal: cannot write the study \(file too large\); the same command goes on once there",
        ) as caught:
            searched(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(caught.value.problems) == 1
    assert same(searched(tmp_path), searched(tmp_path, study="whole.journal"))
