"""Group norm of n samples, c channels in groups, `positions` spatial positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hwspecs.software import Software
from workloads.aten import AtenCall, tensors
from workloads.kind import DISPATCH, Column, Dims, Ints, OpKind, Read, Way, Work
from workloads.ops.elementwise import INDEX_OPS

# Of a block of the moments kernel (kCUDABlockReduceNumThreads in torch), each with one scalar load in flight: that kernel's loop,
# compiled for sm_80 by nvcc 13.5, is not unrolled (it divides in every turn), and a turn uses its load before the next one.
THREADS = 512
DIMS = ("n", "c", "positions", "groups", "affine")


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.n


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """Three kernels as in torch (aten/src/ATen/native/cuda/group_norm_kernel.cu): the moments, with one block a sample and
    group (RowwiseMomentsCUDAKernel); one scale and shift per sample and channel (ComputeFusedParamsCUDAKernel); and the pass that
    applies them: a gpu_kernel over {n c, positions} in which those broadcast, so that eager torch works out every address.

    A compiler has kernels of its own, which do not.
    """
    indexed = INDEX_OPS if software.fusion == "eager" else 0
    x = itemsize * d.n * d.c * d.positions
    moments = 2 * itemsize * d.n * d.groups
    scales = 8 * d.n * d.c * d.affine  # two fp32 values a sample and channel; not needed without scale and shift
    n = d.n * d.c * d.positions
    return (
        Work(
            "moments", "reduce", (Read("input0", x),), moments, vector_flops=4 * n, blocks=d.n * d.groups,
            in_flight=itemsize * THREADS, final=False,
        ),
        Work(
            "scales", "stream", (Read("previous", moments), Read("weight", 2 * itemsize * d.c * d.affine)), scales,
            vector_flops=4 * d.n * d.c, final=False,
        ),
        Work(
            "apply", "stream", (Read("input0", x), Read("previous", scales)), x, vector_flops=2 * n, index_ops=indexed * n
        ),
    )  # fmt: skip


def _native(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """aten.native_group_norm(x, weight, bias, n, c, positions, groups, eps)."""
    x, weight, bias, n, c, positions, groups = call.args[:7]
    dims = {"n": n, "c": c, "positions": positions, "groups": groups, "affine": int(weight is not None)}
    return dims, tuple(tensors((x, weight, bias)))


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """nn.GroupNorm."""
    import torch

    from workloads.dtypes import torch_dtype

    make: dict[str, Any] = {"device": "meta", "dtype": torch_dtype(dtype)}
    layer = torch.nn.GroupNorm(d["groups"], d["c"], affine=bool(d["affine"]), **make)
    x = torch.empty(d["n"], d["c"], d["positions"], **make)
    return lambda: layer(x)


EXAMPLES = (
    {"n": 2, "c": 320, "positions": 4096, "groups": 32, "affine": 1},
    {"n": 1, "c": 18, "positions": 49, "groups": 3, "affine": 0},
)

CAPTURE = {"aten.native_group_norm": _native}

KIND = OpKind(
    "group_norm",
    "GroupNorm",
    DIMS,
    flops,
    (Way("group norm", rows, dispatch=DISPATCH["layer_norm"]),),
    torch_call,
    EXAMPLES,
    capture=CAPTURE,
)
