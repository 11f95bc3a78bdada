"""OpKind, Dims and Work: what an operator kind is, and the registry of the files in `ops/`.

A kind says what an operator computes and moves, in physical quantities and from its dimensions alone. It
never says how long that takes: `sim.cost` reads the columns of `Work` and knows no kind by name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.software import Software
from workloads.aten import Rule

Ints: TypeAlias = NDArray[np.int64]
Column: TypeAlias = Ints | NDArray[np.float64] | int | float

ITEMSIZE: dict[str, int] = {
    "fp32": 4,
    "tf32": 4,
    "fp16": 2,
    "bf16": 2,
    "int8": 1,
    "fp8": 1,
    "int32": 4,
    "int64": 8,
    "bool": 1,
    "fp64": 8,
}

REPORT_CLASSES = (
    "Attention",
    "Convolution",
    "Linear",
    "GroupNorm",
    "Norm",
    "Embedding",
    "Elementwise",
    "Memory",
    "Communication",
)


class Dims:
    """Named int64 columns of shape (ops,), read as attributes: `d.m`, `d.head_dim`.

    dtype: `object` for whole numbers of any size.
    """

    def __init__(self, columns: Mapping[str, Any], dtype: Any = np.int64) -> None:
        self._columns = {name: np.asarray(value, dtype=dtype) for name, value in columns.items()}

    def __getattr__(self, name: str) -> Ints:
        try:
            return self.__dict__["_columns"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(
                f"no dimension '{name}'; this kind has {', '.join(self.__dict__.get('_columns', {}))}"
            ) from None

    def extended(self, **columns: Any) -> Dims:
        """These and more columns of the same length."""
        return Dims({**self._columns, **columns})


@dataclass(frozen=True)
class Gemm:
    """`batch` products C[m,n] = A[m,k] B[k,n], tiled over the SMs."""

    batch: Column
    m: Column
    n: Column
    k: Column


@dataclass(frozen=True)
class Flash:
    """Fused attention: `groups` heads, each a q_len x kv_len score matrix that never leaves the SM.

    The kernel works on whole blocks of `rows` queries and `keys` keys, and pads head_dim to `depth`: it computes all of a block,
    and moves only what there is. See `workloads.attention_blocks`.
    """

    groups: Column
    q_len: Column
    kv_len: Column
    head_dim: Column
    causal: Column
    rows: Column
    keys: Column
    depth: Column
    older: Column = 0  # 1: written for matrix instructions of the generation before Hopper (mma.sync)


# Where a kernel's read comes from: the call's 1st, 2nd or 3rd activation input (which may still be in L2), a weight
# (which was last read one pass ago), or what the previous kernel of the same call wrote.
Source: TypeAlias = Literal["input0", "input1", "input2", "weight", "previous"]

# How a kernel goes through memory, which sets the share of HBM bandwidth that it reaches.
Pattern: TypeAlias = Literal["tile", "stream", "reduce", "gather"]


@dataclass(frozen=True)
class Read:
    """Bytes (ops,) that must be read once, and the source that they come from."""

    source: Source
    bytes: Column


@dataclass(frozen=True)
class Work:
    """One kernel for each operator row: columns of shape (ops,) or scalars that broadcast.

    Attributes:
        name: what the kernel does, as `explain` prints it.
        pattern: how it goes through memory.
        reads: at most three; each tensor once (compulsory traffic).
        write_bytes: each output once.
        gemm / flash: the tiled view, for kernels on the matrix unit; at most one of the two.
        flops: matrix FLOPs executed (multiply and add are 2).
        vector_flops: FLOPs on the vector lanes.
        index_ops: operations at the rate of the integer lanes, multiply and add counted as 2: addresses of elements, and all
            other instructions of kernels whose code was counted, 2 each.
        part_ops: index_ops more where an operand of the call is a part of its tensor with gaps (a half of a projection).
        exp_ops: transcendental operations.
        run_bytes: length of the contiguous runs that reads consist of; 0 where they are fully contiguous.
        blocks, in_flight: thread blocks, and bytes that one of them keeps in flight; 0 where the kernel spreads over all SMs.
        final: writes the output of the call (an intermediate stays inside it).
        fp32: 1 where a product is of fp32 operands, whatever the op's dtype.
    """

    name: str
    pattern: Pattern
    reads: tuple[Read, ...]
    write_bytes: Column
    gemm: Gemm | None = None
    flash: Flash | None = None
    flops: Column = 0
    vector_flops: Column = 0
    index_ops: Column = 0
    part_ops: Column = 0
    exp_ops: Column = 0
    run_bytes: Column = 0
    blocks: Column = 0
    in_flight: Column = 0
    final: bool = True
    fp32: Column = 0


Rows: TypeAlias = Callable[[Dims, Ints, Software], tuple[Work, ...]]


@dataclass(frozen=True)
class Way:
    """One way to run a call: its kernels in launch order, whether a software may choose it, and which ops it can run.

    `dispatch`: host time of one eager call in this way over that of the cheapest operator; `streams`: and of each streaming
    kernel that it launches, where those are operators of their own.
    """

    name: str
    rows: Rows
    allowed: Callable[[Software], bool] = field(default=lambda _: True)
    possible: Callable[[Dims, Ints], Any] = field(default=lambda _, itemsize: np.ones(len(itemsize), dtype=bool))
    dispatch: float = 1.0
    streams: float = 0.0


# Host time of one eager call over that of an addition (26 us): least times of single calls between CUDA events on an idle A100,
# NeuSight, torch 2.1, fp32; the same on V100 and T4 within 10 %. A module (linear, norm, convolution) costs more than a function.
DISPATCH: Mapping[str, float] = {
    "softmax": 33 / 26, "bmm": 31 / 26, "layer_norm": 46 / 26, "linear": 52 / 26, "conv": 59 / 26,
}  # fmt: skip


@dataclass(frozen=True)
class OpKind:
    """One operator kind.

    Attributes:
        name: the key in a trace; the file's name.
        report_class: one of REPORT_CLASSES.
        dims: the names of its dimensions, in the order in which a trace stores them.
        flops: matrix FLOPs that the operator has, from its dimensions (never from torch's counters).
        ways: how it can be run.
        torch_call: (one operator's dims as ints, dtype) -> the torch expression, on the meta device; for tests and measurements.
        examples: dims of a few typical and a few odd operators, for the contract tests.
        capture: aten name -> rule that reads the dims off a torch operator; see `workloads.aten`.
        flags: what the label of an op (its torch operator) says beside its dimensions, as columns of whole numbers.
        pointwise: may be fused into the kernel that produces its input.
        tf32: which of the software's switches lets its fp32 products run as TF32.
    """

    name: str
    report_class: str
    dims: tuple[str, ...]
    flops: Callable[[Dims], Column]
    ways: tuple[Way, ...]
    torch_call: Callable[[Mapping[str, int], str], Callable[[], Any]]
    examples: tuple[Mapping[str, int], ...]
    capture: Mapping[str, Rule] = field(default_factory=dict)
    flags: Callable[[str], Mapping[str, int]] = field(default=lambda _: {})
    pointwise: bool = False
    tf32: Literal["matmul", "convolution"] = "matmul"


@cache
def kinds() -> dict[str, OpKind]:
    """Every kind in `ops/`, by name, in alphabetical order. Raises ValueError when two files claim one name."""
    import workloads.ops as package

    found: dict[str, OpKind] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
        kind: OpKind = importlib.import_module(f"workloads.ops.{info.name}").KIND
        if kind.name in found:
            raise ValueError(f"workloads/ops/{info.name}.py: operator kind '{kind.name}' is defined twice")
        found[kind.name] = kind
    return found
