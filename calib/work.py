"""Schema of measurement tables: families of operators, the columns that each needs, and the work of every row as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib.shapes import AXES, EXTENTS, FAMILY
from workloads.kind import ITEMSIZE

if TYPE_CHECKING:
    import pandas as pd

Floats: TypeAlias = NDArray[np.float64]

# What a family needs in every row: in its columns, not empty, positive.
NEEDS: dict[str, tuple[str, ...]] = {
    "conv": ("batch", "in_channels", "out_channels"),
    "attention": ("batch", "heads", "q_len", "kv_len", "head_dim"),
    "groupnorm": ("batch", "channels", "height", "width"),
    "norm": ("rows", "cols"),
    "elementwise": ("rows", "cols"),
    "memory": (),
    "gemm": ("batch", "m", "n", "k"),
    "collective": ("gpus", "bytes"),
    "end_to_end": (),
    "other": (),
}
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "send_recv")
POINTWISE = ("div", "pow", "relu", "tanh", "add_scalar", "div_scalar", "pow_scalar", "rope_inplace", "add_add")
# Columns besides the family's extents that make two rows the same shape.
IDENTITY = (
    "op", "dtype", "math", "layout", "timing", "condition", "implementation", "algorithm", "code_path", "method", "variant",
    "problem", "b_layout", "a_layout",
)  # fmt: skip
EXTENT_COLUMNS = (
    "batch", "m", "n", "k", "in_channels", "out_channels", "channels", *EXTENTS, *(f"{w}_{a}" for w in (
        "kernel", "stride", "padding", "dilation", "out_padding") for a in AXES), "groups", "bias", "heads", "kv_heads", "q_len",
    "kv_len", "head_dim", "causal", "rows", "cols", "elements", "inputs", "run", "affine", "gpus", "nodes", "bytes",
    "frames", "steps",
)  # fmt: skip


def families(ops: Any) -> NDArray[np.object_]:
    """The family of each operator name; 'other' for one that no family has."""
    known = FAMILY | dict.fromkeys(COLLECTIVES, "collective") | dict.fromkeys(POINTWISE, "elementwise")
    return np.array([known.get(str(op), "other") for op in ops], dtype=object)


def work(frame: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """(matrix FLOPs, bytes that must be read, bytes that must be written) of every row; each tensor once, causal attention half.

    `frame` has `family`, `dtype` and the columns of its families. Collectives, whole models and unknown operators: zeros, or what
    the table itself states (`gflop`, `mbytes`).
    """
    flops, reads, writes = (np.zeros(len(frame)) for _ in range(3))
    size = frame["dtype"].map(ITEMSIZE).fillna(2).to_numpy(dtype=float)
    for family, of in _OF.items():
        mask = (frame["family"] == family).to_numpy()
        if mask.any():
            part = _Columns(frame[mask])
            for out, values in zip((flops, reads, writes), of(part), strict=True):
                out[mask] = values
            reads[mask] *= size[mask]
            writes[mask] *= size[mask]
    other = (frame["family"] == "other").to_numpy()
    stated = _Columns(frame[other])
    flops[other], reads[other] = 1e9 * stated("gflop", 0.0), 1e6 * stated("mbytes", 0.0)
    return flops, reads, writes


class _Columns:
    """Columns of a frame as float arrays; a default where the column or the cell is missing."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def __call__(self, name: str, default: float = 1.0) -> Floats:
        if name not in self.frame:
            return np.full(len(self.frame), default)
        return np.asarray(np.nan_to_num(self.frame[name].to_numpy(dtype=float), nan=default), dtype=np.float64)

    def product(self, *names: str) -> Floats:
        """Product of columns, missing ones 1."""
        return np.asarray(np.prod([self(name) for name in names], axis=0))


def _conv(c: _Columns) -> tuple[Floats, Floats, Floats]:
    into = c.product(*EXTENTS)
    out, taps = np.ones_like(into), c.product(*(f"kernel_{a}" for a in AXES))
    for axis, extent in zip(AXES, EXTENTS, strict=True):
        reach = c(f"dilation_{axis}") * (c(f"kernel_{axis}") - 1) + 1
        own = np.floor((c(extent) + 2 * c(f"padding_{axis}", 0.0) - reach) / c(f"stride_{axis}")) + 1
        out *= np.maximum(c(f"out_{extent}", np.nan), 0) if f"out_{extent}" in c.frame else np.maximum(own, 1)
    out = np.where(np.isfinite(out), out, into)
    transposed = c.frame["op"].str.contains("transpose").to_numpy(dtype=bool)
    w = c("in_channels") * c("out_channels") / c("groups") * taps
    positions = np.where(transposed, into, out)
    return (
        2 * c("batch") * positions * w,
        c("batch") * c("in_channels") * np.minimum(into, out * taps) + w,
        c("batch") * c("out_channels") * out,
    )


def _attention(c: _Columns) -> tuple[Floats, Floats, Floats]:
    q = c.product("batch", "heads", "q_len", "head_dim")
    kv_heads = np.minimum(c("kv_heads", np.inf), c("heads"))
    kv = c.product("batch", "kv_len", "head_dim") * kv_heads
    share = np.where((c("causal", 0.0) == 1) & (c("q_len") == c("kv_len")), 0.5 * (1 + 1 / c("q_len")), 1.0)
    return 4 * q * c("kv_len") * share, q + 2 * kv, q


def _gemm(c: _Columns) -> tuple[Floats, Floats, Floats]:
    return (
        2 * c.product("batch", "m", "n", "k"),
        c.product("batch", "m", "k") + np.where(c.frame["op"] == "bmm", c("batch"), 1) * c.product("n", "k"),
        c.product("batch", "m", "n"),
    )


def _normalised(c: _Columns) -> tuple[Floats, Floats, Floats]:
    n = c.product("batch", "channels", "height", "width", "rows", "cols")
    return 0 * n, n, n


def _elementwise(c: _Columns) -> tuple[Floats, Floats, Floats]:
    n, op = c.product("rows", "cols"), c.frame["op"]
    inputs = np.where(op.isin(["geglu", "silu_and_mul"]), 2, np.where(op == "add_broadcast", 1, c("inputs", 1.0)))
    return 0 * n, inputs * n, n


def _memory(c: _Columns) -> tuple[Floats, Floats, Floats]:
    joined = (c.frame["op"] == "cat").to_numpy(dtype=bool)
    channels = np.where(joined, c("in_channels") + c("out_channels"), c("channels"))
    n = c.product("batch", "height", "width", "rows", "cols", "run") * channels
    return 0 * n, n, n * np.where(c.frame["op"] == "upsample_nearest2d", 4, 1)


_OF = {
    "conv": _conv, "attention": _attention, "gemm": _gemm, "groupnorm": _normalised, "norm": _normalised,
    "elementwise": _elementwise, "memory": _memory,
}  # fmt: skip
