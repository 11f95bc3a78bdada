"""Evenly spread points of a space: a Halton sequence with random digits, any stretch of it at once.

Each digit of the radical inverse is permuted at random per dimension and place (A. B. Owen, A randomized Halton algorithm in R,
arXiv:1706.02808, 2017), so that dimensions of large bases are not correlated; a point is a function of (seed, dimension, index).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.space import Axis

Floats: TypeAlias = NDArray[np.float64]
BITS = 53  # of a float's fraction: digits beyond them change nothing


def halton(index: NDArray[np.int64], dimensions: int, seed: int) -> Floats:
    """Points by number in [0, 1), (dimensions, points)."""
    return np.array([_inverse(index, base, seed, d) for d, base in enumerate(_primes(dimensions))]).reshape(
        -1, len(index)
    )


def drawn(axis: Axis, u: Floats) -> NDArray[np.float64]:
    """Values of an axis at shares u of its range; of a list, which of its values. Whole numbers and steps evenly."""
    r = axis.range
    if r is None:
        return np.floor(u * len(axis.values))
    step = r.step or (1.0 if axis.field.type is int and not r.log else None)
    if step is not None:
        count = np.floor((r.high - r.low) / step * (1 + 1e-12)) + 1
        return np.asarray(r.low + step * np.floor(u * count))
    value = r.low * (r.high / r.low) ** u if r.log else r.low + u * (r.high - r.low)
    return np.asarray(value.round() if axis.field.type is int else value)


def _inverse(index: NDArray[np.int64], base: int, seed: int, dimension: int) -> Floats:
    """The radical inverse with permuted digits; leading zeros are permuted too, hence all places."""
    rng = np.random.default_rng((seed, dimension))
    out, left, weight = np.zeros(len(index)), index.copy(), 1.0
    for _ in range(int(np.ceil(BITS / np.log2(base)))):
        weight /= base
        left, digit = np.divmod(left, base)
        out += weight * rng.permutation(base)[digit]
    return np.minimum(out, 1.0 - 2.0**-BITS)


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found
