"""Captures of one stage, sorted by structure, and the conditions that tell structures apart. For maintainers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from workloads.fit import fit
from workloads.kind import Ints
from workloads.templates import NONE, Template
from workloads.trace import Trace

MODULI = (2, 4, 8, 16)
# Dimensions that say how and not how much: expressions have them as constants.
_CHOICES = {"attention": ("causal", "role", "interleaved"), "permute": ("layout",)}
_CALLS = (
    "call_path",
    "call_in_attention",
    "input_offsets",
    "input_ids",
    "output_offsets",
    "output_ids",
    "tensor_is_weight",
)


def structure(trace: Trace) -> bytes:
    """Equal for two captures that differ in sizes alone. Which sizes are zero belongs to the structure."""
    from workloads.kind import kinds

    names = repr((trace.kinds, trace.dtypes, trace.labels, trace.paths)).encode()
    chosen = np.zeros_like(trace.op_dims)
    for kind, dims in _CHOICES.items():
        for dim in dims:
            column = kinds()[kind].dims.index(dim)
            ops = trace.ops_of(kind)
            chosen[ops, column] = trace.op_dims[ops, column]
    rows = np.column_stack([trace.op_kind, trace.op_dtype, trace.op_label, trace.op_dims == 0, chosen])[trace.call_op]
    return b"|".join([names, rows.tobytes(), *(getattr(trace, name).tobytes() for name in _CALLS)])


def template(symbols: Ints, traces: Sequence[Trace]) -> tuple[Template | None, int]:
    """The template of captures of one structure at some values of the symbols, None where a size has no expression.

    Also how many distinct sizes have none.
    """
    base = traces[0]
    sizes = np.array([_sizes(trace) for trace in traces])
    distinct, which = np.unique(sizes, axis=1, return_inverse=True)
    which = which.reshape(-1)
    found, missing = fit(symbols, distinct)
    if missing:
        return None, len(missing)
    width = base.op_dims.shape[1]
    dims = which[: base.calls * width].reshape(base.calls, width)
    kinds = np.column_stack([base.op_kind, base.op_dtype, base.op_label])[base.call_op]
    _, first, op = np.unique(np.column_stack([kinds, dims]), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    calls = first[order]
    rows = kinds[calls]
    trace = replace(
        base, op_kind=rows[:, 0], op_dtype=rows[:, 1], op_label=rows[:, 2], op_dims=dims[calls],
        call_op=np.argsort(order)[op.reshape(-1)],
    )  # fmt: skip
    return Template(trace, dims[calls], which[base.calls * width : -2], (int(which[-2]), int(which[-1])), found), 0


def _sizes(trace: Trace) -> Ints:
    """All that varies within a structure: dimensions of every call, bytes of every tensor, totals of the module."""
    (segment,) = trace.segments
    totals = [segment.parameters, segment.weight_bytes]
    return np.concatenate([trace.op_dims[trace.call_op].reshape(-1), trace.tensor_bytes, totals])


Feature: TypeAlias = tuple[int, int, int]  # symbol, other symbol, modulus: NONE, NONE, 0 where there is none


@dataclass(frozen=True)
class _Split:
    feature: Feature
    low: int
    high: int
    disorder: float


def tree(symbols: Ints, labels: Ints) -> Any:
    """Conditions on the symbols (samples, symbols) that give every sample its label, as `templates.chosen` reads them.

    Raises ValueError where two samples of one size have two labels.
    """
    if (labels == labels[0]).all():
        return int(labels[0])
    best = min(_splits(symbols, labels), key=lambda s: round(s.disorder, 9), default=None)
    if best is None:
        raise ValueError(f"samples of one size are of two structures: {symbols[0].tolist()}")
    below = _values(symbols, best.feature) <= best.low
    parts = (tree(symbols[side], labels[side]) for side in (below, ~below))
    symbol, other, modulus = best.feature
    return [symbol, other, modulus, best.low, best.high, *parts]


def _values(symbols: Ints, feature: Feature) -> Ints:
    symbol, other, modulus = feature
    value = symbols[:, symbol] - (symbols[:, other] if other != NONE else 0)
    return np.abs(value % modulus if modulus else value)


def _splits(symbols: Ints, labels: Ints) -> Iterator[_Split]:
    """Simple ones first: thresholds from the least, divisibility, equality of two symbols."""
    count = symbols.shape[1]
    for symbol in range(count):
        feature = (symbol, NONE, 0)
        values = _values(symbols, feature)
        steps = np.unique(values).tolist()
        for low, high in zip(steps, steps[1:], strict=False):
            yield _Split(feature, low, high, _disorder(labels, values <= low))
    features = [(s, NONE, m) for s in range(count) for m in MODULI]
    features += [(s, o, 0) for s in range(count) for o in range(s)]
    for feature in features:
        zero = _values(symbols, feature) == 0
        if zero.any() and not zero.all():
            yield _Split(feature, 0, 1, _disorder(labels, zero))


def _disorder(labels: Ints, below: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    """Entropy of the labels on both sides of a split, weighted by their samples."""
    total = 0.0
    for side in (below, ~below):
        counts = np.unique(labels[side], return_counts=True)[1]
        total -= float((counts * np.log2(counts / counts.sum())).sum())
    return total
