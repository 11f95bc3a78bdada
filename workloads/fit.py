"""Columns of whole numbers -> exact expressions of a few symbols, by search and rational arithmetic. For maintainers.

A column holds the values of one quantity over the samples. It is tried, in this order, as a constant; as a count that the stage
says (such as how often a loop runs) and a constant; as c m; as c m + b; as g (a m + b), for products g and m of at most one atom
a symbol; as a m + b m' and a m + b m' + c, for products of symbols. An atom is a symbol x, or floor((p x + q) / r), such as an
extent halved and rounded up, or padded, or the rest of a division. A sum found in one column (text tokens + image tokens) is an
atom to the others. Nothing is taken that does not give every sample exactly; whether it is true is proven at samples that took
no part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from math import lcm
from typing import Any, TypeAlias

import numpy as np

from workloads.formulas import Expression, Formulas
from workloads.kind import Ints

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Singles: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
# (p, q, r) of an atom floor((p x + q) / r): halved up, halved down, and padded at the resolutions of a decoder
HALVED = tuple((1, r - 1, r) for r in (2, 4, 8, 16)) + tuple((1, 0, r) for r in (2, 4, 8, 16))
RESTS = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4))  # (q, r): (x + q) modulo r, plus 1
PADDED = tuple((p, q, 1) for p in (1, 2, 4, 8, 16) for q in (1, 2, 3, 4, -1, -2, -3))
NEAR = 1e-6  # squared distance from 1, over all samples, within which a sum is tried exactly
FIRST = 400  # products that are tried as g in g (a m + b); of the others only areas
SUMS = 48  # of discovered sums that become atoms, at most


@dataclass
class _Atoms:
    """Values by name: value 0 is the constant 1, then the symbols, then derived ones; `columns` (values, samples)."""

    columns: list[Ints]
    derived: list[Expression] = field(default_factory=list)

    def add(self, expression: Expression, column: Ints) -> int:
        """The number of a derived value; one of the same expression is shared."""
        if expression in self.derived:
            return len(self.columns) - len(self.derived) + self.derived.index(expression)
        self.derived.append(expression)
        self.columns.append(column)
        return len(self.columns) - 1


@dataclass(frozen=True)
class _Products:
    """Products of values: `factors` of each, its column, and where a normalised column is found."""

    factors: list[tuple[int, ...]]
    columns: Floats
    ratios: dict[bytes, int]
    slopes: dict[bytes, int]


def fit(symbols: Ints, columns: Ints, whole: Collection[int] = ()) -> tuple[Formulas, list[int]]:
    """Expressions of the columns (samples, columns) in the symbols (samples, symbols).

    whole: symbols that stand only as they are, one a product at most.
    Returns them, and the columns that have none (their expression is the constant 0).
    """
    kept = [i for i in range(symbols.shape[1]) if (symbols[:, i] != symbols[0, i]).any()]
    atoms = _Atoms([np.ones(len(symbols), np.int64), *symbols.T])
    found: dict[int, Expression] = {}
    for which, column in enumerate(columns.T):
        if (column == column[0]).all():
            found[which] = (((int(column[0]), ()),), 1)
        for s in set(whole) & set(kept) if which not in found else ():
            if (column - column[0] == symbols[:, s] - symbols[0, s]).all():  # how often a loop runs, most likely
                found[which] = (((1, (s + 1,)), (int(column[0] - symbols[0, s]), ())), 1)
    if kept:
        _search(atoms, [k + 1 for k in kept], frozenset(k + 1 for k in whole), columns, found)
    missing = [i for i in range(columns.shape[1]) if i not in found]
    expressions = [found.get(i, (((0, ()),), 1)) for i in range(columns.shape[1])]
    return _used(atoms, symbols.shape[1], expressions), missing


def _search(
    atoms: _Atoms, symbols: list[int], whole: frozenset[int], columns: Ints, found: dict[int, Expression]
) -> None:
    """Add to `found` what expressions there are."""
    families = _families(atoms, [s for s in symbols if s not in whole])
    sums: list[int] = []
    while True:
        products = _products(atoms, symbols, whole, families, sums)
        simple = [i for i, f in enumerate(products.factors) if (len(f) <= 4 and i < FIRST) or _is_area(f, max(symbols))]
        before, known = len(found), len(sums)
        for which in [i for i in range(columns.shape[1]) if i not in found]:
            column = columns[:, which]
            made = _scaled(products, column) or _shifted(products, atoms, sums, column, simple)
            made = made or _paired(products, atoms, sums, column, len(symbols)) or _affine_pair(products, atoms, column)
            if made:
                found[which] = made
        if len(found) == before or len(sums) == known:
            return


def _is_area(factors: tuple[int, ...], last: int) -> bool:
    """Whether two factors are atoms, such as a padded height and width, and at most one a symbol, of which `last` is the last."""
    return len(factors) <= 3 and sum(f > last for f in factors) == 2


def _families(atoms: _Atoms, symbols: Sequence[int]) -> list[dict[int, int]]:
    """For every way to make an atom: symbol -> atom; ways that change no symbol, or only its scale, are left out."""
    families = []
    for p, q, r in (*HALVED, *PADDED):
        made: dict[int, int] = {}
        for symbol in symbols:
            column = (p * atoms.columns[symbol] + q) // r
            x = atoms.columns[symbol]
            if column.min() > 0 and (column != column[0]).any() and (column * x[0] != x * column[0]).any():
                made[symbol] = atoms.add((((p, (symbol,)), (q, ())), r), column)
        families.append(made)
    families += [_rests(atoms, symbols, q, r) for q, r in RESTS]
    return [made for made in families if made]


def _rests(atoms: _Atoms, symbols: Sequence[int], q: int, r: int) -> dict[int, int]:
    """Symbol -> atom ((x + q) modulo r) + 1: what is left for the last pass of a loop."""
    made = {}
    for symbol in symbols:
        column = (atoms.columns[symbol] + q) % r + 1
        if (column != column[0]).any():
            whole = atoms.add((((1, (symbol,)), (q, ())), r), (atoms.columns[symbol] + q) // r)
            made[symbol] = atoms.add((((1, (symbol,)), (q + 1, ()), (-r, (whole,))), 1), column)
    return made


def _products(
    atoms: _Atoms,
    symbols: Sequence[int],
    whole: frozenset[int],
    families: Sequence[dict[int, int]],
    sums: Sequence[int],
) -> _Products:
    """Products of symbols; of symbols with atoms of one family; of any of them with a sum or its square."""
    sizes, hints = [s for s in symbols if s not in whole], [s for s in symbols if s in whole]
    plain = [tuple(c) for n in range(1, len(sizes) + 1) for c in combinations(sizes, n)]
    plain += [(*base, hint) for base in [(), *plain] for hint in hints]
    mixed = list(_mixed(sizes, families))
    summed = [(*base, *more) for base in [(), *plain] for s in sums for more in ((s,), (s, s))]
    summed += [(*base, *pair) for base in [(), *plain] for pair in combinations(sums[:12], 2)]
    doubled = [(*base, s) for base in plain for s in symbols if s in base]
    factors = list(dict.fromkeys([*plain, *summed, *mixed, *doubled]))
    values = np.array(atoms.columns, dtype=np.float64)
    columns = np.array([values[list(f)].prod(0) for f in factors])
    varying = (columns != columns[:, :1]).any(1) & (columns > 0).all(1)
    factors = [f for f, v in zip(factors, varying, strict=True) if v]
    columns = columns[varying]
    ratios, slopes = _keys(_ratio(columns)), _keys(_slope(columns))
    return _Products(factors, columns, ratios, slopes)


def _mixed(symbols: Sequence[int], families: Sequence[dict[int, int]]) -> Iterator[tuple[int, ...]]:
    """Every product in which some symbols stand as they are and others (at least one) as their atom of one family."""
    for made in families:
        for count in range(1, len(made) + 1):
            for changed in combinations(made, count):
                others = [s for s in symbols if s not in changed]
                for n in range(len(others) + 1):
                    for kept in combinations(others, n):
                        yield (*kept, *(made[s] for s in changed))


def _ratio(columns: Floats) -> Singles:
    """Of each value to the first, as float32: to seven digits, whatever the size; the exact check follows."""
    return (columns / columns[..., :1]).astype(np.float32)


def _slope(columns: Floats) -> Singles:
    """Shifted to 0 at the first sample and scaled to 1 at the first that differs from it."""
    moved = columns - columns[..., :1]
    first = (moved != 0).argmax(-1)
    scale = np.take_along_axis(moved, first[..., None], -1)
    return (moved / np.where(scale == 0, 1, scale)).astype(np.float32) + np.float32(0)


def _keys(rows: Singles) -> dict[bytes, int]:
    """Row -> index of the first such row."""
    found: dict[bytes, int] = {}
    for i, row in enumerate(rows):
        found.setdefault(row.tobytes(), i)
    return found


def _exact(products: _Products, index: int) -> Any:
    return [int(v) for v in products.columns[index]]


def _scaled(products: _Products, column: Ints) -> Expression | None:
    """c m."""
    index = products.ratios.get(_ratio(column.astype(np.float64)).tobytes()) if column[0] else None
    if index is None:
        return None
    values, wanted = _exact(products, index), column.tolist()
    c = Fraction(wanted[0], values[0])
    exact = all(c * v == w for v, w in zip(values, wanted, strict=True))
    return (((c.numerator, products.factors[index]),), c.denominator) if exact else None


def _shifted(
    products: _Products, atoms: _Atoms, sums: list[int], column: Ints, simple: Sequence[int]
) -> Expression | None:
    """c m + b, or g (a m + b)."""
    made = _affine(products, atoms, sums, [Fraction(v) for v in column.tolist()], ())
    if made:
        return made
    quotients = column / products.columns[simple]
    for row, index in zip(_slope(quotients), simple, strict=True):
        if row.tobytes() in products.slopes:
            divided = [Fraction(w, v) for w, v in zip(column.tolist(), _exact(products, index), strict=True)]
            made = _affine(products, atoms, sums, divided, products.factors[index])
            if made:
                return made
    return None


def _paired(products: _Products, atoms: _Atoms, sums: list[int], column: Ints, symbols: int) -> Expression | None:
    """a m1 + b m2, for products of symbols alone; the sum is kept among the atoms."""
    plain = [i for i, f in enumerate(products.factors) if max(f) <= len(atoms.columns) - len(atoms.derived) - 1]
    if column.min() <= 0 or not symbols:
        return None
    z = products.columns[plain] / column  # the sum is to be 1 at every sample
    gram, ones = z @ z.T, z.sum(1)
    first, second = np.triu_indices(len(plain), 1)
    determinant = gram[first, first] * gram[second, second] - gram[first, second] ** 2
    safe = np.where(determinant > 0, determinant, 1)
    a = (ones[first] * gram[second, second] - ones[second] * gram[first, second]) / safe
    b = (ones[second] * gram[first, first] - ones[first] * gram[first, second]) / safe
    rest = np.abs(len(column) - a * ones[first] - b * ones[second])
    for pair in np.flatnonzero((rest < NEAR) & (determinant > 0)):
        made = _pair(products, atoms, sums, column, (plain[first[pair]], plain[second[pair]]))
        if made:
            return made
    return None


def _pair(
    products: _Products, atoms: _Atoms, sums: list[int], column: Ints, pair: tuple[int, int]
) -> Expression | None:
    """a m1 + b m2 exactly, or None."""
    wanted = [int(v) for v in column]
    one, two = (_exact(products, i) for i in pair)
    other = next((i for i in range(len(one)) if one[0] * two[i] != one[i] * two[0]), 0)
    if not other:
        return None
    determinant = one[0] * two[other] - one[other] * two[0]
    a = Fraction(wanted[0] * two[other] - wanted[other] * two[0], determinant)
    b = Fraction(one[0] * wanted[other] - one[other] * wanted[0], determinant)
    if not a or not b or any(a * x + b * y != w for x, y, w in zip(one, two, wanted, strict=True)):
        return None
    divisor = lcm(a.denominator, b.denominator)
    terms = tuple((int(c * divisor), products.factors[i]) for c, i in zip((a, b), pair, strict=True))
    if len(sums) < SUMS and divisor == 1:
        sums.append(atoms.add((terms, 1), column))
    return terms, divisor


def _affine_pair(products: _Products, atoms: _Atoms, column: Ints) -> Expression | None:
    """a m1 + b m2 + c, for products of symbols alone."""
    plain = [i for i, f in enumerate(products.factors) if max(f) <= len(atoms.columns) - len(atoms.derived) - 1]
    moved = products.columns[plain] - products.columns[plain][:, :1]
    wanted = (column - column[0]).astype(np.float64)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    wanted /= np.linalg.norm(wanted)
    gram, ones = moved @ moved.T, moved @ wanted
    first, second = np.triu_indices(len(plain), 1)
    determinant = 1 - gram[first, second] ** 2
    safe = np.where(determinant > NEAR, determinant, 1)
    a = (ones[first] - ones[second] * gram[first, second]) / safe
    b = (ones[second] - ones[first] * gram[first, second]) / safe
    rest = np.abs(1 - a * ones[first] - b * ones[second])
    for pair in np.flatnonzero((rest < NEAR) & (determinant > NEAR)):
        made = _exact_pair(products, column, (plain[first[pair]], plain[second[pair]]))
        if made:
            return made
    return None


def _exact_pair(products: _Products, column: Ints, pair: tuple[int, int]) -> Expression | None:
    """a m1 + b m2 + c exactly, or None."""
    wanted = [int(v) for v in column]
    one, two = (_exact(products, i) for i in pair)
    rows = [(x - one[0], y - two[0], w - wanted[0]) for x, y, w in zip(one, two, wanted, strict=True)]
    first = next((r for r in rows if r[0] or r[1]), (0, 0, 0))
    other = next((r for r in rows if first[0] * r[1] != r[0] * first[1]), None)
    if other is None:
        return None
    determinant = first[0] * other[1] - other[0] * first[1]
    a = Fraction(first[2] * other[1] - other[2] * first[1], determinant)
    b = Fraction(first[0] * other[2] - other[0] * first[2], determinant)
    c = wanted[0] - a * one[0] - b * two[0]
    if not (a and b and c) or any(a * x + b * y + c != w for x, y, w in zip(one, two, wanted, strict=True)):
        return None
    divisor = lcm(a.denominator, b.denominator, c.denominator)
    factors = (products.factors[pair[0]], products.factors[pair[1]], ())
    return tuple((int(k * divisor), f) for k, f in zip((a, b, c), factors, strict=True)), divisor


def _affine(
    products: _Products, atoms: _Atoms, sums: list[int], wanted: Sequence[Fraction], outer: tuple[int, ...]
) -> Expression | None:
    """outer (a m + b); the sum is kept among the atoms."""
    column = np.array([float(w) for w in wanted])
    index = products.slopes.get(_slope(column).tobytes())
    if index is None:
        return None
    values = _exact(products, index)
    other = next((i for i, v in enumerate(values) if v != values[0]), 0)
    if not other:
        return None
    a = (wanted[other] - wanted[0]) / (values[other] - values[0])
    b = wanted[0] - a * values[0]
    if not a or any(a * v + b != w for v, w in zip(values, wanted, strict=True)):
        return None
    _keep(products.factors[index], values, a, b, atoms, sums)
    divisor = lcm(a.denominator, b.denominator)
    terms = ((int(a * divisor), (*outer, *products.factors[index])), (int(b * divisor), outer))
    return (terms, divisor)


def _keep(
    factors: tuple[int, ...], values: Sequence[int], a: Fraction, b: Fraction, atoms: _Atoms, sums: list[int]
) -> None:
    """The sum m + b / a as an atom, where that is whole (else a times as much)."""
    shift = b / a
    scale = shift.denominator
    terms = ((scale, factors), (int(shift * scale), ()))
    column = np.array([scale * v + int(shift * scale) for v in values], dtype=np.int64)
    if len(sums) < SUMS and column.min() > 0:
        added = atoms.add((terms, 1), column)
        if added not in sums:
            sums.append(added)


def _used(atoms: _Atoms, symbols: int, expressions: Sequence[Expression]) -> Formulas:
    """Formulas that derive only what the expressions use."""
    first = symbols + 1
    needed: set[int] = set()
    todo = list(_factors(expressions))
    while todo:
        value = todo.pop()
        if value >= first and value not in needed:
            needed.add(value)
            todo.extend(_factors([atoms.derived[value - first]]))
    order = sorted(needed)
    renamed = {**{i: i for i in range(first)}, **{old: first + new for new, old in enumerate(order)}}

    def rename(expression: Expression) -> Expression:
        terms, divisor = expression
        return tuple((c, tuple(renamed[v] for v in factors)) for c, factors in terms), divisor

    return Formulas(tuple(rename(atoms.derived[i - first]) for i in order), tuple(map(rename, expressions)))


def _factors(expressions: Iterable[Expression]) -> Iterator[int]:
    for terms, _ in expressions:
        for _, factors in terms:
            yield from factors
