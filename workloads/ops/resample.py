"""Up- and down-sampling, pooling: nearest and linear interpolation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hwspecs.software import Software
from workloads.aten import AtenCall, size
from workloads.kind import Column, Dims, Ints, OpKind, Read, Way, Work

DIMS = ("elements", "read0", "write", "points")
# elements: of the output; bytes of input and output; points: source points that one output point reads (1: nearest).

POINTS = {"nearest": 1, "trilinear": 8, "bilinear": 4, "linear": 2, "bicubic": 16}  # pooling: inputs per output
NAMES = (
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d",
    "upsample_trilinear3d", "upsample_bicubic2d", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices",
    "max_pool3d_with_indices", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
)  # fmt: skip


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.elements


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel; neighbouring outputs share the inputs through L1."""
    return (Work("resample", "stream", (Read("input0", d.read0),), d.write, vector_flops=d.elements * d.points),)


def _resample(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """Interpolation and pooling (x, ...): the first result is the tensor, a second one holds indices."""
    x, y = call.args[0], call.results[0]
    points = next((n for word, n in POINTS.items() if word in call.name), 0) or max(1, x.numel() // y.numel())
    return {"elements": y.numel(), "read0": size(x), "write": sum(map(size, call.results)), "points": points}, (x,)


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """interpolate(scale_factor=2), nearest."""
    import torch

    from workloads.dtypes import torch_dtype
    from workloads.kind import ITEMSIZE

    side = round((d["read0"] // ITEMSIZE[dtype]) ** 0.5)
    x = torch.empty(1, 1, side, side, device="meta", dtype=torch_dtype(dtype))
    return lambda: torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


EXAMPLES = ({"elements": 1 << 20, "read0": 1 << 19, "write": 1 << 21, "points": 1},)

CAPTURE = {f"aten.{name}": _resample for name in NAMES}

KIND = OpKind("resample", "Memory", DIMS, flops, (Way("resample", rows),), torch_call, EXAMPLES, capture=CAPTURE)
