"""When a claim of the reference study counts as met. Written, and committed, before any claim was computed.

The study is Golden et al., Generative AI Beyond LLMs: System Implications of Multi-Modal Generation (ISPASS 2024).

- A *range* that the study gives: agrees where every value of ours is inside; close where every value lies at most 20 % below
  the lower or above the upper end.
- A *point*: agrees within 20 % of it; close within twice that.
- A *maximum* ("up to"): the greatest value of ours is held against it as against a point.
- A *bound* ("over 60 %"): agrees where our value is beyond it; close where it misses it by at most 20 %.
- An *order*, a sign or a shape, where only that is claimed: it is put as a number of yes-or-no cases before it is
  looked at; agrees where all hold; close where at least two of three do.
- *cited*: a statistic of a fleet, which no simulation can give. *open*: not computed here.
Everything else disagrees. The interval beside a value does not enter a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

TOLERANCE = 0.20  # relative; issue of the study's reproduction
MOST = 2 / 3  # of the cases of an order that is close

Verdict: TypeAlias = Literal["agrees", "close", "disagrees", "cited", "open"]
Kind: TypeAlias = Literal["range", "point", "maximum", "bound", "order", "cited", "open"]


@dataclass(frozen=True)
class Rule:
    """What a claim is held against: the ends of a range, or one number twice; nothing for an order."""

    kind: Kind
    low: float = 0.0
    high: float = 0.0


def between(low: float, high: float) -> Rule:
    """A range that the study gives."""
    return Rule("range", low, high)


def point(value: float) -> Rule:
    """A number that the study gives."""
    return Rule("point", value, value)


def up_to(value: float) -> Rule:
    """A maximum that the study gives."""
    return Rule("maximum", value, value)


def over(value: float) -> Rule:
    """A number that the study says is exceeded."""
    return Rule("bound", value, value)


ORDER, CITED, OPEN = Rule("order"), Rule("cited"), Rule("open")


def verdict(rule: Rule, values: Sequence[float] = (), cases: Sequence[bool] = ()) -> Verdict:
    """The verdict on the values of a claim, or on the cases of an order. ValueError where there are none."""
    if rule.kind == "cited":
        return "cited"
    if rule.kind == "open":
        return "open"
    if not (cases if rule.kind == "order" else values):
        raise ValueError(f"a claim of kind {rule.kind} needs values or cases")
    if rule.kind == "order":
        return _graded(all(cases), sum(cases) >= MOST * len(cases))
    least, most = min(values), max(values)
    if rule.kind == "range":
        inside = rule.low <= least and most <= rule.high
        return _graded(inside, rule.low * (1 - TOLERANCE) <= least and most <= rule.high * (1 + TOLERANCE))
    if rule.kind == "bound":
        return _graded(least > rule.low, least >= rule.low * (1 - TOLERANCE))
    apart = abs(most - rule.high) if rule.kind == "maximum" else max(abs(v - rule.low) for v in values)
    return _graded(apart <= TOLERANCE * rule.high, apart <= 2 * TOLERANCE * rule.high)


def _graded(agrees: bool, close: bool) -> Verdict:
    return "agrees" if agrees else "close" if close else "disagrees"
