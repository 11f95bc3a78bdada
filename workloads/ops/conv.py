"""1-, 2- and 3-D convolution as an implicit GEMM: m = output positions, n = output channels, k = input channels x taps.

The output extents are captured, not derived, since padding is not always 'same'. Mapping: cuDNN's implicit GEMM
(Chetlur et al., cuDNN: Efficient Primitives for Deep Learning, 2014, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from hwspecs.software import Software
from workloads.aten import AtenCall
from workloads.kind import DISPATCH, Column, Dims, Gemm, Ints, OpKind, Read, Way, Work
from workloads.ops.elementwise import INDEX_OPS

DIMS = (
    "n",
    "c",
    "k",
    "groups",
    "in_positions",
    "out_positions",
    "taps",
    "spatial_dims",
    "stride",
    "bias",
    "transposed",
)
# in_positions, out_positions: product of the spatial extents; taps: product of the kernel extents. transposed: 1 for the
# data gradient of the convolution that the other dimensions describe: it reads k x out_positions, writes c x in_positions.


def flops(d: Dims) -> Column:
    """Multiply and add counted as 2; the bias is not counted (torch's convention)."""
    return 2 * d.n * d.k * d.out_positions * (d.c // d.groups) * d.taps


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """Layout conversions where tensors are NCHW (the tensor-core kernels read NHWC), the GEMM, and the bias.

    torch's eager mode adds the bias in a kernel of its own; a fusing compiler adds it in the epilogue.
    """
    back = d.transposed == 1
    here, there = itemsize * d.n * d.c * d.in_positions, itemsize * d.n * d.k * d.out_positions
    x_bytes, y_bytes = np.where(back, there, here), np.where(back, here, there)
    reached = itemsize * d.n * d.c * np.minimum(d.in_positions, d.out_positions * d.taps)
    x_read = np.where(back, there, reached)  # a strided 1x1 skips positions
    w_bytes = itemsize * d.k * (d.c // d.groups) * d.taps
    # Kernels of the fp32 lanes read NCHW as it is; so each op either converts or not, and zero bytes launch nothing.
    convert = software.convolution.layout == "nchw"
    matrix_unit = (itemsize < 4) | software.tf32.convolution
    # One output position and one tap: NCHW and NHWC are the same bytes, nothing is converted.
    x_at, y_at = np.where(back, d.out_positions, d.in_positions), np.where(back, d.in_positions, d.out_positions)
    x_moved = np.where((x_at > 1) & matrix_unit, x_bytes, 0) if convert else np.zeros_like(x_bytes)
    w_moved = np.where((d.taps > 1) & matrix_unit, w_bytes, 0) if convert else np.zeros_like(w_bytes)
    y_moved = np.where((y_at > 1) & matrix_unit, y_bytes, 0) if convert else np.zeros_like(y_bytes)
    gemm = Work(
        name="implicit gemm",
        pattern="tile",
        gemm=_gemm(d),
        flops=flops(d),
        reads=(
            Read("previous", x_bytes) if convert else Read("input0", x_read),
            Read("previous" if convert else "weight", w_bytes),
        ),
        write_bytes=y_bytes,
        final=not convert,
    )
    before = (
        (_copy("nchw to nhwc", "input0", x_moved, 0), _copy("weights to nhwc", "weight", w_moved, 0)) if convert else ()
    )
    after = (_copy("nhwc to nchw", "previous", y_moved, 0),) if convert else ()
    bias = _bias(d, itemsize, y_bytes) if software.fusion == "eager" else ()
    return (*before, gemm, *after, *bias)


def _gemm(d: Dims) -> Gemm:
    """Forward: out_positions x k, over c x taps. Its data gradient: every tap of c, over k (then summed where taps meet)."""
    back = d.transposed == 1
    c, k = d.c // d.groups, d.k // d.groups
    return Gemm(d.groups, d.n * d.out_positions, np.where(back, c * d.taps, k), np.where(back, k, c * d.taps))


def _copy(name: str, source: Any, moved: Ints, run_bytes: int) -> Work:
    """A transposition takes 1.3 times a stream of its bytes (public TF32 convolutions, compiled against eager, as in
    calib/families/conv.py): it reaches the share of the bandwidth that gathers reach."""
    return Work(name, "gather", (Read(source, moved),), moved, run_bytes=run_bytes, final=source == "previous")


def _bias(d: Dims, itemsize: Ints, y_bytes: Ints) -> tuple[Work, ...]:
    """An addition that broadcasts (aten/src/ATen/native/Convolution.cpp: output.add_(reshape_bias(...)))."""
    touched = np.where(d.bias == 1, y_bytes, 0)
    n = touched // itemsize
    return (Work("bias", "stream", (Read("previous", touched),), touched, vector_flops=n, index_ops=INDEX_OPS * n),)


def _convolution(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """aten.convolution (x, w, bias, stride, padding, dilation, transposed, output padding, groups).

    A transposed convolution is the data gradient of the convolution that has its input and output swapped.
    """
    x, w, bias, stride = call.args[:4]
    inside, outside = (call.out, x) if call.args[6] else (x, call.out)
    dims = {
        "n": x.shape[0], "c": inside.shape[1], "k": outside.shape[1], "groups": call.args[8],
        "in_positions": prod(inside.shape[2:]), "out_positions": prod(outside.shape[2:]), "taps": prod(w.shape[2:]),
        "spatial_dims": x.dim() - 2, "stride": max(stride), "bias": int(bias is not None),
        "transposed": int(call.args[6]),
    }  # fmt: skip
    return dims, (x, w) if bias is None else (x, w, bias)


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """The torch expression on the meta device, with extents factored so that positions and taps come out as asked."""
    import torch

    from workloads.dtypes import torch_dtype

    make: dict[str, Any] = {"device": "meta", "dtype": torch_dtype(dtype)}
    nd = d["spatial_dims"]
    kernel = round(d["taps"] ** (1 / nd))
    side = round(d["in_positions"] ** (1 / nd))
    options = {"stride": d["stride"], "groups": d["groups"], "bias": bool(d["bias"]), **make}
    if d["transposed"]:
        back = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)[nd - 1]
        y = torch.empty(d["n"], d["k"], *([round(d["out_positions"] ** (1 / nd))] * nd), **make)
        layer = back(d["k"], d["c"], kernel, padding=(kernel - d["stride"]) // 2, **options)
        return lambda: layer(y)
    layer = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[nd - 1](
        d["c"], d["k"], kernel, padding=kernel // 2, **options
    )
    x = torch.empty(d["n"], d["c"], *([side] * nd), **make)
    return lambda: layer(x)


def _example(
    n: int, c: int, k: int, side: int, kernel: int, nd: int = 2, groups: int = 1, stride: int = 1
) -> dict[str, int]:
    out = (side + 2 * (kernel // 2) - kernel) // stride + 1
    return {
        "n": n, "c": c, "k": k, "groups": groups, "in_positions": side**nd, "out_positions": out**nd,
        "taps": kernel**nd, "spatial_dims": nd, "stride": stride, "bias": 1,
        "transposed": 0,
    }  # fmt: skip


EXAMPLES = (
    _example(2, 320, 320, 64, 3),
    _example(2, 4, 320, 64, 3),
    _example(2, 1280, 1280, 9, 3),
    _example(2, 320, 320, 64, 3, stride=2),
    _example(1, 64, 64, 32, 1),
    _example(1, 64, 64, 32, 3, groups=64),
    _example(1, 16, 32, 8, 3, nd=3),
    _example(1, 16, 32, 100, 3, nd=1),
    {
        "n": 1, "c": 16, "k": 32, "groups": 1, "in_positions": 64, "out_positions": 16, "taps": 16, "spatial_dims": 2,
        "stride": 2, "bias": 1, "transposed": 1,
    },
)  # fmt: skip

CAPTURE = {"aten.convolution": _convolution}

KIND = OpKind(
    "conv",
    "Convolution",
    DIMS,
    flops,
    (
        Way(
            "implicit-gemm",
            rows,
            lambda software: "implicit-gemm" in software.convolution.algorithms,
            dispatch=DISPATCH["conv"],
        ),
    ),
    torch_call,
    EXAMPLES,
    tf32="convolution",
    capture=CAPTURE,
)
