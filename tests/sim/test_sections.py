"""`--set` below a section that explores."""

import pytest

from hwspecs import spec
from hwspecs.errors import SpecError
from sim.sections import set_below


def test_a_direction_without_a_space_after_the_colon_is_refused() -> None:
    root = spec.wrap({"search": {"objectives": {"latency_s": "minimize"}}}, "s.yaml")
    with pytest.raises(SpecError) as caught:
        set_below(root, "search.objectives", "{latency_s:maximise}")
    assert caught.value.problems == (
        "--set search.objectives: found 'latency_s:maximise', expected a space after the colon; "
        "did you mean 'latency_s: maximise'?",
    )
    kept = set_below(root, "search.objectives", "{latency_s: maximize}").get("search.objectives.latency_s")
    assert kept is not None
    assert kept.text == "maximize"
