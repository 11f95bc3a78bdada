"""Chakra traces that Chakra's converter made from PyTorch's execution traces: nodes -> operators in a tree, and kernels.

A node of an operator holds PyTorch's own lists as text (torch/csrc/profiler/standalone/execution_trace_observer.cpp): values,
with [tensor id, storage id, offset, elements, element size, device] for a tensor, shapes, and types. Its control dependency is
the operator around it. A node that is not of the CPU (attribute is_cpu_op) is a kernel, below the operator that launched it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from workloads.formats.events import Kernel, Operator, Timeline, is_argument

SCALARS = ("Int", "Double", "Bool", "Float", "Long")
SIZE = 6  # fields of a tensor among the values
US = 1e-6  # s per microsecond


def timeline(nodes: Sequence[Any]) -> Timeline:
    """The operators of nodes, in the order of their ids, which is that in which they began; and the kernels.

    Raises ValueError for a node whose lists are of another form.
    """
    operators: list[Operator] = []
    kernels: list[Kernel] = []
    place: dict[int, int] = {}
    for node in sorted(nodes, key=lambda n: n.id):
        around = next((place[d] for d in node.ctrl_deps if d in place), -1)
        if any(a.name == "is_cpu_op" and not a.bool_val for a in node.attr):
            kernels.append(Kernel(node.name, around, US * node.duration_micros))
        else:
            place[node.id] = len(operators)
            operators.append(_operator(node, around))
    return Timeline(tuple(operators), tuple(kernels))


def _operator(node: Any, parent: int) -> Operator:
    try:
        values, shapes, types = (ast.literal_eval(t or "[]") for t in _texts(node.inputs))
        results = ast.literal_eval(_json(node.outputs.values) or "[]")
        kinds = tuple(_kind(kind) for kind in types)
        dims = tuple(list(shape) if _holds_tensors(kind) else [] for shape, kind in zip(shapes, types, strict=True))
        ids = tuple(_ids(value, kind) for value, kind in zip(values, types, strict=True))
        made = tuple(int(v[0]) for v in results if isinstance(v, list) and len(v) == SIZE)
    except (ValueError, TypeError, SyntaxError, KeyError, IndexError, RecursionError, MemoryError):
        raise ValueError(f"node {node.id} ({node.name}) holds lists of another form") from None
    whole = all(not isinstance(i, list) or len(i) == len(d) for i, d in zip(ids, dims, strict=True))
    if not whole or not all(is_argument(kind, d, []) for kind, d in zip(kinds, dims, strict=True)):
        raise ValueError(f"node {node.id} ({node.name}) holds shapes of another form")
    texts = tuple("" if kind not in ("Scalar", "ScalarList") else str(v) for v, kind in zip(values, kinds, strict=True))
    unknown: tuple[Any, ...] = tuple([] for _ in dims)
    seconds = US * node.duration_micros
    return Operator(node.name, parent, kinds, dims, unknown, texts, "", (), "", seconds, ids, made)


def _texts(info: Any) -> Iterator[str]:
    return (_json(text) for text in (info.values, info.shapes, info.types))


def _json(text: str) -> str:
    """Converters write the lists as Python or as JSON; the two differ in three words."""
    for word, python in (("true", "True"), ("false", "False"), ("null", "None")):
        text = text.replace(f" {word}", f" {python}").replace(f"[{word}", f"[{python}")
    return text


def _holds_tensors(kind: str) -> bool:
    return "Tensor(" in kind


def _kind(kind: str) -> str:
    """A type as the profiler writes it."""
    if kind.startswith("GenericList"):
        return "TensorList" if _holds_tensors(kind) else "ScalarList"
    if kind.startswith("Tensor("):
        return kind.removeprefix("Tensor(").removesuffix(")")
    return "Scalar" if kind in SCALARS else ""


def _ids(value: Any, kind: str) -> Any:
    """Tensor ids of an argument: one, a list of them, or None."""
    if not _holds_tensors(kind):
        return None
    return [int(v[0]) for v in value] if kind.startswith("GenericList") else int(value[0])
