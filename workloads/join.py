"""Traces of single stages, one after the other -> the trace of a pipeline, numbered as a capture of it all numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workloads.kind import Ints
from workloads.trace import Trace

_NAMES = {"kinds": "op_kind", "dtypes": "op_dtype", "labels": "op_label", "paths": "call_path"}


def join(model: str, request: Mapping[str, Any], parts: Sequence[Trace]) -> Trace:
    """Parts in the order in which they run; two operators of a part may be equal, and its names unused.

    Operators that agree share a row, numbered by the first call that runs them; tensors of different parts are distinct.
    """
    names = {name: _merged([getattr(part, name) for part in parts]) for name in _NAMES}
    columns = {
        column: np.concatenate([here[getattr(part, column)] for here, part in zip(names[name][1], parts, strict=True)])
        for name, column in _NAMES.items()
    }
    widest = max((part.op_dims.shape[1] for part in parts), default=0)
    rows = np.column_stack(
        [*(columns[f"op_{n}"] for n in ("kind", "dtype", "label")), np.concatenate([_padded(p.op_dims, widest) for p in parts])]
    )  # fmt: skip
    ops, row_op = _distinct(rows)
    tensors = _starts(len(p.tensor_bytes) for p in parts)
    calls = _starts(p.calls for p in parts)
    op_starts = _starts(len(p.op_kind) for p in parts)
    strings: dict[str, Any] = {name: tuple(merged) for name, (merged, _) in names.items()}
    return Trace(
        model=model,
        request=request,
        **strings,
        op_kind=ops[:, 0], op_dtype=ops[:, 1], op_label=ops[:, 2], op_dims=ops[:, 3:],
        call_op=row_op[np.concatenate([p.call_op + s for p, s in zip(parts, op_starts, strict=True)])],
        call_path=columns["call_path"],
        call_in_attention=np.concatenate([p.call_in_attention for p in parts]),
        input_offsets=_offsets([p.input_offsets for p in parts]),
        input_ids=np.concatenate([p.input_ids + s for p, s in zip(parts, tensors, strict=True)]),
        output_offsets=_offsets([p.output_offsets for p in parts]),
        output_ids=np.concatenate([p.output_ids + s for p, s in zip(parts, tensors, strict=True)]),
        tensor_bytes=np.concatenate([p.tensor_bytes for p in parts]),
        tensor_is_weight=np.concatenate([p.tensor_is_weight for p in parts]),
        segments=tuple(
            replace(s, start=s.start + int(start), stop=s.stop + int(start))
            for part, start in zip(parts, calls, strict=True)
            for s in part.segments
        ),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        unpriced_flops=tuple(row for part in parts for row in part.unpriced_flops),
        by_hand=tuple(dict.fromkeys(row for part in parts for row in part.by_hand)),
    )  # fmt: skip


def _merged(lists: Sequence[tuple[str, ...]]) -> tuple[dict[str, int], list[Ints]]:
    """Distinct names in order of appearance -> position; for each list the positions of its names."""
    merged: dict[str, int] = {}
    found = [np.array([merged.setdefault(name, len(merged)) for name in names], dtype=np.int64) for names in lists]
    return merged, found


def _distinct(rows: Ints) -> tuple[Ints, Ints]:
    """The distinct rows in order of appearance, and the number of each row's."""
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return rows[first[order]], np.argsort(order)[which.reshape(-1)]


def _padded(dims: Ints, widest: int) -> Ints:
    return np.pad(dims, ((0, 0), (0, widest - dims.shape[1])))


def _starts(counts: Iterable[int]) -> Ints:
    return np.cumsum([0, *counts])[:-1]


def _offsets(parts: Sequence[Ints]) -> Ints:
    """CSR offsets, each from 0, of parts one after the other."""
    ends = _starts(int(offsets[-1]) for offsets in parts)
    return np.concatenate([[0], *(offsets[1:] + end for offsets, end in zip(parts, ends, strict=True))])
