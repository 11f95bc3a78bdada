"""Traces in few pieces against the full loop, on Stable Diffusion 1.5 as the search and the benchmark play it."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest

from sim.coarse import MOST
from sim.concurrent import inference, play
from sim.scenario import load
from sim.schedule import podded

EXAMPLE = Path(__file__).parents[2] / "examples/pods-stable-diffusion.yaml"
OFFSETS = (0.2, 0.5, 0.8, 0.15, 0.3, 0.4, 0.6, 0.7, 0.9)  # the first three scale the others, as in the search


def test_scaled_makespans_are_those_of_the_full_loop() -> None:
    """8 members x 50 steps, at most 100 pieces a segment, within 0.7 % (0.64 at most on this example)."""
    one = inference(load(EXAMPLE))
    assert MOST <= 100
    assert max(len(one.brief.of(s)) for s in range(len(one.brief.segments))) <= MOST < len(one.pieces.of(1)) / 10
    schedules = [podded(8, 8, offset) for offset in OFFSETS]
    full = [play(one, s).makespan for s in schedules]
    brief = [play(one, s, brief=True).makespan for s in schedules]
    factor = mean(f / b for f, b in zip(full[:3], brief[:3], strict=True))
    assert factor == pytest.approx(1, abs=0.05)
    assert [factor * b for b in brief[3:]] == pytest.approx(full[3:], rel=0.007)
