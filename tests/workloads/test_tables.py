"""Sizes of tables of positions are kept out of searches of other sizes, and have templates of their own."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest

from workloads import samples, tables, templates
from workloads.model import find
from workloads.samples import Sample
from workloads.templates import NONE, Family, chosen, digest

NOTHING: Mapping[str, int] = MappingProxyType({})


def _transformer(model: str, fields: Mapping[str, int] = NOTHING) -> Sample:
    found = find(model)
    return next(s for s in samples.of_request(found, found.request(**fields)) if s.stage.name == tables.STAGE)


@pytest.mark.parametrize("model", sorted(tables.TABLES))
def test_a_table_is_a_request_that_the_model_takes_and_its_size_has_templates_of_its_own(model: str) -> None:
    """They hold there and nowhere beside, in a family whose other templates do not hold there."""
    at, one_more = tables.TABLES[model], dict(tables.TABLES[model])
    name = next(iter(at))
    one_more[name] -= samples.progression(find(model), name)[1]
    here, beside = _transformer(model, at), _transformer(model, one_more)
    family = templates.families(here.signature.function)[digest(here.signature.key)]
    assert family.at(here.signature.numbers) is not None
    leaves = [chosen(family.tree, _symbols(family, sample)) for sample in (here, beside)]
    assert leaves[0] != leaves[1]
    bare = tables.without(family, here.signature.key, [model])
    assert [chosen(bare.tree, _symbols(bare, s)) == NONE for s in (here, beside)] == [True, leaves[1] == NONE]


def _symbols(family: Family, sample: Sample) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    found = family.symbols(sample.signature.numbers)
    assert found is not None
    return found


def test_samples_at_a_table_are_left_out_but_where_they_are_asked_for() -> None:
    at, wide = (_transformer("latte", {"height": 512, "width": w}) for w in (512, 768))
    text = next(s for s in samples.of_request(find("latte"), at.request) if s.stage.name == "text_encoder")
    assert tables.beside([at, wide, text]) == [wide, text]
    assert tables.beside([at, wide], {"height": 512, "width": 512}) == [at, wide]
    assert tables.beside([at, wide], {"height": 512}) == [wide]
    dit = _transformer("dit-xl-2")
    assert tables.beside([dit]) == [dit]


def test_the_first_sample_of_a_search_is_the_usual_one_or_the_nearest_beside_its_table() -> None:
    at, near, far = (_transformer("latte", {"height": 512, "width": w}) for w in (512, 528, 2048))
    assert tables.usual_first([at, far, near]) == [near, far]
    assert tables.usual_first([far, at, near]) == [far, near]
    assert tables.usual_first([at]) == [at]


def test_what_is_drawn_near_a_sample_is_at_the_table_if_it_is() -> None:
    at, wide = (_transformer("latte", {"height": 512, "width": w}) for w in (512, 768))
    for sample, expected in ((at, {True}), (wide, {False})):
        drawn = tables.siblings(sample, random.Random(0))
        assert {(s.request.height, s.request.width) == (512, 512) for s in drawn} == expected


def test_a_table_fixes_the_numbers_that_its_fields_do_and_no_other() -> None:
    """Of SD3 the width in latents; not the height, nor the number of samples."""
    sample = _transformer("sd3-medium")
    places = np.arange(len(sample.signature.numbers))
    whole = Family(places, 0 * places, NONE, ())
    values = dict(tables.at_table(find("sd3-medium"), whole, sample.signature.key, {}))
    assert values[3] == 3072 // 8
    assert not {0, 2} & set(values)
    assert tables.at_table(find("sd3-medium"), whole, sample.signature.key, {"width": 3072}) == ()
    assert tables.at_table(find("dit-xl-2"), whole, sample.signature.key, {}) == ()
