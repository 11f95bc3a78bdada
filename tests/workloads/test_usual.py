"""The requests that docs/templates.md counts as usual."""

from __future__ import annotations

import pytest

from benchmarks.traces import usually
from benchmarks.usual import BATCHES, USUAL, usual
from workloads.cache import carried
from workloads.model import find, models
from workloads.samples import DTYPES


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
