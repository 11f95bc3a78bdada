"""replay: a scenario -> trace -> kernel rows -> cost -> serial timeline -> Result. Glue; every rule lives elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from hwspecs.device import Device
from hwspecs.rates import Rates, rates
from hwspecs.software import Software
from sim.calibration import load as load_calibration
from sim.cost import Cost, cost
from sim.host import host_time, serial_makespan
from sim.memory import memory
from sim.result import Correction, Floats, Priced, Result
from sim.scenario import Scenario, check_trace, uncorrected
from sim.timeline import serial
from workloads.cache import trace_of
from workloads.lower import Kernels, lower
from workloads.model import denoising, find
from workloads.trace import Trace

if TYPE_CHECKING:
    from sim.fitted import Fitted

Fit: TypeAlias = "tuple[Fitted, str]"  # and the id of the device that it is applied on


def replay(scenario: Scenario, command: str = "") -> Result:
    """One inference of a scenario on one device, calls in program order on one stream.

    Raises SpecError where the model cannot be captured.
    """
    scenario, correction = settled(scenario)
    trace = trace_of(scenario.model, scenario.request)
    check_trace(scenario, trace)
    on, fitted = rates(scenario.device), _fit(scenario, correction)
    own = on_device(price(trace, scenario.software, on, scenario.level, fitted), scenario.device, fitted)
    correction = _if_any(own, correction, fitted)
    attention = {
        way: own
        if way == scenario.software.attention
        else price(trace, _with(scenario, way), on, scenario.level, fitted)
        for way in compared(scenario.software.attention)
    }
    timeline = serial(trace.segments, held(own.cost), own.host)
    need, steps = memory(trace, own.cost), denoising(find(scenario.model), scenario.request)
    return Result(scenario, trace, own, attention, timeline, need, steps, command, correction)


def compared(attention: str) -> tuple[str, str]:
    """The two ways to run attention that a result holds against each other: unfused, and flash-2 or what replaces it."""
    return "unfused", "flash-3" if attention == "flash-3" else "flash-2"


def settled(scenario: Scenario) -> tuple[Scenario, Correction]:
    """The scenario at the level that its device has, and which fit corrects it.

    A learned correction belongs to the device that was fitted. On any other, and on that one with a number changed, its weight is
    zero: the level is then the physical one, and the correction says why.
    """
    if scenario.level != "calibrated":
        return scenario, Correction("", f"level {scenario.level}")
    from sim.fitted import fit_of

    fitted = fit_of(scenario.device)
    if fitted is not None:
        return scenario, Correction(fitted.name, "")
    changed = [path for path in scenario.changed() if path.startswith("device.")]
    own = f"{changed[0]} differs from the file of {scenario.device.name}" if changed else ""
    return uncorrected(scenario), Correction("", own or f"{scenario.device.name} was never fitted")


def _fit(scenario: Scenario, correction: Correction) -> Fit | None:
    if not correction.fit:
        return None
    from sim.fitted import fit_of

    fitted = fit_of(scenario.device)
    assert fitted is not None
    return fitted, scenario.device.name


def _if_any(priced: Priced, correction: Correction, fitted: Fit | None) -> Correction:
    """The correction of a run; none where it has no kernel that the fit corrects."""
    from sim.correct import corrects

    if fitted is None or corrects(priced.cost.kernels, *fitted):
        return correction
    return Correction("", f"the fit {correction.fit} corrects 16-bit matrix products with weights, and there are none")


def price(trace: Trace, software: Software, on: Rates, level: str, fitted: Fit | None = None) -> Priced:
    """A trace under a software on one device, or on a stack of designs; corrected by a fit of this device, if one is given."""
    kernels = lower(trace, software)
    priced = cost(kernels, on, level, factor=_factors(kernels, fitted))
    host = host_time(trace, priced, software)
    return Priced(priced, host, serial_makespan(held(priced), host, trace))


def on_device(priced: Priced, device: Device, fitted: Fit | None = None) -> Priced:
    """The same, with `covered` only where measurements on this very device back it (prices know rates, and no device), and, where
    a fit corrects it, only inside the shapes that the fit saw."""
    kernels = priced.cost.kernels
    covered = priced.cost.covered & load_calibration().covered(kernels, device)
    if fitted is not None:
        from sim.correct import outside

        covered &= ~outside(kernels, *fitted)
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
