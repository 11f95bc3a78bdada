"""Captures beside the conditions of a tree: what contradicts a condition that was guessed from too few captures."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from tests.workloads import small
from workloads import borders, samples, search
from workloads.borders import edges, tree
from workloads.samples import Sample
from workloads.search import Contradicted, find_family, prove
from workloads.templates import NONE

EVEN = [1, NONE, 2, 0, 1, 1, 0]  # of lengths that 2 divides one structure, of others another


@pytest.fixture(scope="module", autouse=True)
def _known() -> Iterator[None]:
    with small.known():
        yield


def test_each_side_of_each_condition_has_the_most_usual_and_the_least_usual_sample_beside_it() -> None:
    symbols = np.array([[2, 64], [2, 65], [9, 64], [9, 65], [9, 80], [1, 48], [7, 63], [2, 63]])
    usual = symbols[0]
    whole = [1, NONE, 16, 0, 1, 0, [0, NONE, 0, 2, 3, 1, 2]]
    found = edges(whole, symbols, usual)
    assert {tuple(symbols[i]) for i in found} == {
        (2, 64), (9, 80),  # a length that 16 divides: as usual, and as unlike as there is
        (2, 65), (9, 65),  # one more than such a length
        (7, 63),  # many rows, the fewest of them
    }  # fmt: skip
    assert edges(0, symbols, usual) == []


def _drawn() -> list[Sample]:
    """Samples whose lengths are odd but for the table's: what is true of that one looks true of even ones."""
    drawn = [*samples.samples(small.TABLED, 150, random.Random(0))]
    drawn += samples.samples(small.TABLED, 20, random.Random(1), length=small.TABLE)
    ((_, group),) = ((key, group) for key, group in samples.by_key(drawn).items() if "'fp16'" in key)
    return [s for s in group if s.signature.numbers[1] == small.TABLE or s.signature.numbers[1] % 2]


def _at(rows: int, length: int) -> Sample:
    (sample,) = samples.of_request(small.TABLED, small.Request(batch=rows // 2, length=length))
    return sample


def test_one_value_alone_is_no_divisibility_and_no_equality() -> None:
    lengths = [1, 3, 5, 7, 63, 64, 65, 67, 99, 101]
    symbols = np.array([[64, n] for n in lengths])
    found = tree(symbols, np.array([int(n == 64) for n in lengths]))
    assert found == [1, NONE, 0, 63, 64, 0, [1, NONE, 0, 64, 65, 1, 0]]
    labels = np.array([int(n % 16 == 0) for n in (*lengths, 16, 48)])
    assert tree(np.array([[64, n] for n in (*lengths, 16, 48)]), labels) == [1, NONE, 2, 0, 1, 1, 0]


def test_a_condition_that_few_captures_made_up_is_contradicted_before_it_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group = _drawn()
    even = [_at(2 * n, length) for n in (1, 3) for length in (2, 30, 62, 66, 80, 128, 500)]
    at_table = [_at(2 * n, small.TABLE) for n in (1, 2, 7)]
    beside = _at(2, 66)
    assert prove(find_family(group, []).family, [*even, *at_table]) > len(at_table) + len(even) // 2
    monkeypatch.setattr(borders, "DISTINCT", 1)
    assert find_family(group, []).family.tree != EVEN
    monkeypatch.setattr(search, "EDGES", 0)
    guessed = find_family(group, []).family
    assert guessed.tree == EVEN
    assert prove(guessed, at_table) == len(at_table)
    with pytest.raises(Contradicted):
        prove(guessed, [beside])
