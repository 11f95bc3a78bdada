"""Samples at which sizes are 1, each way in which they are. For maintainers.

Torch makes no copy of a tensor where the dimensions that change places are 1, so that there the operators may be others. Where
that is, the sizes inside a template say as well as the numbers that it has: a map of 2 x 2 latents is one pixel two levels down.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workloads.kind import Ints
from workloads.templates import NONE, Family, chosen


def thin(family: Family, symbols: Sequence[Ints], held: Sequence[Ints] = ()) -> list[int]:
    """Positions of one sample for each template, and each way in which its sizes are 1, that none of those held has.

    Of each the one with the fewest numbers above 1, and of those the least. symbols, held: the values of the family's symbols.
    """
    met = {ones(family, values) for values in held} | {None}
    order = sorted(range(len(symbols)), key=lambda i: (int((symbols[i] > 1).sum()), int(symbols[i].sum())))
    found: list[int] = []
    for i in order:
        own = ones(family, symbols[i])
        if own not in met:
            met.add(own)
            found.append(i)
    return found


def ones(family: Family, symbols: Ints) -> tuple[int, bytes, bytes] | None:
    """Which template a family has for the values of its symbols, which of these and which dimensions of its kinds of operators
    are 1; None without a template."""
    leaf = chosen(family.tree, symbols)
    try:
        trace = None if leaf == NONE else family.templates[leaf].at(symbols)
    except ArithmeticError:
        return None
    if trace is None:
        return None
    return (
        leaf,
        (symbols == 1).tobytes(),
        np.unique(np.column_stack([trace.op_kind, trace.op_dims == 1]), axis=0).tobytes(),
    )
