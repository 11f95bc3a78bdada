"""sensitivity: how much latency and memory move with each number of the device and with the host, and what halves them.

All neighbours of the device are priced as one stack of designs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any, TypeAlias

import numpy as np

from hwspecs.device import Device
from hwspecs.rates import Rates, rates
from hwspecs.software import Software
from sim import energy, vary
from sim.cost import Cost, cost
from sim.host import host_time, serial_makespan
from sim.memory import memory
from sim.result import Floats
from sim.scenario import Scenario, uncorrected
from sim.simulate import held
from workloads.cache import trace_of
from workloads.fields import images_of
from workloads.lower import Kernels, lower
from workloads.trace import Trace

STEPS = (0.01, 0.10)  # relative changes that may be asked for
DOUBLED = 2.0
CHUNK = 24  # designs priced together: (designs, kernels) temporaries of some 10 MB
NOTHING = 1e-6  # elasticity below which a field is said to change nothing (rounding of sums is some 1e-13)
GAIN = 1e-3  # of the latency that doubling one more number has to save to be named


@dataclass(frozen=True)
class Field:
    """One number and what follows from changing it.

    Attributes:
        path, unit, value: of the scenario, SI units.
        low, high: values that were priced; on one side None where the number cannot be smaller or larger.
        low_latency, high_latency: seconds there.
        doubled: the value that should help, two times or half of the present one; None where that cannot be.
        doubled_latency: seconds there, inf where it cannot be.
        elasticity, memory_elasticity: d ln latency / d ln value, and of the peak memory, over low to high.
        silicon: the same of energy, power, area, price and dollars, by the names of `energy.DESIGN`; {} where the device does
            not say what it is made of.
    """

    path: str
    unit: str
    value: float
    low: float | None
    high: float | None
    low_latency: float
    high_latency: float
    doubled: float | None
    doubled_latency: float
    elasticity: float
    memory_elasticity: float
    silicon: Mapping[str, float] = dataclass_field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Latency or memory moves with it."""
        return max(abs(self.elasticity), abs(self.memory_elasticity)) > NOTHING


@dataclass(frozen=True)
class Halving:
    """Numbers that are doubled (or halved, where less is better) one after the other, the most helpful first.

    latencies: seconds after each. reached: the last is at most half of the scenario's.
    """

    paths: tuple[str, ...]
    latencies: tuple[float, ...]
    reached: bool


@dataclass(frozen=True)
class Sensitivity:
    """Every field, the most influential first. step: relative change, of whole numbers the nearest possible."""

    scenario: Scenario
    step: float
    latency: float
    peak_memory: float
    fields: tuple[Field, ...]
    halving: Halving


@dataclass(frozen=True)
class _Work:
    """What no design changes."""

    scenario: Scenario
    trace: Trace
    kernels: Kernels


@dataclass(frozen=True)
class _Point:
    """A design to price."""

    device: Device
    software: Software


def sensitivity(scenario: Scenario, step: float = STEPS[1]) -> Sensitivity:
    """Elasticities by a change of `step` both ways, what doubling each number gives, and which must double to halve the latency.

    Designs are priced without a learned correction. Raises SpecError where the model cannot be captured.
    """
    scenario = uncorrected(scenario)
    trace = trace_of(scenario.model, scenario.request)
    work = _Work(scenario, trace, lower(trace, scenario.software))
    here = _Point(scenario.device, scenario.software)
    numbers = [*vary.numbers(here.device), *vary.numbers(here.software)]
    values = [(n, _values(here, n, step)) for n in numbers]
    asked = [_moved(here, n, v) for n, some in values for v in some if v is not None]
    priced = iter(_priced(work, [here, *asked]))
    now = next(priced)
    found = []
    for number, some in values:
        ends = [next(priced) if v is not None else None for v in some]
        found.append(_field(number, some, ends, now))
    ordered = sorted(found, key=lambda f: -abs(f.elasticity))
    halving = _halving(work, here, numbers, ordered, now[0])
    return Sensitivity(scenario, step, now[0], now[1], tuple(ordered), halving)


def _values(here: _Point, number: vary.Number, step: float) -> list[float | None]:
    """Below, above, doubled, halved; None where the device cannot have that."""
    return [
        _possible(here, number, [1 - step, *([0.5] if number.whole else [])]),
        _possible(here, number, [1 + step, *([2.0] if number.whole else [])]),
        _possible(here, number, [DOUBLED]),
        _possible(here, number, [1 / DOUBLED]),
    ]


def _possible(here: _Point, number: vary.Number, factors: Iterable[float]) -> float | None:
    """The number at the first of its multiples that differs from it and that the device or software may have."""
    for factor in factors:
        changed = getattr(_moved(here, number, number.value * factor), number.part)
        value = vary.value_of(changed, number)
        if value != number.value and vary.is_possible(changed):
            return value
    return None


def _moved(here: _Point, number: vary.Number, value: float) -> _Point:
    if number.part == "software":
        return replace(here, software=vary.with_number(here.software, number, value))
    return replace(here, device=vary.with_number(here.device, number, value))


def _field(number: vary.Number, values: Sequence[float | None], ends: Sequence[Any], now: Priced) -> Field:
    low, high, double, half = values
    places = [(v, end) for v, end in ((low, ends[0]), (number.value, now), (high, ends[1])) if v is not None]
    (first, a), (last, b) = places[0], places[-1]
    span = math.log(last / first) if last != first else math.inf
    best = min(
        ((v, e[0]) for v, e in ((double, ends[2]), (half, ends[3])) if v is not None), key=lambda p: p[1], default=None
    )
    return Field(
        path=number.field,
        unit=number.unit,
        value=number.value,
        low=low,
        high=high,
        low_latency=ends[0][0] if ends[0] else now[0],
        high_latency=ends[1][0] if ends[1] else now[0],
        doubled=best[0] if best else None,
        doubled_latency=best[1] if best else math.inf,
        elasticity=math.log(b[0] / a[0]) / span,
        memory_elasticity=math.log(b[1] / a[1]) / span if a[1] else 0.0,
        silicon={name: math.log(b[2][name] / a[2][name]) / span for name in a[2]},
    )


def _halving(work: _Work, here: _Point, numbers: list[vary.Number], fields: list[Field], latency: float) -> Halving:
    """Greedy: of the numbers that are still as they were, double the one that saves most; until half, or nothing helps."""
    target = {f.path: f.doubled for f in fields if f.doubled is not None and f.is_live}
    left = {n.field: n for n in numbers if n.field in target}
    paths: list[str] = []
    times: list[float] = []
    while left and (not times or times[-1] > latency / 2):
        tried = {path: _moved(here, number, target[path] or number.value) for path, number in left.items()}
        found = [time for time, _, _ in _priced(work, list(tried.values()))]
        best = int(np.argmin(found))
        path = list(tried)[best]
        if found[best] > (times[-1] if times else latency) - GAIN * latency:
            break
        here = tried[path]
        left.pop(path)
        paths.append(path)
        times.append(found[best])
    return Halving(tuple(paths), tuple(times), bool(times) and times[-1] <= latency / 2)


Priced: TypeAlias = tuple[
    float, float, Mapping[str, float]
]  # latency, peak memory, figures by the names of energy.DESIGN


def _priced(work: _Work, points: Sequence[_Point]) -> list[Priced]:
    """Of every point."""
    found: list[Priced] = []
    for first in range(0, len(points), CHUNK):
        some = points[first : first + CHUNK]
        on = rates([p.device for p in some])
        priced = cost(work.kernels, on, work.scenario.level)
        ends = _ends(work, priced, [p.software for p in some])
        found += zip(ends.tolist(), _peaks(work, priced), _silicon(work, priced, on, ends), strict=True)
    return found


def _silicon(work: _Work, priced: Cost, on: Rates, ends: Floats) -> list[Mapping[str, float]]:
    """Energy, power, area, price and dollars of each design."""
    device, images = work.scenario.device, images_of(work.scenario.request)
    if device.silicon is None:
        return [{} for _ in ends]
    per_row = np.bincount(work.kernels.call_row, work.trace.call_repeats(), work.kernels.rows)
    done = energy.summed(energy.activity(work.kernels, priced.hbm_bytes), per_row[work.kernels.row] * priced.chosen)
    columns = energy.of_designs(done, ends[:, None], images, on, device)
    tall = {name: np.broadcast_to(values, (len(ends), 1))[:, 0] for name, values in columns.items()}
    return [{name: float(values[i]) for name, values in tall.items()} for i in range(len(ends))]


def _ends(work: _Work, priced: Cost, software: Sequence[Software]) -> Floats:
    """Seconds of one inference on each design, whose software may differ in its host times."""
    host = host_time(work.trace, priced, software[0])
    for i, other in enumerate(software):
        if other is not software[0]:
            host[i] = host_time(work.trace, priced, other)[i]
    return serial_makespan(held(priced), host, work.trace)


def _peaks(work: _Work, priced: Cost) -> list[float]:
    """Bytes of each design, once per choice of ways."""
    patterns, which = np.unique(priced.chosen, axis=0, return_inverse=True)
    each = [memory(work.trace, replace(priced, chosen=pattern)).peak for pattern in patterns]
    return [each[i] for i in which.reshape(-1)]
