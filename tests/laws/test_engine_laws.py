"""Laws of streams that share a device, for any pieces, any programs and any contention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.demand import COLUMNS, HBM, HBM_BYTES, RESOURCES, Pieces
from sim.engine import DEFAULT, FLUID, LOSS, Contention, Run
from tests.sim.plain import plain, run

Case = tuple[list[Any], Pieces, Contention, list[float]]
ANOMALY = (
    1.0  # more bandwidth makes a fixed schedule at most twice as long: Graham's bound (1969), 2 - 1/streams at most
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Programs of 1 to 5 streams over up to 6 pieces; demands often 0 or 1, where sharing is at its edges."""
    count = draw(st.integers(1, 6))
    fraction = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1))

    def column() -> Any:
        return np.array(draw(st.lists(fraction, min_size=count, max_size=count)))

    seconds = np.array(draw(st.lists(st.floats(1e-6, 1.0), min_size=count, max_size=count)))
    demand = np.array(draw(st.lists(st.tuples(*[fraction] * RESOURCES), min_size=count, max_size=count)))
    pieces = plain(seconds, demand, column(), column(), column())
    pieces.work[..., HBM_BYTES] *= draw(st.floats(0, 1))  # bytes over peak: never more than the time that they take
    if draw(st.booleans()):  # less of the L2: longer, and more traffic
        for level in range(1, 4):
            pieces.seconds[level] *= 1.1**level
            pieces.work[level, :, HBM] = np.minimum(pieces.work[level, :, HBM] * 1.3**level, pieces.seconds[level])
    program = st.lists(st.integers(0, count - 1), min_size=1, max_size=8).map(lambda p: np.array(p, dtype=np.int64))
    programs = draw(st.lists(program, min_size=1, max_size=5))
    contention = Contention(draw(fraction), draw(fraction), draw(st.floats(0, LOSS)))
    return programs, pieces, contention, draw(st.lists(st.floats(0, 1), min_size=len(programs), max_size=len(programs)))


def played(case: Case, **of: Any) -> Run:
    programs, pieces, contention, delays = case
    return run(pieces, programs, contention, delays, **of)


def same(pieces: Pieces) -> Pieces:
    """The same with the whole L2 at every level."""
    return replace(pieces, seconds=np.stack([pieces.seconds[0]] * 4), work=np.stack([pieces.work[0]] * 4))


@given(cases())
def test_no_stream_overlaps_itself_and_no_piece_beats_its_solo_time(case: Case) -> None:
    programs, pieces, _, _ = case
    found = played(case)
    for program, a, b in zip(programs, found.first[:-1], found.first[1:], strict=True):
        start, end = found.start[a:b], found.end[a:b]
        assert (start[1:] >= end[:-1]).all()
        assert (end - start >= pieces.seconds[0, program] * (1 - 1e-9) - 1e-12).all()


@given(cases(), st.booleans())
def test_no_resource_is_over_capacity_at_any_instant(case: Case, partitioned: bool) -> None:
    shares = tuple([1 / len(case[0])] * len(case[0])) if partitioned else ()
    found = played(case, partition=shares)
    assert (found.used[:, :RESOURCES] <= 1 + 1e-9).all()
    assert (found.used[:, COLUMNS] <= 1 + 1e-9).all()
    assert (found.used >= 0).all()
    assert (np.diff(found.when) >= 0).all()
    assert found.hbm_peak == pytest.approx(found.used[:, HBM_BYTES].max(), abs=1e-12)


@given(cases())
def test_work_is_conserved(case: Case) -> None:
    programs, pieces, contention, delays = case
    case = programs, same(pieces), contention, delays
    found = played(case)
    done = np.diff(found.when, prepend=0.0) @ found.used[:, :COLUMNS]
    asked = sum((case[1].work[0, p].sum(axis=0) for p in programs), np.zeros(COLUMNS))
    assert done == pytest.approx(asked, rel=1e-8, abs=1e-11)
    assert found.hbm_seconds == pytest.approx(asked[HBM_BYTES], rel=1e-8, abs=1e-11)


@given(cases())
def test_makespan_is_above_every_lower_bound(case: Case) -> None:
    programs, pieces, _, delays = case
    chains = [d + float(pieces.seconds[0, p].sum()) for p, d in zip(programs, delays, strict=True)]
    work = sum((pieces.work[0, p].sum(axis=0) for p in programs), np.zeros(COLUMNS))
    assert played(case).makespan >= max(*chains, work.max()) * (1 - 1e-9)


@given(cases())
def test_makespan_is_below_one_after_another(case: Case) -> None:
    programs, pieces, contention, _ = case
    chains = [float(pieces.seconds[0, p].sum()) for p in programs]
    case = programs, same(pieces), replace(contention, sms_kept=0.0, loss=0.0), [0.0] * len(programs)
    assert played(case).makespan <= sum(chains) * (1 + 1e-9)


@given(cases())
def test_one_stream_takes_the_sum_of_its_pieces(case: Case) -> None:
    programs, pieces, contention, _ = case
    program = np.concatenate(programs)
    total = float(pieces.seconds[0, program].sum())
    assert run(pieces, [program], contention).makespan == pytest.approx(total, rel=1e-9)


@given(cases(), st.integers(1, 6))
def test_identical_members_that_start_together_stay_in_lockstep(case: Case, members: int) -> None:
    """Where SMs are shared as a fluid; in launch order one is always ahead."""
    program, pieces = np.concatenate(case[0]), same(case[1])
    found = run(pieces, [program] * members, FLUID)
    demand = pieces.work[0] / pieces.seconds[0][:, None]
    slowed = np.maximum(1.0, members * demand[:, :RESOURCES].max(axis=1))
    assert found.makespan == pytest.approx(float((pieces.seconds[0] * slowed)[program].sum()), rel=1e-9)
    for a, b in zip(found.first[:-1], found.first[1:], strict=True):
        assert found.end[a:b] == pytest.approx(found.end[: len(program)], rel=1e-9)


@given(cases())
def test_the_order_of_streams_does_not_matter_to_fluids(case: Case) -> None:
    programs, pieces, _, delays = case
    forth = run(pieces, programs, Contention(0, 1), delays)
    back = run(pieces, programs[::-1], Contention(0, 1), delays[::-1])
    assert forth.makespan == pytest.approx(back.makespan, rel=1e-9)


@given(cases(), st.floats(1.0, 4.0))
def test_more_bandwidth_hurts_a_fixed_schedule_no_more_than_the_anomaly_bound(case: Case, factor: float) -> None:
    """List scheduling may get longer when pieces get shorter (Graham, SIAM Journal on Applied Mathematics 17, 1969)."""
    programs, pieces, contention, delays = case
    before = run(same(pieces), programs, contention, delays).makespan
    work = same(pieces).work.copy()
    work[..., [HBM, HBM_BYTES]] /= factor
    after = run(replace(same(pieces), work=work), programs, contention, delays).makespan
    assert after <= (1 + ANOMALY) * before


@given(cases(), st.floats(0.0, 1.0))
def test_more_speed_hurts_one_stream_never(case: Case, factor: float) -> None:
    programs, pieces, contention, _ = case
    less = replace(pieces, seconds=pieces.seconds * (1 - factor / 2), work=pieces.work * (1 - factor / 2))
    program = [np.concatenate(programs)]
    assert run(less, program, contention).makespan <= run(pieces, program, contention).makespan * (1 + 1e-9)


@given(cases())
def test_the_same_run_again_is_the_same(case: Case) -> None:
    assert (played(case).end == played(case).end).all()
    assert Contention(1.0, 1.0, 0.0) == DEFAULT
