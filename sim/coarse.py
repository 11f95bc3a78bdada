"""A trace in fewer pieces, for searches: what asks for much the same at about the same time is one piece.

k-means (Lloyd, IEEE Transactions on Information Theory 28, 1982) over the demands of the pieces and the time at which they run
alone, weighted by seconds. Not only neighbours are joined: joining a matrix product with the norm beside it would average
what they ask for, and the average fits beside others where neither does. Time and work are kept, to the sum.
"""

from __future__ import annotations

import numpy as np

from sim.demand import RESOURCES, Floats, Pieces
from workloads.kind import Ints

MOST = 80  # pieces of a segment; `make bench` is held to 100 schedules/s
TIME_WEIGHT = 10.0  # a tenth of a pass apart counts as much as a resource in full use or not; 3 to 20 differ little
ROUNDS = 40  # of Lloyd's algorithm at most; SD 1.5's UNet settles after some 20


def coarse(pieces: Pieces, most: int = MOST) -> Pieces:
    """The same work in at most `most` pieces a segment."""
    labels, starts = [np.empty(0, np.int64)], [0]
    for segment in range(len(pieces.segments)):
        label = _labels(pieces, pieces.of(segment), most)
        labels.append(starts[-1] + label)
        starts.append(starts[-1] + int(label.max(initial=-1)) + 1)
    of = np.concatenate(labels)
    seconds = np.stack([_sums(of, level) for level in pieces.seconds])

    def mean(column: Floats) -> Floats:
        return np.asarray(_sums(of, column * pieces.seconds[0]) / seconds[0])

    return Pieces(
        seconds=seconds,
        work=np.stack([np.column_stack([_sums(of, column) for column in level.T]) for level in pieces.work]),
        slots=np.minimum(mean(pieces.slots), 1.0),
        elastic=mean(pieces.elastic),
        fixed=mean(pieces.fixed),
        begins=np.ones(starts[-1], dtype=bool),
        host=_sums(of, pieces.host),
        segments=pieces.segments,
        starts=np.array(starts),
    )


def _sums(of: Ints, column: Floats) -> Floats:
    return np.asarray(np.bincount(of, column), dtype=np.float64)


def _labels(pieces: Pieces, here: Ints, most: int) -> Ints:
    """Which joined piece each piece `here` belongs to, from 0, in the order of their mean times."""
    if len(here) <= most:
        return np.arange(len(here))
    weight = pieces.seconds[0, here]
    time = (np.cumsum(weight) - weight / 2) / weight.sum()
    demand = pieces.work[0, here, :RESOURCES] / weight[:, None]
    points = np.column_stack([demand, pieces.slots[here], TIME_WEIGHT * time])
    centres = points[np.searchsorted(time, (np.arange(most) + 0.5) / most).clip(max=len(here) - 1)]
    for _ in range(ROUNDS):
        nearest = _nearest(points, centres)
        total = np.bincount(nearest, weight, most)[:, None]
        sums = np.column_stack([np.bincount(nearest, weight * column, most) for column in points.T])
        moved = np.where(total > 0, sums / np.maximum(total, 1e-300), centres)
        if np.allclose(moved, centres, rtol=0, atol=1e-6):
            break
        centres = moved
    _, label = np.unique(_nearest(points, centres), return_inverse=True)
    when = np.bincount(label, weight * time) / np.bincount(label, weight)
    return np.asarray(np.argsort(np.argsort(when, kind="stable"), kind="stable")[label])


def _nearest(points: Floats, centres: Floats) -> Ints:
    return np.asarray(((centres**2).sum(axis=1) - 2.0 * points @ centres.T).argmin(axis=1))
