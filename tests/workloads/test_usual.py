"""The requests that docs/templates.md counts as usual."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from benchmarks.traces import usually
from benchmarks.usual import BATCHES, USUAL, usual
from workloads import samples, templates
from workloads.cache import carried
from workloads.join import join
from workloads.model import find, models
from workloads.samples import DTYPES
from workloads.trace import same


def test_every_model_has_usual_requests_its_default_among_them() -> None:
    assert set(USUAL) == set(models())
    for model in models().values():
        asked = list(usual(model))
        assert len(set(asked)) == len(asked)
        assert {r.dtype for r in asked} == set(DTYPES)
        assert {r.batch for r in asked} == set(BATCHES)
        known = {(getattr(r, "height", 0), getattr(r, "width", 0), getattr(r, "frames", 0)) for r in asked}
        default = model.request()
        assert (getattr(default, "height", 0), getattr(default, "width", 0), getattr(default, "frames", 0)) in known


@pytest.mark.parametrize("model", ["dit-xl-2", "svd-xt", "llama-2-7b"])
def test_what_is_counted_is_what_a_run_finds(model: str) -> None:
    """Stages that requests share are looked for once; the count is that of whole requests."""
    own, others = (tuple(map(int, text.split(" of "))) for text in usually(find(model)))
    asked = list(usual(find(model)))
    default = find(model).request().dtype
    mine = [r for r in asked if r.dtype == default]
    assert (own[1], others[1]) == (len(mine), len(asked) - len(mine))
    assert own[0] == sum(carried(model, r) for r in mine)


@pytest.mark.parametrize("model", ["flux.1-dev", "svd-xt", "sd3-medium", "cogvideox-5b", "ltx-video"])
def test_templates_of_usual_requests_are_what_captures_give(model: str) -> None:
    """At the last size and the first length, in both 16-bit types, one sample and two: a rule found among small draws may be the
    lesser of two numbers, and hold there alone."""
    own, made, compared = find(model), USUAL[model], set()
    size: dict[str, Any] = dict(zip(("height", "width"), made.sizes[-1], strict=True)) if made.sizes else {}
    size |= {"frames": made.frames[0]} if made.frames else {}
    for dtype, batch in product(("bf16", "fp16"), (1, 2)):
        for sample in samples.of_request(own, own.request(**size, batch=batch, dtype=dtype)):
            at = sample.signature.key, sample.signature.numbers
            found = templates.stage_trace(replace(sample.stage, name=""), sample.frames)
            if found is None or at in compared or sample.stage.name.startswith("decode_"):
                continue
            compared.add(at)
            assert same(join("", {}, [found]), samples.captured(sample)), (sample.stage.name, size, batch, dtype)
    samples.forget()
    assert compared
