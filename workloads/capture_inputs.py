"""Example inputs as text: `2,4,{height/8},{width/8}:bf16` is a tensor, `{frames}` or `false` a plain value.

Between braces stands whole-number arithmetic (+ - * /, brackets) on named dimensions; a division must come out even.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import parse
from workloads.kind import ITEMSIZE

EXAMPLE = "2,4,{height},{width}:bf16"
DTYPES = tuple(name for name in ITEMSIZE if name != "tf32")  # tf32 is a way to multiply fp32, no type of a tensor
LARGEST = 2**40  # elements of one axis and of a tensor; far beyond any memory, and products still fit into int64
_BRACED = re.compile(r"\{([^{}]*)\}")
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: Fraction,
}  # fmt: skip


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of an example input; the values do not matter."""

    shape: tuple[int, ...]
    dtype: str


def number(text: str, dims: Mapping[str, int], *, floor: bool = False) -> int:
    """The value of an expression such as '2*batch' or 'height/8'; `floor`: rounded down.

    SpecError: no expression, an unknown dimension (with the nearest), a value that is no whole number.
    """
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body, dims)
    except (SyntaxError, ZeroDivisionError, RecursionError, MemoryError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        expected = "expected whole-number arithmetic on dimensions, for example {height/8}"
        raise SpecError(f"found '{{{text}}}', {expected}") from None
    if value.denominator != 1 and not floor:
        known = ", ".join(f"{name} {dims[name]}" for name in sorted(names(f"{{{text}}}")))
        raise SpecError(f"'{{{text}}}' is {float(value):g} for {known}, expected a whole number")
    return math.floor(value)


def _value(node: ast.expr, dims: Mapping[str, int]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) <= LARGEST:
        return Fraction(node.value)
    if isinstance(node, ast.Name):
        if node.id not in dims:
            allowed = f" (dimensions: {', '.join(dims)})" if dims else "; no dimensions are named"
            raise SpecError(f"unknown dimension '{node.id}'{nearest(node.id, dims)}{allowed}")
        return Fraction(dims[node.id])
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return Fraction(_OPERATORS[type(node.op)](_value(node.left, dims), _value(node.right, dims)))
    raise ValueError("not arithmetic")


def names(text: Any) -> set[str]:
    """The dimensions that a text names between braces; of lists and mappings, those of every text in them."""
    if isinstance(text, Mapping):
        return set().union(*map(names, text.values()))
    if isinstance(text, list | tuple):
        return set().union(*map(names, text))
    inside = _BRACED.findall(text) if isinstance(text, str) else []
    return {name for part in inside for name in re.findall(r"[A-Za-z_]\w*", part)}


def filled(data: Any, dims: Mapping[str, int]) -> Any:
    """Plain data with every text that is one braced expression replaced by its number. SpecError as `number`."""
    if isinstance(data, Mapping):
        return {name: filled(value, dims) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [filled(value, dims) for value in data]
    whole = _BRACED.fullmatch(data.strip()) if isinstance(data, str) else None
    return number(whole[1], dims) if whole else data


def read_input(text: str, dims: Mapping[str, int]) -> TensorSpec | bool | int | float | str | None:
    """What an input's text means: a TensorSpec, or a plain value.

    SpecError: shape syntax, an unknown dtype (with the nearest), and as `number`.
    """
    shape, colon, dtype = text.rpartition(":")
    if not colon:
        if "," in text:
            raise SpecError(f"found '{text}', expected SHAPE:DTYPE, for example {EXAMPLE}")
        whole = _BRACED.fullmatch(text.strip())
        return number(whole[1], dims) if whole else _plain(text)
    extents = tuple(_extent(part.strip(), text, dims) for part in shape.split(",")) if shape.strip() else ()
    if dtype.strip() not in DTYPES:
        raise SpecError(f"unknown dtype '{dtype.strip()}'{nearest(dtype, DTYPES)} (allowed: {', '.join(DTYPES)})")
    if _product(extents) > LARGEST:
        raise SpecError(f"found '{text}', a tensor of more than 2^40 elements")
    return TensorSpec(extents, dtype.strip())


def _plain(text: str) -> Any:
    value = parse(text, text).plain()
    if isinstance(value, list | dict):
        raise SpecError(f"found '{text}', expected SHAPE:DTYPE (for example {EXAMPLE}), a number, true, false or null")
    return value


def _extent(part: str, text: str, dims: Mapping[str, int]) -> int:
    whole = _BRACED.fullmatch(part)
    if not whole and not re.fullmatch(r"\d{1,13}", part):
        raise SpecError(f"found '{text}', expected SHAPE:DTYPE, for example {EXAMPLE}")
    extent = number(whole[1], dims) if whole else int(part)
    if not 1 <= extent <= LARGEST:
        raise SpecError(f"'{part}' is {extent}, expected a length from 1 to 2^40")
    return extent


def _product(extents: tuple[int, ...]) -> int:
    count = 1
    for extent in extents:
        count *= extent
    return count


def nested(values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs by name -> (args, kwargs): '0', '1' are positions; 'added.text' goes into the mapping `added`.

    SpecError: positions with gaps, a name that is both a value and a mapping.
    """
    positions = sorted(int(name) for name in values if name.isdigit())
    if positions != list(range(len(positions))):
        raise SpecError(
            f"inputs: found the positions {', '.join(map(str, positions))}, expected 0, 1, 2 ... without gaps"
        )
    kwargs: dict[str, Any] = {}
    for name, value in _by_name(values):
        *above, last = name.split(".")
        place = kwargs
        for step in above:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise SpecError(f"inputs.{name}: '{step}' is an input of its own already")
        if last in place:
            raise SpecError(f"inputs.{name}: set twice")
        place[last] = value
    return tuple(values[str(i)] for i in positions), kwargs


def _by_name(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in values.items() if not name.isdigit())
