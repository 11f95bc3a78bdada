"""A trace as one row a call, and back: what every format of other programs is written from and read into."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwspecs.errors import StudyError, nearest
from workloads.capture import CapturedCall, CapturedPass, assemble
from workloads.kind import ITEMSIZE, kinds
from workloads.trace import Segment, Trace

HEADER = ("model", "request", "segments", "kind_dims", "tensor_bytes", "tensor_is_weight")
SAID = ("notes", "unpriced_flops", "by_hand")  # of a trace, where it has some; lists of texts or of rows
SEGMENT = tuple(Segment.__dataclass_fields__)


def calls_of(trace: Trace) -> list[CapturedCall]:
    """One row a call, in program order; tensor ids are those of the trace."""
    widths = {kind: len(kinds()[kind].dims) for kind in trace.kinds}
    found = []
    for call, op in enumerate(trace.call_op.tolist()):
        kind = trace.kinds[int(trace.op_kind[op])]
        found.append(
            CapturedCall(
                kind=kind,
                dtype=trace.dtypes[int(trace.op_dtype[op])],
                dims=tuple(trace.op_dims[op].tolist()[: widths[kind]]),
                label=trace.labels[int(trace.op_label[op])],
                path=trace.paths[int(trace.call_path[call])],
                in_attention=bool(trace.call_in_attention[call]),
                inputs=tuple(trace.inputs(call).tolist()),
                outputs=tuple(trace.outputs(call).tolist()),
            )
        )
    return found


def header_of(trace: Trace) -> dict[str, str]:
    """What a trace holds beside its calls, as JSON texts by the names in HEADER and SAID."""
    data = {
        "model": trace.model,
        "request": dict(trace.request),
        "segments": [vars(s) for s in trace.segments],
        "kind_dims": {k: list(kinds()[k].dims) for k in trace.kinds},
        "tensor_bytes": trace.tensor_bytes.tolist(),
        "tensor_is_weight": trace.tensor_is_weight.astype(int).tolist(),
    }
    said = {name: getattr(trace, name) for name in SAID if getattr(trace, name)}
    return {name: json.dumps(value) for name, value in {**data, **said}.items()}


def trace_from(
    model: str,
    request: Mapping[str, Any],
    calls: Sequence[CapturedCall],
    tensor_bytes: Sequence[int],
    tensor_is_weight: Sequence[bool],
    segments: Sequence[Segment],
) -> Trace:
    """The trace of calls; operators that agree share a row, and strings are numbered as they first occur."""
    everything = CapturedPass(tuple(calls), tuple(tensor_bytes), tuple(tensor_is_weight), (), 0, 0)
    return replace(assemble(model, request, [("", "", 1, everything)]), segments=tuple(segments))


def restored(path: Path, header: Mapping[str, str], calls: Sequence[CapturedCall]) -> Trace:
    """The trace of a file's header (JSON texts) and calls. StudyError, with the file's name, where they do not fit together."""
    missing = [name for name in HEADER if name not in header]
    if missing:
        raise StudyError(f"{path}: lacks {', '.join(missing)}; expected a trace that framecast wrote")
    try:
        data = {name: json.loads(header[name]) for name in HEADER}
        segments = [Segment(**{name: s[name] for name in SEGMENT}) for s in data["segments"]]
        sizes, weights = [int(n) for n in data["tensor_bytes"]], [bool(w) for w in data["tensor_is_weight"]]
        kind_dims = {str(kind): list(dims) for kind, dims in data["kind_dims"].items()}
        said = _said(header)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudyError(f"{path}: the header is damaged ({type(error).__name__}: {error}); export it again") from None
    problem = _kinds(kind_dims) or _spans(segments, len(calls)) or _tensors(sizes, weights)
    problem = problem or next((p for i, call in enumerate(calls) if (p := _call(i, call, len(sizes)))), "")
    if problem:
        raise StudyError(f"{path}: {problem}")
    return replace(trace_from(data["model"], data["request"], calls, sizes, weights, segments), **said)


def _said(header: Mapping[str, str]) -> dict[str, Any]:
    """What SAID names of a trace, () where the file says nothing of it."""
    found = {name: json.loads(header.get(name, "[]")) for name in SAID}
    return {
        "notes": tuple(str(line) for line in found["notes"]),
        "unpriced_flops": tuple((str(a), str(b), int(n)) for a, b, n in found["unpriced_flops"]),
        "by_hand": tuple((str(path), str(role)) for path, role in found["by_hand"]),
    }


def _kinds(kind_dims: Mapping[str, Sequence[str]]) -> str:
    for kind, dims in kind_dims.items():
        if kind not in kinds():
            return _unknown_kind(kind)
        if list(kinds()[kind].dims) != dims:
            ours = ", ".join(kinds()[kind].dims)
            return (
                f"operator kind '{kind}' has dimensions {', '.join(map(str, dims))}, expected {ours}; export it again"
            )
    return ""


def _unknown_kind(kind: str) -> str:
    return f"unknown operator kind '{kind}'{nearest(kind, kinds())} (known: {', '.join(kinds())})"


def _spans(segments: Sequence[Segment], calls: int) -> str:
    edges = [0, *(s.stop for s in segments)]
    for segment, start in zip(segments, edges, strict=False):
        if segment.start != start or segment.stop < start or segment.repeats < 0:
            span = f"calls {segment.start} to {segment.stop}, {segment.repeats} times"
            return f"segment '{segment.name}' spans {span}, expected a span that begins at call {start}"
    return "" if edges[-1] == calls else f"its segments hold {edges[-1]} calls, the file {calls}; it may be truncated"


def _tensors(sizes: Sequence[int], weights: Sequence[bool]) -> str:
    if len(sizes) != len(weights):
        return f"tensor_bytes has {len(sizes)} entries, tensor_is_weight {len(weights)}; expected as many"
    return next((f"tensor {i} has {n} bytes, expected 0 or more" for i, n in enumerate(sizes) if n < 0), "")


def _call(index: int, call: CapturedCall, tensors: int) -> str:
    """What is wrong with a call, '' if nothing."""
    place = f"call {index} ({call.label})"
    if call.kind not in kinds():
        return f"{place}: {_unknown_kind(call.kind)}"
    if call.dtype not in ITEMSIZE:
        return f"{place}: unknown dtype '{call.dtype}'{nearest(call.dtype, ITEMSIZE)} (known: {', '.join(ITEMSIZE)})"
    names = kinds()[call.kind].dims
    if len(call.dims) != len(names):
        return f"{place}: has {len(call.dims)} dimensions, expected {len(names)} ({', '.join(names)})"
    wrong = next((i for i in (*call.inputs, *call.outputs) if not 0 <= i < tensors), None)
    return "" if wrong is None else f"{place}: names tensor {wrong}, expected 0 to {tensors - 1}"


def same(a: Trace, b: Trace) -> bool:
    """Whether two traces hold the same, columns compared by value."""
    names = a.__dataclass_fields__
    return all(np.array_equal(getattr(a, n), getattr(b, n)) if isinstance(getattr(a, n), np.ndarray)
               else getattr(a, n) == getattr(b, n) for n in names)  # fmt: skip
