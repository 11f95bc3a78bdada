"""A measured timeline held against what framecast predicts for the same calls on one device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwspecs.device import Device
from hwspecs.errors import SpecError
from hwspecs.rates import rates
from hwspecs.software import Software
from sim.result import Floats, call_class
from sim.simulate import Fit, price
from workloads.formats.profiler import CPU, Measured
from workloads.kind import REPORT_CLASSES
from workloads.trace import Trace

DEPTH = 2  # modules of a path that a line names


@dataclass(frozen=True)
class Line:
    """Calls that are one thing (a class, an operator): how many, kernels that were measured, seconds measured and predicted.

    `predicted` is None where no device was named.
    """

    name: str
    calls: int
    kernels: int
    measured: float
    predicted: float | None

    @property
    def ratio(self) -> float | None:
        """predicted / measured; None where one of the two is missing."""
        return self.predicted / self.measured if self.measured and self.predicted is not None else None


@dataclass(frozen=True)
class Check:
    """Lines in descending measured time; `all` is their sum. Seconds are of kernels on the device, without gaps.

    `modules`: by the two outermost modules, where the timeline has modules.

    `unattributed`: seconds of kernels that belong to no call, and are in no line.
    """

    title: str
    classes: tuple[Line, ...]
    modules: tuple[Line, ...]
    operators: tuple[Line, ...]
    all: Line
    unattributed: float


def check(measured: Measured, device: Device, software: Software, level: str) -> Check:
    """Price the calls of a timeline on a device and hold the kernel times against those measured.

    Raises SpecError for a timeline without kernels, a level that there is not, or one that the device lacks.
    """
    if measured.clock == CPU:
        text = "holds no kernels of a GPU, so that there is nothing to hold a prediction against"
        raise SpecError(f"{measured.trace.request['source']}: {text}; profile with ProfilerActivity.CUDA")
    fitted = _fit(device, level)
    cost = price(measured.trace, software, rates(device), level, fitted).cost
    predicted = cost.per_call(cost.time) * measured.trace.call_repeats()
    return _checked(f"{measured.trace.model} on {device.title}, {software.title}, level {level}", measured, predicted)


def alone(measured: Measured) -> Check:
    """What was measured, without a prediction."""
    return _checked(f"{measured.trace.model}: time of {measured.clock}", measured, None)


def _checked(title: str, measured: Measured, predicted: Floats | None) -> Check:
    trace = measured.trace
    names = [REPORT_CLASSES[i] for i in call_class(trace)]
    return Check(
        title=title,
        classes=_lines(names, measured, predicted),
        modules=_lines([_module(trace.paths[i]) for i in trace.call_path.tolist()], measured, predicted),
        operators=_lines(_operators(trace), measured, predicted),
        all=_lines(["all"] * trace.calls, measured, predicted)[0],
        unattributed=sum(measured.unattributed.values()),
    )


def _fit(device: Device, level: str) -> Fit | None:
    if level != "calibrated":
        return None
    from sim.fitted import fit_of

    fitted = fit_of(device)
    if fitted is None:
        raise SpecError(f"--level: found 'calibrated', which {device.name} does not have; use physical")
    return fitted, device.name


def _module(path: str) -> str:
    """The two outermost modules of a path."""
    return ".".join(path.split(".")[:DEPTH]) or "(no module)"


def _operators(trace: Trace) -> list[str]:
    """'aten.addmm 1x4096x320x1280 fp16' of each call: label and dimensions that are above 1, in the order of its kind."""
    texts = []
    for op in range(len(trace.op_kind)):
        sizes = [str(n) for n in trace.op_dims[op].tolist() if n > 1]
        texts.append(
            f"{trace.labels[int(trace.op_label[op])]} {' x '.join(sizes)} {trace.dtypes[int(trace.op_dtype[op])]}"
        )
    return [texts[op] for op in trace.call_op.tolist()]


def _lines(names: Sequence[str], measured: Measured, predicted: Floats | None) -> tuple[Line, ...]:
    """Calls of one name as one line."""
    found, which = np.unique(names, return_inverse=True)
    index = which.reshape(-1)
    calls, kernels, seconds = (
        np.bincount(index),
        np.bincount(index, measured.kernels),
        np.bincount(index, measured.seconds),
    )
    ours: list[float | None] = [None] * len(found) if predicted is None else np.bincount(index, predicted).tolist()
    columns = zip(found.tolist(), calls.tolist(), kernels.tolist(), seconds.tolist(), ours, strict=True)
    lines = [Line(name, int(n), round(k), s, o) for name, n, k, s, o in columns]
    return tuple(sorted(lines, key=lambda line: -line.measured))
