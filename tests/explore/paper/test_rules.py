"""The rules, and the table of claims that they judge."""

from __future__ import annotations

import pytest

from explore.paper.rules import CITED, OPEN, ORDER, between, over, point, up_to, verdict
from explore.paper.table import CLAIMS


def test_every_claim_is_there_once_and_says_what_is_held_against_it() -> None:
    assert list(CLAIMS) == [f"C{i:02d}" for i in range(1, 33)]
    assert all(c.study and c.measured and c.unit for c in CLAIMS.values())
    assert [i for i, c in CLAIMS.items() if c.rule in (CITED, OPEN)] == ["C24", "C25", "C26"]


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (between(4, 11), (4, 11), "agrees"),
        (between(4, 11), (5, 13.2), "close"),
        (between(4, 11), (3.2, 5), "close"),
        (between(4, 11), (3.1, 5), "disagrees"),
        (between(4, 11), (5, 13.3), "disagrees"),
        (point(2), (2.4,), "agrees"),
        (point(2), (1.25,), "close"),
        (point(2), (2.81,), "disagrees"),
        (up_to(36), (1, 30), "agrees"),
        (up_to(36), (50,), "close"),
        (up_to(36), (1, 2), "disagrees"),
        (over(60), (60.1,), "agrees"),
        (over(60), (48,), "close"),
        (over(60), (47,), "disagrees"),
        (CITED, (), "cited"),
        (OPEN, (), "open"),
    ],
)
def test_verdicts(rule: object, values: tuple[float, ...], expected: str) -> None:
    assert verdict(rule, values) == expected  # type: ignore[arg-type]


def test_an_order_counts_its_cases() -> None:
    assert verdict(ORDER, (), (True, True)) == "agrees"
    assert verdict(ORDER, (), (True, True, False)) == "close"
    assert verdict(ORDER, (), (True, False)) == "disagrees"


def test_nothing_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="a claim of kind point needs values or cases"):
        verdict(point(1))
    with pytest.raises(ValueError, match="a claim of kind order needs values or cases"):
        verdict(ORDER, (1.0,))
