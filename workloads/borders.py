"""Conditions on a stage's numbers that tell its structures apart, found from samples. For maintainers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from workloads.kind import Ints
from workloads.templates import NONE

MODULI = (2, 3, 4, 8, 16)
DISTINCT = 3  # values of a number that speak for divisibility, or for two equal ones: one alone is any condition's
Feature: TypeAlias = tuple[int, int, int]  # symbol, other symbol, modulus: NONE, NONE, 0 where there is none


@dataclass(frozen=True)
class _Split:
    feature: Feature
    low: int
    high: int
    disorder: float


def tree(symbols: Ints, labels: Ints, without: int = NONE) -> Any:
    """Conditions on the symbols (samples, symbols) that give every sample its label, as `templates.chosen` reads them.

    without: a symbol that no condition names; where such a tree is another, the samples may not say which is the true one.
    Raises ValueError where two samples of one size have two labels.
    """
    if (labels == labels[0]).all():
        return int(labels[0])
    splits = (s for s in _splits(symbols, labels) if without == NONE or without not in s.feature[:2])
    best = min(splits, key=lambda s: round(s.disorder, 9), default=None)
    if best is None:
        raise ValueError(f"samples of one size are of two structures: {symbols[0].tolist()}")
    below = _values(symbols, best.feature) <= best.low
    parts = (tree(symbols[side], labels[side], without) for side in (below, ~below))
    symbol, other, modulus = best.feature
    return [symbol, other, modulus, best.low, best.high, *parts]


def edges(whole: Any, symbols: Ints, usual: Ints) -> list[int]:
    """Samples that a wrong condition of a tree would show at: for each condition and side of it, of those that come to it there
    and lie nearest to its edge, see `_beside`. The conditions nearest the root come first.

    symbols: (samples, symbols); usual: (symbols,), of the most usual sample. Returns positions of samples, each once.
    """
    found: list[int] = []
    level = [(whole, np.arange(len(symbols)))]
    while level:
        below: list[tuple[Any, Ints]] = []
        for node, here in level:
            if isinstance(node, int) or not len(here):
                continue
            symbol, other, modulus, low, high, *sides = node
            values = _values(symbols[here], (symbol, other, modulus))
            for mine, beyond, side in (
                (here[values <= low], low - values[values <= low], sides[0]),
                (here[values >= high], values[values >= high] - high, sides[1]),
            ):
                if len(mine):
                    found += _beside(mine[beyond == beyond.min()], symbols, usual, symbol)
                below.append((side, mine))
        level = below
    return list(dict.fromkeys(found))


def _beside(nearest: Ints, symbols: Ints, usual: Ints, symbol: int) -> list[int]:
    """Of some samples the one most like the usual, the one least like it, and of those whose value of the condition's symbol is
    another than the usual the one that is most like it else."""
    like = (symbols[nearest] == usual).sum(axis=1)
    others = np.flatnonzero(symbols[nearest, symbol] != usual[symbol])
    chosen = [like.argmax(), like.argmin(), *([others[like[others].argmax()]] if len(others) else [])]
    return [int(nearest[i]) for i in chosen]


def _values(symbols: Ints, feature: Feature) -> Ints:
    symbol, other, modulus = feature
    value = symbols[:, symbol] - (symbols[:, other] if other != NONE else 0)
    found: Ints = np.abs(value % modulus if modulus else value)
    return found


def _splits(symbols: Ints, labels: Ints) -> Iterator[_Split]:
    """Simple ones first: thresholds from the least, divisibility, equality of two symbols.

    A number that has one value alone where it is divided (the size of a table), or a second, is parted by thresholds.
    """
    count = symbols.shape[1]
    for symbol in range(count):
        feature = (symbol, NONE, 0)
        values = _values(symbols, feature)
        steps = np.unique(values).tolist()
        for low, high in pairwise(steps):
            yield _Split(feature, low, high, _disorder(labels, values <= low))
    features = [(s, NONE, m) for s in range(count) for m in MODULI]
    features += [(s, o, 0) for s in range(count) for o in range(s)]
    for feature in features:
        zero = _values(symbols, feature) == 0
        if not zero.all() and len(np.unique(symbols[zero, feature[0]])) >= DISTINCT:
            yield _Split(feature, 0, 1, _disorder(labels, zero))


def _disorder(labels: Ints, below: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    """Entropy of the labels on both sides of a split, weighted by their samples."""
    total = 0.0
    for side in (below, ~below):
        counts = np.unique(labels[side], return_counts=True)[1]
        total -= float((counts * np.log2(counts / counts.sum())).sum())
    return total
