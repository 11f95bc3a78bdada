"""What is found for a claim: values or cases, their interval, the verdict, and why they differ where they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from explore.paper import doubt
from explore.paper.rules import Verdict, verdict
from explore.paper.suite import GROUPS, KERNELS, PROJECTIONS, TITLE, Floats, Suite
from explore.paper.table import CLAIMS, Claim
from sim.report import number

MANY = 4  # values from which a row says them as a range, and the reason one by one


@dataclass(frozen=True)
class Finding:
    """One claim's row. `values` and `cases` by what each is of; low and high None where there is no interval to give.

    other, other_cases: values and cases by the other reading of the class Attention, in which the linear layers of attention
    modules are Linear; {} where that makes no difference. first: values and cases by the reading of the claim that was committed
    first, where another took its place (`Claim.before`), with linear layers as in `other`.
    check: what holds whatever the cost model says, where the claim disagrees.
    """

    claim: Claim
    values: Mapping[str, float]
    cases: Mapping[str, bool]
    low: float | None = None
    high: float | None = None
    reason: str = ""
    other: Mapping[str, float] = field(default_factory=dict)
    other_cases: Mapping[str, bool] = field(default_factory=dict)
    first_cases: Mapping[str, bool] = field(default_factory=dict)
    check: str = ""

    @property
    def other_verdict(self) -> Verdict:
        """By the other reading of attention."""
        return self._judged(self.other or self.values, self.other_cases or self.cases)

    @property
    def first_verdict(self) -> Verdict:
        """By the readings that were committed first."""
        return self._judged(self.values, self.first_cases) if self.first_cases else self.other_verdict

    @property
    def verdict(self) -> Verdict:
        """By the rules; a claim of a number that also claims a shape disagrees where that does not hold."""
        return self._judged(self.values, self.cases)

    def _judged(self, values: Mapping[str, float], cases: Mapping[str, bool]) -> Verdict:
        if self.claim.rule.kind != "order" and not all(cases.values()):
            return "disagrees"
        return verdict(self.claim.rule, tuple(values.values()), tuple(cases.values()))

    @property
    def value(self) -> str:
        """Ours in one line, with its unit."""
        return self.said(self.values)

    def said(self, values: Mapping[str, float]) -> str:
        """Values in one line, with their unit."""
        if not values:
            return "-"
        unit = {"x": "x", "exponent": "", "ratio": "", "share": "", "rank correlation": ""}.get(
            self.claim.unit, f" {self.claim.unit}"
        )
        said = (f"{name} {number(v)}" if name else number(v) for name, v in values.items())
        return ", ".join(said) + unit


class Times:
    """Seconds of the suite's kernels, each kind of kernel (KERNELS) times a factor.

    projections: the linear layers of attention modules count as attention (see `explore.paper.table`).
    """

    def __init__(self, suite: Suite, factor: Floats | None = None, projections: bool = True) -> None:
        self.suite, self.projections = suite, projections
        self.factor = np.ones(len(KERNELS)) if factor is None else factor

    def groups(self, model: str, way: str, component: str = "") -> Floats:
        """By GROUPS; of all components, or of those whose name begins with one."""
        member = self.suite.member(model)
        mine = [s.name.startswith(component) for s in member.trace.segments]
        return np.asarray(member.times[way][mine].sum(axis=0) @ self.factor)

    def total(self, model: str, way: str, component: str = "") -> float:
        """Of all groups."""
        return float(self.groups(model, way, component).sum())

    def of(self, model: str, way: str, group: str, component: str = "") -> float:
        """Of one group, or of several whose names begin so ('attention')."""
        found = self.groups(model, way, component)
        return float(sum(t for t, name in zip(found, self.names, strict=True) if name.startswith(group)))

    @property
    def names(self) -> tuple[str, ...]:
        """What each of GROUPS counts as."""
        instead = "attention, " if self.projections else "Linear, "
        return tuple(name.replace(PROJECTIONS, instead) for name in GROUPS)

    def share(self, model: str, way: str, group: str, component: str = "") -> float:
        """Percent of the kernel time."""
        return 100 * self.of(model, way, group, component) / self.total(model, way, component)


def timed(
    suite: Suite, claim: str, values: Callable[[Times], Mapping[str, float]], reason: str = "",
    cases: Callable[[Times], Mapping[str, bool]] = lambda _: {},
) -> Finding:  # fmt: skip
    """A claim about times: its values and cases, by both readings of attention, and how far the values go with the errors of
    the cost model.
    """
    low, high = doubt.interval(lambda factor: tuple(values(Times(suite, factor)).values()))
    times, apart = Times(suite), Times(suite, projections=False)
    base, other = values(times), values(apart)
    return Finding(
        CLAIMS[claim], base, cases(times), low, high, reason, other if other != base else {},
        cases(apart) if other != base else {},
    )  # fmt: skip


def exact(
    claim: str, values: Mapping[str, float], cases: Mapping[str, bool] | None = None, reason: str = ""
) -> Finding:
    """A claim about counts: no interval but the values themselves."""
    numbers = tuple(values.values())
    return Finding(CLAIMS[claim], values, cases or {}, min(numbers), max(numbers), reason)


def named(models: tuple[str, ...], of: Callable[[str], float]) -> dict[str, float]:
    """A value a model, by its title."""
    return {TITLE[model]: of(model) for model in models}


def greatest(values: Mapping[str, float]) -> dict[str, float]:
    """The greatest alone, with what it is of."""
    name = max(values, key=lambda n: values[n])
    return {name: values[name]}


def listed(values: Mapping[str, float], unit: str = "") -> str:
    """'Imagen 68.6 %, Stable Diffusion 26.5 %'."""
    return ", ".join(f"{name} {number(v)}{unit}" for name, v in values.items())
