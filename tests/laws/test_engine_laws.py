"""Laws of streams that share a device, for any pieces and any programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.demand import SHARED, Floats
from sim.engine import Run, together

Case = tuple[list[Any], Floats, Floats]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Programs of 1 to 5 streams over up to 6 pieces; demands often 0 or 1, where sharing is at its edges."""
    count = draw(st.integers(1, 6))
    fraction = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1))
    seconds = np.array(draw(st.lists(st.floats(1e-7, 1.0), min_size=count, max_size=count)))
    demand = np.array(draw(st.lists(st.tuples(*[fraction] * 4), min_size=count, max_size=count)))
    demand[:, 3] *= demand[:, 2]  # bytes over peak: never more than the time that they take
    program = st.lists(st.integers(0, count - 1), max_size=8).map(lambda p: np.array(p, dtype=np.int64))
    return draw(st.lists(program, min_size=1, max_size=5)), seconds, demand


def spans(run: Run, programs: list[Any]) -> list[tuple[Floats, Floats]]:
    """Start and end of every piece of each stream."""
    out, at = [], 0
    for program in programs:
        end = run.end[at : at + len(program)]
        out.append((np.concatenate([[0.0], end])[: len(program)], end))
        at += len(program)
    return out


@given(cases())
def test_no_stream_overlaps_itself_and_no_piece_beats_its_solo_time(case: Case) -> None:
    programs, seconds, demand = case
    run = together(programs, seconds, demand)
    for (start, end), program in zip(spans(run, programs), programs, strict=True):
        assert (end - start >= seconds[program] * (1 - 1e-9) - 1e-12).all()


@given(cases())
def test_no_resource_is_over_capacity_at_any_instant(case: Case) -> None:
    run = together(*case)
    assert (run.used[:, : len(SHARED)] <= 1 + 1e-9).all()
    assert (run.used >= 0).all()
    assert (np.diff(run.when) >= 0).all()


@given(cases())
def test_work_is_conserved(case: Case) -> None:
    programs, seconds, demand = case
    run = together(programs, seconds, demand)
    done = np.diff(run.when, prepend=0.0) @ run.used
    asked = sum(((seconds[p] @ demand[p]) for p in programs if len(p)), np.zeros(4))
    assert done == pytest.approx(asked, rel=1e-9, abs=1e-12)


@given(cases())
def test_makespan_is_above_every_lower_bound_and_below_one_after_another(case: Case) -> None:
    programs, seconds, demand = case
    makespan = together(programs, seconds, demand).makespan
    chains = [float(seconds[p].sum()) for p in programs]
    work = sum(((seconds[p] @ demand[p]) for p in programs if len(p)), np.zeros(4))
    assert makespan >= max(*chains, work.max()) * (1 - 1e-9)
    assert makespan <= sum(chains) * (1 + 1e-9)


@given(cases())
def test_one_stream_takes_the_sum_of_its_pieces(case: Case) -> None:
    programs, seconds, demand = case
    program = np.concatenate(programs)
    assert together([program], seconds, demand).makespan == pytest.approx(float(seconds[program].sum()), rel=1e-9)


@given(cases(), st.integers(1, 6))
def test_identical_members_that_start_together_stay_in_lockstep(case: Case, members: int) -> None:
    programs, seconds, demand = case
    program = np.concatenate(programs)
    run = together([program] * members, seconds, demand)
    slowed = np.maximum(1.0, members * demand[:, : len(SHARED)].max(axis=1))
    assert run.makespan == pytest.approx(float((seconds * slowed)[program].sum()), rel=1e-9)
    for _, end in spans(run, [program] * members):
        assert end == pytest.approx(run.end[: len(program)], rel=1e-9)


@given(cases())
def test_the_order_of_streams_does_not_matter(case: Case) -> None:
    programs, seconds, demand = case
    assert together(programs, seconds, demand).makespan == pytest.approx(
        together(programs[::-1], seconds, demand).makespan, rel=1e-6
    )
