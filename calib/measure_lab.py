"""The machine under test, and how one thing is timed on it. Needs torch (2.4 or later) and numpy, nothing else."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calib.measure_files import RefusedError

CLOCKS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")  # MHz, MHz, W, degrees C; nvidia-smi's names
TARGET = 0.01  # relative spread at which a row is done
SAMPLES = (4, 60)  # timings of one visit, at least and at most
VISIT_S = 0.04  # s of timing after which a visit ends
WARM_US, WARM_MOST = 200.0, 20  # a warm operator is repeated in one timing until this long, at most so often
COLD_CACHES, COLD_MOST = 2.5, 96  # a cold one goes through copies that are 2.5 caches together, at most so many
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57}  # 97.5 % quantile of t with n - 1 degrees of freedom
# Share of the samples below the value that a visit reports: the median; on a CPU less, as others' load only adds.
QUANTILE = {"cuda": 0.5, "cpu": 0.2}
# Least relative spread that is stated: clock and caches of a CPU are shared with other programs, and nothing here controls them.
FLOOR = {"cuda": 0.0, "cpu": 0.05}
TORCH = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "tf32": "float32", "fp64": "float64", "int8": "int8",
         "fp8": "float8_e4m3fn", "int64": "int64"}  # fmt: skip
Build = tuple[Callable[[], Sequence[Any]], Callable[..., Any]]  # () -> operands; operands -> result


class UnsupportedError(Exception):
    """What this torch or this device cannot run: recorded in the row."""


class BrokenError(Exception):
    """The device no longer answers; nothing measured after this can be trusted."""


@dataclass(frozen=True)
class Lab:
    """The device under test: torch, 'cuda' or 'cpu', its name, software, cache bytes, and a buffer to flush the cache with."""

    torch: Any
    kind: str
    name: str
    software: str
    cache: int
    buffer: Any

    def new(self, dtype: str, *shape: int) -> Any:
        """Random numbers; integers and fp8 from a small range. UnsupportedError where torch has no such dtype."""
        torch = self.torch
        if not hasattr(torch, TORCH.get(dtype, "no such dtype")):
            raise UnsupportedError(f"torch {torch.__version__} has no dtype {dtype}")
        kind = getattr(torch, TORCH[dtype])
        if dtype in ("int8", "int64"):
            return torch.randint(0, 8, shape, dtype=kind, device=self.kind)
        if dtype == "fp8":
            return torch.randn(shape, device=self.kind).clamp_(-4, 4).to(kind)
        return torch.randn(shape, dtype=kind, device=self.kind)

    def sync(self) -> None:
        """Wait for the device."""
        if self.kind == "cuda":
            self.torch.cuda.synchronize()

    def release(self) -> None:
        """Give cached memory back, so that a row starts as the first one did."""
        if self.kind == "cuda":
            self.torch.cuda.empty_cache()

    def free(self) -> int:
        """Free memory in bytes."""
        if self.kind == "cuda":
            return int(self.torch.cuda.mem_get_info()[0])
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))


def lab(device: str, seed: int) -> Lab:
    """The machine at hand. RefusedError where torch or the device is missing."""
    try:
        import torch
    except ImportError:
        raise RefusedError("torch is not installed here; the campaign needs torch 2.4 or later") from None
    if version(torch) < (2, 4):
        raise RefusedError(f"torch {torch.__version__} is too old; the campaign needs torch 2.4 or later")
    if device == "cuda" and not torch.cuda.is_available():
        raise RefusedError(f"--device cuda: torch {torch.__version__} finds no CUDA device; use --device cpu")
    torch.manual_seed(seed)
    torch.set_grad_enabled(False)
    text = f"torch {torch.__version__}"
    if device == "cpu":
        torch.set_num_threads(1)  # the load of other programs then shows least
        return Lab(torch, "cpu", f"cpu:{_cpu()}", f"{text}, 1 thread", 32 << 20, torch.zeros(16 << 20))
    cache = int(getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 64 << 20)
    text += f" cu{(torch.version.cuda or '').replace('.', '')} cudnn {torch.backends.cudnn.version()}"
    return Lab(torch, "cuda", torch.cuda.get_device_name(0), text, cache, torch.zeros(cache, device="cuda"))


def version(torch: Any) -> tuple[int, int]:
    """(major, minor) of torch."""
    major, minor = re.findall(r"\d+", str(torch.__version__))[:2]
    return int(major), int(minor)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def clocks(machine: Lab) -> list[str]:
    """SM MHz, memory MHz, W, degrees C, as nvidia-smi reports them; empty where there is none."""
    if machine.kind != "cuda":
        return [""] * len(CLOCKS)
    uuid = getattr(machine.torch.cuda.get_device_properties(0), "uuid", "")
    which = ["-i", f"GPU-{uuid}"] if uuid else []
    query = ["nvidia-smi", *which, f"--query-gpu={','.join(CLOCKS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
        cells = [cell.strip() for cell in done.stdout.splitlines()[0].split(",")]
    except (OSError, subprocess.SubprocessError, IndexError):
        return [""] * len(CLOCKS)
    return (cells + [""] * len(CLOCKS))[: len(CLOCKS)]


@dataclass(frozen=True)
class Ready:
    """Something that can be timed: `run` executes it `per` times; `flush` clears the cache before each run."""

    run: Callable[[], Any]
    per: int
    flush: bool
    method: str
    timing: str
    footprint: int
    once_us: float


def prepare(machine: Lab, build: Build, condition: str) -> Ready:
    """Set up one operator: operands, a first run, copies for a cold cache, a CUDA graph where it captures.

    `condition`: cold (operands come from memory), warm (the same ones again and again), eager (one call, launch included).
    """
    make, call = build
    sets: list[Sequence[Any]] = [make()]
    footprint = _bytes(machine, [sets[0], call(*sets[0])])
    machine.sync()
    once = timed(machine, Ready(lambda: call(*sets[0]), 1, False, "", "", 0, 0.0), 1)[0]
    flush = False
    if condition == "cold":
        copies = math.ceil(COLD_CACHES * machine.cache / max(footprint, 1)) + 1
        flush = copies > COLD_MOST or copies * footprint > machine.free() / 3
        sets += [make() for _ in range(0 if flush else copies - 1)]
    elif condition == "warm":
        sets *= min(WARM_MOST, max(1, math.ceil(WARM_US / max(once, 1e-3))))
    elif condition != "eager":
        raise UnsupportedError(f"unknown condition '{condition}'; expected cold, warm or eager")
    tail = "-flush" if flush else "-rotate" if len(sets) > 1 and condition == "cold" else ""

    def run() -> list[Any]:
        return [call(*operands) for operands in sets]

    ready = Ready(run, len(sets), flush, f"events{tail}", "with_launch", footprint, once)
    if machine.kind == "cpu":
        return replace(ready, method=f"thread{tail}")
    if condition == "eager":
        return ready
    try:
        return replace(ready, run=captured(machine, run), method=f"graph{tail}", timing="kernel")
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        machine.sync()
        return ready


def captured(machine: Lab, run: Callable[[], Any]) -> Callable[[], Any]:
    """A CUDA graph of `run`; its replay."""
    torch = machine.torch
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = run()
    return lambda: (graph.replay(), kept)[0]


def timed(machine: Lab, ready: Ready, count: int) -> list[float]:
    """`count` timings in microseconds of one execution each: by CUDA events; on a CPU by the time that the thread ran, so that
    what other programs take of the core is not counted."""
    if machine.kind == "cpu":
        return [_thread_us(machine, ready) for _ in range(count)]
    event = machine.torch.cuda.Event
    pairs = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(count)]
    for start, end in pairs:
        if ready.flush:
            machine.buffer.zero_()
        start.record()
        ready.run()
        end.record()
    machine.sync()
    return [start.elapsed_time(end) * 1e3 / ready.per for start, end in pairs]


def _thread_us(machine: Lab, ready: Ready) -> float:
    if ready.flush:
        machine.buffer.zero_()
    start = time.thread_time()
    ready.run()
    return (time.thread_time() - start) * 1e6 / ready.per


def visit(machine: Lab, ready: Ready) -> list[float]:
    """Timings of one visit: until their median is known to half the target, or VISIT_S, or the most samples."""
    timed(machine, ready, 1)
    samples: list[float] = []
    end = time.perf_counter() + VISIT_S
    batch = int(min(10, max(2, VISIT_S * 1e6 / 4 / max(ready.once_us * ready.per, 1.0))))
    while len(samples) < SAMPLES[1]:
        samples += timed(machine, ready, batch)
        settled = _error_of_median(samples) < TARGET / 2
        if len(samples) >= SAMPLES[0] and (settled or time.perf_counter() > end):
            break
    return samples


def _error_of_median(samples: Sequence[float]) -> float:
    """Relative standard error of the median from the median absolute deviation: 1.4826 MAD is a normal's deviation, and a
    median's is 1.2533 times that of a mean (large samples)."""
    middle = float(np.median(samples))
    mad = float(np.median(np.abs(np.asarray(samples) - middle)))
    return 1.2533 * 1.4826 * mad / math.sqrt(len(samples)) / middle


def summary(visits: Sequence[Sequence[float]], kind: str) -> dict[str, Any]:
    """Latency and its relative spread: half a 95 % interval of the mean of the visits, since what differs between two
    campaigns is clocks, heat and placement of memory, not the noise inside a visit; never below the noise of the median."""
    values = [float(np.quantile(v, QUANTILE[kind])) for v in visits]
    flat = [s for v in visits for s in v]
    latency, n = float(np.median(values)), len(values)
    between = (
        STUDENT[min(n, max(STUDENT))] * float(np.std(values, ddof=1)) / math.sqrt(n) / latency if n > 1 else math.inf
    )
    return {
        "latency_us": latency, "spread": max(between, 2 * _error_of_median(flat), FLOOR[kind]), "n_meas": len(flat), "visits": n,
        "min_us": min(flat),
    }  # fmt: skip


def _bytes(machine: Lab, what: Any) -> int:
    """Bytes of the tensors in nested lists and tuples."""
    if isinstance(what, machine.torch.Tensor):
        return int(what.numel() * what.element_size())
    return sum(_bytes(machine, part) for part in what) if isinstance(what, list | tuple) else 0


def failure(machine: Lab, error: Exception) -> dict[str, str]:
    """status and reason of a row that could not be measured. BrokenError where the device itself no longer answers."""
    lines = str(error).strip().splitlines()
    reason = lines[0][:200] if lines else type(error).__name__
    if out_of_memory(error):
        machine.release()
        return {"status": "oom", "reason": reason}
    try:
        machine.sync()
    except RuntimeError:
        raise BrokenError(f"the device stopped answering: {reason}") from None
    known = (UnsupportedError, NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError, KeyError)
    return {"status": "unsupported" if isinstance(error, known) else "error", "reason": reason}


def out_of_memory(error: Exception) -> bool:
    """Whether memory, of the device or of the host, was not enough."""
    text = f"{type(error).__name__} {error}".lower()
    return any(
        word in text for word in ("out of memory", "outofmemory", "memoryerror", "allocate memory", "not enough memory")
    )
