"""Published latencies of whole pipelines: rows of a table -> what framecast would run for each, or why it cannot.

A row names its software in words. What is assumed for each is decided here, from those words and from what its source says of
its scripts; nothing is chosen by how well it fits.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from calib.devices import device_ids
from calib.samplers import Sampler, of_row
from hwspecs import device, software
from hwspecs.errors import CalibrationError, nearest
from hwspecs.software import Software
from workloads.model import find

COLUMNS = (
    "id", "model", "component", "height", "width", "frames", "steps", "batch", "cfg_doubles_batch", "precision", "device", "gpus",
    "software_stack", "latency_ms", "it_per_s", "source",
)  # fmt: skip
MODELS = {
    "SD 1.4": "stable-diffusion-1.5", "SD 1.5": "stable-diffusion-1.5", "SD 1.x": "stable-diffusion-1.5",  # the same networks
    "SD 1.5 img2img": "stable-diffusion-1.5", "SD 1.5 inpaint": "stable-diffusion-1.5",  # and the same UNet in a step
    "SD 2.1": "stable-diffusion-2.1", "SDXL base 1.0": "sdxl", "SD3 Medium": "sd3-medium", "FLUX.1-dev": "flux.1-dev",
    "PixArt-alpha XL-2 1024-MS": "pixart-alpha", "SVD-XT": "svd-xt", "Latte-1": "latte", "HunyuanVideo 13B": "hunyuanvideo",
}  # fmt: skip
COMPONENTS = {"end_to_end": "run", "denoise_loop": "step"}
ONE_STEP_ONLY = ("SD 1.5 img2img", "SD 1.5 inpaint")

# Words of `software_stack` -> how products of attention run. The first that is found counts; '' is not known, and not priced.
ATTENTION = (
    (r"vanilla|base attention|no xformers|non-sdpa", "unfused"),
    (r"flash-attention 2|flash-attn 2|tensorrt|oneflow|onediff|nexfort|stable-fast", "flash-2"),
    (r"xformers|torch 2\.[01]|pytorch 2\.0|mid 2023|2\.0 nightly|pytorch 2 sdpa|tiny vae", "flash-1"),
    (r"pytorch 2\.2|pytorch eager \(diffusers\)|xdit|official repo", "flash-2"),
)
ENGINES = (
    r"tensorrt|oneflow|onediff|nexfort|stable-fast"  # graph compilers with CUDA graphs: priced as pytorch-compiled
)
LEFT_OUT = (
    (r"tiny vae|tiny autoencoder", "another decoder"),
    (r"enterprise", "8-bit products"),  # onediff-quant (siliconflow/onediff, README_ENTERPRISE.md)
    (r"minsdxl torch|minsdxl\+ torch 2\.1 sdpa", "its attention is not stated"),
    (r"autocast|traced|channels last|auto-tuner|eager original|fp16 weights", "its software is not described"),
)
# Scripts that convert an eager UNet to channels last gain nothing: torch's group norm makes its input contiguous as NCHW
# (aten/src/ATen/native/group_norm.cpp), so that convolutions convert all the same. Compiled code has its own group norm.
# OneFlow sums products in fp16 (siliconflow/onediff sets ONEFLOW_MATMUL_ALLOW_HALF_PRECISION_ACCUMULATION), which GeForce does at
# twice the rate of sums in fp32; the others at the same.
HALF_SUMS, HALVED = r"oneflow|onediff", ("rtx-3090", "rtx-3090-ti", "rtx-4090")
GRAPHS = r"reduce-overhead|@v0\.25\.0|fal|xdit"  # sources whose scripts compile with CUDA graphs


# fp32: torch's defaults, TF32 in convolutions only; NVIDIA's containers set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, products as well.
TF32 = r"\bngc\b"
# Compiled, but where its words or its source's script (diffusers docs v0.25: unet.to(memory_format=channels_last)) say channels
# last, a UNet keeps NCHW: fal names both of its runs.
LAST = r"channels_?-? ?last|@v0\.25\.0"


@dataclass(frozen=True)
class Case:
    """One row: the published seconds, of one run or of one denoising step, and what is priced for it on which devices.

    `request.steps` are runs of the network, of which some samplers make one more than they have steps.
    """

    id: str
    model: str
    name: str  # of the model, in the table
    request: Any
    software: Software
    assumed: str  # the software, in words
    devices: tuple[str, ...]
    of: str  # run or step
    seconds: float
    line: int
    sampler: Sampler


@dataclass(frozen=True)
class Published:
    """The rows that can be priced, and of the others (id, why not)."""

    cases: tuple[Case, ...]
    left_out: tuple[tuple[str, str], ...]


def read(path: Path) -> Published:
    """Every row of a table of published latencies. CalibrationError for a file that is none, or a row that is broken."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, heads = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "not text"
        raise CalibrationError(f"{path}: cannot read the table: {what}") from None
    missing = [name for name in COLUMNS if name not in heads]
    if missing:
        raise CalibrationError(f"{path}:1: the table lacks the column '{missing[0]}' of published latencies")
    if not rows:
        raise CalibrationError(f"{path}: the table has no rows")
    problems = [line for i, row in enumerate(rows) for line in _problems(f"{path}:{i + 2}", row)]
    if problems:
        raise CalibrationError(problems)
    cases, left_out = [], []
    for i, row in enumerate(rows):
        found = case(row, i + 2)
        if isinstance(found, Case):
            cases.append(found)
        else:
            left_out.append((row["id"], found))
    return Published(tuple(cases), tuple(left_out))


def _problems(where: str, row: Mapping[str, str]) -> Iterator[str]:
    for name in ("latency_ms", "it_per_s", "height", "width", "frames", "steps", "batch", "gpus"):
        text = row[name] or ""
        if text and not (_number(text) or 0) > 0:
            yield f"{where}: {name}: found '{text}', expected a positive number, or nothing"
    if row["component"] not in COMPONENTS and not row["component"].startswith("unspecified"):
        yield f"{where}: component: found '{row['component']}', expected {' or '.join(COMPONENTS)}" + nearest(
            row["component"], COMPONENTS
        )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def case(row: Mapping[str, str], line: int) -> Case | str:
    """What a row is, priced by us; or why it cannot be."""
    why = _unusable(row)
    if why:
        return why
    stack, of = assumed(row["software_stack"], row["source"]), COMPONENTS[row["component"]]
    if isinstance(stack, str):
        return stack
    sampler = of_row(row["model"], row["source"], row["software_stack"])
    steps = int(float(row["steps"])) + sampler.extra if row["steps"] else None
    seconds = 1.0 / float(row["it_per_s"]) if of == "step" else float(row["latency_ms"]) / 1e3
    if row["precision"].startswith("fp32") and stack.attention != "unfused":
        return "fp32 in fused attention: its products of three TF32 each are not modelled"
    if re.search(HALF_SUMS, row["software_stack"].lower()) and set(devices(row["device"])) & set(HALVED):
        return "sums in fp16, at twice the rate of sums in fp32"
    request = _request(MODELS[row["model"]], row, steps)
    if isinstance(request, str):
        return request
    words = f"{stack.name}, {stack.attention}, {stack.convolution.layout}" + (", graphs" if stack.cuda_graphs else "")
    model, on = MODELS[row["model"]], devices(row["device"])
    return Case(row["id"], model, row["model"], request, stack, words, on, of, seconds, line, sampler)


def _unusable(row: Mapping[str, str]) -> str:
    """Why a row cannot be priced, by its columns; '' where it can."""
    step = row["component"] == "denoise_loop"
    precision = row["precision"].split()[0] if row["precision"] else ""
    tests = (
        (row["model"] not in MODELS, "no model of that name"),
        (row["component"] not in COMPONENTS, "the work is not stated"),
        (not devices(row["device"]), "no hardware file for this device"),
        (float(row["gpus"] or 1) > 1, "several devices"),
        (row["cfg_doubles_batch"].startswith("split"), "several devices"),
        ("autocast" in row["precision"] or precision not in ("fp16", "bf16", "fp32"), "another precision"),
        (step and not row["it_per_s"], "no time of a step"),
        (not step and not row["latency_ms"], "no latency"),
        (not step and not row["steps"], "the number of steps is not stated"),
        (not step and row["model"] in ONE_STEP_ONLY, "another pipeline around the same UNet"),
    )
    return next((why for fails, why in tests if fails), "")


def devices(name: str) -> tuple[str, ...]:
    """Devices of ours that a name in the table may mean."""
    return tuple(id_ for id_ in device_ids(name) if id_ in device.device_names())


def assumed(stack: str, source: str) -> Software | str:
    """The software that is assumed for the words of a row, or why there is none."""
    text, both = stack.lower(), f"{stack} {source}".lower()
    for pattern, why in LEFT_OUT:
        if re.search(pattern, text):
            return why
    attention = next((way for pattern, way in ATTENTION if re.search(pattern, text)), "")
    if not attention:
        return "its attention is not stated"
    engine = bool(re.search(ENGINES, text))
    is_compiled = engine or "compile" in text
    base = software.load("pytorch-compiled" if is_compiled else "pytorch-eager")
    if re.search(TF32, text):
        base = dataclasses.replace(base, tf32=dataclasses.replace(base.tf32, matmul=True))
    graphs = engine or (is_compiled and bool(re.search(GRAPHS, both)))
    layout: Literal["nhwc", "nchw"] = "nhwc" if engine or (is_compiled and re.search(LAST, both)) else "nchw"
    convolution = dataclasses.replace(base.convolution, layout=layout)
    if not is_compiled:
        base = dataclasses.replace(base, rms_norm="separate")  # every row is older than torch 2.9
    return dataclasses.replace(base, attention=attention, cuda_graphs=graphs, convolution=convolution)  # type: ignore[arg-type]


def _request(model_id: str, row: Mapping[str, str], steps: int | None) -> Any:
    """The request of a row, or why the model cannot be asked for it."""
    model = find(model_id)
    names = {f.name for f in dataclasses.fields(model.request)}
    wanted: dict[str, Any] = {
        "dtype": row["precision"].split()[0],
        "guidance": not row["cfg_doubles_batch"].startswith("no"),
    }
    wanted |= {n: int(float(row[n])) for n in ("height", "width", "frames", "batch") if row[n]}
    if steps:
        wanted["steps"] = steps
    if row["model"] == "SVD-XT":
        wanted["vae_slicing"] = True  # decoder_chunk_size 5, as its page says; ours decodes one frame at a time
    if "frames" in wanted and "frames" not in names:
        del wanted["frames"]
    try:
        return model.request(**wanted)
    except ValueError as error:
        return f"the model cannot be asked for it: {str(error).splitlines()[0]}"
