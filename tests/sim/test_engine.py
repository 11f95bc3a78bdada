"""The event loop on what a replay is made of, and schedules played on it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwspecs.rates import rates
from sim import concurrent
from sim.bounds import lower_bound
from sim.coarse import coarse
from sim.concurrent import Inference, inference, passes, play, step_segments
from sim.cost import cost
from sim.demand import L2_SHARES, RESOURCES, pieces
from sim.engine import DEFAULT, FLUID, Contention, Job, Streams, together
from sim.host import host_time, serial_makespan
from sim.issue import issued
from sim.scenario import Scenario, load
from sim.schedule import Budget, Schedule, podded, serial
from sim.simulate import held
from tests.sim.plain import plain
from tests.sim.toy import toy_trace, trace_of, write
from workloads.lower import lower
from workloads.model import find

BUDGET = Budget(largest=3, serial_first=2, serial_last=1)


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return load(write(tmp_path), ["request.steps=10", "software.cuda_graphs=true"])


@pytest.fixture
def one(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> Inference:
    monkeypatch.setattr(concurrent, "trace_of", trace_of)
    return inference(scenario)


def without_host(one: Inference) -> Inference:
    """Launches cost nothing."""
    pieces = replace(one.pieces, host=np.zeros_like(one.pieces.host))
    return replace(one, pieces=pieces, brief=coarse(pieces))


def job(*program: int, **of: Any) -> Job:
    return Job(np.array(program, dtype=np.int64), **of)


def test_nothing_runs_in_no_time() -> None:
    assert together(plain([1.0], np.zeros((1, 5))), [], Streams((0,))).makespan == 0.0


@pytest.mark.parametrize(
    ("made", "jobs", "streams", "message"),
    [
        (plain([1.0], np.full((1, 5), 1.1)), [job(0)], Streams((0,)), "durations must be above 0, and work between 0 and"),
        (plain([0.0], np.zeros((1, 5))), [job(0)], Streams((0,)), "durations must be above 0"),
        (plain([np.nan], np.zeros((1, 5))), [job(0)], Streams((0,)), "durations must be above 0"),
        (plain([1.0], np.zeros((1, 5)), 1.5), [job(0)], Streams((0,)), "slots must lie between 0 and 1"),
        (plain([1.0], np.zeros((1, 5))), [job()], Streams((0,)), "a job needs at least one piece"),
        (plain([1.0], np.zeros((1, 5))), [job(0, lane=2)], Streams((0,)), "no stream runs the jobs of lane 2"),
        (plain([1.0], np.zeros((1, 5))), [job(0)], Streams((0,), (1.2,)), "a partition needs shares above 0 that add up to at"),
        (plain([1.0], np.zeros((1, 5))), [job(0, after=1), job(0, after=0)], Streams((0, 0)), "jobs wait for each other"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused(made: Any, jobs: Any, streams: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        together(made, jobs, streams)


def test_contention_has_a_range() -> None:
    with pytest.raises(ValueError, match="sms_kept and l2_split must lie between 0 and 1"):
        Contention(1.2, 0)
    with pytest.raises(ValueError, match=r"loss must lie between 0 and 0\.1"):
        Contention(loss=0.2)


def test_pieces_are_the_replay(scenario: Scenario) -> None:
    trace, on = toy_trace(10), rates(scenario.device)
    kernels = lower(trace, scenario.software)
    costs = [cost(kernels, replace(on, l2_capacity=share * on.l2_capacity)) for share in L2_SHARES]
    host = host_time(trace, costs[0], replace(scenario.software, cuda_graphs=False))
    found = pieces(trace, costs, on, host)
    segments = trace.segments
    each = [float(held(costs[0])[s.start : s.stop].sum()) for s in segments]
    assert [found.pass_seconds(i) for i in range(len(segments))] == pytest.approx(each, rel=1e-12)
    assert found.host.sum() == pytest.approx(host.sum())
    assert (found.work >= 0).all()
    assert (found.work <= found.seconds[..., None]).all()
    assert (np.diff(found.seconds, axis=0) >= -1e-15).all()  # less L2 is never faster
    assert ((found.slots >= 0) & (found.slots <= 1)).all()
    assert not found.begins.all()  # some kernels have tails


def test_few_pieces_keep_time_and_work(one: Inference) -> None:
    few = coarse(one.pieces, 3)
    for s in range(len(few.segments)):
        assert len(few.of(s)) <= 3
        assert few.pass_seconds(s) == pytest.approx(one.pieces.pass_seconds(s), rel=1e-12)
        assert few.pass_work(s) == pytest.approx(one.pieces.pass_work(s), rel=1e-12)
    assert few.host.sum() == pytest.approx(one.pieces.host.sum())
    assert play(one, serial("requests", 2), brief=True).makespan == pytest.approx(
        play(one, serial("requests", 2)).makespan
    )


@pytest.mark.parametrize("graphs", ["true", "false"])
def test_one_stream_equals_the_serial_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: str) -> None:
    """The host included: launch-bound where it is."""
    monkeypatch.setattr(concurrent, "trace_of", trace_of)
    scenario = load(write(tmp_path), ["request.steps=10", f"software.cuda_graphs={graphs}"])
    one, trace = inference(scenario), toy_trace(10)
    priced = cost(lower(trace, scenario.software), rates(scenario.device))
    alone = float(serial_makespan(held(priced), host_time(trace, priced, scenario.software), trace))
    assert play(one, serial("steps", 10)).makespan == pytest.approx(alone, rel=1e-9)
    assert play(one, serial("requests", 1), FLUID).makespan == pytest.approx(alone, rel=1e-9)
    four = play(one, serial("requests", 4)).makespan
    assert play(one, Schedule("requests", 4, ((1, 2, 3, 4),), streams=1), FLUID).makespan == pytest.approx(four)


def test_the_host_goes_round_the_streams() -> None:
    """Calls of 1 s and 2 s on two streams, the second late by 4: the host issues 1, waits, then takes turns."""
    found = issued([np.array([1.0, 0.0, 2.0]), np.array([1.0, 1.0])], [0, 1], [0.0, 4.0])
    assert found[0].tolist() == [1.0, 0.0, 3.0]
    assert found[1].tolist() == [5.0, 6.0]
    taken = issued([np.array([1.0, 1.0]), np.array([1.0, 1.0])], [0, 1], [0.0, 0.0])
    assert [t.tolist() for t in taken] == [[1.0, 3.0], [2.0, 4.0]]
    assert [t.tolist() for t in issued([np.zeros(2)], [0], [0.5])] == [[0.5, 0.0]]


def test_no_offset_is_lockstep(one: Inference) -> None:
    """With fluid SMs all members go at the same pace."""
    one, members = without_host(one), 4
    alone = one.pieces
    demand = alone.work[0, :, :RESOURCES] / alone.seconds[0][:, None]
    slowed = alone.seconds[0] * np.maximum(1.0, members * demand.max(axis=1))
    program = np.concatenate([alone.of(s) for s in one.order("whole")])
    together_ = play(one, podded(4, 4), FLUID)
    assert together_.makespan == pytest.approx(float(slowed[program].sum()), rel=1e-9)
    zero = Schedule("requests", 4, ((1, 2, 3, 4),), (0.0, 0.0, 0.0))
    for contention in (FLUID, DEFAULT):
        assert play(one, podded(4, 4), contention).makespan == play(one, zero, contention).makespan


def test_steps_run_between_what_is_before_and_after(one: Inference) -> None:
    played = play(one, podded(10, 3, 0.25, BUDGET))
    assert [phase.streams for phase, _, _ in played.phases] == [1, 3, 3, 1]
    assert [phase.pod for phase, _, _ in played.phases] == [0, 3, 4, 0]
    assert played.makespan == pytest.approx(sum(run.makespan for _, run, _ in played.phases))
    assert one.step_seconds == one.seconds("step")
    assert played.first == played.makespan


def test_every_pass_is_told(one: Inference) -> None:
    played = play(one, podded(4, 2, 0.5))
    for phase, run, _ in played.phases:
        told = list(passes(one, phase, run))
        assert len(told) == 2 * (2 + 10 + 1)
        assert max(end for *_, end in told) == pytest.approx(run.makespan)
        assert all(start < end for *_, start, end in told)
        assert {stream for stream, *_ in told} == {0, 1}


def test_stages_of_requests_overlap(one: Inference) -> None:
    """A stream of text encoders, one of denoising, one of decoders: each stage of a request after the one before it."""
    played = play(one, replace(podded(4, 1), overlap=True), FLUID)
    ((phase, run, _),) = played.phases
    assert phase.streams == 3
    spans: dict[int, list[tuple[float, float]]] = {}
    for _, member, _, start, end in passes(one, phase, run):
        spans.setdefault(member, []).append((start, end))
    for each in spans.values():
        assert all(before[1] <= after[0] + 1e-12 for before, after in itertools.pairwise(each))
    assert len(spans) == 4
    assert played.makespan < play(one, serial("requests", 4), FLUID).makespan
    assert played.first < played.makespan


def test_memory_is_the_weights_once_and_activations_each(one: Inference) -> None:
    alone, four = play(one, serial("requests", 4)), play(one, podded(4, 4))
    assert four.memory - one.weights == pytest.approx(4 * (alone.memory - one.weights))
    assert play(one, podded(4, 4)).images == 4
    assert play(one, serial("steps", 10)).images == 1


def test_a_batch_runs_in_place_of_its_members(one: Inference) -> None:
    one = without_host(one)
    longer = replace(one.pieces, seconds=1.5 * one.pieces.seconds)
    twice = replace(one, pieces=longer, brief=coarse(longer), images=2)
    schedule = podded(5, 2, batched=True)
    assert schedule.pods == ((1, 2), (3, 4), (5,))
    played = play(one, schedule, FLUID, {2: twice})
    assert played.makespan == pytest.approx((1.5 + 1.5 + 1) * one.seconds("whole"))


def test_lower_bounds_hold(one: Inference) -> None:
    for size in (1, 2, 4):
        for stagger in (0.0, 0.3, 1.0):
            schedule = podded(8, size, stagger)
            for contention in (FLUID, DEFAULT):
                assert play(one, schedule, contention).makespan >= lower_bound(one, schedule)[0] * (1 - 1e-9)
    schedule = podded(10, 3, 0.1, BUDGET)
    assert play(one, schedule, FLUID).makespan >= lower_bound(one, schedule)[0] * (1 - 1e-9)
    alone = podded(10, 1, budget=Budget(largest=1, serial_first=0, serial_last=0))
    seconds, what = lower_bound(one, alone)
    assert what == "the chain of pods"
    assert seconds == pytest.approx(one.seconds("whole"))


def test_less_contention_is_faster_here(one: Inference) -> None:
    schedule = podded(4, 4, 0.3)
    kept, fluid = (play(one, schedule, c).makespan for c in (DEFAULT, FLUID))
    assert fluid < kept <= play(one, serial("requests", 4)).makespan * 1.01


def test_a_partition_keeps_streams_apart(one: Inference) -> None:
    """Half of the SMs each: two members end together, later than either alone and no later than one after the other."""
    halves = Schedule("requests", 2, ((1, 2),), partition=(0.5, 0.5))
    alone = one.seconds("whole")
    assert alone * 1.01 < play(one, halves).makespan < 2.2 * alone
    uneven = play(one, Schedule("requests", 2, ((1, 2),), partition=(0.8, 0.2)))
    assert uneven.makespan > play(one, halves).makespan
    assert uneven.first < play(one, halves).first


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_the_denoising_step_is_what_repeats_with_the_steps(steps: int) -> None:
    model = find("stable-diffusion-1.5")
    assert step_segments(model.id, model.request(steps=steps)) == (1,)


def test_a_model_without_steps_has_none() -> None:
    assert step_segments("stable-diffusion-1.5", object()) == ()
