"""Pointwise arithmetic: activations, additions, products, casts, masks. Bytes are dimensions, since operands may differ in
dtype and may broadcast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hwspecs.software import Software
from workloads.aten import POINTWISE, AtenCall, reads, size
from workloads.kind import Column, Dims, Ints, OpKind, Read, Way, Work

DIMS = ("elements", "read0", "read1", "read2", "write", "exps")
# elements: of the output; read0..2: bytes of the operands, each once (a 4th and further operand adds to read2);
# write: bytes of the output; exps: transcendental operations per element (silu, gelu, exp: 1).

# Integer operations that the address of an element costs where an operand broadcasts: torch's kernel (Loops.cuh of
# aten/native/cuda: an offset by divisions for each element, no vector loads) does 185e9 elements a second on a V100 whatever
# their bytes (pytorch/pytorch pull request 69010: 547 GB/s at 3 B an element, 186 GB/s at 1 B): 80 SMs x 1.53 GHz x 128 / 185e9.
# The same on an H200, which has twice the fp32 lanes and no more integer lanes: 1.08e9 elements in 3.09 ms of products and 3.14
# of additions (sgl-project/sglang pull request 34004, modulation of FLUX.1 at 1024 x 1024): 89 and 90 at 1.83 GHz.
INDEX_OPS = 85
# The same of a kernel of one operand, which reads a part of a tensor with gaps: its loop in two dimensions, compiled for sm_80 by
# nvcc 13.5 (Loops.cuh and OffsetCalculator.cuh of torch), has 35.0 instructions an element, that of two operands 43.3 (of which
# 85 / 2 are measured, above): at 64 a cycle and SM, and 2 operations each.
PART_OPS = 70
# Operations of an element in torch's vectorized fp16 kernels, of eager code and as a compiler writes them (approximate division
# and exponential): 2 for each instruction. Their loops (ActivationGeluKernel.cu and others), compiled for sm_80 by nvcc 13.5:
# gelu 30.3 with erf and 27.0 with tanh, silu and sigmoid 24.8 (12.5 by a compiler), tanh 20.0, exp 13.0; an addition 5.5, which
# memory hides. Instructions of such kernels come at 64 a cycle and SM, whatever the pipe and the fp32 lanes: 43.3 of the kernel
# that broadcasts take 42.5 of those on a V100 and 44.5 on an H200 (above), and gelu, with 325e9 elements a second in public fp16
# times of an A100 (vidur), 30.0. So they are counted at the rate of the integer lanes, which are 64 on all of these.
ARITHMETIC: Mapping[str, tuple[int, int]] = {
    "gelu": (57, 57), "silu": (50, 25), "sigmoid": (50, 25), "tanh": (40, 40), "exp": (26, 26),
}  # fmt: skip
ONE_ELEMENT, WIDEST_RATIO = 8, 4  # B; largest itemsize over the smallest of floating types

TRANSCENDENTAL = frozenset((
    "silu", "gelu", "sigmoid", "tanh", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos",
    "tan", "erf", "softplus", "mish", "elu", "pow", "sqrt", "rsqrt",
))  # fmt: skip  # they run on the special-function units (CUDA C++ programming guide, arithmetic instructions)
PRODUCT_POWERS = (1, 2, 3)  # exponents that torch computes by products (aten/src/ATen/native/cuda/PowKernel.cu)
FILLS = (
    "zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full",
    "fill", "fill_", "zero_", "arange", "linspace", "eye", "logspace", "scalar_tensor", "rand", "rand_like",
    "randn", "randn_like", "randint", "normal_", "uniform_", "bernoulli_", "randperm",
)  # fmt: skip


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.elements


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel that streams the operands; one FLOP an element, and four more around a transcendental that is not counted.

    Where an operand broadcasts, or is a part of a tensor with gaps, torch's eager kernel works out the address of every element.
    """
    eager = software.fusion == "eager"
    indexed = INDEX_OPS * _broadcasts(d) if eager else 0
    of_part = np.where(d.read1 > 0, INDEX_OPS, PART_OPS) if eager else 0
    counted = getattr(d, "eager_ops" if eager else "compiled_ops", 0 * d.elements)
    return (
        Work(
            name="elementwise",
            pattern="stream",
            reads=(Read("input0", d.read0), Read("input1", d.read1), Read("input2", d.read2)),
            write_bytes=d.write,
            vector_flops=d.elements * np.where(counted > 0, 0, 1 + 4 * d.exps),
            index_ops=d.elements * (indexed + counted),
            part_ops=d.elements * np.maximum(of_part - indexed, 0),
            exp_ops=d.elements * d.exps,
        ),
    )


def arithmetic(label: str) -> Mapping[str, int]:
    """Operations of an element of the torch operator that a label names, in eager and in compiled code; 0 where not counted."""
    eager, compiled = ARITHMETIC.get(label.removeprefix("aten.").rstrip("_"), (0, 0))
    return {"eager_ops": eager, "compiled_ops": compiled}


def _broadcasts(d: Dims) -> Any:
    """1 where an operand of more than one element is smaller than the largest by more than dtypes differ, else 0."""
    reads_ = (d.read0, d.read1, d.read2)
    largest = np.maximum(np.maximum(d.read0, d.read1), d.read2)
    small = [(read > ONE_ELEMENT) & (read * WIDEST_RATIO < largest) for read in reads_]
    return (small[0] | small[1] | small[2]).astype(np.int64)


def _pointwise(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """Any pointwise operator: every operand once, every result once."""
    return _streams(call, call.operands)


def _fill(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """Writes only: zeros, arange, random numbers."""
    return _streams(call, ())


def _cast(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]] | None:
    """aten._to_copy(source) and copy_(target, source) between dtypes; of one dtype it is a copy, no arithmetic."""
    source = call.args[1] if call.name == "aten.copy_" else call.args[0]
    return None if source.dtype == call.out.dtype else _streams(call, call.in_order([source]))


def _streams(call: AtenCall, operands: tuple[Any, ...]) -> tuple[dict[str, int], tuple[Any, ...]]:
    name = call.name.removeprefix("aten.").rstrip("_")
    by_products = name == "pow" and isinstance(call.arg(1), int | float) and call.arg(1) in PRODUCT_POWERS
    elements = max(t.numel() for t in call.results)
    exps = int(name in TRANSCENDENTAL and not by_products)
    return {"elements": elements, **reads(operands), "write": sum(map(size, call.results)), "exps": exps}, operands


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """silu or negation for one operand, add for two, addcmul for three."""
    import torch

    from workloads.dtypes import torch_dtype

    x, y, z = (torch.empty(d["elements"], device="meta", dtype=torch_dtype(dtype)) for _ in range(3))
    if d["read2"]:
        return lambda: torch.addcmul(x, y, z)
    if d["read1"]:
        return lambda: x + y
    return lambda: torch.nn.functional.silu(x) if d["exps"] else -x


EXAMPLES = (
    {"elements": 1 << 20, "read0": 2 << 20, "read1": 0, "read2": 0, "write": 2 << 20, "exps": 1},
    {"elements": 1 << 20, "read0": 2 << 20, "read1": 2 << 20, "read2": 0, "write": 2 << 20, "exps": 0},
    {"elements": 17, "read0": 34, "read1": 34, "read2": 0, "write": 34, "exps": 0},
)

CAPTURE = {
    POINTWISE: _pointwise,
    **{f"aten.{name}": _pointwise for name in ("where", "masked_fill", "masked_fill_", "tril", "triu", "glu")},
    **{f"aten.{name}": _cast for name in ("_to_copy", "copy_")},
    **{f"aten.{name}": _fill for name in FILLS},
}

KIND = OpKind(
    "elementwise",
    "Elementwise",
    DIMS,
    flops,
    (Way("elementwise", rows),),
    torch_call,
    EXAMPLES,
    capture=CAPTURE,
    flags=arithmetic,
    pointwise=True,
)
