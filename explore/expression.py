"""Arithmetic over outputs, as objectives and constraints write it: 'images_per_s / price_usd', 'clip.latency_s * 2'.

Names, numbers, + - * / ** and brackets; read by Python's own parser, evaluated here node by node.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.errors import nearest

Floats: TypeAlias = NDArray[np.float64]
OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip


def names(text: str, known: Collection[str]) -> tuple[str, ...]:
    """Outputs that an expression reads, each once. ValueError says what in it is no output or no arithmetic."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"found '{text}', expected an output, or arithmetic over outputs") from None
    found = tuple(dict.fromkeys(_names(tree, text)))
    for name in found:
        if name not in known:
            raise ValueError(f"unknown output '{name}'{nearest(name, known)} (allowed: {', '.join(known)})")
    if not found:
        raise ValueError(f"found '{text}', expected an output, or arithmetic over outputs")
    return found


def value(text: str, outputs: Mapping[str, Floats]) -> Floats:
    """An expression that `names` has read, of outputs (designs,). Dividing by 0 gives inf or nan."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(_value(ast.parse(text.strip(), mode="eval").body, outputs), dtype=np.float64)


def _names(node: ast.expr, text: str) -> list[str]:
    match node:
        case ast.Name():
            return [node.id]
        case ast.Attribute(value=ast.Name(id=owner)):
            return [f"{owner}.{node.attr}"]
        case ast.Constant() if type(node.value) in (int, float):
            return []
        case ast.BinOp() if type(node.op) in OPERATORS:
            return _names(node.left, text) + _names(node.right, text)
        case ast.UnaryOp(op=ast.USub()):
            return _names(node.operand, text)
    raise ValueError(f"found '{ast.unparse(node)}' in '{text}', expected outputs, numbers, + - * / ** and brackets")


def _value(node: ast.expr, outputs: Mapping[str, Floats]) -> Any:
    match node:
        case ast.Name():
            return outputs[node.id]
        case ast.Attribute(value=ast.Name(id=owner)):
            return outputs[f"{owner}.{node.attr}"]
        case ast.BinOp():
            return OPERATORS[type(node.op)](_value(node.left, outputs), _value(node.right, outputs))
        case ast.UnaryOp():
            return -_value(node.operand, outputs)
        case ast.Constant(value=int() | float() as number):
            return float(number)
    raise AssertionError("`names` reads an expression first")
