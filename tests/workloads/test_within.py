"""Templates of some requests alone, put into the family of all."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from workloads import in_region, regions, samples, tables, templates, unfound
from workloads.formulas import Formulas
from workloads.kind import Ints
from workloads.model import find, models
from workloads.pool import BUILT_IN, Pool, unlike_held
from workloads.search import Contradicted
from workloads.templates import NONE, Family, Template, chosen
from workloads.within import Region, holds, merged, pruned, within

FUNCTION = "workloads.models.stable_diffusion_1_5.vae_decoder"


def _ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


@pytest.fixture(scope="module")
def made() -> Template:
    """Some template: its calls do not matter here."""
    family = next(f for f in templates.families(FUNCTION).values() if isinstance(f.templates[0], Template))
    found = family.templates[0]
    assert isinstance(found, Template)
    return found


def _family(made: Template, places: Ints, fixed: Ints, *formulas: Formulas) -> Family:
    return Family(places, fixed, 0, tuple(replace(made, formulas=f) for f in formulas))


# Numbers (samples, 4, height, width); elsewhere all three vary, and within the region there is one sample, height = width.
EVERY = Formulas((), (((((2, (1, 2, 3)),), 1),)))
ALONE = Formulas((((((1, (1,)), (1, ())), 2)),), (((((3, (1, 2)),), 1),)))  # 3 x floor((x + 1) / 2), x the only symbol


@pytest.fixture
def whole(made: Template) -> Family:
    return _family(made, _ints(0, NONE, 1, 2), _ints(0, 4, 0, 0), EVERY)


@pytest.fixture
def part(made: Template) -> Family:
    return _family(made, _ints(NONE, NONE, 0, 0), _ints(1, 4, 0, 0), ALONE)


def test_a_region_is_what_its_samples_share(whole: Family) -> None:
    numbers = np.array([[1, 4, 8, 8], [1, 4, 16, 16], [1, 4, 24, 24]])
    assert within(whole, numbers) == Region(((0, 1),), ((2, 1),))
    assert within(whole, np.array([[1, 4, 8, 9], [2, 4, 9, 8]])) == Region((), ())
    with pytest.raises(ValueError, match="samples of another family"):
        within(whole, np.array([[1, 5, 8, 8]]))


def test_a_part_holds_within_its_region_alone(whole: Family, part: Family) -> None:
    found = merged(whole, Region(((0, 1),), ((2, 1),)), part)
    leaves = {(n, h, w): chosen(found.tree, _ints(n, h, w)) for n in (1, 2) for h in (8, 9) for w in (8, 9)}
    assert {size for size, leaf in leaves.items() if leaf == 1} == {(1, 8, 8), (1, 9, 9)}
    assert set(leaves.values()) == {0, 1}
    formulas = found.templates[1].formulas  # type: ignore[union-attr]
    assert formulas.at(_ints(1, 9, 9)).tolist() == [3 * 9 * 5]
    assert found.templates[0].formulas.at(_ints(2, 8, 9)).tolist() == [2 * 2 * 8 * 9]  # type: ignore[union-attr]


def test_a_region_leaves_out_where_others_are_found_by_themselves(whole: Family, part: Family) -> None:
    region = Region(((0, 1),), ((2, 1),), but=((1, 9), (2, 9)))
    found = merged(whole, region, part)
    leaves = {size: chosen(found.tree, _ints(1, size, size)) for size in (0, 8, 9, 10)}
    assert leaves == {0: 1, 8: 1, 9: 0, 10: 1}
    assert not holds(region, _ints(1, 9, 9))
    at_none = merged(whole, Region((), (), but=((1, 0),)), part)
    assert [chosen(at_none.tree, _ints(1, size, 8)) for size in (0, 1, 2)] == [0, 1, 1]


def test_conditions_that_those_above_decide_are_left_out() -> None:
    inner = [0, NONE, 0, 3, 5, 1, [1, 0, 0, 0, 1, 2, [0, NONE, 0, 1, 2, NONE, 3]]]
    tree = [0, NONE, 0, 1, 2, inner, [1, NONE, 0, 0, 1, inner, inner]]
    found = pruned(tree)
    assert found == [0, NONE, 0, 1, 2, 1, [0, NONE, 0, 3, 5, 1, [1, 0, 0, 0, 1, 2, 3]]]
    at = [_ints(n, m) for n in range(8) for m in range(8)]
    assert [chosen(tree, s) for s in at] == [chosen(found, s) for s in at]
    assert pruned([0, NONE, 0, 3, 5, 1, 1]) == [0, NONE, 0, 3, 5, 1, 1], "between the two nothing was proven"


def test_what_a_search_draws_near_a_sample_is_of_its_region() -> None:
    """Else one sample alone, which has other operators, was taken for one of several."""
    region = Region(((1, 64),), (), several=True, least=((2, 4),))
    inside = {(n, h, w) for n in (1, 2) for h in (63, 64, 65) for w in (3, 4) if holds(region, _ints(n, h, w))}
    assert inside == {(2, 64, 4)}
    square = Region((), ((2, 1),))
    assert [holds(square, _ints(1, 8, w)) for w in (7, 8, 9)] == [False, True, False]
    model = find("stable-diffusion-1.5")
    drawn = samples.pool([model], random.Random(5), large=False)[FUNCTION]
    group = next(g for key, g in drawn.items() if "fp16" in key)
    numbers = np.array([s.signature.numbers for s in group])
    every = Family(_ints(0, NONE, 1, 2), numbers[0] * _ints(0, 1, 0, 0), NONE, ())
    near = list(regions._near(every, Region((), (), several=True))(group[0], random.Random(0)))
    counts = [s.signature.numbers[0] for s in samples.siblings(group[0], random.Random(0))]
    assert 1 in counts
    assert [s.signature.numbers[0] for s in near] == [n for n in counts if n > 1]


def test_a_value_above_one_is_a_region_of_its_own(whole: Family, part: Family) -> None:
    found = merged(
        whole, Region(((1, 64),), ()), replace(part, places=_ints(0, NONE, NONE, 1), fixed=_ints(0, 4, 64, 0))
    )
    assert [chosen(found.tree, _ints(3, h, 5)) for h in (8, 63, 64, 65, 999)] == [0, 0, 1, 0, 0]


def test_a_region_may_begin_at_a_least_value(whole: Family, part: Family) -> None:
    wide = replace(part, places=_ints(NONE, NONE, 0, 1))
    found = merged(whole, Region(((0, 1),), (), least=((1, 5), (2, 5))), wide)
    leaves = {(n, h, w): chosen(found.tree, _ints(n, h, w)) for n in (1, 2) for h in (1, 4, 5, 99) for w in (4, 5)}
    assert {size for size, leaf in leaves.items() if leaf == 1} == {(1, 5, 5), (1, 99, 5)}
    assert set(leaves.values()) == {0, 1}


def test_what_was_masked_at_one_is_replaced(whole: Family, part: Family) -> None:
    masked = replace(whole, tree=[0, NONE, 0, 1, 2, NONE, 0])
    found = merged(masked, Region(((0, 1),), ()), part)
    assert found.tree == [0, NONE, 0, 1, 2, 1, 0]


def test_a_template_that_no_leaf_names_is_left_out(whole: Family, part: Family) -> None:
    found = merged(replace(whole, tree=NONE), Region(((0, 1),), ()), part)
    assert (len(found.templates), found.tree) == (1, [0, NONE, 0, 1, 2, 0, NONE])


def test_parts_of_other_numbers_are_refused(whole: Family, part: Family) -> None:
    with pytest.raises(ValueError, match="different numbers"):
        merged(whole, Region((), ()), replace(part, places=_ints(0, 1)))
    with pytest.raises(ValueError, match="varies in the part alone"):
        merged(whole, Region((), ()), replace(part, places=_ints(0, 1, 2, 3)))


def test_a_wrong_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert regions.main(["stable-diffusion-1.5", "height=7"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert regions.main(["stable-difusion-1.5"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_a_region_is_found_proven_and_written(monkeypatch: Any, tmp_path: Any, capsys: Any) -> None:
    """The text encoder of one prompt: a family that has nothing there, and gets what captures say."""
    function = "workloads.models.stable_diffusion_1_5.text_encoder"
    stored = templates.load(templates.file_of(function))
    own = {
        n: {**e, "tree": NONE, "templates": []}
        for n, e in stored["families"].items()
        if "like" not in e and "fp16" in e["key"]
    }
    path = tmp_path / "encoder.json.xz"
    templates.write(path, {"function": function, "families": own})
    monkeypatch.setattr(in_region, "file_of", lambda _: path)
    monkeypatch.setattr(unfound, "path", lambda: tmp_path / "unfound.json")
    asked = ["stable-diffusion-1.5", "batch=1", "--stage", "text_encoder", "--dtype", "fp16", "--draws", "4"]
    assert regions.main(asked) == 0
    assert "1 of 1 sizes as captures say" in capsys.readouterr().out
    (entry,) = templates.load(path)["families"].values()
    held = templates.family(entry, {})
    assert held.at((1, 77)) is not None
    assert held.at((2, 77)) is None


def test_a_stage_without_fields_is_a_region_of_all_requests(monkeypatch: Any, tmp_path: Any, capsys: Any) -> None:
    path = tmp_path / "encoder.json.xz"
    monkeypatch.setattr(in_region, "file_of", lambda _: path)
    monkeypatch.setattr(unfound, "path", lambda: tmp_path / "unfound.json")
    asked = ["stable-diffusion-1.5", "--stage", "text_encoder", "--dtype", "fp16", "--dtype", "bf16", "--draws", "12"]
    assert regions.main(asked) == 0
    assert " sizes" in capsys.readouterr().out
    entries = templates.load(path)["families"]
    found = {e["key"].split("'")[1]: templates.family(e, entries) for e in entries.values()}
    assert [found[dtype].at((prompts, 77)) is not None for dtype in ("fp16", "bf16") for prompts in (1, 2, 50)] == [
        True
    ] * 6
    assert [("like" in e) for e in entries.values() if "bf16" in e["key"]] == [True]


def test_every_model_has_regions_of_its_own() -> None:
    """Their arguments are read, and their fields are ones that the model takes."""
    for model in models().values():
        alone, *others = regions.regions_of(model)
        assert "batch=1" in alone.fields
        assert len(others) == len(regions.OWN.get(model.id, ()))
        for asked in (alone, *others):
            fields = dict(field.split("=") for field in asked.fields)
            assert set(fields) <= set(model.request.__dataclass_fields__)
            asked_of = model.request(**regions.fields_of(asked.fields))
            assert {s.name for s in model.stages(asked_of)} >= set(asked.stage or ())
    assert set(regions.OWN) | set(tables.TABLES) <= set(models())


def test_the_least_values_are_drawn() -> None:
    drawn = list(samples.least(find("phenaki"), random.Random(0), batch=1))
    assert {r.batch for r in drawn} == {1}
    assert {8, 16} <= {r.height for r in drawn}
    assert any((r.height, r.frames) in {(8, 1), (8, 3), (16, 1), (16, 3)} for r in drawn)


def test_values_that_a_model_does_not_take_together_end_the_draws() -> None:
    """DiT makes square images alone: of one 8 and one 16 pixels a side there is none to draw."""
    dit = find("dit-xl-2")
    assert list(samples.requests(dit, random.Random(0), height=8, width=16)) == []
    drawn = list(samples.least(dit, random.Random(0), batch=1))
    assert drawn
    assert all(r.height == r.width for r in drawn)


def test_samples_unlike_those_held_come_first(whole: Family) -> None:
    """Most new features first: other symbols at their least, new values; what has none is never among them."""
    pool = Pool(whole, BUILT_IN)
    pool.symbols = [_ints(2, 8, 8), _ints(2, 9, 9), _ints(2, 8, 9), _ints(1, 8, 8), _ints(2, 8, 8)]
    pool.samples = [None] * 5  # type: ignore[list-item]  # only their symbols are looked at
    pool.held = {0: None}
    assert unlike_held(pool, 1) == [1]
    assert unlike_held(pool, 5) == [1, 3, 2]


def test_what_captures_contradict_is_not_written(monkeypatch: Any, tmp_path: Any, capsys: Any) -> None:
    path = tmp_path / "encoder.json.xz"
    monkeypatch.setattr(in_region, "file_of", lambda _: path)
    monkeypatch.setattr(unfound, "path", lambda: tmp_path / "unfound.json")

    def refuse(*_: Any) -> int:
        raise Contradicted("the template is not the capture")

    monkeypatch.setattr(regions, "prove", refuse)
    asked = ["stable-diffusion-1.5", "batch=1", "--stage", "text_encoder", "--dtype", "fp16", "--draws", "4"]
    assert regions.main(asked) == 1
    assert "is not the capture" in capsys.readouterr().err
    assert not path.exists()
    assert find("stable-diffusion-1.5")
