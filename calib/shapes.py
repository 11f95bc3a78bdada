"""Operators of a trace as rows of a measurement plan, and a space-filling design of shapes around them.

Rows name the operator in the columns of docs/measurements.md; a row here has no condition yet (cold or warm).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any, TypeAlias

import numpy as np

from workloads.kind import ITEMSIZE
from workloads.ops.attention import ROLES

Row: TypeAlias = dict[str, Any]
Dims: TypeAlias = Mapping[str, int]

AXES = ("d", "h", "w")
EXTENTS = ("depth", "height", "width")
FAMILIES = {  # operators that are compared with each other, and the extents in which their distance is measured
    "conv": (
        ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        (
            "batch", "in_channels", "out_channels", "depth", "height", "width", "kernel_d", "kernel_h", "kernel_w", "stride_h",
            "groups",
        ),
    ),
    "attention": (("encoder", "prefill", "decode"), ("batch", "heads", "q_len", "kv_len", "head_dim")),
    "groupnorm": (("groupnorm",), ("batch", "channels", "height", "width", "groups")),
    "norm": (("layernorm", "rmsnorm", "softmax"), ("rows", "cols")),
    "elementwise": (
        ("add", "mul", "add_broadcast", "addcmul", "mul_scalar", "silu", "gelu", "exp", "geglu", "silu_and_mul"),
        ("rows", "cols"),
    ),
    "memory": (
        ("copy", "permute", "cat", "to_nhwc", "to_nchw", "upsample_nearest2d"),
        ("batch", "channels", "in_channels", "out_channels", "height", "width", "rows", "cols", "run"),
    ),
    "gemm": (("linear", "linear_bias", "bmm"), ("batch", "m", "n", "k")),
}  # fmt: skip
FAMILY = {op: family for family, (ops, _) in FAMILIES.items() for op in ops}
FLASH_HEAD_DIM = 256  # largest head_dim of FlashAttention-2's kernels in torch


@dataclass(frozen=True)
class At:
    """What a row needs beside the dimensions: dtype, the torch operator's name, frames of the clip."""

    dtype: str
    label: str = ""
    frames: int = 1


def rows_of(kind: str, d: Dims, at: At) -> list[Row]:
    """The rows that measure one operator of a trace: every layout and way, and what it is made of. [] for other kinds."""
    found = ROWS[kind](d, at) if kind in ROWS else []
    return [{"dtype": at.dtype, **row, "use": use_of(row)} for row in found]


def use_of(row: Mapping[str, Any]) -> str:
    """'check' for matrix products and language-model attention, which public tables cover; else 'fit'."""
    return "check" if row["op"] in ("linear", "linear_bias", "bmm", "prefill", "decode") else "fit"


def extents(positions: int, rank: int, frames: int = 1) -> tuple[int, ...]:
    """Extents with this product: frames first where there are three, the rest as square as it divides."""
    depth = (frames if positions % frames == 0 else 1,) if rank == 3 else ()
    rest = positions // prod(depth)
    if rank == 1:
        return (rest,)
    height = next(h for h in range(isqrt(rest), 0, -1) if rest % h == 0)
    return (*depth, height, rest // height)


def kernel(taps: int, rank: int) -> tuple[int, ...]:
    """Kernel extents with this product: equal ones, else temporal (3, 1, 1) or spatial (1, 3, 3)."""
    side = round(taps ** (1 / rank))
    if side**rank == taps:
        return (side,) * rank
    spatial = isqrt(taps)
    return (1, spatial, spatial) if spatial**2 == taps else (taps, *(1,) * (rank - 1))


def padding(size: int, result: int, k: int, stride: int) -> int:
    """Padding on both sides with which a convolution makes `result` of `size`; k // 2 where none does."""
    return next((p for p in range(k) if (size + 2 * p - k) // stride + 1 == result), k // 2)


def _conv(d: Dims, at: At) -> list[Row]:
    """In a trace a transposed convolution has input and output swapped: it is the data gradient of a convolution."""
    rank, stride, transposed = d["spatial_dims"], d["stride"], bool(d.get("transposed", 0))
    size, result = (extents(d[f"{end}_positions"], rank, at.frames) for end in ("in", "out"))
    taps = kernel(d["taps"], rank)
    c, k, own = (d["k"], d["c"], result) if transposed else (d["c"], d["k"], size)
    row: Row = {
        "op": f"conv{'_transpose' * transposed}{rank}d", "batch": d["n"], "in_channels": c, "out_channels": k,
        "groups": d["groups"], "bias": d["bias"], **dict(zip(EXTENTS[-rank:], own, strict=True)),
    }  # fmt: skip
    for axis, t, before, after in zip(AXES[-rank:], taps, size, result, strict=True):
        row |= {f"kernel_{axis}": t, f"stride_{axis}": stride, f"padding_{axis}": padding(before, after, t, stride)}
    layouts = ("nchw", "nhwc") if rank > 1 else ("nchw",)
    image = {"batch": d["n"], "channels": c, "height": own[-2], "width": own[-1]} if rank == 2 else {}
    moves = [{"op": op, **image} for op in ("to_nhwc", "to_nchw") if image]
    return [*({**row, "layout": layout} for layout in layouts), *moves]


def _attention(d: Dims, _: At) -> list[Row]:
    op = "prefill" if d["causal"] else "decode" if d["q_len"] == 1 < d["kv_len"] else "encoder"
    row: Row = {"op": op, "layout": "bshd" if d["interleaved"] else "bhsd", "causal": d["causal"]}
    row |= {name: d[name] for name in ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim")}
    ways = ["sdpa", *(["sdpa_flash"] if d["head_dim"] <= FLASH_HEAD_DIM else [])]
    plain = not d["causal"] and d["heads"] == d["kv_heads"]
    groups = d["batch"] * d["heads"]
    parts: list[Row] = [
        {"op": "softmax", "rows": groups * d["q_len"], "cols": d["kv_len"]},
        {"op": "bmm", "batch": groups, "m": d["q_len"], "n": d["kv_len"], "k": d["head_dim"], "b_layout": "nk"},
        {"op": "bmm", "batch": groups, "m": d["q_len"], "n": d["head_dim"], "k": d["kv_len"], "b_layout": "kn"},
    ]
    return [{**row, "implementation": way} for way in (*ways, *(["unfused"] if plain else []))] + (
        parts if plain else []
    )


def _gemm(d: Dims, _: At) -> list[Row]:
    if d["weight"]:
        op = "linear_bias" if d["bias"] else "linear"
        return [{"op": op, "batch": 1, "m": d["batch"] * d["m"], "n": d["n"], "k": d["k"], "b_layout": "nk"}]
    return [{"op": "bmm", "b_layout": "kn", **{name: d[name] for name in ("batch", "m", "n", "k")}}]


def _group_norm(d: Dims, _: At) -> list[Row]:
    height, width = extents(d["positions"], 2)
    row: Row = {"op": "groupnorm", "batch": d["n"], "channels": d["c"], "height": height, "width": width}
    return [{**row, "groups": d["groups"], "affine": d["affine"], "layout": layout} for layout in ("nchw", "nhwc")]


def _layer_norm(d: Dims, at: At) -> list[Row]:
    op = "rmsnorm" if "rms" in at.label else "layernorm"
    return [{"op": op, "rows": d["rows"], "cols": d["cols"], "affine": d["affine"]}]


def _softmax(d: Dims, _: At) -> list[Row]:
    return [{"op": "softmax", "rows": d["rows"], "cols": d["cols"]}]


def _elementwise(d: Dims, at: At) -> list[Row]:
    inputs = sum(d[f"read{i}"] > 0 for i in range(3))
    rows = d["read1"] // ITEMSIZE[at.dtype]
    spread = inputs == 2 and 0 < rows < d["elements"] and d["elements"] % rows == 0
    if inputs == 0:
        return []
    one = "gelu" if "gelu" in at.label else "silu" if d["exps"] else "mul_scalar"
    two = "add_broadcast" if spread else "mul" if "mul" in at.label else "add"
    op = (one, two, "addcmul")[inputs - 1]
    rows = rows if spread else 1
    return [{"op": op, "rows": rows, "cols": d["elements"] // rows, "elements": d["elements"], "inputs": inputs}]


def _permute(d: Dims, at: At) -> list[Row]:
    size = ITEMSIZE[at.dtype]
    first, second, run = d["read0"] // size, d["read1"] // size, d["run"] // size
    if second:
        return [{"op": "cat", "batch": 1, "in_channels": first, "out_channels": second, "cols": 1, "inputs": 2}]
    if not run or first % run:
        return [{"op": "copy", "rows": 1, "cols": first, "elements": first, "inputs": 1}]
    outer = first // run
    rows = max(r for r in range(1, 65) if outer % r == 0)  # as the kind's own torch call splits it
    return [{"op": "permute", "rows": rows, "cols": outer // rows, "run": run, "elements": first, "inputs": 1}]


def _resample(d: Dims, at: At) -> list[Row]:
    positions = d["read0"] // ITEMSIZE[at.dtype]
    if d["points"] != 1 or d["elements"] != 4 * positions:
        return []
    side = max(2**p for p in range(8) if positions % 4**p == 0)
    row: Row = {"op": "upsample_nearest2d", "batch": 1, "channels": positions // side**2, "height": side, "width": side}
    return [{**row, "layout": layout} for layout in ("nchw", "nhwc")]


ROWS: Mapping[str, Callable[[Dims, At], list[Row]]] = {
    "conv": _conv, "attention": _attention, "gemm": _gemm, "group_norm": _group_norm, "layer_norm": _layer_norm,
    "softmax": _softmax, "elementwise": _elementwise, "permute": _permute, "resample": _resample,
}  # fmt: skip

# ---- the design: log-uniform in each extent --------------------------------------------------------------------------

PRIMES = (2, 3, 5, 7, 11, 13, 17)
SIZES = {"conv": 360, "conv3d": 120, "attention": 300, "groupnorm": 120, "norm": 120, "elementwise": 120, "memory": 120,
         "gemm": 120}  # fmt: skip  # rows of the design by family
MOST_ELEMENTS = 2**29  # of one operand: 1 GB in fp16
MOST_FLOP = 3e12  # some 10 ms at the tensor rate of an A100


def design(seed: int, scale: float = 1.0) -> Iterator[tuple[str, Row]]:
    """(family, row) of a low-discrepancy design; `scale` shrinks or grows the number of rows. Deterministic for a seed."""
    rng = np.random.default_rng(seed)
    for name, count in SIZES.items():
        shift, found, index = rng.random(len(PRIMES)), 0, 0
        while found < round(count * scale):
            index += 1
            u = [(_halton(index, prime) + s) % 1.0 for prime, s in zip(PRIMES, shift, strict=True)]
            row = {"dtype": "fp16", **DESIGNS[name](u, index)}
            if _fits(row):
                found += 1
                yield FAMILY[row["op"]], {**row, "use": use_of(row)}


def _halton(index: int, base: int) -> float:
    """The radical inverse of an index: its digits in `base`, mirrored at the point."""
    out, share = 0.0, 1.0 / base
    while index:
        out += share * (index % base)
        index, share = index // base, share / base
    return out


def _between(u: float, low: float, high: float, multiple: int = 1) -> int:
    """Log-uniform from low to high, a multiple of `multiple`."""
    return max(1, round(float(low * (high / low) ** u) / multiple)) * multiple


def _design_conv(u: list[float], i: int) -> Row:
    k, stride = (3, 3, 1)[i % 3], 2 if u[5] < 0.15 else 1
    multiple = 1 if i % 16 == 0 else 8
    side = _between(u[3], 8, 256)
    return {
        "op": "conv2d", "batch": _between(u[0], 1, 64), "in_channels": _between(u[1], 16, 2560, multiple), "groups": 1,
        "out_channels": _between(u[2], 16, 2560, multiple), "height": side, "width": _between(u[4], side / 2, side * 2),
        "kernel_h": k, "kernel_w": k, "stride_h": stride, "stride_w": stride, "padding_h": k // 2, "padding_w": k // 2,
        "bias": i // 3 % 2, "layout": ("nchw", "nhwc")[i // 2 % 2],
    }  # fmt: skip


def _design_conv3d(u: list[float], i: int) -> Row:
    taps = ((3, 1, 1), (3, 3, 3))[i % 2]
    side = _between(u[3], 4, 96)
    row: Row = {
        "op": "conv3d", "batch": _between(u[0], 1, 4), "in_channels": _between(u[1], 16, 1280, 8), "groups": 1, "bias": 1,
        "out_channels": _between(u[2], 16, 1280, 8), "depth": _between(u[4], 2, 64), "height": side, "width": side,
        "layout": ("nchw", "nhwc")[i // 2 % 2],
    }  # fmt: skip
    for axis, k in zip(AXES, taps, strict=True):
        row |= {f"kernel_{axis}": k, f"stride_{axis}": 1, f"padding_{axis}": k // 2}
    return row


def _design_attention(u: list[float], i: int) -> Row:
    """Long self-attention, attention to a text, and (every third) tiny sequences in huge batches."""
    role = ROLES[i % 3]
    q = _between(u[0], 2, 64) if role == "temporal" else _between(u[0], 64, 16384)
    kv = _between(u[1], 16, 512) if role == "cross" else q
    batch = _between(u[2], 256, 65536) if role == "temporal" else _between(u[2], 1, 16)
    way = ("sdpa_flash", "unfused", "sdpa_flash", "sdpa")[i // 3 % 4]
    heads = _between(u[3], 1, 32)
    return {
        "op": "encoder", "batch": batch, "heads": heads, "kv_heads": heads, "q_len": q, "kv_len": kv,
        "head_dim": (40, 64, 80, 160)[int(u[4] * 4)], "causal": 0, "implementation": way,
        "layout": ("bshd", "bhsd")[i // 12 % 2],
    }  # fmt: skip


def _design_group_norm(u: list[float], i: int) -> Row:
    side = _between(u[2], 4, 256)
    return {
        "op": "groupnorm", "batch": _between(u[0], 1, 64), "channels": _between(u[1], 64, 2560, 32), "height": side,
        "width": side, "groups": 32, "affine": 1, "layout": ("nchw", "nhwc")[i % 2],
    }  # fmt: skip


def _design_norm(u: list[float], i: int) -> Row:
    op = ("softmax", "layernorm", "softmax", "rmsnorm")[i % 4]
    cols = _between(u[1], 4, 16384) if op == "softmax" else _between(u[1], 64, 8192, 8)
    return {"op": op, "rows": _between(u[0], 64, 2**22), "cols": cols, "affine": 1}


def _design_elementwise(u: list[float], i: int) -> Row:
    op = FAMILIES["elementwise"][0][i % 10]
    rows, cols = _between(u[0], 1, 2**16), _between(u[1], 16, 2**13)
    return {
        "op": op,
        "rows": rows,
        "cols": cols,
        "elements": rows * cols,
        "inputs": 1 + (i % 10 < 4) + (op == "addcmul"),
    }


def _design_memory(u: list[float], i: int) -> Row:
    op = FAMILIES["memory"][0][i % 6]
    if op in ("copy", "permute"):
        rows, cols, run = _between(u[0], 1, 4096), _between(u[1], 16, 8192), _between(u[2], 1, 1024)
        return {"op": op, "rows": rows, "cols": cols, "inputs": 1, **({"run": run} if op == "permute" else {})}
    n, c, side = _between(u[0], 1, 32), _between(u[1], 16, 2560, 8), _between(u[2], 4, 256)
    if op == "cat":
        return {
            "op": op,
            "batch": n,
            "in_channels": c,
            "out_channels": _between(u[3], 16, 2560, 8),
            "cols": side**2,
            "inputs": 2,
        }
    layout = {"layout": ("nchw", "nhwc")[i // 6 % 2]} if op == "upsample_nearest2d" else {}
    return {"op": op, "batch": n, "channels": c, "height": side, "width": side, **layout}


def _design_gemm(u: list[float], i: int) -> Row:
    m, n, k = _between(u[0], 1, 65536), _between(u[1], 16, 16384, 8), _between(u[2], 16, 16384, 8)
    return {"op": ("linear", "linear_bias")[i % 2], "batch": 1, "m": m, "n": n, "k": k, "b_layout": "nk"}


DESIGNS: Mapping[str, Callable[[list[float], int], Row]] = {
    "conv": _design_conv, "conv3d": _design_conv3d, "attention": _design_attention, "groupnorm": _design_group_norm,
    "norm": _design_norm, "elementwise": _design_elementwise, "memory": _design_memory, "gemm": _design_gemm,
}  # fmt: skip


def _fits(row: Row) -> bool:
    """Whether a design's row stays below MOST_ELEMENTS and MOST_FLOP."""
    elements, flop = size_of(row)
    return elements <= MOST_ELEMENTS and flop <= MOST_FLOP


def size_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """(elements of the largest tensor, matrix FLOPs) of a row."""

    def p(*names: str) -> float:
        return float(prod(int(row.get(name) or 1) for name in names))

    family = FAMILY[row["op"]]
    if family == "conv":
        positions = p("batch", *EXTENTS)
        flop = 2 * positions * p("in_channels", "out_channels", "kernel_d", "kernel_h", "kernel_w") / p("groups")
        flop *= (
            p("stride_d", "stride_h", "stride_w") if "transpose" in row["op"] else 1
        )  # each input position, all taps
        return max(positions * p("in_channels"), positions * p("out_channels")), flop / p(
            "stride_d", "stride_h", "stride_w"
        )
    if family == "attention":
        scores = p("batch", "heads", "q_len", "kv_len")
        own = p("batch", "heads", "q_len", "head_dim")
        return (max(scores, own) if row.get("implementation") == "unfused" else own), 4 * scores * p("head_dim")
    if family == "gemm":
        return max(p("batch", "m", "k"), p("batch", "n", "k"), p("batch", "m", "n")), 2 * p("batch", "m", "n", "k")
    if row["op"] == "cat":
        return p("batch", "cols") * (p("in_channels") + p("out_channels")), 0.0
    grown = 4.0 if row["op"] == "upsample_nearest2d" else 1.0
    return grown * p("batch", "channels", "height", "width", "rows", "cols", "run"), 0.0
