"""A template whose calls repeat as often as the stage's numbers say, as decoders do that take a clip a few frames at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from workloads.formulas import Formulas, formulas
from workloads.kind import Ints
from workloads.loops import Folded, Refs
from workloads.trace import Segment, Trace

ONCE = -1  # in `counts`: a piece that runs once


@dataclass(frozen=True)
class Looped:
    """A stage's trace with loops, and expressions in place of its sizes.

    Attributes:
        trace: calls, operators and tensors of one pass of each piece; what they read and write is in `folded`.
        folded: the pieces.
        counts: (pieces,) which of the `outer` expressions says how often each runs, or ONCE.
        looped: (ops,) whether an operator belongs to a piece that runs several times; its dimensions are then `inner`.
        dims: (ops, widest kind) expression of each dimension.
        tensor_bytes: (tensors,) expression of each, `inner` for those of a piece that runs several times.
        totals: `outer` expressions of the parameters and of the bytes of the weights.
        outer: expressions in the symbols. inner: in the symbols and the number of the pass, from 1.
    """

    trace: Trace
    folded: Folded
    counts: Ints
    looped: Ints
    dims: Ints
    tensor_bytes: Ints
    totals: tuple[int, int]
    outer: Formulas
    inner: Formulas

    def at(self, symbols: Ints) -> Trace | None:
        """The stage's trace, None where a loop would not repeat; two of its operators may be equal.

        ArithmeticError where an expression is not whole.
        """
        outer = self.outer.at(symbols)
        counts = np.where(self.counts == ONCE, 1, outer[self.counts])
        if (counts < 0).any():
            return None
        turns = 1 + np.arange(int(counts.max()))[:, None]
        inner = self.inner.at(np.concatenate([np.broadcast_to(symbols, (len(turns), len(symbols))), turns], axis=1))
        calls, passes = self.folded.order(counts)
        rows, call_op = self._ops(calls, passes, outer, inner)
        tensors, made = self.folded.tensor_order(counts)
        again = np.repeat(self.counts != ONCE, self.folded.tensors)[tensors]
        expression = self.tensor_bytes[tensors]
        parameters, weight_bytes = (int(outer[i]) for i in self.totals)
        (segment,) = self.trace.segments
        read, written = (self.folded.ids(refs, counts) for refs in (self.folded.inputs, self.folded.outputs))
        return replace(
            self.trace,
            op_kind=rows[:, 0], op_dtype=rows[:, 1], op_label=rows[:, 2], op_dims=rows[:, 3:], call_op=call_op,
            call_path=self.trace.call_path[calls], call_in_attention=self.trace.call_in_attention[calls],
            input_offsets=read[0], input_ids=read[1], output_offsets=written[0], output_ids=written[1],
            tensor_bytes=np.where(again, inner[made, np.where(again, expression, 0)], outer[np.where(again, 0, expression)]),
            tensor_is_weight=self.trace.tensor_is_weight[tensors],
            segments=(replace(segment, stop=len(calls), parameters=parameters, weight_bytes=weight_bytes),),
        )  # fmt: skip

    def _ops(self, calls: Ints, passes: Ints, outer: Ints, inner: Ints) -> tuple[Ints, Ints]:
        """Operators (kind, dtype, label, dims) in the order in which calls need them, and which each call runs."""
        of = self.trace.call_op[calls]
        key = of + len(self.dims) * np.where(self.looped[of], passes, 0)
        keys, first, which = np.unique(key, return_index=True, return_inverse=True)
        order = np.argsort(first)
        turn, op = np.divmod(keys[order], len(self.dims))
        again, dims = self.looped[op, None], self.dims[op]
        values = np.where(again, inner[turn[:, None], np.where(again, dims, 0)], outer[np.where(again, 0, dims)])
        kinds = np.column_stack([self.trace.op_kind, self.trace.op_dtype, self.trace.op_label])[op]
        return np.column_stack([kinds, values]), np.argsort(order)[which.reshape(-1)]


_COLUMNS = ("call_op", "call_path", "call_in_attention", "tensor_is_weight")
_NAMES = ("kinds", "dtypes", "labels", "paths")


def looped_data(found: Looped) -> dict[str, Any]:
    """As JSON: whole numbers as differences, which compress better."""
    trace, folded = found.trace, found.folded
    refs = {
        side: [_steps(getattr(getattr(folded, side), f.name)) for f in fields(Refs)] for side in ("inputs", "outputs")
    }
    return {
        **{name: list(getattr(trace, name)) for name in _NAMES},
        **{name: _steps(getattr(trace, name)) for name in _COLUMNS},
        "ops": np.column_stack([trace.op_kind, trace.op_dtype, trace.op_label, found.looped, found.dims]).tolist(),
        "tensor_bytes": _steps(found.tensor_bytes),
        "loops": {"calls": folded.calls.tolist(), "tensors": folded.tensors.tolist(), "counts": found.counts.tolist(), **refs},
        "totals": found.totals,
        "outer": found.outer.data(),
        "inner": found.inner.data(),
    }  # fmt: skip


def looped(data: Mapping[str, Any]) -> Looped:
    """What `looped_data` gave, back."""
    ops, loops = _ints(data["ops"]), data["loops"]
    columns: dict[str, Any] = {name: np.cumsum(_ints(data[name])) for name in _COLUMNS}
    bools: dict[str, Any] = {
        name: columns.pop(name).astype(np.bool_) for name in ("call_in_attention", "tensor_is_weight")
    }
    none = np.empty(0, np.int64)
    names: dict[str, Any] = {name: tuple(data[name]) for name in _NAMES}
    trace = Trace(
        model="",
        request={},
        **names,
        op_kind=ops[:, 0], op_dtype=ops[:, 1], op_label=ops[:, 2], op_dims=ops[:, 4:],
        input_offsets=none, input_ids=none, output_offsets=none, output_ids=none, tensor_bytes=none,
        **columns,
        **bools,
        segments=(Segment("", "", 0, 0, 1, 0, 0),),
    )  # fmt: skip
    sides = [Refs(*(np.cumsum(_ints(column)) for column in loops[side])) for side in ("inputs", "outputs")]
    parameters, weight_bytes = data["totals"]
    return Looped(
        trace, Folded(_ints(loops["calls"]), _ints(loops["tensors"]), *sides), _ints(loops["counts"]),
        ops[:, 3].astype(np.bool_), ops[:, 4:], np.cumsum(_ints(data["tensor_bytes"])), (parameters, weight_bytes),
        formulas(data["outer"]), formulas(data["inner"]),
    )  # fmt: skip


def _steps(column: Any) -> list[int]:
    return np.diff(column.astype(np.int64), prepend=0).tolist()  # type: ignore[no-any-return]


def _ints(values: Any) -> Ints:
    return np.array(values, dtype=np.int64)
