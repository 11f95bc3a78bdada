"""Video models with attention over frames alone: exact laws in the number of frames, found by the axis."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.workloads.test_library_models_totals import small
from workloads.capture import CapturedPass, capture
from workloads.kind import Dims, kinds
from workloads.ops.attention import DIMS, ROLES
from workloads.temporal import with_temporal

COUNTS = (2, 3, 5)
CASES = {"animatediff": "unet", "svd-xt": "unet", "latte": "transformer"}


@pytest.fixture(scope="module", params=CASES)
def passes(request: pytest.FixtureRequest) -> dict[int, CapturedPass]:
    """The denoiser's pass at every count, temporal attention marked."""
    model: str = request.param
    found = {}
    for frames in COUNTS:
        stage = next(s for s in small(model, frames=frames) if s.name == CASES[model])
        found[frames] = capture(stage.build(), *stage.inputs(), path=stage.name)
    others = dict(zip(COUNTS, (*COUNTS[1:], COUNTS[0]), strict=True))
    return {frames: with_temporal(found[frames], found[others[frames]], frames) for frames in COUNTS}


def flops(traced: CapturedPass) -> Counter[str]:
    total: Counter[str] = Counter()
    for call in traced.calls:
        if call.kind == "attention":
            dims = dict(zip(DIMS, call.dims, strict=True))
            total[ROLES[dims["role"]]] += int(kinds()["attention"].flops(Dims(dims)))
    return total


def test_spatial_attention_is_linear_and_temporal_quadratic_in_frames(passes: dict[int, CapturedPass]) -> None:
    totals = {frames: flops(traced) for frames, traced in passes.items()}
    assert totals[2]["temporal"] > 0
    for role, power in (("self", 1), ("cross", 1), ("temporal", 2)):
        assert len({totals[frames][role] / frames**power for frames in COUNTS}) == 1, role


def test_temporal_attention_is_as_long_as_the_clip(passes: dict[int, CapturedPass]) -> None:
    for frames, traced in passes.items():
        calls = [dict(zip(DIMS, c.dims, strict=True)) for c in traced.calls if c.kind == "attention"]
        lengths = {(d["q_len"], d["kv_len"]) for d in calls if ROLES[d["role"]] == "temporal"}
        assert lengths == {(frames, frames)}
