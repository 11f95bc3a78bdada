"""Templates of a module that takes its samples one after the other: one for any number of them, as a loop."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.workloads import small
from workloads import samples, shallow, templates
from workloads.fit import fit
from workloads.join import join
from workloads.looped import Looped
from workloads.model import find, models
from workloads.samples import Sample
from workloads.trace import same


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models(), small.ONE_BY_ONE.id, small.ONE_BY_ONE)
        yield
    samples.forget()


def _of(batch: int, length: int) -> Sample:
    (found,) = samples.of_request(
        small.ONE_BY_ONE, small.ONE_BY_ONE.request(batch=batch, length=length, guidance=False)
    )
    return found


def test_any_number_of_samples_is_one_structure() -> None:
    """From three on; two, which the search meets beside the default request, may be a structure of their own."""
    drawn = samples.samples(small.ONE_BY_ONE, 60, random.Random(0))
    group = [s for s in drawn if s.request.dtype == "fp16" and s.signature.numbers[0] > 1]
    distinct = list({s.signature.numbers: s for s in group}.values())
    family = shallow.find_shallow(distinct, [], None, unlike=12).family
    most = max(s.signature.numbers[0] for s in distinct)
    leaves = set()
    for batch, length in ((2, 5), (3, 33), (most + 1, 7), (3 * most, 129)):
        sample = _of(batch, length)
        symbols = family.symbols(sample.signature.numbers)
        assert symbols is not None
        if batch > 2:
            leaves.add(templates.chosen(family.tree, symbols))
        trace = family.at(sample.signature.numbers)
        assert trace is not None
        assert same(join("", {}, [trace]), samples.captured(sample)), (batch, length)
    (leaf,) = leaves
    assert isinstance(family.templates[leaf], Looped)


def test_how_often_a_loop_runs_is_a_count_before_it_is_anything_else() -> None:
    """Of 19, 22 and 28 latents a fourth, rounded down, is as many as the stretches of three but three; of 31 it is not."""
    symbols = np.array([[19, 7], [22, 8], [28, 10], [19, 7], [22, 8]])
    found, missing = fit(symbols, np.array([[4, 5, 7, 4, 5]]).T, whole={1})
    assert missing == []
    assert found.at(np.array([31, 11])).tolist() == [8]


SMALL = {"height": 160, "width": 208}


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("mochi", {"batch": 3, "dtype": "fp16", "guidance": False, "frames": 25, **SMALL}),
        ("mochi", {"batch": 4, "dtype": "bf16", "guidance": True, "frames": 163}),
        ("hunyuanvideo", {"batch": 5, "dtype": "fp32", "guidance": False, "frames": 17, **SMALL}),
        ("hunyuanvideo", {"batch": 4, "dtype": "bf16", "guidance": True, "frames": 129}),
    ],
)
def test_transformers_of_three_samples_and_more_are_as_captured(model: str, asked: dict[str, Any]) -> None:
    """Small, and of the usual size."""
    own = find(model)
    (sample,) = (s for s in samples.of_request(own, own.request(**asked)) if s.stage.name == "transformer")
    found = templates.stage_trace(replace(sample.stage, name=""), sample.frames)
    assert found is not None
    assert same(join("", {}, [found]), samples.captured(sample))
