"""Softmax over rows x cols, along cols (outside attention, or attention written by hand)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hwspecs.software import Software
from workloads.aten import AtenCall
from workloads.kind import DISPATCH, Column, Dims, Ints, OpKind, Read, Way, Work

DIMS = ("rows", "cols")
FLOPS = 5  # per element: subtract, multiply by log2(e), running maximum, sum, divide


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.rows


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel that keeps a row on chip."""
    n = d.rows * d.cols
    return (
        Work("softmax", "reduce", (Read("input0", itemsize * n),), itemsize * n, vector_flops=FLOPS * n, exp_ops=n),
    )


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
