"""Two and three kernels on streams of their own: makespans calculated by hand.

Each stream is a list of (seconds alone, compute, L2, HBM). The calculation stands beside each case: all speeds rise together
until a resource is full; its users then keep that level.
"""

from itertools import pairwise

import numpy as np
import pytest

from sim.engine import together

Stream = list[tuple[float, float, float, float]]
CASES: dict[str, tuple[list[Stream], float]] = {
    # Both ask for all of compute, so each has half: 2 / (1/2) = 4.
    "two that each fill compute": ([[(2, 1, 0, 0)], [(2, 1, 0, 0)]], 4.0),
    # Nothing in common: the longer one.
    "compute beside bandwidth": ([[(3, 1, 0, 0)], [(2, 0, 0, 1)]], 3.0),
    # 1.5 asked: both at 2/3. The second ends at 2 / (2/3) = 3; the first has done 2 of 4 and needs 2 more alone: 5.
    "one whole, one half": ([[(4, 1, 0, 0)], [(2, 0.5, 0, 0)]], 5.0),
    # Compute and HBM both asked 1.2 times: both at 1/1.2, and 2 x 1.2 = 2.4.
    "crossed demands": ([[(2, 1, 0, 0.2)], [(2, 0.2, 0, 1)]], 2.4),
    # L2 is shared like the others: 0.75 + 0.75 asked, 1 x 1.5.
    "two on the L2": ([[(1, 0, 0.75, 0)], [(1, 0, 0.75, 0)]], 1.5),
    # 0.4 + 0.6 of compute and 0.5 + 0.5 of HBM just fit: full speed.
    "two that just fit": ([[(1, 0.4, 0, 0.5)], [(1, 0.6, 0, 0.5)]], 1.0),
    # HBM asked 1.6: A and B at 0.625. They leave 1 - 0.3125 of compute, enough for C at full speed: it ends at 2. A and B
    # have done 1.25 of 2, still at 0.625: 0.75 / 0.625 = 1.2 more.
    "a third that does not use what is full": ([[(2, 0.5, 0, 0.8)], [(2, 0, 0, 0.8)], [(2, 0.5, 0, 0)]], 3.2),
    # 1.8 asked: all at 1/1.8. A ends at 1.8; B and C have done 1. 1.2 asked: at 1/1.2. B's last 1 takes 1.2, to 3.0; C has
    # done 2 of 3 and needs 1 alone: 4.0.
    "three of different length": ([[(1, 0.6, 0, 0)], [(2, 0.6, 0, 0)], [(3, 0.6, 0, 0)]], 4.0),
    # Three that fill compute for 1: a third each.
    "three that each fill compute": ([[(1, 1, 0, 0)]] * 3, 3.0),
    # Second stream starts 1 later. Alone for 1, then half each: 1 + 2.
    "a late start": ([[(2, 1, 0, 0)], [(1, 0, 0, 0), (1, 1, 0, 0)]], 3.0),
    # Together: compute full at 1/2 each, to 2; then HBM likewise, to 4.
    "two stages together": ([[(1, 1, 0, 0), (1, 0, 0, 1)]] * 2, 4.0),
    # One stage apart the stages meet the other kind: 1 alone, 1 + ... B starts at 1 with compute while A has HBM: 3.
    "two stages staggered": ([[(1, 1, 0, 0), (1, 0, 0, 1)], [(1, 0, 0, 0), (1, 1, 0, 0), (1, 0, 0, 1)]], 3.0),
}


@pytest.mark.parametrize("name", CASES)
def test_closed_form(name: str) -> None:
    streams, expected = CASES[name]
    pieces = np.array([piece for stream in streams for piece in stream], dtype=np.float64)
    first = np.cumsum([0, *map(len, streams)])
    programs = [np.arange(a, b) for a, b in pairwise(first)]
    demand = np.column_stack([pieces[:, 1:], pieces[:, 3]])
    assert together(programs, pieces[:, 0], demand).makespan == pytest.approx(expected, rel=1e-12)
