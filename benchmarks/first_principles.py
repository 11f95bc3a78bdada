"""First-principles checks: `python -m benchmarks.first_principles` writes docs/first-principles.md.

Limits that physics sets (a rate never above its peak), and published times beside ours. Nothing was fitted to these times.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from tabulate import tabulate

from hwspecs import device, software
from hwspecs.rates import rates
from sim.cost import cost
from sim.host import host_time, serial_makespan
from workloads.cache import trace_of
from workloads.kind import Flash, Gemm, Read, Work
from workloads.lower import Kernels, lower, single
from workloads.model import find

PAGE = Path(__file__).parent.parent / "docs" / "first-principles.md"
DOCS_016 = (
    "diffusers documentation v0.16.0, optimization/torch2.0 (2023-04; A100, memory size not stated; SD 1.4, same UNet)"
)
DOCS_025 = "diffusers documentation v0.25.0, optimization/torch2.0 (2023-12; A100, memory size not stated)"

# what, software, attention, batch, published seconds, of what, source
PUBLISHED = (
    ("50 steps, batch 1, eager, SDPA", "pytorch-eager", "flash-1", 1, 1.98, "latency", DOCS_016),
    ("50 steps, batch 1, eager, unfused attention", "pytorch-eager", "unfused", 1, 2.69, "latency", DOCS_016),
    ("50 steps, batch 16, eager, SDPA", "pytorch-eager", "flash-1", 16, 13.55, "latency", DOCS_016),
    ("50 steps, batch 16, eager, unfused attention", "pytorch-eager", "unfused", 16, 18.95, "latency", DOCS_016),
    ("one UNet step, batch 1, compiled, SDPA", "pytorch-compiled", "flash-1", 1, 1 / 49.74, "unet", DOCS_025),
    ("one UNet step, batch 1, eager, SDPA", "pytorch-eager", "flash-1", 1, 1 / 23.13, "unet", DOCS_025),
)


def limits() -> list[list[str]]:
    """Rows: check, ours, limit, share of it."""
    a100 = rates(device.load("a100-sxm-80gb"))
    n, gb = 8192, 1e9
    operand = Read("input0", 2 * n * n)
    gemm = single(Work("gemm", "tile", (operand, operand), 2 * n * n, gemm=Gemm(1, n, n, n), flops=2 * n**3), "bf16")
    copy = single(Work("copy", "stream", (Read("input0", gb / 2),), gb / 2), "fp16")
    scores = 16 * 16 * 4096 * 4096
    qkv = 2 * 16 * 16 * 4096 * 64
    attention = single(
        Work(
            "flash attention", "tile", (Read("input0", qkv), Read("input1", qkv), Read("input2", qkv)), qkv,
            flash=Flash(256, 4096, 4096, 64, 0, rows=128, keys=128, depth=64),
            flops=4 * scores * 64, vector_flops=5 * scores, exp_ops=scores,
        ),
        "fp16",
    )  # fmt: skip

    def row(name: str, kernels: Kernels, amount: float, limit: float, unit: str, scale: float) -> list[str]:
        rate = amount / float(cost(kernels, a100).time[0])
        return [name, f"{rate / scale:.1f} {unit}", f"{limit / scale:.0f} {unit}", f"{100 * rate / limit:.0f} %"]

    return [
        row("bf16 GEMM, m = n = k = 8192", gemm, 2.0 * n**3, 312e12, "TFLOP/s", 1e12),
        row("copy of 1 GB (0.5 GB read, 0.5 GB written)", copy, gb, 2039e9, "GB/s", 1e9),
        row(
            "fused attention, 16 x 16 heads, 4096 x 4096, head_dim 64",
            attention,
            4.0 * scores * 64,
            312e12,
            "TFLOP/s",
            1e12,
        ),
    ]


def published() -> list[list[str]]:
    """Rows: what, published, ours, GPU time alone, distance, source."""
    out = []
    model = find("stable-diffusion-1.5")
    for what, name, attention, batch, seconds, of, source in PUBLISHED:
        chosen = dataclasses.replace(software.load(name), attention=attention)  # type: ignore[arg-type]
        trace = trace_of(model.id, model.request(batch=batch))
        priced = cost(lower(trace, chosen), rates(device.load("a100-sxm-80gb")))
        gpu, host = priced.per_call(priced.time + priced.gap), host_time(trace, priced, chosen)
        unet = next(s for s in trace.segments if s.name == "unet")
        if of == "unet":
            span = slice(unet.start, unet.stop)
            ours, busy = max(gpu[span].sum(), host[span].sum()), gpu[span].sum()
        else:
            ours, busy = float(serial_makespan(gpu, host, trace)), float((gpu * trace.call_repeats()).sum())
        unit, scale = ("ms", 1e3) if seconds < 0.1 else ("s", 1.0)
        times = [f"{t * scale:.3g} {unit}" for t in (seconds, ours, busy)]
        out.append([what, *times, f"{100 * (ours / seconds - 1):+.0f} %", source])
    return out


def page() -> str:
    """The Markdown page."""
    text = Path(__file__).with_name("first_principles.md").read_text(encoding="utf-8")
    limit_table = tabulate(limits(), ["check (A100 SXM 80 GB)", "ours", "limit", "share"], tablefmt="github")
    head = [
        "Stable Diffusion 1.5, 512 x 512, fp16, guidance, A100",
        "published",
        "ours",
        "of it GPU",
        "distance",
        "source",
    ]
    return text.format(limits=limit_table, published=tabulate(published(), head, tablefmt="github"))


def main() -> None:
    """Write the page."""
    np.seterr(all="raise", under="ignore")
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PAGE.parent.parent)}")


if __name__ == "__main__":
    main()
