"""How sure it is that one design is faster than another, and what bounds each workload on each of them.

The error of a predicted time has a part of the device, one for each family of kernels, and a part of each shape (`sim.spread`:
standard deviations of the logarithm, from chips that the fit had not seen). Two designs share most of it where they are alike:
the errors of two designs at a distance d are correlated by exp(-d / D), where d is the Euclidean distance of the logarithms of
the fields that vary, and D the median distance of two real devices of the library in those fields, since it is between those
that the spread was measured. So the error of a ratio of times vanishes as two designs become one, and two designs as far apart
as real chips keep most of it. Only kernels' times err here; what the host adds is the same on all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import erf, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.evaluate import RATES, Workload, as_columns, stack, timed
from explore.mix import Mix
from hwspecs.device import device_names
from hwspecs.device import load as load_device
from sim import spread
from sim.cost import BOUNDS, cost

Floats: TypeAlias = NDArray[np.float64]
ALONE = float(np.log(2.0))  # D where the devices of the library do not differ in what varies: an assumption
FAMILIES = ("gemm", "attention", "conv", "stream")  # of `sim.spread`


@dataclass(frozen=True)
class Ranking:
    """Designs against each other, the baseline being the first.

    Attributes:
        latency: seconds of the mean request, (designs,).
        sigma: standard deviation of the logarithm of the ratio of two times, (designs, designs).
        covariance: of the logarithms of the times, (designs, designs).
        alike: correlation of the errors of two designs that the device as a whole has, exp(-d / D), (designs, designs).
        bounds: of each workload, (designs, BOUNDS): shares of kernel time by what bounds the kernel.
        distance: D, in natural logarithms.
    """

    latency: Floats
    sigma: Floats
    covariance: Floats
    alike: Floats
    bounds: Mapping[str, Floats]
    distance: float

    def faster(self, one: int, other: int) -> float:
        """Probability that one design takes less time than another; 0.5 for the same design."""
        sigma, gain = float(self.sigma[one, other]), float(np.log(self.latency[other] / self.latency[one]))
        if sigma == 0.0:
            return 0.5 + 0.5 * float(np.sign(gain))
        return 0.5 * (1.0 + erf(gain / sigma / sqrt(2.0)))

    def speed(self, one: int, other: int = 0) -> tuple[float, float, float]:
        """How many times as fast as another (the baseline): expected, and the ends of what holds with 80 %."""
        ratio, away = float(self.latency[other] / self.latency[one]), spread.EIGHTY * float(self.sigma[one, other])
        return ratio, ratio * float(np.exp(-away)), ratio * float(np.exp(away))

    def bound(self, workload: str, design: int) -> dict[str, float]:
        """Shares of kernel time, in descending order."""
        shares = self.bounds[workload][design]
        return {BOUNDS[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable") if shares[i] > 0}


def rank(mix: Mix, baseline: Mapping[str, float], designs: Sequence[Mapping[str, float]]) -> Ranking:
    """The baseline and designs, fields by path in SI units."""
    paths = list(designs[0]) if designs else list(baseline)
    every = [{path: baseline[path] for path in paths}, *designs]
    columns = timed(mix.scenario.device, {path: np.array([float(d[path]) for d in every]) for path in paths})
    latency = mix.evaluate(columns, ("latency_s",))["latency_s"]
    each = [_seconds(part.workload, columns) for part in mix.parts]
    weights = np.array([part.weight for part in mix.parts]) / sum(part.weight for part in mix.parts)
    known = spread.load().abroad
    device, shape = (np.array([getattr(known[f], name) for f in FAMILIES]) for name in ("device", "shape"))
    whole = latency[:, None]
    families = sum(w * found[0].sum(axis=2) for w, found in zip(weights, each, strict=True)) / whole * device
    shapes = np.hstack([
        (w * found[0] * shape[:, None]).reshape(len(every), -1) for w, found in zip(weights, each, strict=True)
    ]) / whole  # fmt: skip
    typical = between_devices(paths)
    alike = np.exp(-_apart(columns) / typical)
    covariance = (families @ families.T + shapes @ shapes.T) * alike
    own = np.diag(covariance)
    sigma = np.sqrt(np.maximum(own[:, None] + own - 2.0 * covariance, 0.0))
    np.fill_diagonal(sigma, 0.0)
    bounds = {part.name: found[1] for part, found in zip(mix.parts, each, strict=True)}
    return Ranking(latency, sigma, covariance, alike, bounds, typical)


def between_devices(paths: Sequence[str]) -> float:
    """D: the median distance of two real devices of the library in some fields."""
    devices = [device for device in map(load_device, device_names()) if not device.imaginary]
    numbers = as_columns(devices)
    values = np.array([numbers[path] for path in paths if path in RATES]).reshape(-1, len(devices))
    logs = np.log(np.where(values > 0, values, np.nan))
    apart = [float(np.sqrt(np.nansum((logs[:, a] - logs[:, b]) ** 2))) for a, b in combinations(range(len(devices)), 2)]
    far = [d for d in apart if d > 0]
    return float(np.median(far)) if far else ALONE


def _apart(columns: Mapping[str, Floats]) -> Floats:
    """Distances of the logarithms of fields, (designs, designs)."""
    logs = np.array([np.log(np.maximum(column, np.finfo(float).tiny)) for column in columns.values()])
    return np.asarray(np.sqrt(((logs[:, :, None] - logs[:, None, :]) ** 2).sum(axis=0)))


def _seconds(w: Workload, columns: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Kernel time of one inference by family and shape, (designs, families, shapes), and shares of it by bound."""
    priced = cost(w.kernels, stack(w, columns), w.scenario.level)
    time = priced.time * priced.chosen * w.runs[w.kernels.row]
    family = np.array([FAMILIES.index(spread.FAMILIES.get(f.split("/")[0], "stream")) for f in w.kernels.family])
    ops, shape = np.unique(w.kernels.op[w.kernels.row], return_inverse=True)
    place = family * len(ops) + shape.reshape(-1)
    by_shape = np.array([np.bincount(place, row, len(FAMILIES) * len(ops)) for row in time])
    bounds = np.array([np.bincount(b, t, len(BOUNDS)) for b, t in zip(priced.bound, time, strict=True)])
    return by_shape.reshape(len(time), len(FAMILIES), len(ops)), bounds / bounds.sum(axis=1, keepdims=True)
