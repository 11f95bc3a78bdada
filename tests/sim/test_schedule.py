"""Schedules: what they are called, how they are built, and every way in which one can be wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwspecs.spec import RuleError
from sim.schedule import Budget, Schedule, podded, serial, spans

BUDGET = Budget(largest=4, serial_first=4, serial_last=4)


@pytest.mark.parametrize(
    ("schedule", "mode", "words"),
    [
        (serial("requests", 8), "serial", "8 requests one after another"),
        (podded(8, 8), "lockstep", "8 requests at a time, started together"),
        (podded(8, 8, 0.25), "staggered", "8 requests at a time, each 0.25 of a step after the one before"),
        (podded(8, 4), "lockstep", "requests: 2 pods of 4, started together"),
        (podded(8, 8, batched=True), "batched", "8 requests as one batch"),
        (podded(7, 4, batched=True), "batched", "requests: 1 batch of 4, 1 batch of 3"),
        (
            podded(50, 4, 0.5, BUDGET),
            "staggered",
            "steps: 4 alone, 10 pods of 4, 1 pod of 2, 4 alone, each 0.5 of a step after the one before",
        ),
        (
            Schedule("requests", 3, ((1, 2, 3),), (0.1, 0.2), 2),
            "staggered",
            "3 requests at a time, on 2 streams, offset by 0.1, 0.2 of a step",
        ),
        (Schedule("requests", 3, ((1, 2, 3),), streams=1), "serial", "3 requests one after another"),
        (
            Schedule("requests", 2, ((1, 2),), (0.5,), partition=(0.75, 0.25), priority=(1, 0)),
            "staggered",
            "2 requests at a time, each 0.5 of a step after the one before, with 75, 25 % of the SMs, with priorities 1, 0",
        ),
        (
            Schedule("requests", 4, ((1, 2), (3, 4)), overlap=True),
            "staggered",
            "requests: 2 pods of 2, text encoders and decoders on streams of their own",
        ),
    ],
)
def test_words(schedule: Schedule, mode: str, words: str) -> None:
    assert (schedule.mode, schedule.words()) == (mode, words)


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        (
            {"pods": ((1, 2, 3), (3, 4), (4, 5, 6))},
            ["pods: step 3 appears in two pods (pod 1 and pod 2); a step belongs to exactly one",
             "pods: step 4 appears in two pods (pod 2 and pod 3); a step belongs to exactly one"],
        ),
        (
            {"count": 35, "pods": (tuple(range(1, 31)), (), tuple(range(31, 36)), tuple(range(31, 36)))},
            ["pods: pod 2 is empty; leave it out",
             "pods: steps 31–35 appear in two pods (pod 3 and pod 4); a step belongs to exactly one"],
        ),
        ({"pods": ((1, 2), (5, 6))}, ["pods: steps 3–4 are in no pod; every step from 1 to 6 belongs to one"]),
        ({"pods": ((1, 2), (3, 4, 6))}, ["pods: step 5 is in no pod; every step from 1 to 6 belongs to one"]),
        (
            {"pods": ((0, 1, 2), (3, 4, 5, 6, 7, 9))},
            ["pods: step 0 of pod 1 does not exist; expected 1 to 6",
             "pods: steps 7, 9 of pod 2 do not exist; expected 1 to 6"],
        ),
        ({"pods": ((1, 1, 2), (3, 4, 5, 6))}, ["pods: step 1 appears twice in pod 1"]),
        ({"pods": ()}, ["pods: found none, expected pods that hold every step from 1 to 6"]),
        (
            {"pods": ((4, 5, 6), (1, 2, 3))},
            ["pods: step 1 of pod 2 comes before step 6 of pod 1; only steps of the same pod may change order"],
        ),
        (
            {"pods": ((1, 2, 3), (4, 5, 6)), "offsets": (0.5, 1.5)},
            ["offsets: step 3 of pod 1 starts 1.5 steps after the one before it; expected 0 to 1",
             "offsets: step 6 of pod 2 starts 1.5 steps after the one before it; expected 0 to 1"],
        ),
        (
            {"pods": ((1, 2, 3), (4, 5, 6)), "offsets": (0.5,)},
            ["offsets: found 1, expected 2, one for each member of the largest pod after its first"],
        ),
        (
            {"pods": ((1, 2), (3, 4, 5), (6,)), "streams": 4},
            ["streams: found 4, but pod 2, the largest, has 3 steps; expected 1 to 3"],
        ),
        (
            {"pods": ((1,), (2, 3, 4), (5, 6)), "budget": Budget(largest=2, serial_first=1, serial_last=1)},
            ["pods: pod 2 (steps 2–4) holds 3 steps; the staleness budget allows 2 (budget.largest)",
             "pods: step 6 of pod 3 would not run alone; budget.serial_last is 1"],
        ),
        (
            {"pods": ((1, 2, 3), (4, 5, 6)), "partition": (0.5, 0.6), "priority": (1,)},
            ["partition: found 2, expected 3, one for each stream",
             "priority: found 1, expected 3, one for each stream",
             "partition: found shares that add up to 1.1, expected at most 1"],
        ),
        (
            {"pods": ((1, 2, 3), (4, 5, 6)), "partition": (0.5, 0.0, 1.5), "overlap": True},
            ["partition: found 0 for stream 2, expected above 0 and at most 1 of the SMs",
             "partition: found 1.5 for stream 3, expected above 0 and at most 1 of the SMs",
             "partition: found shares that add up to 2, expected at most 1",
             "overlap: only stages of different requests, each on streams of its own, may overlap",
             "partition: found beside overlap, which says when each stage starts; leave one of them out"],
        ),
        (
            {"pods": ((1, 2), (3,), (4,), (5,), (6,)), "budget": Budget(largest=2, serial_first=3, serial_last=0)},
            ["pods: steps 1–2 of pod 1 would not run alone; budget.serial_first is 3"],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong(fields: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(RuleError) as caught:
        Schedule(**{"members": "steps", "count": 6, **fields})
    assert [f"{path}: {text}" for path, text in caught.value.pairs] == problems


def test_requests_may_run_in_any_order() -> None:
    assert Schedule("requests", 3, ((3,), (1, 2))).largest == 2


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.floats(0, 1))
def test_what_is_built_is_valid(count: int, size: int, first: int, last: int, stagger: float) -> None:
    budget = Budget(largest=size, serial_first=first, serial_last=last)
    steps = podded(count, size, stagger, budget)
    assert [m for pod in steps.pods for m in pod] == list(range(1, count + 1))
    assert podded(count, size, stagger).largest == min(size, count)


def test_spans() -> None:
    assert spans([5, 1, 2, 3, 7, 8]) == "1–3, 5, 7–8"
