"""Templates by the borders of another dtype, holes that another template fills, and what was not found: on a small model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workloads import small
from workloads import holes, kin, samples, templates, unfound
from workloads.digest import code_of
from workloads.pool import Ways
from workloads.samples import Sample
from workloads.search import Contradicted, Found, find_family, prove
from workloads.templates import NONE, Family, chosen, digest
from workloads.trace import Trace

FUNCTION = "tests.workloads.small.net"


def _drawn(dtype: str, seed: int) -> tuple[str, list[Sample]]:
    """The key of a dtype, and its samples."""
    found = samples.by_key(samples.samples(small.MODEL, 150, random.Random(seed)))
    ((key, group),) = ((key, g) for key, g in found.items() if f"'{dtype}'" in key)
    return key, group


@pytest.fixture(scope="module", autouse=True)
def _known() -> Iterator[None]:
    with small.known():
        yield


@pytest.fixture(scope="module")
def found() -> Found:
    """The templates of the small model in fp16."""
    return find_family(_drawn("fp16", 0)[1], [])


def _entries(found: Found) -> dict[str, Any]:
    key, _ = _drawn("fp16", 0)
    return {digest(key): {"key": key, "code": code_of(FUNCTION), **templates.family_data(found.family)}}


def test_borders_are_taken_from_another_dtype(found: Found) -> None:
    (key, group), (half, _) = _drawn("fp32", 0), _drawn("fp16", 0)
    like = kin.kin_of(key, [key, half], group, _entries(found))
    assert like is not None
    assert kin.kin_of(key, [key], group, _entries(found)) is None
    mine = kin.find_kin(group, [], like)
    assert mine.covered >= 0.9 * len(kin.covered(like, group))
    unseen = [s for s in _drawn("fp32", 1)[1] if mine.family.at(s.signature.numbers) is not None][:12]
    assert prove(mine.family, unseen) == 12


def test_structures_that_are_one_in_the_other_dtype_are_told_apart(found: Found) -> None:
    """A kin that does not know of a border: its one structure is several here."""
    _, group = _drawn("fp32", 0)
    coarse = replace(found.family, tree=0, templates=found.family.templates[:1])
    mine = kin.find_kin(group, [], coarse).family
    assert len(mine.templates) > 1
    unseen = [s for s in _drawn("fp32", 1)[1] if mine.at(s.signature.numbers) is not None][:12]
    assert prove(mine, unseen) == len(unseen) > 6


def test_where_no_template_is_proven_there_is_none(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kin, "_proven", lambda *_: False)
    with pytest.raises(Contradicted, match="no structure of another dtype is one here"):
        kin.find_kin(_drawn("fp32", 0)[1], [], found.family)


def test_a_family_is_filled_by_another(found: Found) -> None:
    _, group = _drawn("fp16", 0)
    few = replace(found.family, tree=[1, NONE, 0, 60, 61, found.family.tree, NONE])
    many = replace(found.family, tree=[1, NONE, 0, 60, 61, NONE, found.family.tree])
    both = kin.filled(few, many)
    for sample in group:
        numbers = sample.signature.numbers
        assert (both.at(numbers) is None) == (few.at(numbers) is None and many.at(numbers) is None)
    assert kin.filled(few, replace(many, fixed=many.fixed + 1)) is few


def _with_hole(found: Found) -> tuple[Family, int]:
    """The family without a template at more than 300 tokens, where it has the one of many tokens; and that."""
    leaf = chosen(found.family.tree, np.array([2, 500]))
    return replace(found.family, tree=[1, NONE, 0, 300, 301, found.family.tree, NONE]), leaf


def test_a_hole_is_filled_where_captures_are_what_a_template_gives(found: Found, capsys: Any) -> None:
    family, leaf = _with_hole(found)
    group = [s for s in _drawn("fp16", 2)[1] if s.signature.numbers[0] > 1]
    filled = holes.filled(family, group)
    assert chosen(filled.tree, np.array([2, 500])) == leaf
    assert f"[1, -1, 0, 300, 301]: structure {leaf}" in capsys.readouterr().out


def test_a_hole_stays_where_no_template_gives_what_is_captured(found: Found, capsys: Any) -> None:
    family, _ = _with_hole(found)
    drawn = samples.samples(small.MODEL, 60, random.Random(2), batch=1, guidance=False, dtype="fp16")
    single = next(iter(samples.by_key(drawn).values()))  # of one sample no copy is made
    several = replace(
        family, templates=tuple(family.templates[i] for i in (chosen(found.family.tree, np.array([2, 500])),))
    )
    several = replace(several, tree=[1, NONE, 0, 300, 301, 0, NONE])
    assert holes.filled(several, single).tree == several.tree
    assert ": none" in capsys.readouterr().out


def test_a_condition_stays_where_nothing_was_captured_between_its_ends(found: Found) -> None:
    leaf = chosen(found.family.tree, np.array([2, 500]))
    wide, narrow = ([1, NONE, 0, 300, high, leaf, leaf] for high in (400, 301))
    assert holes._simpler(replace(found.family, tree=wide), (5,), []).tree == wide
    assert holes._simpler(replace(found.family, tree=narrow), (5,), []).tree == leaf


def test_what_cannot_be_captured_proves_nothing(found: Found) -> None:
    def refused(_: Sample) -> Trace:
        raise ValueError("too small")

    group = [s for s in _drawn("fp16", 1)[1] if found.family.at(s.signature.numbers) is not None][:3]
    assert prove(found.family, group) == 3
    assert prove(found.family, group, Ways(capture=refused, quiet=True)) == 0


def test_the_command_writes_what_it_filled(
    found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(templates, "FOLDER", tmp_path)
    key, _ = _drawn("fp16", 0)
    entry = {"key": key, "code": code_of(FUNCTION), **templates.family_data(_with_hole(found)[0])}
    templates.write(templates.file_of(FUNCTION), {"function": FUNCTION, "families": {digest(key): entry}})
    assert holes.main(["small", "--stage", "net", "--draws", "60"]) == 0
    (written,) = templates.load(templates.file_of(FUNCTION))["families"].values()
    assert chosen(written["tree"], np.array([2, 500])) != NONE
    assert " sizes" in capsys.readouterr().out


def test_what_was_not_found_is_known_for_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "FOLDER", tmp_path / "traces")
    name = unfound.name_of("f('fp32') [x]", "small batch=1")
    assert unfound.reason(name, "code") is None
    unfound.record(name, "f('fp32') [x]", "code", "no end in 400 captures")
    assert unfound.reason(name, "code") == "no end in 400 captures"
    assert unfound.reason(name, "other code") is None
    unfound.forget(name)
    assert unfound.reason(name, "code") is None
    assert not unfound.path().exists()
