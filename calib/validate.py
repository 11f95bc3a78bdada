"""Published latencies beside ours: error by row and by model, one vote a model. Nothing is fitted to these rows.

Where a row does not say which of several devices ran it, all are priced: ours is their middle, and the interval over them is
shown. A row is bound by the host where we predict that the host needs longer than the device to run its denoising steps. Ours is
the time of the networks, which `run` gives, and beside it what the sampler of the row's program makes the host do (`samplers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.published import Case, Published
from calib.samplers import between
from hwspecs import device
from hwspecs.rates import rates
from sim.host import Between, serial_makespan, step_time
from sim.result import call_class
from sim.simulate import held, on_device, price
from sim.spread import interval
from workloads.cache import trace_of
from workloads.kind import REPORT_CLASSES
from workloads.model import denoising, find
from workloads.trace import Trace

LEVEL = "physical"  # the one that every device has


@dataclass(frozen=True)
class Beside:
    """One row beside ours, seconds: `ours` of the middle candidate, `low` and `high` over all of them.

    `interval` is that of 80 % of the whole inference, over its latency and over all candidates: two ratios around 1.

    `classes` are seconds of GPU kernels by report class of what the row times, for the middle candidate.
    """

    case: Case
    ours: float
    low: float
    high: float
    gpu: float
    host_bound: bool
    interval: tuple[float, float]
    classes: Mapping[str, float]

    @property
    def error(self) -> float:
        """Ours over the published time, less one."""
        return self.ours / self.case.seconds - 1.0


def validate(published: Published, say: Callable[[str], None] = lambda _: None) -> list[Beside]:
    """Price every case. Cases of one trace are priced one after the other, so that a trace is read once."""
    out = {}
    order = sorted(published.cases, key=lambda c: (c.model, repr(c.request), c.assumed))
    last: tuple[Any, Trace] | None = None
    for case in order:
        if last is None or last[0] != (case.model, case.request):
            say(f"{case.model}, {case.request.batch} at a time")
            last = ((case.model, case.request), trace_of(case.model, case.request))
        out[case.id] = beside(case, last[1])
    return [out[case.id] for case in published.cases]


def beside(case: Case, trace: Trace) -> Beside:
    """One row and its prediction on each device that it may mean."""
    on = rates([device.load(id_) for id_ in case.devices])
    priced = price(trace, case.software, on, LEVEL)
    gpu = priced.cost.per_call(priced.cost.time + priced.cost.gap)
    steps = denoising(find(case.model), case.request)
    loop, pause = _calls(trace, steps), between(case.sampler, case.software)
    pauses = {steps[0]: pause} if len(steps) == 1 else {}
    step_gpu = gpu[:, loop].sum(axis=1)
    step_host = priced.host[:, loop].sum(axis=1) + pause.before + pause.after
    repeats = trace.call_repeats() if case.of == "run" else loop.astype(np.int64)
    seconds = (
        serial_makespan(gpu, priced.host, trace, pauses)
        if case.of == "run"
        else step_time(gpu[:, loop], priced.host[:, loop], pause)
    )
    middle = int(np.argsort(seconds)[(len(seconds) - 1) // 2])
    names = call_class(trace)
    by_class = np.bincount(names, gpu[middle] * repeats, len(REPORT_CLASSES))
    return Beside(
        case, float(seconds[middle]), float(seconds.min()), float(seconds.max()), float(gpu[middle] @ repeats),
        bool(step_host[middle] > step_gpu[middle]), _interval(case, trace, seconds / seconds[middle], pauses),
        {REPORT_CLASSES[i]: float(by_class[i]) for i in np.argsort(-by_class) if by_class[i] > 0},
    )  # fmt: skip


def _interval(case: Case, trace: Trace, share: Any, pauses: Mapping[int, Between]) -> tuple[float, float]:
    """From the least to the most of any candidate, over the middle one; `share` (candidates,): the time of each over that of the
    middle one; `pauses`: what the host does between two steps."""
    each = []
    for id_, over in zip(case.devices, share, strict=True):
        one = on_device(price(trace, case.software, rates(device.load(id_)), LEVEL), device.load(id_))
        low, high = interval(one, trace, pauses)
        latency = float(serial_makespan(held(one.cost), one.host, trace, pauses))
        each.append((over * low / latency, over * high / latency))
    return float(min(low for low, _ in each)), float(max(high for _, high in each))


def _calls(trace: Trace, segments: Sequence[int]) -> Any:
    """Calls of some segments, bool (calls,)."""
    return np.isin(trace.call_segment(), list(segments))


def inside(rows: Sequence[Beside]) -> float:
    """Share of the rows whose published time lies in the interval of 80 %."""
    return (
        float(np.mean([r.interval[0] <= r.case.seconds / r.ours <= r.interval[1] for r in rows]))
        if rows
        else float("nan")
    )


@dataclass(frozen=True)
class Vote:
    """The rows of one model that are not bound by the host: how many, median absolute and median signed error."""

    model: str
    rows: int
    error: float
    bias: float


def votes(rows: Sequence[Beside]) -> list[Vote]:
    """One for each model, in alphabetical order; rows bound by the host apart."""
    out = []
    for model in sorted({r.case.model for r in rows}):
        errors = np.array([r.error for r in rows if r.case.model == model and not r.host_bound])
        if len(errors):
            out.append(Vote(model, len(errors), float(np.median(np.abs(errors))), float(np.median(errors))))
    return out


def overall(rows: Sequence[Beside]) -> float:
    """Median over models of the median absolute error of each, rows bound by the host apart; nan where there are none."""
    errors = [v.error for v in votes(rows)]
    return float(np.median(errors)) if errors else float("nan")


def groups(rows: Sequence[Beside]) -> Iterator[tuple[str, str, list[Beside]]]:
    """(model, software assumed, rows) of those not bound by the host, in order."""
    free = [r for r in rows if not r.host_bound]
    for model, words in sorted({(r.case.model, r.case.assumed) for r in free}):
        yield model, words, [r for r in free if (r.case.model, r.case.assumed) == (model, words)]
