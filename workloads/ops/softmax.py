"""Softmax over rows x cols, along cols (outside attention, or attention written by hand)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hwspecs.software import Software
from workloads.aten import AtenCall
from workloads.kind import DISPATCH, Column, Dims, Ints, OpKind, Read, Way, Work

DIMS = ("rows", "cols")
FLOPS = 5  # per element: subtract, multiply by log2(e), running maximum, sum, divide

# The same of torch's kernels in eager code (aten/src/ATen/native/cuda/SoftMax.cu and PersistentSoftmax.cuh; their loops compiled
# for sm_80 by nvcc 13.5, fp16): the one for rows longer than WARP_ROW, a block to a row, and the one for shorter rows, which a
# warp keeps in registers. Their instructions count as 2 operations each at the rate of the integer lanes, as in pointwise kernels
# (`elementwise.ARITHMETIC`): 38 an element, of which exponentials and reciprocals are 3; and 42 an element of a row up to a power
# of two, of which 2, and 30 a lane (the two reductions over the warp; 20 to 39 in rows of 16 to 128).
WARP_ROW, WARP = 1024, 32
BLOCK_OPS, BLOCK_EXPS = 38, 3
ELEMENT_OPS, LANE_OPS, ELEMENT_EXPS = 42, 30, 2


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.rows


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel that keeps a row on chip."""
    n = d.rows * d.cols
    return (on_rows(Work("softmax", "reduce", (Read("input0", itemsize * n),), itemsize * n), n, d.cols, software),)


def on_rows(work: Work, elements: Ints, cols: Ints, software: Software) -> Work:
    """The same kernel with the arithmetic of a softmax of so many elements (ops,) in rows of `cols`."""
    if software.fusion != "eager":
        return replace(work, vector_flops=FLOPS * elements, exp_ops=elements)
    short = cols <= WARP_ROW
    padded = np.exp2(np.ceil(np.log2(cols))).astype(np.int64)
    rows_ = elements // np.maximum(cols, 1)
    ops = np.where(short, rows_ * (ELEMENT_OPS * padded + LANE_OPS * np.minimum(padded, WARP)), BLOCK_OPS * elements)
    exps = np.where(short, ELEMENT_EXPS * rows_ * padded, BLOCK_EXPS * elements)
    return replace(work, index_ops=2 * ops, exp_ops=exps)


def _softmax(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """aten._softmax(x, axis, half_to_float)."""
    x, axis = call.args[:2]
    return {"rows": x.numel() // x.shape[axis], "cols": x.shape[axis]}, (x,)


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """torch.softmax along the last axis."""
    import torch

    from workloads.dtypes import torch_dtype

    x = torch.empty(d["rows"], d["cols"], device="meta", dtype=torch_dtype(dtype))
    return lambda: torch.softmax(x, -1)


EXAMPLES = ({"rows": 4096, "cols": 4096}, {"rows": 3, "cols": 77})

CAPTURE = {"aten._softmax": _softmax, "aten._safe_softmax": _softmax}

KIND = OpKind(
    "softmax",
    "Elementwise",
    DIMS,
    flops,
    (Way("softmax", rows, dispatch=DISPATCH["softmax"]),),
    torch_call,
    EXAMPLES,
    capture=CAPTURE,
)
