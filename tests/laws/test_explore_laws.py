"""Laws of exploring: fronts, stacks of designs, sweeps."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from explore import evaluate
from explore.evaluate import OUTPUTS, RATES, Workload, prepare
from explore.front import pareto
from explore.space import origin, setting
from explore.sweep import plan, sweep
from hwspecs.rates import rates
from sim import simulate
from sim.scenario import load
from tests.explore.toys import HEAD
from tests.laws.test_cost_laws import BETTER_DOWN
from tests.sim.toy import trace_of

LESS_IS_BETTER = {
    path for path, name in RATES.items() if name in (*BETTER_DOWN, "tile_m", "tile_n", "tile_k", "tensor_fill")
}
WHOLE = ("device.sm_count", "device.sm.max_threads", "device.l2.partitions")
coordinates = st.one_of(st.integers(0, 4).map(float), st.floats(-1e300, 1e300))


@given(arrays.arrays(np.float64, st.tuples(st.integers(0, 40), st.integers(1, 4)), elements=coordinates))
@settings(max_examples=300)
def test_the_front_holds_no_dominated_point_and_every_other(points: np.ndarray) -> None:
    no_worse = (points[:, None, :] <= points[None, :, :]).all(axis=2)
    better = (points[:, None, :] < points[None, :, :]).any(axis=2)
    dominated = (no_worse & better).any(axis=0)
    np.testing.assert_array_equal(pareto(points), ~dominated)


@pytest.fixture(scope="module")
def workload() -> Workload:
    with mock.patch.object(evaluate, "trace_of", trace_of):
        return toy()


def toy(*overrides: str) -> Workload:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy.yaml"
        path.write_text(HEAD)
        return prepare(load(path, overrides))


def values(workload: Workload) -> dict[str, float]:
    """Every number of the device by path; those that are 0 are left out."""
    base = rates(workload.scenario.device)
    found = {}
    for path, name in RATES.items():
        part, _, dtype = name.partition(".")
        found[path] = float(getattr(base, part)[dtype] if dtype else getattr(base, name))
    return {path: value for path, value in found.items() if value and "tile" not in path}


@given(data=st.data(), compiled=st.booleans())
@settings(max_examples=60, deadline=None)
def test_better_in_every_field_is_never_slower(workload: Workload, data: st.DataObject, compiled: bool) -> None:
    factor, gain = st.floats(0.3, 3.0), st.floats(1.0, 3.0)
    columns = {}
    for path, value in values(workload).items():
        here, more = value * data.draw(factor), data.draw(gain)
        after = here / more if path in LESS_IS_BETTER else here * more
        pair = np.array([here, after])
        if path in WHOLE:
            pair = np.maximum(np.ceil(pair), 1.0)
        columns[path] = np.minimum(pair, 1.0) if path == "device.tensor.sustained" else pair
    with mock.patch.object(evaluate, "COMPILED_FROM", 1 if compiled else 100):
        found = evaluate.evaluate(workload, columns)
    for name in ("latency_s", "gpu_time_s"):
        assert found[name][1] <= found[name][0] * (1 + 1e-9)
    assert found["images_per_s"][1] >= found["images_per_s"][0] * (1 - 1e-9)


@given(
    bandwidth=st.floats(2e11, 1e13), capacity=st.floats(1e6, 5e8), sms=st.integers(1, 400), steps=st.integers(1, 60),
    attention=st.sampled_from(["unfused", "flash-2", "auto"]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_point_of_a_sweep_is_what_run_gives(
    bandwidth: float, capacity: float, sms: int, steps: int, attention: str
) -> None:
    point = {
        "request.steps": setting("x", steps, "")[2:],
        "software.attention": attention,
        "device.hbm.bandwidth": setting("x", bandwidth, "B/s")[2:],
        "device.l2.capacity": setting("x", capacity, "B")[2:],
        "device.sm_count": str(sms),
    }
    section = "".join(f"  {path}: [{text}]\n" for path, text in point.items())
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(evaluate, "trace_of", trace_of),
        mock.patch.object(simulate, "trace_of", trace_of),
    ):
        path = Path(folder) / "toy.yaml"
        path.write_text(HEAD + "sweep:\n" + section)
        swept = sweep(plan(origin(str(path))))
        result = simulate.replay(load(path, [f"{path}={text}" for path, text in point.items()]))
    expected = result.to_json()
    for name in set(OUTPUTS) & set(expected):
        value = np.nan if expected[name] is None else expected[name]  # a rate of frames where there are none
        assert float(swept.outputs[name][0]) == pytest.approx(value, rel=1e-9, nan_ok=expected[name] is None)
