"""Writes docs/models.md: `python -m benchmarks.models` captures every model at its default request, each in a process.

`python -m benchmarks.models MODEL` prints one model's row as JSON. A capture's seconds hold the imports of the libraries.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/models.md"
HEADS = (
    "model",
    "request",
    "parameters, B",
    "stage x repeats",
    "GFLOP a forward",
    "TFLOP in all",
    "calls",
    "distinct operators",
    "s",
    "GB",
)
INTRO = """# Models

Every model that framecast carries, captured at its default request: `python -m benchmarks.models` writes this page. A run
takes no capture where a template holds: see [templates.md](templates.md).
Parameters are those of all stages, text encoders and decoders too. FLOPs are of matrix products (multiply and add are 2; a
causal mask counts as the full rectangle): of one forward of each stage, with the batch that the request gives it, and of one
inference, all repeats included. Calls and distinct operators are those of the trace, each stage once. `s` and `GB` are the
seconds and the peak resident memory of the capture, the imports of the libraries included, on {machine}. What the models
assume is in [assumptions.md](assumptions.md). `framecast models sdxl` lists the fields of its request.

"""


def row(model_id: str) -> dict[str, Any]:
    """Capture a model at its default request."""
    start = time.perf_counter()
    from workloads.cache import captured_now
    from workloads.model import find

    trace = captured_now(model_id, find(model_id).request())
    seconds = time.perf_counter() - start
    per_call = trace.op_flops()[trace.call_op].tolist()
    return {
        "model": model_id,
        "request": dict(trace.request),
        "parameters": trace.parameters,
        "stages": [(s.name, s.repeats) for s in trace.segments],
        "forward": [(s.name, sum(per_call[s.start : s.stop])) for s in trace.segments],
        "flops": trace.flops(),
        "calls": trace.calls,
        "operators": len(trace.op_kind),
        "seconds": seconds,
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # ru_maxrss is in KiB on Linux
    }


def cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    request = found["request"]
    size = [f"{request['height']} x {request['width']}"] if "height" in request else []
    size += [f"{request[name]} {word}".strip() for name, word in WORDS.items() if name in request]
    return (
        f"`{found['model']}`", ", ".join(size), f"{found['parameters'] / 1e9:.2f}", _stages(found["stages"]),
        _forwards(found["forward"]),
        f"{found['flops'] / 1e12:,.1f}", f"{found['calls']:,}", f"{found['operators']:,}", f"{found['seconds']:.1f}",
        f"{found['bytes'] / 1e9:.2f}",
    )  # fmt: skip


WORDS = {"frames": "frames", "prompt_len": "tokens in", "output_len": "out", "steps": "steps", "dtype": ""}


def _stages(stages: list[tuple[str, int]]) -> str:
    """The spans of a decode as one."""
    decode = [repeats for name, repeats in stages if name.startswith("decode_")]
    told = [f"{name} x {repeats}" for name, repeats in stages if not name.startswith("decode_")]
    return ", ".join(told + [f"decode x {sum(decode)} in {len(decode)} spans"] * bool(decode))


def _forwards(stages: list[tuple[str, int]]) -> str:
    """FLOPs of one run of each stage; of the spans of a decode, from the least to the most."""
    decode = [flops / 1e9 for name, flops in stages if name.startswith("decode_")]
    told = [f"{name} {flops / 1e9:,.1f}" for name, flops in stages if not name.startswith("decode_")]
    return ", ".join(told + [f"decode {min(decode, default=0):,.1f} to {max(decode, default=0):,.1f}"] * bool(decode))


def _measured(model_id: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "FRAMECAST_CACHE": folder}
        command = [sys.executable, "-m", "benchmarks.models", model_id]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """The page, or one model's row."""
    from benchmarks.run import _machine
    from workloads.model import models

    if sys.argv[1:]:
        print(json.dumps(row(sys.argv[1])))
        return
    rows = []
    for model_id in models():
        print(model_id, file=sys.stderr)
        rows.append(cells(_measured(model_id)))
    machine = _machine()
    lines = [" | ".join(HEADS), " | ".join(["---"] * len(HEADS)), *(" | ".join(r) for r in rows)]
    text = INTRO.format(machine=f"{machine['cores']} cores of an {machine['cpu']}")
    PAGE.write_text(text + "\n".join(f"| {line} |" for line in lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
