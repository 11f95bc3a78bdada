"""replay: a scenario -> trace -> kernel rows -> cost -> serial timeline -> Result. Glue; every rule lives elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from hwspecs.device import Device
from hwspecs.errors import SpecError
from hwspecs.rates import Rates, rates
from hwspecs.software import Software
from sim.calibration import load as load_calibration
from sim.cost import Cost, cost
from sim.host import host_time, serial_makespan
from sim.memory import memory
from sim.result import Floats, Priced, Result
from sim.scenario import Scenario
from sim.timeline import serial
from workloads.cache import trace_of
from workloads.lower import Kernels, lower
from workloads.model import denoising, find
from workloads.trace import Trace

if TYPE_CHECKING:
    from sim.fitted import Fitted

Fit: TypeAlias = "tuple[Fitted, str]"  # and the id of the device that it is applied on
COMPARED = ("unfused", "flash-2")  # ways to run attention that every result holds against each other


def replay(scenario: Scenario, command: str = "") -> Result:
    """One inference of a scenario on one device, calls in program order on one stream.

    Raises SpecError where the model cannot be captured.
    """
    trace = trace_of(scenario.model, scenario.request)
    on = rates(scenario.device)
    fitted = fit_for(scenario)
    own = on_device(price(trace, scenario.software, on, scenario.level, fitted), scenario.device)
    attention = {
        way: own
        if way == scenario.software.attention
        else price(trace, _with(scenario, way), on, scenario.level, fitted)
        for way in COMPARED
    }
    timeline = serial(trace.segments, held(own.cost), own.host)
    steps = denoising(find(scenario.model), scenario.request)
    return Result(scenario, trace, own, attention, timeline, memory(trace, own.cost), steps, command)


def fit_for(scenario: Scenario) -> Fit | None:
    """The fit that corrects a run: at the calibrated level, which only a device that was fitted has. SpecError for another."""
    if scenario.level != "calibrated":
        return None
    from sim.correct import fit_of

    fitted = fit_of(scenario.device)
    if fitted is None:
        changed = [path for path in scenario.changed() if path.startswith("device.")]
        why = f"{changed[0]} differs from its file" if changed else "it was never fitted"
        text = f"level: found 'calibrated', which {scenario.device.name} does not have: {why}; use physical"
        raise SpecError(f"{scenario.path}: {text}")
    return fitted, scenario.device.name


def price(trace: Trace, software: Software, on: Rates, level: str, fitted: Fit | None = None) -> Priced:
    """A trace under a software on one device, or on a stack of designs; corrected by a fit of this device, if one is given."""
    kernels = lower(trace, software)
    priced = cost(kernels, on, level, factor=_factors(kernels, fitted))
    host = host_time(trace, priced, software)
    return Priced(priced, host, serial_makespan(held(priced), host, trace))


def on_device(priced: Priced, device: Device) -> Priced:
    """The same, with `covered` only where measurements on this very device back it (prices know rates, and no device)."""
    covered = priced.cost.covered & load_calibration().covered(priced.cost.kernels, device)
    return replace(priced, cost=replace(priced.cost, covered=covered))


def held(priced: Cost) -> Floats:
    """Seconds that one run of each call holds the stream, gaps between kernels included: (..., calls)."""
    return priced.per_call(priced.time + priced.gap)


def _factors(kernels: Kernels, fitted: Fit | None) -> Any:
    if fitted is None:
        return 1.0
    from sim.correct import factors

    return factors(kernels, *fitted)


def _with(scenario: Scenario, way: str) -> Software:
    return replace(scenario.software, attention=way)  # type: ignore[arg-type]
