"""Growing the trees of `sim.forest` on errors of held-out rows: how far off predictions are, by what is known of a row.

Extremely randomised trees (Geurts et al. 2006): of some splits that are drawn for a node, that is taken on whose two sides
errors differ most. Units are dealt into groups, and trees grown without each group say how far off its rows may be, by other
units alone; intervals are made of that. A new row is judged by the trees of one group, as many as judged each held-out row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib.families.base import Floats
from sim.forest import LEAF, Forest

Ints: TypeAlias = NDArray[np.int64]
Inputs: TypeAlias = NDArray[np.float32]
TAIL = 0.1  # of the errors of a leaf that lie beyond either end
NEAR = 0.1  # of the median error, added to errors before their logarithm: of the least ones only chance says how small
FAR = 3.0  # median errors, from which on all errors count alike in telling the sides apart
LEAST_ROWS = 12  # of a leaf: its outermost row on either side then lies beyond its ends
LEAST_END = 0.05  # of a typical end: a leaf whose rows all err to one side says little of the other
MOST_DEPTH = 16


@dataclass(frozen=True)
class Growth:
    """`trees` are grown without each of `groups`, each on at most `most` rows drawn at random; `tried`: splits that are drawn for
    a node; `least`: rows of a leaf."""

    trees: int = 16
    groups: int = 4
    tried: int = 30
    least: int = LEAST_ROWS
    most: int = 20_000
    seed: int = 0


def growth(unit: Ints, seed: int) -> Growth:
    """For rows of these units (rows,): a leaf has at least as many rows as a unit, in the mean, and so is seldom made of one."""
    return Growth(least=max(LEAST_ROWS, len(unit) // len(np.unique(unit))), seed=seed)


def grown(inputs: Inputs, away: Floats, group: Ints, how: Growth) -> tuple[Forest, Floats]:
    """The trees that judge new rows, grown on errors `away` (rows,) of rows (rows, columns), and both ends of these rows
    (rows, 2) by the trees that saw no row of their group (rows,). Ends are 1 in a typical row."""
    forests, ends = [_without(inputs, away, group, i, how) for i in range(how.groups)], np.zeros((len(away), 2))
    for i, forest in enumerate(forests):
        ends[group == i] = forest(inputs[group == i])
    typical = float(np.median(ends.mean(axis=1)))
    scaled = np.maximum(forests[0].ends / typical, LEAST_END).astype(np.float32)
    return replace(forests[0], ends=scaled), np.maximum(ends / typical, LEAST_END)


def _without(inputs: Inputs, away: Floats, group: Ints, left: int, how: Growth) -> Forest:
    rng = np.random.default_rng((how.seed, left))
    own, trees = np.flatnonzero(group != left), []
    for _ in range(how.trees):
        rows = rng.permutation(own)[: how.most]
        trees.append(_tree(inputs[rows], away[rows], targets(away[rows]), how, rng))
    first = np.cumsum([0, *(len(t.child) for t in trees[:-1])])
    return Forest(
        roots=first.astype(np.int32),
        feature=np.concatenate([t.feature for t in trees]),
        threshold=np.concatenate([t.threshold for t in trees]),
        child=np.concatenate([t.child + at for t, at in zip(trees, first, strict=True)]).astype(np.int32),
        ends=np.concatenate([t.ends for t in trees]),
        depth=max(t.depth for t in trees),
    )


def targets(away: Floats) -> Floats:
    """What the two sides of a split are to differ in, (rows, 2): the logarithm of the size of errors, and their side."""
    size = np.abs(away)
    typical = max(float(np.median(size)), 1e-12)
    return np.column_stack([np.log(size / typical + NEAR), np.clip(away / typical, -FAR, FAR)])


def _tree(inputs: Inputs, away: Floats, wanted: Floats, how: Growth, rng: np.random.Generator) -> Forest:
    """One tree, level by level. `node` numbers the nodes of a level that rows are in, `leaf` those of the tree."""
    feature, threshold, child = [np.zeros(1, np.int64)], [np.full(1, LEAF)], [np.zeros(1, np.int64)]
    rows, node, leaf, first = (
        np.arange(len(inputs)),
        np.zeros(len(inputs), np.int64),
        np.zeros(len(inputs), np.int64),
        0,
    )
    for depth in range(MOST_DEPTH + 1):
        column, cut, is_split = _splits(inputs[rows], wanted[rows], node, len(child[-1]), how, rng)
        if not is_split.any() or depth == MOST_DEPTH:
            break
        below = first + len(child[-1])
        place = np.cumsum(is_split) - 1
        feature[-1], threshold[-1] = np.where(is_split, column, 0), np.where(is_split, cut, LEAF)
        child[-1] = np.where(is_split, below + 2 * place, child[-1])
        keep = is_split[node]
        rows, node = rows[keep], node[keep]
        node = 2 * place[node] + (inputs[rows, column[node]] > cut[node])
        count, first = 2 * int(is_split.sum()), below
        leaf[rows] = first + node
        feature.append(np.zeros(count, np.int64))
        threshold.append(np.full(count, LEAF))
        child.append(first + np.arange(count))
    nodes = np.concatenate(child)
    return Forest(
        np.zeros(1, np.int32), np.concatenate(feature).astype(np.int32), np.concatenate(threshold).astype(np.float32),
        nodes.astype(np.int32), _ends(away, leaf, len(nodes)), depth,
    )  # fmt: skip


def _splits(
    inputs: Inputs, wanted: Floats, node: Ints, count: int, how: Growth, rng: np.random.Generator
) -> tuple[Ints, NDArray[np.float32], NDArray[np.bool_]]:
    """Column and threshold of each node (nodes,), and whether it is split: a drawn one left enough rows on both sides."""
    order = np.argsort(node, kind="stable")
    inputs, wanted, node = inputs[order], wanted[order], node[order]
    begins, rows = np.searchsorted(node, np.arange(count)), np.arange(len(node))
    best, feature, threshold = np.full(count, -np.inf), np.zeros(count, np.int64), np.zeros(count, np.float32)
    for _ in range(how.tried):
        column = rng.integers(0, inputs.shape[1], count)
        value = inputs[rows, column[node]]
        low, high = np.minimum.reduceat(value, begins), np.maximum.reduceat(value, begins)
        cut = low + rng.random(count, dtype=np.float32) * (high - low)
        side = 2 * node + (value > cut[node])
        many = np.bincount(side, minlength=2 * count)
        told = sum(np.bincount(side, w, 2 * count) ** 2 for w in wanted.T) / np.maximum(many, 1)
        gain = told.reshape(-1, 2).sum(axis=1)
        better = (gain > best) & (many.reshape(-1, 2).min(axis=1) >= how.least)
        best[better], feature[better], threshold[better] = gain[better], column[better], cut[better]
    return feature, threshold, np.isfinite(best)


def _ends(away: Floats, leaf: Ints, nodes: int) -> NDArray[np.float32]:
    """Quantiles of the errors in each leaf, (nodes, 2), as distances below and above; zeros of nodes that are none."""
    order = np.lexsort((away, leaf))
    own, sizes = np.unique(leaf, return_counts=True)
    begins, out = np.cumsum(sizes) - sizes, np.zeros((nodes, 2), np.float32)
    for side, share in enumerate((TAIL, 1.0 - TAIL)):
        at = share * (sizes - 1)
        low = np.floor(at).astype(np.int64)
        lower, upper = (away[order[begins + np.minimum(i, sizes - 1)]] for i in (low, low + 1))
        value = lower + (at - low) * (upper - lower)
        out[own, side] = np.maximum(value if side else -value, 0.0)
    return out
