"""Layer norm (and RMS norm) over rows x cols, along cols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from hwspecs.software import Software
from workloads.aten import AtenCall, tensors
from workloads.kind import DISPATCH, Column, Dims, Ints, OpKind, Read, Way, Work
from workloads.ops.elementwise import INDEX_OPS

DIMS = ("rows", "cols", "affine")
FLOPS = 8  # per element: Welford update (4), normalise (2), scale and shift (2)
# Operations of an element in torch's layer norm, 2 for each instruction (`elementwise.ARITHMETIC`): the loops of
# vectorized_layer_norm_kernel (layer_norm_kernel.cu), compiled for sm_80 by nvcc 13.5 for fp16, have 18.5 for the moments, most
# of them for the reciprocal of a count, and 11.5 to normalise, scale and shift.
EAGER_OPS = 60


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.rows


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel; a row stays on chip between the statistics and the scaling. An RMS norm of a torch that has no kernel for it
    runs as the operators that define it."""
    apart = getattr(d, "rms", 0 * d.rows) if software.rms_norm == "separate" else 0 * d.rows
    n = d.rows * d.cols * (1 - apart)
    counted = EAGER_OPS * int(software.fusion == "eager") * (1 - getattr(d, "rms", 0 * d.rows))
    reads = (Read("input0", itemsize * n), Read("weight", 2 * itemsize * d.cols * d.affine * (1 - apart)))
    arithmetic = {"vector_flops": np.where(counted > 0, 0, FLOPS) * n, "index_ops": counted * n}
    whole = Work("layer norm", "reduce", reads, itemsize * n, **arithmetic)  # type: ignore[arg-type]
    return (whole, *(_separate(d, itemsize, apart) if np.any(apart) else ()))


def _separate(d: Dims, itemsize: Ints, apart: Any) -> tuple[Work, ...]:
    """x in fp32, its square, the mean, its root; x times that in fp32, in the dtype of x again, times the weight (torch 2.8,
    aten/src/ATen/native/layer_norm.cpp, rms_norm_composite; diffusers 0.30, RMSNorm). The factors broadcast."""
    n, m = apart * d.rows * d.cols, apart * d.rows
    x, wide, weight = itemsize * n, 4 * n, apart * d.affine * itemsize * d.cols
    scaled = x * d.affine
    return (
        Work("to fp32", "stream", (Read("input0", x),), wide, final=False),
        Work("square", "stream", (Read("previous", wide),), wide, vector_flops=n, final=False),
        Work("mean", "reduce", (Read("previous", wide),), 4 * m, vector_flops=n, final=False),
        Work("root", "stream", (Read("previous", 4 * m),), 4 * m, exp_ops=m, final=False),
        Work(
            "normalise", "stream", (Read("input0", x), Read("previous", 4 * m)), wide,
            vector_flops=n, index_ops=INDEX_OPS * n, final=False,
        ),
        Work("from fp32", "stream", (Read("previous", wide),), x),
        Work(
            "weight", "stream", (Read("previous", scaled), Read("weight", weight)), scaled,
            vector_flops=n * d.affine, index_ops=INDEX_OPS * n * d.affine,
        ),
    )  # fmt: skip


def _native(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """aten.native_layer_norm(x, normalized shape, weight, bias, eps), _fused_rms_norm(x, shape, weight, eps)."""
    x, shape, weight = call.args[:3]
    cols = prod(shape)
    dims = {"rows": x.numel() // cols, "cols": cols, "affine": int(weight is not None)}
    return dims, tuple(tensors((x, *call.args[2:4])))


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """nn.LayerNorm."""
    import torch

    from workloads.dtypes import torch_dtype

    make: dict[str, Any] = {"device": "meta", "dtype": torch_dtype(dtype)}
    layer = torch.nn.LayerNorm(d["cols"], elementwise_affine=bool(d["affine"]), **make)
    x = torch.empty(d["rows"], d["cols"], **make)
    return lambda: layer(x)


EXAMPLES = ({"rows": 8192, "cols": 320, "affine": 1}, {"rows": 77, "cols": 768, "affine": 1})

CAPTURE = {"aten.native_layer_norm": _native, "aten._fused_rms_norm": _native}

KIND = OpKind(
    "layer_norm",
    "Norm",
    DIMS,
    flops,
    (Way("layer norm", rows, dispatch=DISPATCH["layer_norm"]),),
    torch_call,
    EXAMPLES,
    capture=CAPTURE,
    flags=lambda label: {"rms": int(label == "aten._fused_rms_norm")},
)
