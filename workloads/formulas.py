"""Whole numbers as exact expressions of other whole numbers, many at a time, with numpy alone.

An expression is a sum of monomials with whole coefficients over a whole divisor. Its values are counted from 0: value 0 is
the constant 1, then come the given numbers, then the derived ones (floor of an expression of the values before it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from workloads.kind import Ints

# ((coefficient, (value, value ...)), ...) over the divisor
Expression: TypeAlias = tuple[tuple[tuple[int, tuple[int, ...]], ...], int]


@dataclass(frozen=True)
class Formulas:
    """`derived` are floored; of `expressions` the division leaves no rest wherever they were proven."""

    derived: tuple[Expression, ...]
    expressions: tuple[Expression, ...]

    def at(self, numbers: Ints) -> Ints:
        """Values of all expressions, (..., expressions), of numbers (..., count). ArithmeticError where one is not whole."""
        values = np.concatenate([np.ones_like(numbers[..., :1]), numbers], axis=-1)
        for terms, divisor in self.derived:
            total = sum(c * values[..., list(factors)].prod(-1) for c, factors in terms)
            values = np.concatenate([values, np.asarray(total // divisor)[..., None]], axis=-1)
        coefficients, factors, starts, divisors = self._table
        terms_at = coefficients * values[..., factors].prod(-1)
        found, rest = np.divmod(np.add.reduceat(terms_at, starts, axis=-1), divisors)
        if rest.any():
            raise ArithmeticError("an expression of a template is not whole")
        return np.asarray(found, dtype=np.int64)

    @cached_property
    def _table(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Coefficients and factors (padded with value 0) of all terms, where each expression starts, divisors."""
        terms = [term for found, _ in self.expressions for term in found]
        widest = max(len(factors) for _, factors in terms)
        return (
            np.array([c for c, _ in terms], dtype=np.int64),
            np.array([[*factors, *[0] * (widest - len(factors))] for _, factors in terms], dtype=np.int64).reshape(
                len(terms), widest
            ),
            np.cumsum([0, *(len(found) for found, _ in self.expressions)])[:-1],
            np.array([divisor for _, divisor in self.expressions], dtype=np.int64),
        )

    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {"derived": self.derived, "expressions": self.expressions}


def formulas(data: Mapping[str, Any]) -> Formulas:
    """What `Formulas.data` gave, back."""
    return Formulas(_expressions(data["derived"]), _expressions(data["expressions"]))


def _expressions(data: Sequence[Any]) -> tuple[Expression, ...]:
    return tuple((tuple((c, tuple(factors)) for c, factors in terms), divisor) for terms, divisor in data)
