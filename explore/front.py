"""The Pareto front, and designs as differences from the baseline."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
ALIKE = 0.005  # a ratio this near to 1 is no difference
FEW = 64  # points of a front of three objectives that are found one by one; what is left then is walked in order
# Fields by the names that people give them; any other is named by its path.
SHORT = {
    "device.sm_count": "SMs",
    "device.sm_clock": "clock",
    "device.sm.shared_memory": "shared memory",
    "device.sm.registers": "registers",
    "device.sm.max_threads": "threads",
    "device.exp": "exp rate",
    "device.l2.capacity": "L2",
    "device.l2.bandwidth": "L2 bandwidth",
    "device.l2.port": "L2 port",
    "device.hbm.bandwidth": "HBM",
    "device.hbm.capacity": "HBM capacity",
    "device.hbm.latency": "HBM latency",
    "device.launch.gap": "launch gap",
    "device.silicon.dies": "dies",
    "device.silicon.link": "links",
    "device.silicon.fp64": "fp64 rate",
    "device.silicon.sm_enabled": "enabled SMs",
    "device.silicon.l2_enabled": "enabled L2",
    "device.silicon.memory_unit": "HBM stack",
    "device.silicon.memory_enabled": "enabled HBM",
}


def pareto(points: Floats) -> NDArray[np.bool_]:
    """Which points (points, objectives) no other dominates, where less is better in every column; exact.

    A point dominates another that it is nowhere worse than and somewhere better; equal points do not dominate each other.
    Raises ValueError for NaN.
    """
    if np.isnan(points).any():
        raise ValueError("objectives must not be NaN")
    count = len(points)
    on_front = np.zeros(count, dtype=bool)
    if not count:
        return on_front
    if points.shape[1] == 2:
        return _of_two(points)
    # Ranks keep the order and add up without rounding, so that the least sum is dominated by nothing that is left.
    ranks = np.column_stack([np.unique(column, return_inverse=True)[1] for column in points.T])
    left = np.argsort(ranks.sum(axis=1), kind="stable")
    for _ in range(FEW if points.shape[1] == 3 else count):
        if not len(left):
            return on_front
        best = ranks[left[0]]
        same = (ranks[left] == best).all(axis=1)
        on_front[left[same]] = True
        left = left[~(ranks[left] >= best).all(axis=1)]
    if len(left):
        on_front[left[_of_three(ranks[left])]] = True
    return on_front


def hypervolume(points: Floats, reference: Floats) -> float:
    """Volume (1 to 3 objectives, less is better) that points (points, objectives) dominate below the reference point; exact.

    Raises ValueError for more objectives.
    """
    inside = points[(points < reference).all(axis=1)]
    if inside.shape[1] > 3:
        raise ValueError("expected at most 3 objectives")
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    front = inside[pareto(inside)]
    if inside.shape[1] == 2:
        front = front[np.lexsort((front[:, 1], front[:, 0]))]
        above = np.append(reference[1], front[:-1, 1])
        return float(((reference[0] - front[:, 0]) * (above - front[:, 1])).sum())
    front = front[
        np.argsort(front[:, 2], kind="stable")
    ]  # slices between one point and the next in the third objective
    tops = np.append(front[1:, 2], reference[2])
    slices = (hypervolume(front[: i + 1, :2], reference[:2]) * (top - front[i, 2]) for i, top in enumerate(tops))
    return float(sum(slices))


def _of_two(points: Floats) -> NDArray[np.bool_]:
    """The front for two objectives: in order of the first, what lies below everything before it in the second."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    x, y = points[order].T
    first = np.append(True, (x[1:] != x[:-1]) | (y[1:] != y[:-1]))  # of equal points
    lead = first.copy()
    lead[1:] &= y[1:] < np.minimum.accumulate(y)[:-1]
    out = np.zeros(len(points), dtype=bool)
    out[order] = lead[np.maximum.accumulate(np.where(first, np.arange(len(y)), 0))]
    return out


def _of_three(points: NDArray[Any]) -> NDArray[np.bool_]:
    """The front for three objectives: in order of the first, what no point before it dominates in the other two.

    `steps` holds the second objective of the points before that none of them dominates there, in ascending order, and `drops`
    their third, which falls.
    """
    different, which = np.unique(points, axis=0, return_inverse=True)  # in order of the first, then the others
    steps: list[float] = []
    drops: list[float] = []
    lead = np.zeros(len(different), dtype=bool)
    for i, (y, z) in enumerate(different[:, 1:].tolist()):
        place = bisect_right(steps, y)
        if place and drops[place - 1] <= z:
            continue
        lead[i] = True
        first = bisect_left(steps, y)
        last = first
        while last < len(steps) and drops[last] >= z:
            last += 1
        steps[first:last], drops[first:last] = [y], [z]
    return lead[which.reshape(-1)]


def spread(values: Floats, most: int) -> NDArray[np.int64]:
    """At most `most` indices in ascending order of `values`, evenly spaced, the first and the last among them."""
    order = np.argsort(values, kind="stable")
    chosen = np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(np.int64))
    return np.asarray(order[chosen])


def ratio(value: float, base: float) -> str:
    """'+60 %', '-10 %', 'x2', 'x0.4': a change as people say it; '' where there is none."""
    if not base:
        return "new" if value else ""
    r = value / base
    if abs(r - 1) < ALIKE:
        return ""
    return f"{100 * (r - 1):+.0f} %" if 0.5 < r < 1.95 else f"x{r:.2g}"


def differences(design: Mapping[str, float], baseline: Mapping[str, float]) -> str:
    """'HBM +60 %, L2 x2, SMs -10 %': the fields by path, the largest change first."""

    def size(path: str) -> float:
        new, old = design[path], baseline[path]
        return abs(math.log(new / old)) if new > 0 and old > 0 else math.inf

    texts = {path: ratio(design[path], baseline[path]) for path in sorted(design, key=lambda p: -size(p))}
    told = [f"{SHORT.get(p, p.removeprefix('device.').replace('.', ' '))} {text}" for p, text in texts.items() if text]
    return ", ".join(told) or "as the baseline"
