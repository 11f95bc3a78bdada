"""Dense matrix product: torch linear, addmm, mm, bmm, baddbmm. C[batch,m,n] = A[batch,m,k] B[k,n] (+ bias)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hwspecs.software import Software
from workloads.aten import AtenCall
from workloads.kind import DISPATCH, Column, Dims, Gemm, Ints, OpKind, Read, Way, Work

DIMS = ("batch", "m", "n", "k", "weight", "bias")
# weight: 1 where B is a parameter shared by the batch (a linear layer), 0 where it is an activation (bmm).


def flops(d: Dims) -> Column:
    """Multiply and add counted as 2; the bias is free in the epilogue."""
    return 2 * d.batch * d.m * d.n * d.k


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel; the bias is added in its epilogue (cuBLASLt)."""
    b_bytes = itemsize * d.n * d.k * np.where(d.weight == 1, 1, d.batch) + itemsize * d.bias * d.n
    return (
        Work(
            name="gemm",
            pattern="tile",
            gemm=Gemm(d.batch, d.m, d.n, d.k),
            flops=flops(d),
            reads=(
                Read("input0", itemsize * d.batch * d.m * d.k),
                Read("weight", np.where(d.weight == 1, b_bytes, 0)),
                Read("input1", np.where(d.weight == 1, 0, b_bytes)),
            ),
            write_bytes=itemsize * d.batch * d.m * d.n,
        ),
    )


def _product(call: AtenCall, a: Any, b: Any, bias: Any = None) -> tuple[dict[str, int], tuple[Any, ...]]:
    """a [..., m, k] times b [..., k, n]; more than two axes of `a` are a batch only where b has them too."""
    weight = call.is_weight(b)
    k, n = b.shape[-2:]
    m = a.numel() // k if weight else a.shape[-2]
    batch = 1 if weight else a.numel() // (m * k)
    dims = {"batch": batch, "m": m, "n": n, "k": k, "weight": int(weight), "bias": int(bias is not None)}
    return dims, (a, b) if bias is None else (a, b, bias)


def _matrices(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """aten.mm and bmm (a, b)."""
    return _product(call, call.args[0], call.args[1])


def _added(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """aten.addmm and baddbmm (bias, a, b, beta): beta 0 reads no bias."""
    bias, a, b = call.args[:3]
    return _product(call, a, b, None if call.kwargs.get("beta", 1) == 0 else bias)


def _linear(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """aten.linear (x, weight [n, k], bias)."""
    return _product(call, call.args[0], call.args[1].t(), call.arg(2, "bias"))


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """The torch expression on the meta device."""
    import torch

    from workloads.dtypes import torch_dtype

    make: dict[str, Any] = {"device": "meta", "dtype": torch_dtype(dtype)}
    if d["weight"]:
        layer = torch.nn.Linear(d["k"], d["n"], bias=bool(d["bias"]), **make)
        x = torch.empty(d["batch"] * d["m"], d["k"], **make)
        return lambda: layer(x)
    a = torch.empty(d["batch"], d["m"], d["k"], **make)
    b = torch.empty(d["batch"], d["k"], d["n"], **make)
    return lambda: torch.bmm(a, b)


EXAMPLES = (
    {"batch": 1, "m": 4096, "n": 320, "k": 1280, "weight": 1, "bias": 1},
    {"batch": 1, "m": 1, "n": 4096, "k": 4096, "weight": 1, "bias": 0},
    {"batch": 1, "m": 77, "n": 1023, "k": 13, "weight": 1, "bias": 1},
    {"batch": 16, "m": 4096, "n": 77, "k": 40, "weight": 0, "bias": 0},
)

CAPTURE = {
    "aten.mm": _matrices, "aten.bmm": _matrices, "aten.addmm": _added, "aten.baddbmm": _added, "aten.linear": _linear,
}  # fmt: skip

KIND = OpKind(
    "gemm",
    "Linear",
    DIMS,
    flops,
    (Way("gemm", rows, dispatch=DISPATCH["linear"]),),
    torch_call,
    EXAMPLES,
    capture=CAPTURE,
)
