"""Data movement without arithmetic: contiguous copies, permutes, concatenation, padding, gathers by slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from hwspecs.software import Software
from workloads.aten import AtenCall, reads, run_bytes, size, tensors
from workloads.kind import Column, Dims, Ints, OpKind, Read, Way, Work
from workloads.ops.elementwise import INDEX_OPS

DIMS = ("read0", "read1", "read2", "write", "run", "layout")
# bytes of the sources (a 4th and further adds to read2) and of the result; run: bytes of the contiguous runs of the source
# in the order in which the result is written, 0 where the source is contiguous; layout: 1 for a copy between channels first
# and channels last, which a software that keeps feature maps channels last does without.

JOINS = (
    "cat", "stack", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
    "replication_pad1d", "replication_pad2d", "replication_pad3d", "repeat", "roll", "flip", "pixel_shuffle",
    "pixel_unshuffle", "im2col",
)  # fmt: skip
COPIES = ("clone", "_to_copy", "copy_")
ITERATED = tuple(f"aten.{name}" for name in COPIES)  # torch runs them as pointwise operators, with its TensorIterator
# Operations of an element in torch's concatenation, 2 for each instruction (`elementwise.ARITHMETIC`), of contiguous sources and
# of sources with gaps: CatArrayBatchedCopy_contig and CatArrayBatchedCopy (aten/src/ATen/native/cuda/Shape.cu, torch of 2024),
# whose loops find every element's place by divisions; compiled for sm_80 by nvcc 13.5 they have 35 and 47 instructions in three
# and four dimensions, 86 with gaps in four. In more dimensions, as the pairs of a rotary embedding are stacked, torch copies each
# source into its place by a strided copy.
JOINED = ("aten.cat", "aten.stack")
CAT_OPS, GAPS_OPS = 82, 150


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.write


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel, read in runs and written contiguously; none for a change of layout that the software spares.

    A copy of a strided tensor goes through torch's eager kernel that works out the address of every element (Copy.cu and
    Loops.cuh of aten/native/cuda: no vector loads where an operand is not contiguous); so does that of a concatenation. Pads and
    gathers have kernels of their own, which were not counted.
    """
    kept = np.where((d.layout == 1) & (software.convolution.layout == "nhwc"), 0, 1)
    eager = int(software.fusion == "eager")
    strided = INDEX_OPS * getattr(d, "iterated", 0 * d.run) * (d.run > 0)
    joined = np.where(d.run > 0, GAPS_OPS, CAT_OPS) * getattr(d, "joined", 0 * d.run)
    reads = (Read("input0", kept * d.read0), Read("input1", kept * d.read1), Read("input2", kept * d.read2))
    index_ops = eager * kept * (strided + joined) * (d.write // itemsize)
    return (Work("copy", "stream", reads, kept * d.write, run_bytes=d.run, index_ops=index_ops),)


def _copied(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]] | None:
    """clone(source), _to_copy(source), copy_(target, source) of one dtype."""
    source = call.args[1] if call.name == "aten.copy_" else call.args[0]
    if source.dtype != call.out.dtype:
        return None
    dims, operands = _moved(call, [source])
    return {**dims, "layout": int(_transposes(source, call.out))}, operands


def _joined(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """cat, stack, pad, roll, repeat: all that is read is in the first argument."""
    return _moved(call, tensors(call.args[:1]))


def _gathered(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """index_select(source, axis, index), gather(source, axis, index), index(source, indices of the leading axes).

    Reads as much of the source as it returns, in runs that start anew at every index, and the indices.
    """
    source, *index = tensors(call.args)
    axis = call.args[1] if isinstance(call.args[1], int) else len(call.args[1]) - 1
    run = 1 if call.name == "aten.gather" else source.stride(axis)
    moved = size(call.out)
    dims = {"read0": moved, "read1": sum(map(size, index)), "read2": 0, "write": moved, "layout": 0}
    return {**dims, "run": run * source.element_size()}, (source, *index)


def _moved(call: AtenCall, sources: Iterable[Any]) -> tuple[dict[str, int], tuple[Any, ...]]:
    operands = call.in_order(sources)
    runs = [run for run in (run_bytes(source, call.out) for source in operands) if run]
    return {**reads(operands), "write": size(call.out), "run": min(runs, default=0), "layout": 0}, operands


def _transposes(source: Any, result: Any) -> bool:
    """Whether a copy swaps two axes (each may be several that lie together) of every sample: [n, c, hw] to [n, hw, c]."""
    if source.dim() != result.dim() or source.numel() != result.numel():
        return False
    axes = [i for i in range(source.dim()) if source.shape[i] > 1]
    before, after = (sorted(axes, key=lambda i: -t.stride(i)) for t in (source, result))
    samples = int(bool(axes) and before[0] == after[0] == 0)
    before, after = before[samples:], after[samples:]
    return any(after == before[cut:] + before[:cut] for cut in range(1, len(before)))


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """A transposed copy where there are runs, a concatenation where there are two sources, else a clone."""
    import torch

    from workloads.dtypes import torch_dtype
    from workloads.kind import ITEMSIZE

    size = ITEMSIZE[dtype]
    make: dict[str, Any] = {"device": "meta", "dtype": torch_dtype(dtype)}
    if d["read1"]:
        parts = [torch.empty(d[f"read{i}"] // size, **make) for i in range(3) if d[f"read{i}"]]
        return lambda: torch.cat(parts)
    if d["run"]:
        inner = d["run"] // size
        outer = d["read0"] // size // inner
        rows_ = max(r for r in range(1, 65) if outer % r == 0)
        x = torch.empty(rows_, outer // rows_, inner, **make)
        return lambda: x.transpose(0, 1).contiguous()
    y = torch.empty(d["read0"] // size, **make)
    return lambda: y.clone()


EXAMPLES = (
    {"read0": 1 << 22, "read1": 0, "read2": 0, "write": 1 << 22, "run": 0, "layout": 0},
    {"read0": 80 << 16, "read1": 0, "read2": 0, "write": 80 << 16, "run": 80, "layout": 0},
    {"read0": 2 << 16, "read1": 0, "read2": 0, "write": 2 << 16, "run": 2, "layout": 1},
    {"read0": 1 << 20, "read1": 1 << 21, "read2": 0, "write": 3 << 20, "run": 0, "layout": 0},
)

CAPTURE = {
    **{f"aten.{name}": _copied for name in COPIES},
    **{f"aten.{name}": _joined for name in JOINS},
    **{f"aten.{name}": _gathered for name in ("index_select", "gather", "index")},
}

KIND = OpKind(
    "permute",
    "Memory",
    DIMS,
    flops,
    (Way("copy", rows),),
    torch_call,
    EXAMPLES,
    capture=CAPTURE,
    pointwise=True,
    flags=lambda label: {"iterated": int(label in ITERATED), "joined": int(label in JOINED)},
)
