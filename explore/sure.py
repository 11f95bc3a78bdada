"""How sure objectives are and that constraints are met: errors of times, of the die's area, and of power, carried through.

Errors as standard deviations of logarithms: that of a time (`explore.ranking`), that of an area (public dies left out of the fit,
`hwspecs.silicon.fitted`), that of energy and power (full activity against the power limits of known devices, `model` of
data/silicon/energy.yaml), and the range of a price (`hwspecs.price`: wafers, memory, margins), which all designs share. They are
taken to be independent of each other; the first three are shared by two designs as far as they are alike. The area of a
baseline whose die is known is known; that of a design around it errs as far as it differs. What a goal makes of an error is its
derivative, by pricing the designs again with a time, an area, a power or a price that is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erf, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.goals import Constraint
from explore.objectives import Search
from explore.ranking import Ranking
from explore.silicon import Made
from hwspecs.estimate import Estimate, data, of
from hwspecs.price import of_device
from hwspecs.silicon import NINETY, STATED, anchor, fitted
from sim.spread import EIGHTY

Floats: TypeAlias = NDArray[np.float64]
SOURCES = ("time", "area", "power", "price")  # as in Made
OFF = 0.01  # of a logarithm: how far a source is moved to see what follows
SCALED = {"s": 1.0, "1/s": -1.0}  # outputs in these units go with the time, or against it


@dataclass(frozen=True)
class Sure:
    """Designs against each other, the baseline being the first.

    Attributes:
        values: of each expression that a goal reads, (designs,).
        covariance: of the logarithms of those values, (designs, designs); nan where a value is not above 0.
    """

    values: Mapping[str, Floats]
    covariance: Mapping[str, Floats]

    def ratio(self, name: str, one: int, other: int = 0) -> tuple[float, float, float]:
        """A value over another's (the baseline's), and the ends of what holds with 80 %; nan where there is no telling."""
        ratio = float(self.values[name][one] / self.values[name][other])
        away = EIGHTY * self._sigma(name, one, other)
        return ratio, ratio * float(np.exp(-away)), ratio * float(np.exp(away))

    def better(self, name: str, way: str, one: int, other: int) -> float:
        """Probability that one design is better than another; 0.5 for equal ones, nan where there is no telling."""
        gain = float(np.log(self.values[name][other] / self.values[name][one])) * (1.0 if way == "minimize" else -1.0)
        return _probability(gain, self._sigma(name, one, other))

    def meets(self, constraint: Constraint, one: int) -> float:
        """Probability that a design meets a constraint; nan where there is no telling."""
        if not constraint.limit > 0:
            return float("nan")
        room = float(np.log(constraint.limit / self.values[constraint.output][one]))
        return _probability(-room if constraint.at_least else room, sqrt(self.covariance[constraint.output][one, one]))

    def _sigma(self, name: str, one: int, other: int) -> float:
        c = self.covariance[name]
        return float(np.sqrt(np.maximum(c[one, one] + c[other, other] - 2.0 * c[one, other], 0.0)))


def sure(search: Search, ranking: Ranking, designs: Sequence[Mapping[str, float]]) -> Sure:
    """Of the designs that a ranking is of: fields by path, SI units; the baseline first."""
    columns = {path: np.array([float(design[path]) for design in designs]) for path in designs[0]}
    read = list(dict.fromkeys([*search.objectives, *(c.output for c in search.constraints)]))
    values = {name: np.asarray(found) for name, found in search.prices(columns).items() if name in read}
    slopes = {name: np.zeros((len(SOURCES), len(designs))) for name in read}
    for i, source in enumerate(SOURCES):
        moved = _moved(search, columns, source)
        for name in read:
            with np.errstate(divide="ignore", invalid="ignore"):
                slopes[name][i] = np.where(values[name] > 0, np.log(moved[name] / values[name]) / OFF, np.nan)
    of_source = _covariances(search, ranking)
    return Sure(values, {n: sum(np.outer(a, a) * c for a, c in zip(slopes[n], of_source, strict=True)) for n in read})  # type: ignore[misc]


def _moved(search: Search, columns: Mapping[str, Floats], source: str) -> Mapping[str, Floats]:
    """What the designs' goals would be with a source that is OFF."""
    count = len(next(iter(columns.values())))
    factor = float(np.exp(OFF))
    off = [factor if name == source else 1.0 for name in SOURCES]
    made = Made((search.scenario.device,), np.zeros(count, dtype=np.int64), *off)
    found = search.mix.evaluate(columns, None, made)
    if source == "time":
        units = search.mix.outputs
        found = {name: value * factor ** SCALED.get(units[name], 0.0) for name, value in found.items()}
    return search.goals.judged(found, columns, count)


def _covariances(search: Search, ranking: Ranking) -> tuple[Floats, ...]:
    """Of the logarithm of each source over the designs, (designs, designs) each."""
    area = fitted()["error"] ** 2 * ranking.alike
    if (
        anchor(search.scenario.device) != 1.0
    ):  # of the baseline's die only what is stated errs; of others, their difference
        area = area - area[:1] - area[:, :1] + area[0, 0] + (STATED / NINETY) ** 2
    power = _sigma(of(data("energy")["model"])) ** 2 * ranking.alike
    bought = of_device(search.scenario.device)
    price = (_sigma(bought.whole) if bought else 0.0) ** 2 * np.ones_like(ranking.alike)
    return ranking.covariance, area, power, price


def _sigma(range_: Estimate) -> float:
    """Of the logarithm of a figure whose range holds 90 %."""
    return float(np.log(np.asarray(range_.high) / np.asarray(range_.low)).reshape(-1)[0]) / (2.0 * NINETY)


def _probability(room: float, sigma: float) -> float:
    if np.isnan(room) or np.isnan(sigma):
        return float("nan")
    if sigma == 0.0:
        return 0.5 + 0.5 * float(np.sign(room))
    return 0.5 * (1.0 + erf(room / sigma / sqrt(2.0)))
