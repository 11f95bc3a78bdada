"""Trace: what one inference computes. Columnar, and free of any hardware.

`ops` are the distinct operators; `calls` say in program order which operator runs where in the module tree, which tensors
it reads and writes; `segments` are the spans of calls that repeat (text encoder, one denoising step, decoder).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwspecs.errors import SpecError, StudyError
from workloads.kind import ITEMSIZE, Dims, Ints, kinds

SCHEMA_VERSION = 1
MOST_FLOPS = 2**63 - 1  # of one call: what int64 holds
SAFE_BITS = 60  # of the product of an op's dimensions: FLOPs are at most some times that
_ARRAYS = (
    "op_kind", "op_dtype", "op_dims", "op_label", "call_op", "call_path", "call_in_attention", "input_offsets", "input_ids",
    "output_offsets", "output_ids", "tensor_bytes", "tensor_is_weight",
)  # fmt: skip
_NAMES = ("kinds", "dtypes", "labels", "paths")
_CONNECTIONS = (
    "call_path", "call_in_attention", "input_offsets", "input_ids", "output_offsets", "output_ids", "tensor_is_weight",
)  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """Calls [start, stop) of a trace, run `repeats` times; `module` owns the weights (segments may share a module)."""

    name: str
    module: str
    start: int
    stop: int
    repeats: int
    parameters: int
    weight_bytes: int


@dataclass(frozen=True)
class Trace:
    """Columns; see the module's docstring.

    Attributes:
        model, request: what was captured; `request` as plain JSON data.
        kinds, dtypes, labels, paths: the strings that the integer columns index.
        op_kind, op_dtype, op_label: int64 (ops,). op_label names the torch operator.
        op_dims: int64 (ops, widest kind); the columns of a kind are named by OpKind.dims.
        call_op, call_path: int64 (calls,). call_in_attention: bool (calls,), the call runs under an attention module.
        input_offsets, input_ids: CSR of the tensors that each call reads, activations in argument order, then weights.
        output_offsets, output_ids: CSR of the tensors that it writes.
        tensor_bytes, tensor_is_weight: (tensors,). A tensor is a storage: views share the id of what they view.
        notes: what was assumed about data, and how a user's module was run, a line each.
        by_hand: (module path, role) of attention that is written by hand, as products and a softmax: `workloads.by_hand`.
        unpriced_flops: (segment, torch operator, FLOPs of one pass) of operators without a cost model, where torch knows them.
    """

    model: str
    request: Mapping[str, Any]
    kinds: tuple[str, ...]
    dtypes: tuple[str, ...]
    labels: tuple[str, ...]
    paths: tuple[str, ...]
    op_kind: Ints
    op_dtype: Ints
    op_dims: Ints
    op_label: Ints
    call_op: Ints
    call_path: Ints
    call_in_attention: np.ndarray[Any, np.dtype[np.bool_]]
    input_offsets: Ints
    input_ids: Ints
    output_offsets: Ints
    output_ids: Ints
    tensor_bytes: Ints
    tensor_is_weight: np.ndarray[Any, np.dtype[np.bool_]]
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()
    unpriced_flops: tuple[tuple[str, str, int], ...] = ()
    by_hand: tuple[tuple[str, str], ...] = ()

    @property
    def calls(self) -> int:
        """Number of calls in all segments, each counted once."""
        return len(self.call_op)

    def ops_of(self, kind: str) -> Ints:
        """Indices of the ops of a kind, int64 (n,); empty where the trace has none."""
        return np.flatnonzero(self.op_kind == self.kinds.index(kind)) if kind in self.kinds else np.empty(0, np.int64)

    def dims(self, kind: str, ops: Ints | None = None) -> Dims:
        """Named dimension columns of the ops of a kind (or of the given ops, which must be of that kind)."""
        rows = self.op_dims[self.ops_of(kind) if ops is None else ops]
        return Dims({name: rows[:, i] for i, name in enumerate(kinds()[kind].dims)})

    def op_itemsize(self) -> Ints:
        """Bytes per element of each op's dtype, int64 (ops,)."""
        return np.array([ITEMSIZE[t] for t in self.dtypes], dtype=np.int64)[self.op_dtype]

    def op_flops(self) -> Ints:
        """Matrix FLOPs of each op, int64 (ops,). SpecError where one has more than that can hold."""
        self.check_flops()
        return self._per_op(lambda kind, d: kinds()[kind].flops(d))

    def check_flops(self) -> None:
        """SpecError where an op has more FLOPs than int64 holds: those that may are counted in whole numbers of any size."""
        bits = np.log2(np.maximum(self.op_dims, 1)).sum(axis=1)
        for kind in self.kinds:
            large = self.ops_of(kind)
            large = large[bits[large] > SAFE_BITS]
            if not len(large):
                continue
            names = kinds()[kind].dims
            rows = self.op_dims[large].astype(object)
            dims = Dims({n: rows[:, i] for i, n in enumerate(names)}, dtype=object)
            try:
                exact = kinds()[kind].flops(dims)
            except ZeroDivisionError:  # groups: 0, in a damaged file
                continue
            for row, flops in zip(rows, np.broadcast_to(exact, len(large)), strict=True):
                if flops > MOST_FLOPS:
                    sizes = ", ".join(f"{n} {row[i]}" for i, n in enumerate(names))
                    where = f"{self.model}: " if self.model else ""
                    has = f"{where}{kind} of {sizes}: found {float(flops):.3g} FLOP in one call"
                    raise SpecError(f"{has}, expected at most {MOST_FLOPS:.3g}; ask for less")

    def call_repeats(self) -> Ints:
        """How many times each call runs in one inference, int64 (calls,)."""
        return self._per_call([s.repeats for s in self.segments])

    def call_segment(self) -> Ints:
        """Index of the segment of each call, int64 (calls,)."""
        return self._per_call(list(range(len(self.segments))))

    def call_kind(self) -> Ints:
        """Index into `kinds` of each call."""
        return self.op_kind[self.call_op]

    def inputs(self, call: int) -> Ints:
        """Tensor ids that a call reads."""
        return self.input_ids[self.input_offsets[call] : self.input_offsets[call + 1]]

    def outputs(self, call: int) -> Ints:
        """Tensor ids that a call writes."""
        return self.output_ids[self.output_offsets[call] : self.output_offsets[call + 1]]

    @property
    def parameters(self) -> int:
        """Parameters of all modules, each module once."""
        return sum({s.module: s.parameters for s in self.segments}.values())

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights of all modules, each module once."""
        return sum({s.module: s.weight_bytes for s in self.segments}.values())

    def flops(self) -> int:
        """Matrix FLOPs of one inference, repeats included."""
        flops = self.op_flops()[self.call_op]
        return sum(sum(flops[s.start : s.stop].tolist()) * s.repeats for s in self.segments)  # Python ints: no overflow

    def _per_op(self, of: Any) -> Ints:
        out = np.zeros(len(self.op_kind), dtype=np.int64)
        for kind in self.kinds:
            out[self.ops_of(kind)] = np.asarray(of(kind, self.dims(kind)), dtype=np.int64)
        return out

    def _per_call(self, values: list[int]) -> Ints:
        return np.repeat(np.array(values, dtype=np.int64), [s.stop - s.start for s in self.segments])


def alike(one: Trace, other: Trace) -> bool:
    """The same operators in the same order on the same tensors, sizes apart."""
    return all(getattr(one, n) == getattr(other, n) for n in _NAMES) and all(
        np.array_equal(getattr(one, n), getattr(other, n)) for n in _CONNECTIONS
    )


def same(one: Trace, other: Trace) -> bool:
    """Equal in every column, and in what the segments own."""
    owned = [[(s.parameters, s.weight_bytes) for s in trace.segments] for trace in (one, other)]
    columns = all(np.array_equal(getattr(one, n), getattr(other, n)) for n in _ARRAYS)
    return alike(one, other) and columns and owned[0] == owned[1]


def save(trace: Trace, path: Path) -> None:
    """Write a trace (zip of .npy columns and a JSON header), atomically. Raises StudyError when the path cannot be written."""
    header = {
        "schema_version": SCHEMA_VERSION,
        "kind_dims": {k: list(kinds()[k].dims) for k in trace.kinds},
        "model": trace.model,
        "request": dict(trace.request),
        **{name: list(getattr(trace, name)) for name in ("kinds", "dtypes", "labels", "paths")},
        "segments": [vars(s) for s in trace.segments],
        "notes": list(trace.notes),
        "unpriced_flops": [list(row) for row in trace.unpriced_flops],
        "by_hand": [list(row) for row in trace.by_hand],
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")  # of mode 0666 less the umask
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            columns = {name: getattr(trace, name) for name in _ARRAYS}
            np.savez_compressed(file, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **columns)
        os.replace(temporary, path)
    except OSError as error:
        raise StudyError(f"{path}: cannot write the trace: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load(path: Path) -> Trace:
    """Read a trace that `save` wrote. Raises StudyError for a missing, corrupt or foreign file."""
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: cannot read the trace: {error.strerror or error}") from None
    try:
        return _decode(stored)
    except StudyError as error:
        raise StudyError(f"{path}: {error}; delete it and capture again") from None
    except Exception:  # damage shows as whatever zlib, zipfile, json or numpy then stumbles over
        raise StudyError(f"{path}: not a framecast trace, or damaged; delete it and capture again") from None


def _decode(stored: bytes) -> Trace:
    """The trace in a file's bytes. StudyError where they are a trace that cannot be used here, else any exception."""
    with np.load(io.BytesIO(stored), allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        arrays = {name: file[name] for name in _ARRAYS if name in file}
    problem = _problem(header, arrays)
    if problem:
        raise StudyError(problem)
    strings: dict[str, Any] = {name: tuple(header[name]) for name in ("kinds", "dtypes", "labels", "paths")}
    segments = tuple(Segment(**s) for s in header["segments"])
    more: dict[str, Any] = {
        "notes": tuple(header.get("notes", ())),
        "unpriced_flops": tuple((str(a), str(b), int(n)) for a, b, n in header.get("unpriced_flops", ())),
        "by_hand": tuple((str(path), str(role)) for path, role in header.get("by_hand", ())),
    }
    return Trace(model=header["model"], request=header["request"], segments=segments, **strings, **arrays, **more)


def _problem(header: Any, arrays: Mapping[str, Any]) -> str:
    """What is wrong with a stored trace, '' if nothing."""
    if not isinstance(header, dict) or header.get("schema_version") != SCHEMA_VERSION:
        found = header.get("schema_version") if isinstance(header, dict) else None
        return f"trace schema version is {found}, expected {SCHEMA_VERSION}"
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        return f"the trace lacks {', '.join(missing)}"
    for kind, dims in header["kind_dims"].items():
        if kind not in kinds() or list(kinds()[kind].dims) != dims:
            return f"the trace was made with other dimensions of operator kind '{kind}'"
    return ""
