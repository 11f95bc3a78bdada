"""Small plans and campaigns for tests: rows that take a millisecond on one core, and the command that runs them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calib.measure_files import PLAN

ROOT = Path(__file__).parents[2]
IMAGE = {"batch": 1, "height": 16, "width": 16}
ATTENTION = {"batch": 2, "heads": 2, "q_len": 32, "kv_len": 32, "head_dim": 40}
SMALL: tuple[Mapping[str, Any], ...] = (
    {
        "op": "conv1d",
        "batch": 1,
        "in_channels": 4,
        "out_channels": 8,
        "width": 64,
        "kernel_w": 3,
        "padding_w": 1,
        "bias": 1,
    },
    {"op": "conv2d", **IMAGE, "in_channels": 8, "out_channels": 8, "kernel_h": 3, "kernel_w": 3, "layout": "nhwc"},
    {
        "op": "conv3d",
        **IMAGE,
        "depth": 4,
        "in_channels": 4,
        "out_channels": 4,
        "kernel_d": 3,
        "kernel_h": 1,
        "kernel_w": 1,
    },
    {
        "op": "conv_transpose2d",
        **IMAGE,
        "in_channels": 8,
        "out_channels": 4,
        "kernel_h": 2,
        "kernel_w": 2,
        "stride_h": 2,
    },
    {"op": "encoder", **ATTENTION, "implementation": "unfused", "layout": "bshd"},
    {"op": "encoder", **ATTENTION, "implementation": "sdpa_flash", "layout": "bhsd"},
    {"op": "prefill", **ATTENTION, "implementation": "sdpa", "causal": 1},
    {"op": "decode", **{**ATTENTION, "q_len": 1}, "implementation": "sdpa", "kv_heads": 1},
    {"op": "linear", "m": 8, "n": 16, "k": 32},
    {"op": "linear_bias", "m": 8, "n": 16, "k": 32},
    {"op": "bmm", "batch": 3, "m": 8, "n": 16, "k": 32, "b_layout": "nk"},
    {"op": "bmm", "batch": 3, "m": 8, "n": 16, "k": 32, "b_layout": "kn"},
    {"op": "groupnorm", **IMAGE, "channels": 8, "groups": 4, "layout": "nhwc"},
    *({"op": op, "rows": 16, "cols": 32} for op in ("layernorm", "rmsnorm", "softmax", "copy")),
    *({"op": op, "rows": 16, "cols": 32} for op in ("add", "mul", "add_broadcast", "addcmul", "mul_scalar", "silu")),
    *({"op": op, "rows": 16, "cols": 32} for op in ("gelu", "exp", "geglu", "silu_and_mul")),
    {"op": "permute", "rows": 4, "cols": 8, "run": 16},
    *({"op": op, **IMAGE, "channels": 8} for op in ("to_nhwc", "to_nchw", "upsample_nearest2d")),
    {"op": "cat", "batch": 2, "in_channels": 4, "out_channels": 8, "cols": 64},
)
CONV = {"op": "conv2d", "batch": 1, "in_channels": 64, "out_channels": 64, "kernel_h": 3, "kernel_w": 3, "padding_h": 1}
STEADY: tuple[Mapping[str, Any], ...] = (  # a millisecond and more of arithmetic that stays in the caches
    *({**CONV, "padding_w": 1, "height": side, "width": side} for side in range(80, 120, 8)),
    *({"op": "linear", "m": m, "n": 1024, "k": 512} for m in range(192, 448, 32)),
    *({"op": "softmax", "rows": 4096, "cols": cols} for cols in (512, 640, 768)),
    *({"op": "encoder", "batch": 2, "heads": 4, "q_len": n, "kv_len": n, "head_dim": 40, "implementation": "unfused"}
      for n in (384, 448, 512)),
)  # fmt: skip


def write_plan(path: Path, rows: Sequence[Mapping[str, Any]], condition: str = "warm") -> Path:
    """A plan of these rows in fp32."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, PLAN)
        writer.writeheader()
        for i, row in enumerate(rows):
            writer.writerow({"plan_id": f"row{i}", "priority": i + 1, "dtype": "fp32", "condition": condition, **row})
    return path


def command(plan: Path, out: Path, *more: str) -> list[str]:
    """How a bare machine starts a campaign, on the CPU."""
    return [
        sys.executable,
        str(ROOT / "calib/measure.py"),
        "--plan",
        str(plan),
        "--out",
        str(out),
        "--device",
        "cpu",
        *more,
    ]


def campaign(plan: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run one to its end, from a folder where no package of ours can be found."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    out.parent.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        command(plan, out, *more), capture_output=True, text=True, cwd=out.parent, env=clean, timeout=120
    )


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a file that came back."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def lab_of_cpu() -> dict[str, str]:
    """device and software of a campaign on this CPU."""
    code = "from calib.measure_lab import lab; m = lab('cpu', 0); print(m.name); print(m.software)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    device, software = done.stdout.splitlines()
    return {"device": device, "software": software}
