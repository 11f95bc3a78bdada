"""A forest of regression trees that say how far off predictions are of rows like a given one, on either side.

Each leaf has two quantiles of the errors of the held-out rows that fell into it (quantile regression forests, Meinshausen 2006);
a row has their mean over the trees. Grown by `calib.forest`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
LEAF = float("inf")  # threshold that nothing exceeds: a leaf is a node that is its own child
CHUNK = 16384  # rows at a time, which keeps them in cache


@dataclass(frozen=True)
class Forest:
    """Trees behind each other in one list of nodes.

    Attributes:
        roots: (trees,): the node at which each tree begins.
        feature: (nodes,): column that a node looks at.
        threshold: (nodes,): a row above it goes to the node after `child`, any other to `child`; LEAF in a leaf.
        child: (nodes,): a leaf's is the leaf itself.
        ends: (nodes, 2): how far below and how far above the prediction the interval reaches; positive, 1 in a typical row.
        depth: steps from a root to the leaf that is furthest from it.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    child: NDArray[np.int32]
    ends: NDArray[np.float32]
    depth: int

    def __call__(self, inputs: NDArray[np.float32]) -> Floats:
        """Both ends (rows, 2) of rows (rows, columns), in the mean over the trees."""
        out = np.zeros((len(inputs), 2))
        for i in range(0, len(inputs), CHUNK):
            some = inputs[i : i + CHUNK]
            for root in self.roots:
                out[i : i + CHUNK] += self.ends[self._leaves(some, int(root))]
        return out / max(len(self.roots), 1)

    def _leaves(self, inputs: NDArray[np.float32], root: int) -> NDArray[np.int32]:
        at, rows = np.full(len(inputs), root, dtype=np.int32), np.arange(len(inputs))
        for _ in range(self.depth):
            at = self.child[at] + (inputs[rows, self.feature[at]] > self.threshold[at]).astype(np.int32)
        return at
