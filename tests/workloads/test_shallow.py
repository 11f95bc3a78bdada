"""Searches on cut modules, sizes that are the lesser of two, and gaps between structures: on a small model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workloads import small
from workloads import gaps, samples, shallow, structure, templates
from workloads.digest import code_of
from workloads.pool import BUILT_IN, ENOUGH, Pool
from workloads.samples import Sample
from workloads.search import Contradicted, Found, prove
from workloads.templates import NONE, Family, chosen

FUNCTION = "tests.workloads.small.net"


def _drawn(dtype: str, seed: int) -> list[Sample]:
    """Of several samples: of one no copy is made."""
    found = samples.samples(small.MODEL, 150, random.Random(seed))
    (group,) = (g for key, g in samples.by_key(found).items() if f"'{dtype}'" in key)
    return [s for s in group if s.signature.numbers[0] > 1]


@pytest.fixture(scope="module", autouse=True)
def _known() -> Iterator[None]:
    with small.known():
        yield


@pytest.fixture(scope="module")
def found() -> Found:
    """The templates of the small model, found with half of its layers."""
    return shallow.find_shallow(_drawn("fp16", 0), [], None, unlike=12)


def test_what_is_found_on_cut_modules_is_of_whole_ones(found: Found) -> None:
    unseen = _drawn("fp16", 1)[:12]
    assert prove(found.family, unseen) == 12
    layers = {t.trace.calls for t in found.family.templates}
    cut = shallow.captured(unseen[0]).calls
    assert all(calls > cut for calls in layers)


def test_only_equal_layers_are_cut() -> None:
    torch = pytest.importorskip("torch")
    narrow = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(5))
    wide = torch.nn.ModuleList(torch.nn.Linear(4, 4 + i) for i in range(5))
    last = torch.nn.ModuleList([*(torch.nn.Linear(4, 4) for _ in range(5)), torch.nn.Linear(4, 2)])
    module = torch.nn.ModuleList([torch.nn.ModuleDict({"narrow": narrow, "wide": wide, "last": last})])
    shallow.cut(module)
    assert [len(narrow), len(wide), len(last)] == [shallow.LAYERS, 5, shallow.LAYERS]
    assert last[-1].out_features == 2


def test_a_structure_that_is_too_rare_has_no_template_of_whole_modules(found: Found, capsys: Any) -> None:
    group = _drawn("fp16", 0)[: ENOUGH - 1]
    pool = Pool(replace(found.family, tree=NONE, templates=()), BUILT_IN)
    pool.add(group)
    assert shallow.of_whole(pool, replace(found.family, tree=0), 0) is None
    assert capsys.readouterr().out == ""


def test_the_lesser_of_two_is_two_structures(found: Found) -> None:
    """Runs of tokens or of text, whichever are less: the border is at as many of the one as of the other."""
    leaves = {n: chosen(found.family.tree, np.array([2, n])) for n in (small.TEXT // 2, small.TEXT, 5 * small.TEXT)}
    assert leaves[small.TEXT // 2] != leaves[5 * small.TEXT]
    assert NONE not in (leaves[small.TEXT // 2], leaves[5 * small.TEXT])


def test_an_end_is_what_most_captures_are_at() -> None:
    symbols = np.array([[2, 3], [2, 40], [3, 50], [4, 5], [5, 60]])
    column = np.minimum(7 * symbols[:, 0] * symbols[:, 1], 70 * symbols[:, 0])
    (end,) = structure._end(symbols, column, 3)
    assert end == structure.End(3, (0,), Fraction(70))
    sizes = np.zeros((5, 4), dtype=np.int64)
    sizes[:, 3] = column
    assert [end.of(s, v) for s, v in zip(sizes, symbols, strict=True)] == [False, True, True, False, True]
    assert structure._end(symbols, np.array([1, 5, 7, 11, 13]), 0) == []


def _with_gap(found: Found, low: int, high: int) -> Family:
    """The family with one border, in tokens, that is known less well."""
    few, many = (chosen(found.family.tree, np.array([2, n])) for n in (2, 500))
    return replace(found.family, tree=[0, NONE, 0, 1, 2, NONE, [1, NONE, 0, low, high, few, many]])


def test_a_gap_is_halved_until_no_sample_falls_into_it(found: Found, capsys: Any) -> None:
    wide, group = _with_gap(found, 10, 200), _drawn("fp16", 2)
    assert gaps.gap(wide.tree, np.array([2, 50])) == (6,)
    assert gaps.gap(wide.tree, np.array([2, 10])) is None
    narrow = gaps.narrowed(wide, group)
    low, high = narrow.tree[6][3:5]
    assert 10 < low <= small.TEXT <= high < 200
    assert not any(low < s.signature.numbers[1] < high for s in group)
    assert "[1, -1, 0, 10, 200] is [1, -1, 0," in capsys.readouterr().out
    assert prove(narrow, [s for s in _drawn("fp16", 3) if s.signature.numbers[0] > 1][:8]) == 8


def test_a_gap_that_is_neither_structure_stays(found: Found, capsys: Any) -> None:
    wrong = _with_gap(found, 10, 200)
    few = wrong.tree[6][5]
    wrong = replace(wrong, tree=[*wrong.tree[:6], [1, NONE, 0, 30, 200, few, few]])
    assert gaps.narrowed(wrong, _drawn("fp16", 2)).tree == wrong.tree
    assert "neither structure at (" in capsys.readouterr().out


def test_the_command_writes_narrower_gaps(
    found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(templates, "FOLDER", tmp_path)
    (key,) = {s.signature.key for s in _drawn("fp16", 0)}
    entry = {"key": key, "code": code_of(FUNCTION), **templates.family_data(_with_gap(found, 10, 200))}
    path = templates.file_of(FUNCTION)
    templates.write(path, {"function": FUNCTION, "families": {templates.digest(key): entry}})
    assert gaps.main(["small", "--stage", "net", "--draws", "100"]) == 0
    (written,) = templates.load(path)["families"].values()
    assert written["tree"][6][3] > 10
    assert " sizes" in capsys.readouterr().out


def test_a_border_that_a_capture_contradicts_is_not_moved(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where proofs fail that took no part in moving it."""
    group = _drawn("fp16", 2)
    monkeypatch.setattr(gaps, "gives", lambda *_: True)  # whatever is captured counts as the first structure
    with pytest.raises(Contradicted, match="the template is not the capture"):
        gaps._closed(_with_gap(found, 10, 200), (6,), group)
