"""Softmax over rows x cols, along cols (outside attention, or attention written by hand)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hwspecs.software import Software
from workloads.aten import AtenCall
from workloads.kind import DISPATCH, Column, Dims, Ints, OpKind, Read, Way, Work

DIMS = ("rows", "cols")
FLOPS = 5  # per element: subtract, multiply by log2(e), running maximum, sum, divide

# The same of torch's kernels in eager code (aten/src/ATen/native/cuda/SoftMax.cu and PersistentSoftmax.cuh; their loops compiled
# for sm_80 by nvcc 13.5, fp16): the one for rows longer than WARP_ROW, a block to a row, and the one for shorter rows, which a
# warp keeps in registers. 38 and 42 instructions an element as 2 FLOPs each, at 64 a cycle and SM, as in pointwise kernels
# (`elementwise.ARITHMETIC`); exponentials and reciprocals are 3 and 2.
WARP_ROW = 1024
EAGER_FLOPS, EAGER_EXPS = (76, 84), (3, 2)


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.rows


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel that keeps a row on chip."""
    n = d.rows * d.cols
    flops_, exps, warp = arithmetic(n, d.cols, software)
    return (
        Work(
            "softmax", "reduce", (Read("input0", itemsize * n),), itemsize * n, vector_flops=flops_, exp_ops=exps, warp=warp
        ),
    )  # fmt: skip


def arithmetic(elements: Ints, cols: Ints, software: Software) -> tuple[Ints, Ints, Ints]:
    """Vector FLOPs and exponentials (ops,) of a softmax of so many elements in rows of `cols`; 1 where a warp takes a row."""
    eager = software.fusion == "eager"
    long = cols > WARP_ROW
    each = np.where(long, *EAGER_FLOPS) if eager else FLOPS
    exps = np.where(long, *EAGER_EXPS) if eager else 1
    return each * elements, exps * elements, 1 - long.astype(np.int64)


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
