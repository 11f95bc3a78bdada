"""The event loop on what a replay is made of, and schedules played on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwspecs.rates import rates
from sim import concurrent
from sim.concurrent import Inference, inference, lower_bound, passes, play, step_segments
from sim.cost import cost
from sim.demand import COMPUTE, SHARED, pieces
from sim.engine import together
from sim.host import serial_makespan
from sim.scenario import Scenario, load
from sim.schedule import Budget, Schedule, podded, serial
from sim.simulate import held
from tests.sim.toy import toy_trace, trace_of, write
from workloads.lower import lower
from workloads.model import find

BUDGET = Budget(largest=3, serial_first=2, serial_last=1)


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return load(write(tmp_path), ["request.steps=10"])


@pytest.fixture
def one(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> Inference:
    monkeypatch.setattr(concurrent, "trace_of", trace_of)
    return inference(scenario)


def test_nothing_runs_in_no_time() -> None:
    run = together([np.array([], dtype=np.int64)], np.ones(1), np.zeros((1, 4)))
    assert (run.makespan, run.hbm_peak) == (0.0, 0.0)


@pytest.mark.parametrize(("seconds", "demand"), [(1.0, 1.1), (1.0, -0.1), (-1.0, 0.5), (np.nan, 0.5)])
def test_impossible_pieces_are_refused(seconds: float, demand: float) -> None:
    with pytest.raises(ValueError, match="demands must lie between 0 and 1, and durations must not be negative"):
        together([np.array([0])], np.array([seconds]), np.full((1, 4), demand))


def test_pieces_are_the_replay(scenario: Scenario) -> None:
    trace, on = toy_trace(10), rates(scenario.device)
    priced = cost(lower(trace, scenario.software), on)
    found = pieces(trace, priced, on)
    per_call = np.bincount(found.call, found.seconds, trace.calls)
    assert per_call == pytest.approx(held(priced), rel=1e-12)
    assert (found.demand >= 0).all()
    assert (found.demand <= 1).all()
    kept = pieces(trace, priced, on, "held")
    assert (kept.demand[:, COMPUTE] >= found.demand[:, COMPUTE]).all()
    assert (kept.seconds == found.seconds).all()


def test_one_stream_equals_the_serial_replay(scenario: Scenario, one: Inference) -> None:
    trace, on = toy_trace(10), rates(scenario.device)
    gpu = held(cost(lower(trace, scenario.software), on))
    alone = float(serial_makespan(gpu, np.zeros_like(gpu), trace))
    assert play(one, serial("steps", 10), "fluid").makespan == pytest.approx(alone, rel=1e-9)
    assert play(one, serial("requests", 4), "held").makespan == pytest.approx(4 * alone, rel=1e-9)
    assert play(one, Schedule("requests", 4, ((1, 2, 3, 4),), streams=1), "fluid").makespan == pytest.approx(4 * alone)


def test_no_offset_is_lockstep(one: Inference) -> None:
    together_ = play(one, podded(4, 4), "fluid")
    alone = one.pieces["fluid"]
    slowed = alone.seconds * np.maximum(1.0, 4 * alone.demand[:, : len(SHARED)].max(axis=1))
    assert together_.makespan == pytest.approx(float(slowed[one.program("whole")].sum()), rel=1e-9)
    assert together_.makespan == play(one, Schedule("requests", 4, ((1, 2, 3, 4),), (0.0, 0.0, 0.0)), "fluid").makespan


def test_steps_run_between_what_is_before_and_after(one: Inference) -> None:
    played = play(one, podded(10, 3, 0.25, BUDGET), "fluid")
    parts = [phase.part for phase, _, _ in played.phases]
    assert parts == ["before", *["step"] * 6, "after"]
    assert [len(phase.streams) for phase, _, _ in played.phases] == [1, 1, 1, 3, 3, 1, 1, 1]
    assert played.makespan == pytest.approx(sum(run.makespan for _, run, _ in played.phases))
    assert one.step_seconds == one.seconds("step")


def test_every_pass_is_told(one: Inference) -> None:
    played = play(one, podded(4, 2, 0.5), "fluid")
    for phase, run, _ in played.phases:
        told = list(passes(one, phase, run))
        assert len(told) == 2 * (2 + 10 + 1)
        assert max(end for *_, end in told) == pytest.approx(run.makespan)
        assert all(start < end for *_, start, end in told)
        assert {stream for stream, *_ in told} == {0, 1}


def test_memory_is_the_weights_once_and_activations_each(one: Inference) -> None:
    alone, four = play(one, serial("requests", 4), "fluid"), play(one, podded(4, 4), "fluid")
    assert four.memory - one.weights == pytest.approx(4 * (alone.memory - one.weights))
    assert play(one, podded(4, 4), "fluid").images == 4
    assert play(one, serial("steps", 10), "fluid").images == 1


def test_a_batch_runs_in_place_of_its_members(one: Inference) -> None:
    twice = replace(one, pieces={k: replace(p, seconds=1.5 * p.seconds) for k, p in one.pieces.items()}, images=2)
    schedule = podded(5, 2, batched=True)
    assert schedule.pods == ((1, 2), (3, 4), (5,))
    played = play(one, schedule, "fluid", {2: twice})
    assert played.makespan == pytest.approx((1.5 + 1.5 + 1) * one.seconds("whole"))


def test_lower_bounds_hold(one: Inference) -> None:
    for size in (1, 2, 4):
        for stagger in (0.0, 0.3, 1.0):
            schedule = podded(8, size, stagger)
            assert play(one, schedule, "fluid").makespan >= lower_bound(one, schedule) * (1 - 1e-9)
    schedule = podded(10, 3, 0.1, BUDGET)
    assert play(one, schedule, "fluid").makespan >= lower_bound(one, schedule) * (1 - 1e-9)
    alone = podded(10, 1, budget=Budget(largest=1, serial_first=0, serial_last=0))
    assert lower_bound(one, alone) == pytest.approx(one.seconds("whole"))


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_the_denoising_step_is_what_repeats_with_the_steps(steps: int) -> None:
    model = find("stable-diffusion-1.5")
    assert step_segments(model.id, model.request(steps=steps)) == (1,)


def test_a_model_without_steps_has_none() -> None:
    assert step_segments("stable-diffusion-1.5", object()) == ()
