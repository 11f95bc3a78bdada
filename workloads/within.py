"""A family of templates put into another one, where a stage's numbers have certain values. For maintainers.

The symbols of a family are the numbers that vary over its samples. Over samples that share some values fewer vary, and two that
differ elsewhere may be one: what was found of those alone is written in the symbols of the whole family before it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from types import MappingProxyType
from typing import Any

import numpy as np

from workloads.formulas import Expression, Formulas
from workloads.kind import Ints
from workloads.looped import Looped
from workloads.templates import NONE, Family, Template, chosen


@dataclass(frozen=True)
class Region:
    """Where a family's symbols have one value, and which of them are equal, over some samples.

    Attributes:
        values: (symbol, its value) of those that have one.
        equal: (symbol, another that it equals), one pair for each that equals an earlier one.
        several: whether the first symbol, of samples, is more than 1; no matter where they share other values.
        least: (symbol, what it is at least), of some that have several values.
        but: (symbol, value): where all of these have their value, the region does not hold.
    """

    values: tuple[tuple[int, int], ...]
    equal: tuple[tuple[int, int], ...]
    several: bool = False
    least: tuple[tuple[int, int], ...] = ()
    but: tuple[tuple[int, int], ...] = ()


def within(whole: Family, numbers: Ints) -> Region:
    """The region of samples, (samples, numbers): each has to be one of the family's. ValueError where the family has others."""
    symbols = [whole.symbols(row) for row in numbers]
    if any(s is None for s in symbols):
        raise ValueError("samples of another family")
    columns = np.array(symbols, dtype=np.int64).T
    values: list[tuple[int, int]] = []
    equal: list[tuple[int, int]] = []
    seen: dict[bytes, int] = {}
    for symbol, column in enumerate(columns):
        if (column == column[0]).all():
            values.append((symbol, int(column[0])))
        elif column.tobytes() in seen:
            equal.append((symbol, seen[column.tobytes()]))
        else:
            seen[column.tobytes()] = symbol
    return Region(tuple(values), tuple(equal))


def holds(region: Region, symbols: Ints) -> bool:
    """Whether values of a family's symbols lie in a region."""
    return chosen(_under(region, 0, NONE), symbols) == 0


def merged(whole: Family, region: Region, part: Family) -> Family:
    """A family that has the templates of `part` within the region, and its own elsewhere.

    Raises ValueError where the two do not have numbers in common, or the region is all of the family.
    """
    if len(whole.places) != len(part.places):
        raise ValueError("families of different numbers")
    to = _symbols(whole, part)
    count = int(whole.places.max(initial=NONE)) + 1
    first = len(whole.templates)
    inside = _moved(part.tree, to, first)
    tree = pruned(_under(region, inside, whole.tree))
    made = (*whole.templates, *(_lifted(t, to, count) for t in part.templates))
    used = sorted(leaves(tree) - {NONE})
    return Family(whole.places, whole.fixed, numbered(tree, used), tuple(made[i] for i in used))


def _symbols(whole: Family, part: Family) -> list[int]:
    """For each symbol of a part the first symbol of the whole that stands at its place."""
    found: dict[int, int] = {}
    for mine, theirs in zip(whole.places.tolist(), part.places.tolist(), strict=True):
        if theirs != NONE and mine == NONE:
            raise ValueError("a number that varies in the part alone")
        if theirs != NONE:
            found.setdefault(theirs, mine)
    return [found[i] for i in range(len(found))]


def _under(region: Region, inside: Any, outside: Any) -> Any:
    """A tree that is `inside` where the region's conditions hold."""
    tree: Any = inside
    if region.several:
        alone = outside[5] if _divided_at_one(outside) else outside
        tree = [0, NONE, 0, 1, 2, alone, tree]
    for symbol, least in region.least:
        tree = [symbol, NONE, 0, least - 1, least, outside, tree]
    for symbol, other in region.equal:
        tree = [symbol, other, 0, 0, 1, tree, outside]
    for symbol, value in reversed(region.values):
        upper = outside
        if isinstance(outside, list) and outside[:5] == [symbol, NONE, 0, value, value + 1] and value <= 1:
            upper = outside[6]  # where that symbol is more, the tree that was there says so too
        tree = [symbol, NONE, 0, value, value + 1, tree, upper]
        if value > 1:
            tree = [symbol, NONE, 0, value - 1, value, outside, tree]
    if not region.but:
        return tree
    found: Any = outside
    for symbol, value in region.but:
        found = [symbol, NONE, 0, value, value + 1, found, tree]
        if value > 0:
            found = [symbol, NONE, 0, value - 1, value, tree, found]
    return found


def pruned(tree: Any, bounds: Mapping[int, tuple[int, float]] = MappingProxyType({})) -> Any:
    """The same tree without conditions that those above it decide. bounds: least and greatest value of symbols, where known."""
    if isinstance(tree, int):
        return tree
    symbol, other, modulus, low, high, yes, no = tree
    if other != NONE or modulus:
        return [*tree[:5], pruned(yes, bounds), pruned(no, bounds)]
    least, most = bounds.get(symbol, (0, inf))
    if most <= low:
        return pruned(yes, bounds)
    if least >= high:
        return pruned(no, bounds)
    below, above = ({**bounds, symbol: span} for span in ((least, min(most, low)), (max(least, high), most)))
    sides = pruned(yes, below), pruned(no, above)
    return sides[0] if sides[0] == sides[1] and low + 1 == high else [*tree[:5], *sides]


def _divided_at_one(tree: Any) -> bool:
    return isinstance(tree, list) and tree[:5] == [0, NONE, 0, 1, 2]


def _moved(tree: Any, to: Sequence[int], first: int) -> Any:
    """A part's tree in the whole's symbols, its leaves counted from `first`."""
    if isinstance(tree, int):
        return tree if tree == NONE else tree + first
    symbol, other, *border, yes, no = tree
    sides = (_moved(side, to, first) for side in (yes, no))
    return [to[symbol], other if other == NONE else to[other], *border, *sides]


def leaves(tree: Any) -> set[int]:
    """The templates that a tree leads to, NONE among them where it leads to none."""
    return {tree} if isinstance(tree, int) else leaves(tree[5]) | leaves(tree[6])


def numbered(tree: Any, used: Sequence[int]) -> Any:
    """A tree whose leaves count only the templates that are used; where another was, there is none."""
    if isinstance(tree, int):
        return used.index(tree) if tree in used else NONE
    return [*tree[:5], numbered(tree[5], used), numbered(tree[6], used)]


def _lifted(found: Template | Looped, to: Sequence[int], count: int) -> Template | Looped:
    """A template in other symbols, of which there are `count`."""
    if isinstance(found, Looped):
        inner = _formulas(found.inner, [*to, count], count + 1)  # the number of the pass comes last
        return replace(found, outer=_formulas(found.outer, to, count), inner=inner)
    return replace(found, formulas=_formulas(found.formulas, to, count))


def _formulas(found: Formulas, to: Sequence[int], count: int) -> Formulas:
    """Formulas of numbers `to` among `count`: value 0 is the constant, then come the numbers, then the derived."""
    names = [0, *(1 + t for t in to)]
    names += [1 + count + i for i in range(len(found.derived))]

    def named(expression: Expression) -> Expression:
        terms, divisor = expression
        return tuple((c, tuple(names[v] for v in factors)) for c, factors in terms), divisor

    return Formulas(tuple(map(named, found.derived)), tuple(map(named, found.expressions)))
