"""A small model, priced for real but built by hand: no torch, no capture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim import simulate
from sim.result import Result
from sim.scenario import load
from workloads.kind import kinds
from workloads.trace import Segment, Trace

Call = tuple[str, dict[str, int], str, bool]  # kind, dims, path, under an attention module
ATTENTION = {
    "batch": 2, "heads": 8, "kv_heads": 8, "q_len": 4096, "kv_len": 4096, "head_dim": 40, "causal": 0, "role": 0,
    "interleaved": 1, "mask": 0,
}  # fmt: skip
CONV = {
    "n": 2, "c": 320, "k": 320, "groups": 1, "in_positions": 4096, "out_positions": 4096, "taps": 9, "spatial_dims": 2,
    "stride": 1, "bias": 1, "transposed": 0,
}  # fmt: skip
ACTIVATION = 2 * 320 * 4096 * 2
TEXT: list[Call] = [
    ("embedding", {"rows": 77, "cols": 768, "table_rows": 49408}, "embed", False),
    ("gemm", {"batch": 1, "m": 77, "n": 768, "k": 768, "weight": 1, "bias": 1}, "layers.0.q_proj", True),
    ("layer_norm", {"rows": 77, "cols": 768, "affine": 1}, "layers.0.norm", False),
]
UNET: list[Call] = [
    ("group_norm", {"n": 2, "c": 320, "positions": 4096, "groups": 32, "affine": 1}, "down.0.norm", False),
    (
        "elementwise",
        {"elements": ACTIVATION // 2, "read0": ACTIVATION, "read1": 0, "read2": 0, "write": ACTIVATION, "exps": 1},
        "down.0",
        False,
    ),
    ("conv", CONV, "down.0.conv", False),
    ("gemm", {"batch": 1, "m": 8192, "n": 320, "k": 320, "weight": 1, "bias": 0}, "down.0.attn.to_q", True),
    ("attention", ATTENTION, "down.0.attn", True),
    (
        "elementwise",
        {
            "elements": ACTIVATION // 2,
            "read0": ACTIVATION,
            "read1": ACTIVATION,
            "read2": 0,
            "write": ACTIVATION,
            "exps": 0,
        },
        "down.0.attn",
        True,
    ),
]
DECODER: list[Call] = [("conv", CONV, "conv_out", False), ("conv", CONV, "conv_out", False)]


def toy_trace(steps: int) -> Trace:
    """Text encoder twice, `steps` denoising steps, decoder once; each call reads what the one before it wrote."""
    parts = (("text_encoder", TEXT, 2), ("unet", UNET, steps), ("vae_decoder", DECODER, 1))
    calls = [call for _, some, _ in parts for call in some]
    ops = list(dict.fromkeys((kind, tuple(dims.items())) for kind, dims, _, _ in calls))
    names, paths = tuple(sorted({kind for kind, _ in ops})), tuple(dict.fromkeys(path for _, _, path, _ in calls))
    dims = np.zeros((len(ops), max(len(d) for _, d in ops)), dtype=np.int64)
    for i, (kind, columns) in enumerate(ops):
        dims[i, : len(columns)] = [dict(columns)[name] for name in kinds()[kind].dims]
    starts = np.cumsum([0] + [len(some) for _, some, _ in parts]).tolist()
    segments = tuple(
        Segment(name, name, starts[i], starts[i + 1], r, 1000, 2000) for i, (name, _, r) in enumerate(parts)
    )
    count = len(calls)
    return Trace(
        model="stable-diffusion-1.5", request={}, kinds=names, dtypes=("fp16",), labels=names, paths=paths,
        op_kind=np.array([names.index(kind) for kind, _ in ops]), op_dtype=np.zeros(len(ops), np.int64), op_dims=dims,
        op_label=np.array([names.index(kind) for kind, _ in ops]),
        call_op=np.array([ops.index((kind, tuple(d.items()))) for kind, d, _, _ in calls]),
        call_path=np.array([paths.index(path) for _, _, path, _ in calls]),
        call_in_attention=np.array([inside for *_, inside in calls]),
        input_offsets=np.arange(count + 1), input_ids=np.arange(count),
        output_offsets=np.arange(count + 1), output_ids=np.arange(1, count + 1),
        tensor_bytes=np.full(count + 1, ACTIVATION), tensor_is_weight=np.zeros(count + 1, dtype=bool), segments=segments,
    )  # fmt: skip


def write(folder: Path, text: str = "", name: str = "toy.yaml") -> Path:
    """A scenario file; without text, of SD 1.5 on an A100."""
    path = folder / name
    path.write_text(text or "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\nsoftware: pytorch-eager\n")
    return path


def trace_of(_model: str, request: Any) -> Trace:
    """Takes the place of `workloads.cache.trace_of`."""
    return toy_trace(request.steps)


def result(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> Result:
    """The toy trace, replayed."""
    monkeypatch.setattr(simulate, "trace_of", trace_of)
    return simulate.replay(load(write(folder), overrides), "framecast run toy.yaml")
