"""Layer norm (and RMS norm) over rows x cols, along cols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from hwspecs.software import Software
from workloads.aten import AtenCall, tensors
from workloads.kind import DISPATCH, Column, Dims, Ints, OpKind, Read, Way, Work

DIMS = ("rows", "cols", "affine")
FLOPS = 8  # per element: Welford update (4), normalise (2), scale and shift (2)


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.rows


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel; a row stays on chip between the statistics and the scaling."""
    n = d.rows * d.cols
    reads = (Read("input0", itemsize * n), Read("weight", 2 * itemsize * d.cols * d.affine))
    return (Work("layer norm", "reduce", reads, itemsize * n, vector_flops=FLOPS * n),)


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
)
