"""Whole modules and streams: steps of the networks, eager, as a CUDA graph and compiled; their kernels by module path; and the
same step on one, two and four streams. Needs torch (2.4 or later) and numpy, nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from calib.measure_files import MEASURED, Rows
from calib.measure_lab import (
    BrokenError,
    Lab,
    Ready,
    UnsupportedError,
    captured,
    clocks,
    failure,
    prepare,
    summary,
    visit,
)
from calib.measure_networks import NETWORKS, network, parameters, variants

if TYPE_CHECKING:
    from calib.measure import Budget, Campaign

WHICH = ("network", "code", "attention", "mode", "dtype")
MODULES = (*WHICH, "batch", "parameters", *MEASURED)
KERNELS = (*WHICH, "path", "op", "kernel", "calls", "time_us", "device", "software", "started")  # of one step
STREAMS = ("network", "dtype", "mode", "streams", "steps", "batch", "offset_us", "per_step_us", *MEASURED)
DTYPE = {"cuda": "fp16", "cpu": "fp32"}
MODES = ("eager", "graph", "compiled")
ARRANGEMENTS = ("serial", "batched", "lockstep", "staggered")
STEPS = {"cuda": 6, "cpu": 2}  # of each stream: the start of staggered ones is then a small part
SECONDS = {
    ("cuda", "compiled"): 110.0,
    ("cpu", "compiled"): 60.0,
    ("cuda", "eager"): 12.0,
}  # that a row may take; else 5
MARK = "path:"


def modules(campaign: Campaign, budget: Budget) -> None:
    """modules.csv, a row per network and mode; kernels.csv, its kernels by module path."""
    rows = Rows(campaign.out / "modules.csv", MODULES, WHICH)
    kernels = Rows(campaign.out / "kernels.csv", KERNELS, (*WHICH, "path", "op", "kernel"))
    machine = campaign.machine
    order = [
        (variant, mode) for mode in MODES for variant in variants(machine.kind) if _sensible(machine, variant, mode)
    ]
    for variant, mode in order:
        row = dict(zip(WHICH, (*variant, mode, DTYPE[machine.kind]), strict=True))
        if rows.has(row) or not budget.fits(SECONDS.get((machine.kind, mode), 5.0)):
            continue
        _row(campaign, "modules", rows, row, budget, lambda row=row: _module(campaign, row, kernels))  # type: ignore[misc]


def _sensible(machine: Lab, variant: tuple[str, str, str], mode: str) -> bool:
    """A CPU has no graphs, and compiling is tried there on the smallest network alone."""
    if mode == "graph":
        return machine.kind == "cuda"
    return mode == "eager" or machine.kind == "cuda" or variant[0] == list(NETWORKS["cpu"])[-1]


def _row(
    campaign: Campaign,
    phase: str,
    rows: Rows,
    row: Mapping[str, Any],
    budget: Budget,
    measured: Callable[[], dict[str, Any]],
) -> None:
    """One row with the clocks around it; what fails is recorded."""
    machine, begun, before = campaign.machine, time.monotonic(), clocks(campaign.machine)
    stamp = campaign.stamp()
    try:
        found = {"status": "ok", **measured()}
    except Exception as error:
        try:
            found = dict(failure(machine, error))
        except BrokenError as broken:
            rows.append({**row, **stamp, "status": "error", "reason": str(broken)})
            raise
    machine.release()
    rows.append({**row, **stamp, **found})
    campaign.block(phase, before, 1)
    budget.spent(begun)
    name = ", ".join(str(value) for value in row.values())
    campaign.say(f"{phase}: {name}: {_told(found)}")


def _told(found: Mapping[str, Any]) -> str:
    return f"{found['latency_us'] / 1e3:.2f} ms" if found["status"] == "ok" else f"{found['status']}, {found['reason']}"


def _module(campaign: Campaign, row: Mapping[str, str], kernels: Rows) -> dict[str, Any]:
    machine, mode = campaign.machine, row["mode"]
    module, inputs = network(machine, row["network"], row["code"], row["attention"], row["dtype"])
    operands = inputs(1)
    if mode == "compiled":
        runs = machine.torch.compile(module)
        runs(*operands)  # compiles
    else:
        runs = module
    ready = prepare(machine, (lambda: operands, runs), "warm" if mode == "graph" else "eager")
    visits = [visit(machine, ready) for _ in range(3)]
    if mode != "graph":  # a graph runs the kernels of eager
        stamp = {**row, **campaign.stamp()}
        try:
            found = list(profiled(machine, module if mode == "eager" else None, runs, operands))
        except RuntimeError as error:  # a machine that does not let a profiler in; the step's own time stands
            campaign.say(f"modules: no kernels of {row['network']}: {error}")
            found = []
        kernels.extend([{**stamp, **cells} for cells in found])
    return {
        **summary(visits, machine.kind), "method": ready.method, "timing": ready.timing, "parameters": parameters(module),
        "batch": NETWORKS[machine.kind][row["network"]].batch, "footprint_bytes": ready.footprint,
    }  # fmt: skip


def profiled(machine: Lab, module: Any, runs: Callable[..., Any], operands: Any) -> Iterator[dict[str, Any]]:
    """Kernels of one step by module path and torch operator, times summed; on a CPU its operators. No path where compiled."""
    profiler = machine.torch.profiler
    activities = [profiler.ProfilerActivity.CPU, *([profiler.ProfilerActivity.CUDA] if machine.kind == "cuda" else [])]
    handles = [handle for name, part in _named(module) for handle in _marked(profiler, name, part)]
    try:
        with profiler.profile(activities=activities) as profile:
            runs(*operands)
            machine.sync()
    finally:
        for handle in handles:
            handle.remove()
    sums: dict[tuple[str, str, str], list[float]] = {}
    for event in profile.events():
        for name, microseconds in _parts(machine, event):
            total = sums.setdefault((*_place(event), name), [0, 0.0])
            total[0] += 1
            total[1] += microseconds
    for (path, op, name), (calls, microseconds) in sums.items():
        yield {"path": path, "op": op, "kernel": name, "calls": int(calls), "time_us": float(microseconds)}


def _named(module: Any) -> Iterator[tuple[str, Any]]:
    yield from ((name, part) for name, part in module.named_modules() if name) if module is not None else ()


def _marked(profiler: Any, name: str, part: Any) -> tuple[Any, Any]:
    """Hooks that open a range of the profiler around a module's forward pass."""
    opened: list[Any] = []

    def before(*_: Any) -> None:
        opened.append(profiler.record_function(MARK + name))
        opened[-1].__enter__()

    def after(*_: Any) -> None:
        opened.pop().__exit__(None, None, None)

    return part.register_forward_pre_hook(before), part.register_forward_hook(after)


def _parts(machine: Lab, event: Any) -> list[tuple[str, float]]:
    """(kernel, microseconds) that an operator launched itself; on a CPU the operator's own time."""
    if event.name.startswith(MARK):
        return []
    if machine.kind == "cpu":
        own = float(event.self_cpu_time_total)
        return [(event.name, own)] if event.name.startswith("aten::") and own > 0 else []
    return [(kernel.name, float(kernel.duration)) for kernel in event.kernels if not kernel.name.startswith(MARK)]


def _place(event: Any) -> tuple[str, str]:
    """(path of the innermost module around an operator, outermost operator inside that module)."""
    op, at = event.name, event
    while at is not None and not at.name.startswith(MARK):
        op, at = at.name, at.cpu_parent
    return (at.name.removeprefix(MARK) if at is not None else ""), op


def streams(campaign: Campaign, budget: Budget) -> None:
    """streams.csv: steps of one network arranged on one, two, four streams."""
    machine = campaign.machine
    name, dtype = next(iter(NETWORKS[machine.kind])), DTYPE[machine.kind]
    key = ("network", "dtype", "mode", "streams")
    rows = Rows(campaign.out / "streams.csv", STREAMS, key)
    todo = []
    for count in (1, 2, 4):
        for mode in ARRANGEMENTS[: 1 if count == 1 else None]:
            row = dict(zip(key, (name, dtype, mode, count), strict=True))
            todo += [] if rows.has(row) else [row]
    if not todo or not budget.fits(10.0):
        return
    module, inputs = network(machine, name, "plain", "sdpa", dtype)
    for row in todo:
        if budget.fits(5.0):
            _row(campaign, "streams", rows, row, budget, lambda row=row: _arranged(machine, module, inputs, row))  # type: ignore[misc]


def _arranged(machine: Lab, module: Any, inputs: Callable[[int], Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Time STEPS steps of each stream in one arrangement."""
    mode, count, total = row["mode"], row["streams"], STEPS[machine.kind]
    if machine.kind == "cpu" and mode in ("lockstep", "staggered"):
        raise UnsupportedError("a CPU has no streams")
    step = _stepper(machine, module, inputs(count if mode == "batched" else 1))
    offset, run = 0.0, _repeated([step] * (total if mode == "batched" else total * count))
    if mode in ("lockstep", "staggered"):
        steps = [step, *(_stepper(machine, module, inputs(1)) for _ in range(count - 1))]
        once = summary([visit(machine, _ready(step))] * 2, machine.kind)["latency_us"]
        offset = once / count if mode == "staggered" else 0.0
        run = _parallel(machine, steps, offset, mode == "lockstep")
    ready = replace(_ready(run), method="thread" if machine.kind == "cpu" else "graph")
    found = summary([visit(machine, ready) for _ in range(3)], machine.kind)
    return {
        **found, "per_step_us": found["latency_us"] / (total * count), "offset_us": offset, "steps": total,
        "batch": next(iter(NETWORKS[machine.kind].values())).batch, "method": ready.method,
        "timing": "with_launch" if machine.kind == "cpu" else "kernel",
    }  # fmt: skip


def _ready(run: Callable[[], Any]) -> Ready:
    return Ready(run, 1, False, "", "", 0, 1e4)


def _stepper(machine: Lab, module: Any, operands: Any) -> Callable[[], Any]:
    """One step as a graph; on a CPU as a call."""
    if machine.kind == "cpu":
        return lambda: module(*operands)
    return captured(machine, lambda: [module(*operands)])


def _repeated(steps: list[Callable[[], Any]]) -> Callable[[], Any]:
    def run() -> None:
        for step in steps:
            step()

    return run


def _parallel(machine: Lab, steps: list[Callable[[], Any]], offset_us: float, in_step: bool) -> Callable[[], Any]:
    """Every step on a stream of its own, several times; stream i starts i offsets late, or all wait for each other."""
    cuda = machine.torch.cuda
    own = [cuda.Stream() for _ in steps]
    cycles = 1e6 / _sleep_us(machine, 1_000_000)  # of the device's clock, per microsecond

    def run() -> None:
        main = cuda.current_stream()
        for i, stream in enumerate(own):
            stream.wait_stream(main)
            with cuda.stream(stream):
                if offset_us and i:
                    cuda._sleep(int(i * offset_us * cycles))
        for _ in range(STEPS[machine.kind]):
            for stream, step in zip(own, steps, strict=True):
                with cuda.stream(stream):
                    step()
            for stream in own if in_step else ():
                for other in own:
                    stream.wait_stream(other)
        for stream in own:
            main.wait_stream(stream)

    return run


def _sleep_us(machine: Lab, cycles: int) -> float:
    cuda = machine.torch.cuda
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    start.record()
    cuda._sleep(cycles)
    end.record()
    machine.sync()
    return float(start.elapsed_time(end)) * 1e3
