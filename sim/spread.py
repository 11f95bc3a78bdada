"""How far a prediction may be off: errors of devices and shapes that were left out, propagated to the total of a run.

An error has two parts: one that all kernels of a family share on a device (the device's own, and its library's), and one of each
shape. The first does not average out over a run; the second does, over distinct shapes. Both are standard deviations of the
logarithm of measured over predicted time, from rows of chips that the fit had not seen (`calibrations/spread.yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from hwspecs.errors import CalibrationError
from sim.calibration import FOLDER
from sim.calibration import load as load_calibration
from sim.host import NOTHING, Between, serial_makespan

if TYPE_CHECKING:
    from sim.result import Priced, Result
    from workloads.trace import Trace

FILE = FOLDER / "spread.yaml"
ROW_EDGES = (
    10e-6,
    50e-6,
    500e-6,
)  # s, predicted: groups of rows on a new chip; few, since two or three chips stand behind each
EIGHTY = 1.2816  # standard deviations either side that hold 80 % of normal errors
FAMILIES = {"gemm": "gemm", "attention": "attention", "conv": "conv"}  # kind of a kernel -> family; all others stream


@dataclass(frozen=True)
class Spread:
    """Standard deviations of log(measured / predicted): shared by a family on one device, and of each shape; the rows behind."""

    device: float
    shape: float
    rows: int
    source: str


@dataclass(frozen=True)
class Spreads:
    """By family for kernels that no measurement on this device backs ('abroad') and that one does ('home'); the host's, of the
    time that it needs for a call; and, for single rows of tables, intervals of 80 % by part of a fit and by group of times.

    `layers`: physical terms by part, and by library or operator ("" is all of them), fitted on several chips at once, and so
    what holds on one that was never measured; 'kernels', how many small ones an attention layer runs beside the fused one.
    `hosts`: seconds of the dispatch that rows of a table hold, by the chip that was measured and the label of its floor.
    """

    abroad: Mapping[str, Spread]
    home: Mapping[str, Spread]
    host: Spread
    rows: Mapping[str, tuple[float, float]]
    layers: Mapping[str, Mapping[str, Mapping[str, float]]]
    hosts: Mapping[str, Mapping[str, float]]


@cache
def load() -> Spreads:
    """The shipped spreads. CalibrationError for a missing or malformed file."""
    try:
        data: Any = yaml.safe_load(FILE.read_text(encoding="utf-8"))
        sets = {name: {key: Spread(**value) for key, value in data[name].items()} for name in ("abroad", "home")}
        rows = {key: (float(low), float(high)) for key, (low, high) in data["rows"].items()}
        return Spreads(sets["abroad"], sets["home"], Spread(**data["host"]), rows, data["layers"], data["hosts"])
    except OSError as error:
        raise CalibrationError(f"{FILE}: cannot read the spreads: {error.strerror}") from None
    except (yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise CalibrationError(f"{FILE}: not a file of spreads: {error}") from None


def relative(priced: Priced, trace: Trace) -> float:
    """Standard deviation of the logarithm of the GPU kernel time of one inference."""
    cost, known = priced.cost, load()
    seconds = priced.runs(trace.call_repeats()) * cost.time
    family = np.array([FAMILIES.get(name.split("/")[0], "stream") for name in cost.kernels.family], dtype=object)
    variance = 0.0
    for covered, spreads in ((True, known.home), (False, known.abroad)):
        for name, spread in spreads.items():
            own = np.where((family == name) & (cost.covered == covered), seconds, 0.0)
            shapes = np.bincount(cost.kernels.op[cost.kernels.row], own)
            variance += (own.sum() * spread.device) ** 2 + float(((shapes * spread.shape) ** 2).sum())
    return float(np.sqrt(variance) / seconds.sum())


def latency_interval(result: Result) -> tuple[float, float]:
    """Seconds between which the latency lies with 80 %."""
    return interval(result.priced, result.trace)


def interval(priced: Priced, trace: Trace, between: Mapping[int, Between] = NOTHING) -> tuple[float, float]:
    """The same of a trace on one device: every kernel, and every call of the host, fast or slow together; `between` passes of
    segments as in `sim.host`."""
    gpu, issue = np.exp(EIGHTY * relative(priced, trace)), np.exp(EIGHTY * load().host.device)
    held = priced.cost.per_call(priced.cost.time + priced.cost.gap)
    low, high = (
        float(serial_makespan(held * gpu**s, priced.host * issue**s, trace, _scaled(between, issue**s)))
        for s in (-1.0, 1.0)
    )
    return low, high


def _scaled(between: Mapping[int, Between], by: float) -> dict[int, Between]:
    return {i: Between(b.before * by, b.after * by, b.waits) for i, b in between.items()}


def outside(result: Result) -> dict[str, float]:
    """Shares of GPU kernel time: of shapes that no measurement covers on any device, and of those that one covers, only not on
    this device."""
    cost = result.priced.cost
    shapes = load_calibration().covered(cost.kernels)
    seconds = result.priced.runs(result.trace.call_repeats()) * cost.time
    whole = float(seconds.sum())
    return {
        "shapes": float(seconds[~shapes].sum()) / whole,
        "hardware": float(seconds[shapes & ~cost.covered].sum()) / whole,
    }
