"""Traces for tests: timelines of the PyTorch Profiler on the CPU, with the events that CUDA adds; one by hand; a small trace."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workloads.capture import CapturedCall, CapturedPass, assemble
from workloads.trace import Trace


class Attention(nn.Module):  # type: ignore[misc]
    """Self-attention with projections of its own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):  # type: ignore[misc]
    """A little of everything that a diffusion model is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(4, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.SiLU()
        self.ln, self.attention, self.table = nn.LayerNorm(32), Attention(32, 4), nn.Embedding(10, 32)

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        h = self.act(self.norm(self.conv(x)))
        t = self.ln(h.flatten(2).transpose(1, 2))
        a = self.attention(t)
        t = (t + a) * 0.5 + self.table(index)[:, None]
        y = torch.cat([t, a], -1).transpose(1, 2).unflatten(-1, (8, 8))
        y = nn.functional.interpolate(y, scale_factor=2.0).flatten(2)
        return nn.functional.gelu(torch.bmm(y, y.transpose(1, 2)), approximate="tanh").softmax(-1)


def inputs(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What a Block is called with."""
    index = torch.zeros(2, dtype=torch.int64, device=device)
    return torch.zeros(2, 4, 8, 8, device=device), index


def profiled(path: Path, steps: int = 0, **options: bool) -> Path:
    """Profile a Block on the CPU into a file: once, or `steps` times under a schedule."""
    module, args = Block().eval(), inputs("cpu")
    settings: dict[str, Any] = {"record_shapes": True, "with_stack": True, "with_modules": True, **options}
    if steps:
        settings["schedule"] = torch.profiler.schedule(wait=0, warmup=1, active=steps, repeat=1)
    settings["on_trace_ready"] = lambda profiler: profiler.export_chrome_trace(str(path))
    kind = [torch.profiler.ProfilerActivity.CPU]
    with torch.no_grad(), torch.profiler.profile(activities=kind, **settings) as profiler:
        for _ in range(steps + 1):
            module(*args)
            if steps:
                profiler.step()
    return path


LAUNCHING = (
    "mkldnn_convolution", "native_group_norm", "silu", "copy_", "native_layer_norm", "addmm", "mm", "add", "mul", "bmm",
    "_scaled_dot_product_flash_attention_for_cpu", "index_select", "cat", "upsample_nearest2d", "gelu", "_softmax",
)  # fmt: skip  # operators of a Block that would launch a kernel themselves


def seconds(name: str) -> float:
    """Of the kernel of an operator: microseconds that tell names apart."""
    return 1e-6 * len(name)


def with_kernels(source: Path, target: Path, drop: Iterable[str] = (), stray: bool = False) -> Path:
    """A CPU timeline with a kernel launched by each operator in LAUNCHING: runtime call, kernel, and the flow between them.

    The form is that of Kineto on CUDA: cuda_runtime events with a correlation, kernels with correlation and External id.
    `drop`: fields of the kernels' args to leave out. `stray`: add a copy that nobody launched.
    """
    data = json.loads(source.read_text())
    operators = sorted((e for e in data["traceEvents"] if e.get("cat") == "cpu_op"), key=lambda e: float(e["ts"]))
    clock, added = float(operators[-1]["ts"]) + 1e6, list[dict[str, Any]]()
    for i, event in enumerate(operators):
        name, start, end = event["name"], float(event["ts"]), float(event["ts"]) + float(event["dur"])
        inside = [e for e in operators[i + 1 :] if float(e["ts"]) < end]
        if name.removeprefix("aten::") not in LAUNCHING or any(e["name"] == name for e in inside):
            continue
        correlation, first = 1000 + i, float(inside[0]["ts"]) if inside else end
        where = {"pid": event["pid"], "tid": event["tid"], "ts": (start + first) / 2}
        ids = {"correlation": correlation, "External id": event["args"]["External id"], "stream": 7, "device": 0}
        args = {key: value for key, value in ids.items() if key not in drop}
        launch = {"External id": ids["External id"], "correlation": correlation}
        added += [
            {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "dur": 0.0, "args": launch, **where},
            {"ph": "s", "cat": "ac2g", "name": "ac2g", "id": correlation, **where},
            {"ph": "X", "cat": "kernel", "name": f"kernel of {name}", "pid": 0, "tid": 7, "ts": clock,
             "dur": 1e6 * seconds(name), "args": args},
            {"ph": "f", "bp": "e", "cat": "ac2g", "name": "ac2g", "id": correlation, "pid": 0, "tid": 7, "ts": clock},
        ]  # fmt: skip
        clock += 1e6 * seconds(name)
    if stray:
        copied = {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD", "pid": 0, "tid": 7, "ts": clock, "dur": 5.0}
        added.append({**copied, "args": {"correlation": 7}})
    target.write_text(json.dumps({**data, "traceEvents": [*data["traceEvents"], *added]}))
    return target


def by_hand() -> dict[str, Any]:
    """An operator of a library of one's own and a product, each with one kernel, in the form that Kineto writes."""
    operator = {"ph": "X", "cat": "cpu_op", "pid": 1, "tid": 1}
    half = {"Input type": ["c10::Half"], "Input Dims": [[64, 32]], "Input Strides": [[32, 1]], "Concrete Inputs": [""]}
    both = {
        "Input type": ["c10::Half"] * 2, "Input Dims": [[64, 32], [32, 16]], "Input Strides": [[32, 1], [16, 1]],
        "Concrete Inputs": ["", ""],
    }  # fmt: skip
    kernel = {"ph": "X", "cat": "kernel", "pid": 0, "tid": 7}
    return {
        "schemaVersion": 1,
        "traceEvents": [
            {**operator, "name": "mylib::fused_norm", "ts": 10.0, "dur": 5.0, "args": {"External id": 1, **half}},
            {**operator, "name": "aten::matmul", "ts": 20.0, "dur": 9.0, "args": {"External id": 2, **both}},
            {**operator, "name": "aten::mm", "ts": 21.0, "dur": 7.0, "args": {"External id": 3, **both}},
            {
                **kernel,
                "name": "fused_norm_kernel",
                "ts": 30.0,
                "dur": 4.0,
                "args": {"External id": 1, "correlation": 5},
            },
            {
                **kernel,
                "name": "ampere_h16816gemm",
                "ts": 40.0,
                "dur": 7.0,
                "args": {"External id": 3, "correlation": 6},
            },
        ],
    }


def small() -> Trace:
    """One product."""
    call = CapturedCall("gemm", "fp16", (1, 8, 8, 8, 1, 0), "aten.mm", "net", False, (0, 1), (2,))
    return assemble(
        "net", {}, [("net", "net", 3, CapturedPass((call,), (128, 128, 128), (False, True, False), (), 64, 128))]
    )
