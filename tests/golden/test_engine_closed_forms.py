"""Two and three kernels on streams of their own: makespans calculated by hand, the calculation beside each case.

Of the first table each kernel is (seconds alone, matrix units, L2, HBM) and any mix fits the SMs: all speeds rise together until
a resource is full; its users then keep that level. Of the second it is (seconds alone, share of the SM slots, share of the
time, to the fourth power, that the SMs bound) and kernels keep the slots that they fill.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sim.engine import DEFAULT, FLUID, Contention, Job, Streams, together
from tests.sim.plain import plain, run

Stream = list[tuple[float, ...]]
FLUIDS: dict[str, tuple[list[Stream], list[float], float]] = {
    # Both ask for all of the matrix units, so each has half: 2 / (1/2) = 4.
    "two that each fill compute": ([[(2, 1, 0, 0)], [(2, 1, 0, 0)]], [0, 0], 4.0),
    # Nothing in common: the longer one.
    "compute beside bandwidth": ([[(3, 1, 0, 0)], [(2, 0, 0, 1)]], [0, 0], 3.0),
    # 1.5 asked: both at 2/3. The second ends at 2 / (2/3) = 3; the first has done 2 of 4 and needs 2 more alone: 5.
    "one whole, one half": ([[(4, 1, 0, 0)], [(2, 0.5, 0, 0)]], [0, 0], 5.0),
    # Compute and HBM both asked 1.2 times: both at 1/1.2, and 2 x 1.2 = 2.4.
    "crossed demands": ([[(2, 1, 0, 0.2)], [(2, 0.2, 0, 1)]], [0, 0], 2.4),
    # L2 is shared like the others: 0.75 + 0.75 asked, 1 x 1.5.
    "two on the L2": ([[(1, 0, 0.75, 0)], [(1, 0, 0.75, 0)]], [0, 0], 1.5),
    # 0.4 + 0.6 of compute and 0.5 + 0.5 of HBM just fit: full speed.
    "two that just fit": ([[(1, 0.4, 0, 0.5)], [(1, 0.6, 0, 0.5)]], [0, 0], 1.0),
    # HBM asked 1.6: A and B at 0.625. They leave 1 - 0.3125 of compute, enough for C at full speed: it ends at 2. A and B
    # have done 1.25 of 2, still at 0.625: 0.75 / 0.625 = 1.2 more.
    "a third that does not use what is full": (
        [[(2, 0.5, 0, 0.8)], [(2, 0, 0, 0.8)], [(2, 0.5, 0, 0)]], [0, 0, 0], 3.2,
    ),
    # 1.8 asked: all at 1/1.8. A ends at 1.8; B and C have done 1. 1.2 asked: at 1/1.2. B's last 1 takes 1.2, to 3.0; C has
    # done 2 of 3 and needs 1 alone: 4.0.
    "three of different length": ([[(1, 0.6, 0, 0)], [(2, 0.6, 0, 0)], [(3, 0.6, 0, 0)]], [0, 0, 0], 4.0),
    # Three that fill compute for 1: a third each.
    "three that each fill compute": ([[(1, 1, 0, 0)]] * 3, [0, 0, 0], 3.0),
    # Second stream starts 1 later. Alone for 1, then half each: 1 + 2.
    "a late start": ([[(2, 1, 0, 0)], [(1, 1, 0, 0)]], [0, 1], 3.0),
    # Nothing to run between 1 and 5.
    "a gap": ([[(1, 1, 0, 0)], [(2, 1, 0, 0)]], [0, 5], 7.0),
    # Together: compute full at 1/2 each, to 2; then HBM likewise, to 4.
    "two stages together": ([[(1, 1, 0, 0), (1, 0, 0, 1)]] * 2, [0, 0], 4.0),
    # One stage apart the stages meet the other kind: B starts at 1 with compute while A has HBM: 3.
    "two stages staggered": ([[(1, 1, 0, 0), (1, 0, 0, 1)]] * 2, [0, 1], 3.0),
}  # fmt: skip
KEPT: dict[str, tuple[list[Stream], dict[str, Any], float]] = {
    # The first fills the device and leaves nothing: one after the other.
    "two that fill the SMs": ([[(2, 1, 1)], [(3, 1, 1)]], {}, 5.0),
    # Half each fits.
    "two halves": ([[(2, 0.5, 1)], [(3, 0.5, 1)]], {}, 3.0),
    # The second has 0.25 of the 0.5 that it asks for: half speed, for 2, so 1 of 2 is done; then alone: 2 + 1.
    "a second on what is left": ([[(2, 0.75, 1)], [(2, 0.5, 1)]], {}, 3.0),
    # The same, but nothing of the second is bound by the SMs: full speed on fewer.
    "a second that SMs do not bound": ([[(2, 0.75, 1)], [(2, 0.5, 0)]], {}, 2.0),
    # As (1/16 of the fourth power): (1/16 x 2^4 + 15/16)^(1/4) = 1.1801992, 2 seconds of it do 1.6946292; the rest alone.
    "a second that SMs bound in part": ([[(2, 0.75, 1)], [(2, 0.5, 1 / 16)]], {}, 4 - 2 / (31 / 16) ** 0.25),
    # A main part of 3 that fills all, a tail of 1 on a quarter. The second waits for 3, then has 3/4 for 1, and needs 1.25
    # alone: 3 + 1 + 1.25.
    "a tail lets the next in": ([[(3, 1, 1), (1, 0.25, 1)], [(2, 1, 1)]], {"begins": [1, 0, 1]}, 5.25),
    # Three in launch order, each after the one before: 1 + 2 + 3.
    "three that fill the SMs": ([[(1, 1, 1)], [(2, 1, 1)], [(3, 1, 1)]], {}, 6.0),
    # A1 then B1 queue at 0, A2 at 1 behind B1, B2 at 2 behind A2: they take turns, 1 + 1 + 1 + 1.
    "turns in launch order": ([[(1, 1, 1), (1, 1, 1)], [(1, 1, 1), (1, 1, 1)]], {}, 4.0),
    # Half of the SMs for each, and all of both bound by them: both at half speed. The second stays on its half: 6.
    "a partition": ([[(2, 1, 1)], [(3, 1, 1)]], {"partition": (0.5, 0.5)}, 6.0),
    # The first stream's second kernel would be behind the other's; with priority it runs first: ends at 2 (see below), all 3.
    "priority": ([[(1, 1, 1), (1, 1, 1)], [(1, 1, 1)]], {"priority": (1, 0)}, 3.0),
}


@pytest.mark.parametrize("name", FLUIDS)
def test_fluid(name: str) -> None:
    streams, delays, expected = FLUIDS[name]
    each = np.array([piece for stream in streams for piece in stream], dtype=np.float64)
    demand = np.column_stack([each[:, 1], 0 * each[:, 1], 0 * each[:, 1], each[:, 2], each[:, 3]])
    programs = [np.arange(a, b) for a, b in pairwise(np.cumsum([0, *map(len, streams)]))]
    assert run(plain(each[:, 0], demand), programs, FLUID, delays).makespan == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    streams, options, expected = KEPT[name]
    each = np.array([piece for stream in streams for piece in stream], dtype=np.float64)
    pieces = plain(each[:, 0], np.zeros((len(each), 5)), each[:, 1], each[:, 2])
    options = dict(options)
    pieces.begins[:] = options.pop("begins", pieces.begins)
    programs = [np.arange(a, b) for a, b in pairwise(np.cumsum([0, *map(len, streams)]))]
    assert run(pieces, programs, DEFAULT, **options).makespan == pytest.approx(expected, rel=1e-9)


def test_priority_runs_first() -> None:
    """The first stream is done at 2, before the other's only kernel starts; without priority they take turns and it ends at 3."""
    pieces = plain([1.0], np.zeros((1, 5)), 1.0)
    first = run(pieces, [[0, 0], [0]], DEFAULT, priority=(1, 0))
    turns = run(pieces, [[0, 0], [0]], DEFAULT)
    assert first.end.tolist() == pytest.approx([1, 2, 3])
    assert turns.end.tolist() == pytest.approx([1, 3, 2])


def test_a_split_l2_is_interpolated_in_the_number_of_streams() -> None:
    """Alone 1 s; with 1/2, 1/4 and 1/8 of the L2 it takes 2, 4 and 8. Three in flight: log2 3 = 1.585, so 2 + 0.585 x 2 each."""
    pieces = plain([1.0], np.zeros((1, 5)))
    pieces.seconds[:] = np.array([1.0, 2.0, 4.0, 8.0])[:, None]
    for streams, expected in ((1, 1.0), (2, 2.0), (3, 2 + (np.log2(3) - 1) * 2), (4, 4.0), (8, 8.0), (16, 8.0)):
        assert run(pieces, [[0]] * streams, Contention(0, 1)).makespan == pytest.approx(expected)
        assert run(pieces, [[0]] * streams, FLUID).makespan == pytest.approx(1.0)
    assert run(pieces, [[0]] * 4, Contention(0, 0.5)).makespan == pytest.approx(2.0)


def test_running_side_by_side_may_cost() -> None:
    """Two that do not meet, at 0.9: the shorter ends at 1 / 0.9; the longer has done 1 of 2 and needs 1 alone. Alone: no loss."""
    pieces = plain([2.0, 1.0], np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1.0]]))
    lossy = Contention(0, 0, 0.1)
    assert run(pieces, [[0], [1]], lossy).makespan == pytest.approx(1 / 0.9 + 1)
    assert run(pieces, [[0, 1]], lossy).makespan == pytest.approx(3)
    gap = plain([2.0, 1.0], np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0.0]]))
    assert run(gap, [[0], [1]], lossy).makespan == pytest.approx(2)


def test_a_job_waits_for_another_and_a_lane_hands_out_its_jobs() -> None:
    """Two streams take three jobs of 2, 1 and 3 s in order: the third starts at 1 and ends at 4; a fourth waits for it."""
    pieces = plain([2.0, 1.0, 3.0], np.zeros((3, 5)))
    jobs = [Job(np.array([i])) for i in range(3)] + [Job(np.array([1]), after=2, lane=1)]
    found = together(pieces, jobs, Streams((0, 0, 1)), FLUID)
    assert found.end.tolist() == pytest.approx([2, 1, 4, 5])
    assert found.stream.tolist() == [0, 1, 1, 2]
