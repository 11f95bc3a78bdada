"""What `workloads.verify --mend` leaves of templates that captures contradict."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workloads import small
from workloads import samples, templates, verify
from workloads.digest import code_of
from workloads.model import find
from workloads.search import find_family
from workloads.templates import NONE, chosen, family_data
from workloads.verify import LOW, corner, mended

FUNCTION = "tests.workloads.small.tabled"
TREE = [0, NONE, 0, 1, 2, 0, [1, NONE, 0, 4, 5, 1, 2]]


def _entries() -> dict[str, Any]:
    return {"a": {"tree": TREE, "templates": ["x", "y", "z"]}, "b": {"like": "a"}, "c": {"tree": 0}}


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ([[2, 8, 8]], [[1, 8, 8], [1, 2, 30]], ((0, 1),)),  # one sample
        ([[5, 2, 4], [5, 4, 2], [2, 4, 4]], [[5, 2, 2], [9, 2, 2]], ((1, 2), (2, 2))),  # two latents a side
        ([], [[9, 3, 1]], ((2, 1),)),
        ([[2, 8, 8]], [[4, 9, 9], [2, 8, 9]], None),  # one that is right has no more of what is low
        ([[2, 8, 8]], [[2 + LOW, 9, 9]], None),
    ],
)
def test_a_corner_holds_all_that_is_wrong_and_nothing_that_is_right(right: Any, wrong: Any, expected: Any) -> None:
    assert corner(np.array(right), np.array(wrong)) == expected


def test_a_template_holds_but_in_the_corner_and_others_everywhere() -> None:
    right, wrong = [np.array([5, 2, 4]), np.array([5, 4, 2])], [np.array([5, 2, 2]), np.array([9, 2, 2])]
    after = mended(_entries(), "a", right, wrong)
    assert set(after) == {"a", "b", "c"}
    assert after["c"] == {"tree": 0}
    assert after["a"]["templates"] == ["x", "y", "z"]
    for symbols in np.ndindex(7, 7, 7):
        values = np.array(symbols) + 1
        corner_ = values[0] > 1 and values[1] <= 2 and values[2] <= 2
        assert chosen(after["a"]["tree"], values) == (NONE if corner_ else chosen(TREE, values))


@pytest.mark.parametrize("right", [[], [[5, 5, 5], [1, 1, 1]]])
def test_a_template_that_is_wrong_elsewhere_too_or_nowhere_right_holds_nowhere(right: Any) -> None:
    after = mended(_entries(), "a", [np.array(r) for r in right], [np.array([9, 9, 2])] * 2 + [np.array([9, 9, 9])])
    assert after["a"]["templates"] == ["x", "y"]
    for symbols in np.ndindex(7, 7, 7):
        values = np.array(symbols) + 1
        assert chosen(after["a"]["tree"], values) == {0: 0, 1: 1, 2: NONE}[chosen(TREE, values)]


def test_a_key_without_templates_is_taken_out_with_its_likes() -> None:
    wrong = [np.array(w) for w in ([1, 9, 9], [9, 4, 9], [9, 9, 9])]
    assert set(mended(_entries(), "a", [], wrong)) == {"c"}


def test_a_key_that_is_the_like_of_another_goes_alone() -> None:
    assert set(mended(_entries(), "b", [np.array([5, 5, 5])], [np.array([1, 1, 1])])) == {"a", "c"}


def test_usual_requests_are_those_beside_the_default_one() -> None:
    found = list(samples.usual(find("latte")))
    own = found[0]
    assert own == find("latte").request()
    for fields in (
        {"batch": 1, "guidance": False},
        {"height": 256, "width": 256},
        {"height": 512, "width": 1024, "batch": 4},
        {"frames": 8},
        {"height": 1024, "width": 512, "guidance": False},
    ):
        assert replace(own, **fields) in found
    assert all(request.height == request.width for request in samples.usual(find("dit-xl-2")))
    dtypes = {s.request.dtype for s in samples.in_every_dtype(find("latte"), found[:1])}
    assert dtypes == set(samples.DTYPES)


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The digest of a key of which a condition that no capture contradicted at first is wrong: one length is any even one."""
    monkeypatch.setattr(templates, "FOLDER", tmp_path)
    with small.known():
        at_table = samples.samples(small.TABLED, 20, random.Random(1), length=small.TABLE)
        drawn = samples.by_key([*samples.samples(small.TABLED, 150, random.Random(0)), *at_table])
        ((key, group),) = ((key, g) for key, g in drawn.items() if "'fp16'" in key)
        right = find_family(group, []).family
        at = chosen(right.tree, np.array([2, small.TABLE])), chosen(right.tree, np.array([2, 65]))
        assert NONE not in at
        entry = {**family_data(replace(right, tree=[1, NONE, 2, 0, 1, *at])), "key": key, "code": code_of(FUNCTION)}
        name = templates.digest(key)
        templates.write(templates.file_of(FUNCTION), {"function": FUNCTION, "families": {name: entry}})
        yield name


@pytest.mark.usefixtures("wrong")
def test_a_wrong_condition_is_found_beside_it_or_at_usual_requests(capsys: Any) -> None:
    assert verify.main(["tabled", "--usual", "0"]) == 1
    assert "is not the capture at" in capsys.readouterr().out
    assert verify.main(["tabled", "--edges", "0", "--usual", "20", "--stage", "net"]) == 1
    assert verify.main(["tabled", "--edges", "0", "--usual", "1", "--stage", "another"]) == 0
    assert "0 captures, 0 not as a template says" in capsys.readouterr().out


def test_what_is_wrong_is_taken_out(wrong: str) -> None:
    assert verify.main(["tabled", "--mend"]) == 1
    family = templates.families(FUNCTION)[wrong]
    assert family.at((2, 65, small.WIDTH)) is not None
    assert family.at((2, 66, small.WIDTH)) is None
    assert verify.main(["tabled"]) == 0
