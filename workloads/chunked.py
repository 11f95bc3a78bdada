"""A decoder's trace with convolutions and norms in one piece -> the trace with those that its library cuts up cut.

A library that saves memory runs a large convolution a few frames at a time, so that the sequence of operators follows every
size. The rule by which it does so is short: a template is of the decoder that cuts nothing, and `cut` adds what the rule says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hwspecs.errors import SpecError
from workloads.kind import ITEMSIZE, Ints, kinds
from workloads.trace import Trace

# B, at two a value whatever the dtype, that a convolution reads at most in one piece; diffusers' CogVideoXSafeConv3d
WHOLE = 2 * 1024**3


@dataclass(frozen=True)
class _Call:
    """A call in the place of another: its operator, the call that it stands at and takes path and the like of, its tensors."""

    at: int
    op: tuple[int, ...]  # kind, dtype, label, dims
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class _Edits:
    """Calls that take the place of those of a trace, and the bytes of their own tensors, whose ids follow the trace's."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.dropped: list[int] = []
        self.added: list[_Call] = []
        self.bytes: list[int] = []

    def tensor(self, size: int) -> int:
        """The id of a new tensor."""
        self.bytes.append(size)
        return len(self.trace.tensor_bytes) + len(self.bytes) - 1

    def row(self, call: int) -> tuple[int, ...]:
        """Kind, dtype, label and dims of a call's operator."""
        trace, op = self.trace, int(self.trace.call_op[call])
        return (int(trace.op_kind[op]), int(trace.op_dtype[op]), int(trace.op_label[op]), *trace.op_dims[op].tolist())

    def itemsize(self, call: int) -> int:
        """Bytes of a value of a call's operator."""
        return ITEMSIZE[self.trace.dtypes[self.trace.op_dtype[self.trace.call_op[call]]]]

    @cached_property
    def joins(self) -> tuple[int, int]:
        """Kind and label of a concatenation."""
        return self.trace.kinds.index("permute"), self.trace.labels.index("aten.cat")

    def join(self, call: int, parts: Sequence[int], run: int) -> tuple[int, ...]:
        """The operator that concatenates parts of so many bytes, of the dtype of a call."""
        kind, label = self.joins
        values = {"read0": parts[0], "read1": sum(parts[1:2]), "read2": sum(parts[2:]), "write": sum(parts), "run": run}
        dims = [values.get(name, 0) for name in kinds()["permute"].dims]
        width = self.trace.op_dims.shape[1]
        return kind, self.row(call)[1], label, *dims, *[0] * (width - len(dims))


def cut(trace: Trace, plane: Callable[[str], int], normed: int = 0) -> Trace:
    """The trace of one stage with everything in one piece -> what the library runs.

    SpecError where the library cuts a convolution into pieces that it cannot run.

    Args:
        trace: of one segment, whose tensors are numbered in the order in which calls touch them.
        plane: path of a 3-D convolution -> positions of a frame that it reads, those at the edges too; 0: it is never cut.
        normed: frames that a group norm takes at a time; 0: all.
    """
    edits = _Edits(trace)
    for call in _large(trace).tolist():
        positions = plane(trace.paths[trace.call_path[call]])
        if positions:
            _cut_convolution(edits, call, positions)
    for call in _tall(trace, normed).tolist() if normed else ():
        _cut_norm(edits, call, normed)
    return _edited(edits) if edits.added else trace


def pieces(frames: int, values: int) -> tuple[int, ...]:
    """Frames of each piece that a convolution's input of so many frames and values is cut into; one piece where it is not.

    diffusers takes one part more than the times that the input holds WHOLE, and torch.chunk as many frames for each.
    """
    if 2 * values <= WHOLE:
        return (frames,)
    at_once = -(-frames // (2 * values // WHOLE + 1))
    return _split(frames, at_once)


def _split(total: int, at_once: int) -> tuple[int, ...]:
    """`at_once` each, and the rest last."""
    full, rest = divmod(total, at_once)
    return (at_once,) * full + ((rest,) if rest else ())


def _large(trace: Trace) -> Ints:
    """The calls of 3-D convolutions that read more than is read in one piece."""
    ops = trace.ops_of("conv")
    d = trace.dims("conv", ops)
    large = ops[(d.spatial_dims == 3) & (2 * d.n * d.c * d.in_positions > WHOLE)]
    return np.flatnonzero(np.isin(trace.call_op, large))


def _tall(trace: Trace, most: int) -> Ints:
    """The calls of group norms over more samples than that."""
    ops = trace.ops_of("group_norm")
    return np.flatnonzero(np.isin(trace.call_op, ops[trace.dims("group_norm", ops).n > most]))


def _cut_convolution(edits: _Edits, call: int, plane: int) -> None:
    """A convolution that reads `plane` positions a frame, as diffusers' CogVideoXSafeConv3d cuts it.

    Each piece but the first is joined behind the last frames of the piece before; all are, before the first is convolved.
    """
    kind, dtype, label, *values = edits.row(call)
    names = kinds()["conv"].dims
    d = dict(zip(names, values, strict=False))
    frames, rest = divmod(d["in_positions"], plane)
    if rest:
        raise ValueError(f"{d['in_positions']} positions are no frames of {plane}")
    before = round(d["taps"] ** (1 / 3)) - 1
    parts = pieces(frames, d["n"] * d["c"] * d["in_positions"])
    if parts[0] <= before:
        where = edits.trace.paths[edits.trace.call_path[call]]
        raise SpecError(
            f"{where}: the library cuts this convolution, which takes {before + 1} frames at a time, into pieces of {parts[0]}, "
            "and cannot run it; ask for a smaller height, width or batch"
        )
    item, out_plane = edits.itemsize(call), d["out_positions"] // (frames - before)
    source, *weights = edits.trace.inputs(call).tolist()
    frame, read = d["n"] * d["c"] * plane * item, [source]
    for part in parts[1:]:
        joined = [before * frame, part * frame]
        if before:
            read.append(edits.tensor(sum(joined)))
            run = min(before, part) * plane * item
            edits.added.append(_Call(call, edits.join(call, joined, run), (source, source), (read[-1],)))
        else:
            read.append(source)
    written = []
    for i, (part, from_) in enumerate(zip(parts, read, strict=True)):
        taken = part + (before if i else 0)
        own = {"in_positions": taken * plane, "out_positions": (taken - before) * out_plane}
        dims = [own.get(name, value) for name, value in zip(names, values, strict=False)]
        written.append(edits.tensor(d["n"] * d["k"] * own["out_positions"] * item))
        op = (kind, dtype, label, *dims, *values[len(names) :])
        edits.added.append(_Call(call, op, (from_, *weights), (written[-1],)))
    sizes = [edits.bytes[t - len(edits.trace.tensor_bytes)] for t in written]
    edits.added.append(
        _Call(call, edits.join(call, sizes, 0), tuple(written), tuple(edits.trace.outputs(call).tolist()))
    )
    edits.dropped.append(call)


def _cut_norm(edits: _Edits, call: int, at_once: int) -> None:
    """A group norm whose result a concatenation of it alone copies, and the copy of its input within the same module, if any.

    As diffusers' MochiChunkedGroupNorm3D has it.
    """
    trace = edits.trace
    samples = edits.row(call)[3 + kinds()["group_norm"].dims.index("n")]
    copied = trace.call_path[call - 1] == trace.call_path[call] and trace.outputs(call - 1)[0] == trace.inputs(call)[0]
    run = [call - 1, call] if copied else [call]
    parts = _split(samples, at_once)
    ops = {(one, part): _scaled(edits.row(one), trace.kinds, part, samples) for one in run for part in set(parts)}
    sides = {one: (trace.inputs(one).tolist(), trace.outputs(one).tolist()) for one in run}
    sizes_of = {t: int(trace.tensor_bytes[t]) for _, outputs in sides.values() for t in outputs}
    written: list[int] = []
    for part in parts:
        own = {t: edits.tensor(size * part // samples) for t, size in sizes_of.items()}
        for one, (inputs, outputs) in sides.items():
            taken = tuple([own.get(t, t) for t in inputs])
            edits.added.append(_Call(call, ops[one, part], taken, tuple([own[t] for t in outputs])))
        written.append(own[sides[call][1][0]])
    sizes = [edits.bytes[t - len(trace.tensor_bytes)] for t in written]
    join = call + 1
    edits.added.append(_Call(join, edits.join(join, sizes, 0), tuple(written), tuple(trace.outputs(join).tolist())))
    edits.dropped += [*run, join]


def _scaled(row: tuple[int, ...], names: Sequence[str], part: int, whole: int) -> tuple[int, ...]:
    """An operator over a part of its samples."""
    kind = names[row[0]]
    linear = {"group_norm": ("n",), "permute": ("read0", "write")}[kind]
    places = {3 + kinds()[kind].dims.index(name) for name in linear}
    return tuple(value * part // whole if i in places else value for i, value in enumerate(row))


def _edited(edits: _Edits) -> Trace:
    """The trace with the edits, its tensors numbered in the order in which calls touch them."""
    trace, added = edits.trace, edits.added
    kept = np.delete(np.arange(trace.calls), edits.dropped)
    at = np.array([call.at for call in added], dtype=np.int64)
    order = np.argsort(np.concatenate([kept, at]), kind="stable")
    like = np.concatenate([kept, at])[order]
    rows = np.column_stack([trace.op_kind, trace.op_dtype, trace.op_label, trace.op_dims])
    call_op = np.concatenate([trace.call_op[kept], len(rows) + np.arange(len(added))])[order]
    ops, first, which = np.unique(call_op, return_index=True, return_inverse=True)
    ops, call_op = ops[np.argsort(first)], np.argsort(np.argsort(first))[which]
    rows = np.concatenate([rows, [call.op for call in added]])[ops]
    sides = []
    for side in ("inputs", "outputs"):
        offsets, ids = getattr(trace, f"{side[:-1]}_offsets"), getattr(trace, f"{side[:-1]}_ids")
        own = [getattr(call, side) for call in added]
        lengths = np.concatenate([np.diff(offsets)[kept], [len(row) for row in own]])
        starts = np.concatenate([offsets[:-1][kept], len(ids) + np.cumsum([0, *map(len, own)])[:-1]])
        every = np.concatenate([ids, [t for row in own for t in row]])
        sides.append((lengths[order], every[_ranges(starts[order], lengths[order])]))
    (reads, read), (writes, written) = sides
    owner = np.concatenate(
        [2 * np.repeat(np.arange(len(like)), reads), 2 * np.repeat(np.arange(len(like)), writes) + 1]
    )
    touched = np.concatenate([read, written])[np.argsort(owner, kind="stable")]
    old, first = np.unique(touched, return_index=True)
    old = old[np.argsort(first)]
    new = np.zeros(len(trace.tensor_bytes) + len(edits.bytes), dtype=np.int64)
    new[old] = np.arange(len(old))
    (segment,) = trace.segments
    weights = np.concatenate([trace.tensor_is_weight, np.zeros(len(edits.bytes), dtype=np.bool_)])
    return replace(
        trace,
        op_kind=rows[:, 0], op_dtype=rows[:, 1], op_label=rows[:, 2], op_dims=rows[:, 3:],
        call_op=call_op, call_path=trace.call_path[like], call_in_attention=trace.call_in_attention[like],
        input_offsets=_offsets(reads), input_ids=new[read], output_offsets=_offsets(writes), output_ids=new[written],
        tensor_bytes=np.concatenate([trace.tensor_bytes, edits.bytes]).astype(np.int64)[old],
        tensor_is_weight=weights[old],
        segments=(replace(segment, stop=len(like)),),
    )  # fmt: skip


def _offsets(lengths: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _ranges(starts: Ints, lengths: Ints) -> Any:
    """start, start + 1 ... of each length, one after the other."""
    shift = np.repeat(starts - _offsets(lengths)[:-1], lengths)
    return np.arange(int(lengths.sum())) + shift
