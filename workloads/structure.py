"""Captures of one stage, sorted by structure, and the template of each. For maintainers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from math import prod
from typing import Any, TypeAlias

import numpy as np

from workloads.fit import fit
from workloads.formulas import Formulas
from workloads.kind import Ints
from workloads.looped import ONCE, Looped
from workloads.loops import Folded, fold
from workloads.templates import Template
from workloads.trace import Trace

Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

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


@dataclass(frozen=True)
class Form:
    """A capture and its structure: `key` is equal for two that differ in sizes alone, or in how often a loop runs.

    folded, passes: its pieces and how often each runs, where it has loops.
    """

    trace: Trace
    key: bytes
    folded: Folded | None = None
    passes: Ints | None = None


def form(trace: Trace) -> Form:
    """The structure of a capture of one stage. Which sizes are zero belongs to it."""
    names = repr((trace.kinds, trace.dtypes, trace.labels, trace.paths)).encode()
    rows = _rows(trace)
    columns = [rows, trace.call_path[:, None], trace.call_in_attention[:, None]]
    tokens = np.unique(np.column_stack(columns), axis=0, return_inverse=True)[1].reshape(-1)
    sides = (trace.input_offsets, trace.input_ids), (trace.output_offsets, trace.output_ids)
    found = fold(tokens, *sides, len(trace.tensor_bytes))
    if found is None:
        return Form(trace, b"|".join([names, rows.tobytes(), *(getattr(trace, name).tobytes() for name in _CALLS)]))
    folded, passes = found
    calls, tensors = _once(folded.calls, passes), _once(folded.tensors, passes)
    refs = [column.tobytes() for side in (folded.inputs, folded.outputs) for column in vars(side).values()]
    parts = [rows[calls], trace.call_path[calls], trace.call_in_attention[calls], trace.tensor_is_weight[tensors]]
    key = [names, folded.calls.tobytes(), folded.tensors.tobytes(), (passes > 1).tobytes(), *refs]
    return Form(trace, b"|".join([*key, *(p.tobytes() for p in parts)]), folded, passes)


def _rows(trace: Trace) -> Ints:
    """For every call what it computes, sizes apart."""
    from workloads.kind import kinds

    chosen = np.zeros_like(trace.op_dims)
    for kind, dims in _CHOICES.items():
        for dim in dims:
            column = kinds()[kind].dims.index(dim)
            ops = trace.ops_of(kind)
            if len(ops):
                chosen[ops, column] = trace.op_dims[ops, column]
    rows = np.column_stack([trace.op_kind, trace.op_dtype, trace.op_label, trace.op_dims == 0, chosen])
    return rows[trace.call_op]


def _once(lengths: Ints, passes: Ints, turn: int = 0) -> Ints:
    """Positions of one pass of each piece in the whole: pass `turn` of those that run several times."""
    starts = np.concatenate([[0], np.cumsum(lengths * passes)])[:-1]
    return np.concatenate(
        [s + (turn if k > 1 else 0) * n + np.arange(n) for s, n, k in zip(starts, lengths, passes, strict=True)]
    )


def template(symbols: Ints, forms: Sequence[Form], whole: Collection[int] = ()) -> tuple[Template | Looped | None, int]:
    """The template of captures of one structure at some values of the symbols, None where a size has no expression.

    Also how many distinct sizes have none. A loop that always runs as often is none. whole: as for `workloads.fit.fit`.
    """
    passes = {f.passes.tobytes() for f in forms if f.passes is not None}
    return _loops(symbols, forms, whole) if len(passes) > 1 else _plain(symbols, [f.trace for f in forms], whole)


def _plain(symbols: Ints, traces: Sequence[Trace], whole: Collection[int]) -> tuple[Template | None, int]:
    base = traces[0]
    sizes = np.array([sizes_of(t) for t in traces])
    distinct, which = np.unique(sizes, axis=1, return_inverse=True)
    which = which.reshape(-1)
    found, missing = fit(symbols, distinct, whole)
    if missing:
        return None, len(missing)
    dims = which[: base.calls * base.op_dims.shape[1]].reshape(base.calls, -1)
    rows, call_op = _numbered(np.column_stack([_kinds(base), dims]))
    trace = replace(
        base, op_kind=rows[:, 0], op_dtype=rows[:, 1], op_label=rows[:, 2], op_dims=rows[:, 3:], call_op=call_op
    )
    return Template(trace, rows[:, 3:], which[dims.size : -2], (int(which[-2]), int(which[-1])), found), 0


def sizes_of(trace: Trace) -> Ints:
    """Every size of a stage's capture: as many for all captures of one structure whose loops run as often."""
    return np.concatenate([_dims(trace).reshape(-1), trace.tensor_bytes, _totals(trace)])


@dataclass(frozen=True)
class End:
    """Whether the size at a position of `sizes_of` is so many times a product of symbols, beyond which it does not go."""

    position: int
    factors: tuple[int, ...]
    times: Fraction

    def of(self, sizes: Ints, symbols: Ints) -> bool:
        """Whether it is, of a capture at some values of the symbols."""
        return int(sizes[self.position]) == self.times * prod(int(symbols[f]) for f in self.factors)


@dataclass(frozen=True)
class Split:
    """Sizes whose values tell captures of one structure apart.

    Attributes:
        few: positions in `sizes_of` of those of which each value is a case.
        ends: of those that are the lesser or the greater of two products.
    """

    few: Ints
    ends: tuple[End, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return len(self.few) + len(self.ends) > 0

    def of(self, trace: Trace, symbols: Ints) -> Ints:
        """The case that a capture is, at some values of the symbols."""
        if not self:  # no size: the captures may have other counts of them
            return self.few
        sizes = sizes_of(trace)
        return np.array([*sizes[self.few], *(end.of(sizes, symbols) for end in self.ends)], dtype=np.int64)


def choices(symbols: Ints, forms: Sequence[Form], few: int, whole: Collection[int] = ()) -> Split:
    """What tells captures apart by sizes that have no expression: those that take `few` values at most, and an end of others.

    A size that is the lesser (or greater) of two products is the first, times a number, wherever it is not below (above) that.
    None with loops of several counts.
    """
    if len({f.passes.tobytes() for f in forms if f.passes is not None}) > 1:
        return Split(np.zeros(0, np.int64))
    sizes = np.array([sizes_of(f.trace) for f in forms])
    distinct, first = np.unique(sizes, axis=1, return_index=True)
    taken: list[int] = []
    ends: list[End] = []
    for i in fit(symbols, distinct, whole)[1]:
        if len(np.unique(distinct[:, i])) <= few:
            taken.append(int(first[i]))
        else:
            ends += _end(symbols, distinct[:, i], int(first[i]))
    return Split(np.array(sorted(taken), dtype=np.int64), tuple(ends))


def _end(symbols: Ints, column: Ints, position: int) -> list[End]:
    """The end that most captures are at, two at least, of all products of symbols; none where there is no such."""
    found: list[tuple[int, int, End]] = []
    for count in range(symbols.shape[1] + 1):
        for factors in combinations(range(symbols.shape[1]), count):
            products = [prod(int(row[f]) for f in factors) for row in symbols]
            times = [Fraction(int(size), product) for size, product in zip(column, products, strict=True)]
            for share in (max(times), min(times)):
                found.append((times.count(share), -count, End(position, factors, share)))
    at_most, _, end = max(found, key=lambda f: f[:2])
    return [end] if at_most > 1 else []


def _loops(symbols: Ints, forms: Sequence[Form], whole: Collection[int]) -> tuple[Looped | None, int]:
    base, folded = forms[0], forms[0].folded
    assert folded is not None
    passes = np.array([f.passes for f in forms])
    again = passes[0] > 1
    call_again, tensor_again = np.repeat(again, folded.calls), np.repeat(again, folded.tensors)
    width = base.trace.op_dims.shape[1]
    outer, outer_missing, which = _fitted(
        symbols, [[*_parts(f, ~call_again, ~tensor_again, 0), f.passes[again], _totals(f.trace)] for f in forms],  # type: ignore[index]
        whole,
    )  # fmt: skip
    rows = [(i, turn) for i, p in enumerate(passes) for turn in range(int(p[again].min()))]
    numbers = np.array([[*symbols[i], turn + 1] for i, turn in rows], dtype=np.int64)
    inner, inner_missing, mine = _fitted(
        numbers, [_parts(forms[i], call_again, tensor_again, turn) for i, turn in rows], whole
    )
    if outer_missing or inner_missing:
        return None, outer_missing + inner_missing
    dims = np.zeros((len(call_again), width), dtype=np.int64)
    sizes = np.zeros(len(tensor_again), dtype=np.int64)
    for flag_call, flag_tensor, found in ((~call_again, ~tensor_again, which), (call_again, tensor_again, mine)):
        count = int(flag_call.sum()) * width
        dims[flag_call] = found[:count].reshape(-1, width)
        sizes[flag_tensor] = found[count : count + int(flag_tensor.sum())]
    counts = np.full(len(again), ONCE)
    counts[again] = which[-2 - int(again.sum()) : -2]
    calls, tensors = _once(folded.calls, passes[0]), _once(folded.tensors, passes[0])
    ops, call_op = _numbered(np.column_stack([_kinds(base.trace)[calls], call_again, dims]))
    trace = replace(
        base.trace, op_kind=ops[:, 0], op_dtype=ops[:, 1], op_label=ops[:, 2], op_dims=ops[:, 4:], call_op=call_op,
        call_path=base.trace.call_path[calls], call_in_attention=base.trace.call_in_attention[calls],
        tensor_is_weight=base.trace.tensor_is_weight[tensors],
    )  # fmt: skip
    totals = (int(which[-2]), int(which[-1]))
    return Looped(trace, folded, counts, ops[:, 3].astype(np.bool_), ops[:, 4:], sizes, totals, outer, inner), 0


def _fitted(symbols: Ints, columns: Sequence[Sequence[Ints]], whole: Collection[int]) -> tuple[Formulas, int, Ints]:
    """Expressions of the distinct columns, how many have none, and which of them each column is."""
    distinct, which = np.unique(np.array([np.concatenate(c) for c in columns]), axis=1, return_inverse=True)
    found, missing = fit(symbols, distinct, whole)
    return found, len(missing), which.reshape(-1)


def _parts(found: Form, calls: Bools, tensors: Bools, turn: int) -> tuple[Ints, Ints]:
    """Dimensions and bytes in one pass of the pieces that are chosen by their calls and tensors."""
    assert found.folded is not None
    assert found.passes is not None
    at = _once(found.folded.calls, found.passes, turn)[calls]
    stored = _once(found.folded.tensors, found.passes, turn)[tensors]
    return _dims(found.trace)[at].reshape(-1), found.trace.tensor_bytes[stored]


def _numbered(rows: Ints) -> tuple[Ints, Ints]:
    """Distinct rows in order of appearance, and the number of each."""
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return rows[first[order]], np.argsort(order)[which.reshape(-1)]


def _kinds(trace: Trace) -> Ints:
    return np.column_stack([trace.op_kind, trace.op_dtype, trace.op_label])[trace.call_op]


def _dims(trace: Trace) -> Ints:
    """Dimensions of every call, (calls, widest kind)."""
    return trace.op_dims[trace.call_op]


def _totals(trace: Trace) -> Ints:
    (segment,) = trace.segments
    return np.array([segment.parameters, segment.weight_bytes])
