"""Samples at which dimensions are 1: where torch makes no copy, and a template of other sizes is wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.workloads import small
from workloads import samples, search
from workloads.model import find
from workloads.pool import FIRST
from workloads.samples import Sample
from workloads.search import Contradicted, find_family, prove
from workloads.templates import NONE, Family
from workloads.thin import ones, thin
from workloads.verify import in_corners

MANY = 4  # rows and more


@pytest.fixture(scope="module", autouse=True)
def _known() -> Iterator[None]:
    with small.known():
        yield


def _drawn(**fixed: Any) -> list[Sample]:
    drawn = samples.samples(small.MOVED, 80, random.Random(0), **fixed)
    ((_, group),) = ((key, g) for key, g in samples.by_key(drawn).items() if "'fp16'" in key)
    return group


def _many() -> list[Sample]:
    return [s for s in _drawn() if s.signature.numbers[0] >= MANY]


@pytest.fixture(scope="module")
def family() -> Family:
    """A family that was found where no dimension is 1, and holds everywhere."""
    found = find_family(_many(), []).family
    return replace(found, tree=0, templates=found.templates[:1])


def test_one_sample_of_each_way_in_which_dimensions_are_1(family: Family) -> None:
    symbols = [np.array(n) for n in ([9, 64], [2, 64], [1, 300], [2, 5], [1, 64], [7, 1], [1, 1])]
    assert thin(family, symbols) == [6, 5, 4, 3]
    assert thin(family, symbols, held=[np.array([1, 9]), np.array([3, 3])]) == [6, 5]
    assert ones(replace(family, tree=NONE), symbols[0]) is None
    assert thin(replace(family, tree=NONE), symbols) == []


def test_a_search_captures_one_of_each_before_its_templates_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [s for s in _drawn(batch=1, guidance=False) if s.signature.numbers[1] > 1][:3]
    many = _many()
    group = [*many[:-6], *alone, *many[-6:]]  # neither among the first captures nor among the proofs
    assert len(many) > FIRST + 6
    monkeypatch.setattr(search, "alternating", lambda _, found: found)
    right = find_family(group, []).family
    assert prove(right, [*alone, *many[:3]]) >= 3
    monkeypatch.setattr(search, "thin", lambda *_: [])
    guessed = find_family(group, []).family
    with pytest.raises(Contradicted):
        prove(guessed, alone)


def test_verify_captures_one_of_each(family: Family) -> None:
    group = _drawn()
    chosen = in_corners(family, group)
    assert {s.signature.numbers[0] == 1 for s in chosen} == {True, False}
    assert len(chosen) < len(group) / 4
    with pytest.raises(Contradicted):
        prove(family, chosen)


def test_requests_of_the_least_sides_frames_and_batches_together() -> None:
    model = find("animatediff")
    found = list(samples.least_together(model))
    own = model.request()
    for fields in (
        {"height": 8, "width": 8, "frames": 1},
        {"height": 16, "width": own.width, "frames": 2, "batch": 2},
        {"frames": 1},
        {"height": 8, "width": 24, "guidance": False},
    ):
        assert replace(own, **fields) in found
    assert all(r.batch == 1 for r in samples.least_together(model, batch=1))
    assert {r.prompt_len for r in samples.least_together(find("llama-2-7b"))} >= {1}
