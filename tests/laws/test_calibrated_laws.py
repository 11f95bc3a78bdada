"""Laws of the cost models at the calibrated level: the shipped fit, and any correction that a fit could hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explore.evaluate import evaluate, prepare
from explore.space import origin
from hwspecs import device
from hwspecs.rates import Rates, rates
from sim import fitted as fits
from sim.correct import factors, outside
from sim.cost import cost
from sim.report import calibration_line
from sim.residual import BOUND
from sim.result import Correction
from sim.scenario import load
from sim.simulate import replay
from sim.tiles import per_kernel
from tests.build import kernels
from tests.laws.test_cost_laws import BETTER_DOWN, BETTER_UP, gemm, hardware, improved, operators

FIT, DEVICE = "a100", "a100-sxm-80gb"
correction = st.floats(-BOUND, BOUND).map(np.exp)


def priced(op: tuple[str, Mapping[str, int]], on: Rates, factor: float) -> Any:
    return cost(kernels([op]), on, "calibrated", factor=factor)


@settings(max_examples=100, deadline=None)
@given(operators(), hardware(), correction)
def test_no_correction_beats_a_peak(op: tuple[str, Mapping[str, int]], on: Rates, factor: float) -> None:
    c = priced(op, on, factor)
    chip = np.asarray(on.sm_count * on.sm_clock)
    rate = chip * per_kernel(on, c.kernels.dtype, "matmul")
    assert (c.time >= c.kernels.flops / rate * (1 - 1e-9)).all()
    assert (c.time >= c.hbm_bytes / np.asarray(on.hbm_bandwidth) * (1 - 1e-9)).all()


def test_a_faster_l2_that_changes_the_tile_is_never_slower() -> None:
    """Found by hypothesis: the tile that a faster L2 prefers moves more bytes, which once raised the floor of a correction."""
    on = replace(rates(device.load(DEVICE)), sm_count=216.0, tensor_sustained=1.0, tile_k=128.0, tensor_fill=65.0)
    on = replace(on, l2_partitions=1.0)
    totals = [
        float(priced(gemm(545, 3105, 129), each, np.exp(-1.0)).time.sum())
        for each in (on, improved(on, "l2_bandwidth", 2.0))
    ]
    assert totals[1] <= totals[0] * (1 + 1e-9)


@settings(max_examples=150, deadline=None)
@given(operators(), hardware(), correction, st.sampled_from(BETTER_UP + BETTER_DOWN), st.floats(1.0, 4.0))
def test_better_hardware_is_never_slower(
    op: tuple[str, Mapping[str, int]], on: Rates, factor: float, name: str, by: float
) -> None:
    before, after = (priced(op, each, factor) for each in (on, improved(on, name, by)))
    total = [float(c.per_row(c.time + c.gap).sum()) for c in (before, after)]
    assert total[1] <= total[0] * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(operators(), correction)
def test_without_a_fit_the_level_is_physical(op: tuple[str, Mapping[str, int]], factor: float) -> None:
    on = rates(device.load(DEVICE))
    plain, same = cost(kernels([op]), on), priced(op, on, 1.0)
    assert same.time == pytest.approx(plain.time, rel=1e-12)
    changed = priced(op, on, factor).time
    assert (changed <= plain.time * max(factor, 1.0) * (1 + 1e-9)).all()
    assert (changed >= plain.time * min(factor, 1.0) * (1 - 1e-9)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 65536), st.integers(1, 65536), st.integers(1, 65536))
def test_the_shipped_correction_is_bounded_for_any_product(m: int, n: int, k: int) -> None:
    fitted = fits.load(FIT)
    rows = kernels([gemm(m, n, k)])
    factor = factors(rows, fitted, DEVICE)
    assert (np.abs(np.log(factor)) <= BOUND + 1e-9).all()
    assert np.isfinite(factor).all()


@settings(max_examples=60, deadline=None)
@given(operators())
def test_only_matrix_products_with_weights_are_corrected(op: tuple[str, Mapping[str, int]]) -> None:
    rows = kernels([op])
    factor = factors(rows, fits.load(FIT), DEVICE)
    other = np.array([not family.startswith("gemm/") for family in rows.family]) | (rows.gemm[0] != 1)
    assert (factor[other] == 1.0).all()
    assert (factors(rows, fits.load(FIT), "l40s") == 1.0).all()


@pytest.mark.parametrize("name", device.device_names())
def test_a_device_with_a_number_changed_has_no_correction(name: str) -> None:
    own = device.load(name)
    if fits.fit_of(own) is not None:
        assert fits.fit_of(replace(own, sm_count=own.sm_count + 1)) is None
        assert fits.fit_of(replace(own, l2=replace(own.l2, capacity=own.l2.capacity * 2))) is None
        assert fits.fit_of(replace(own, title="another title")) is not None


def test_a_run_at_the_calibrated_level() -> None:
    scenario = load("examples/stable-diffusion-a100.yaml")
    runs = {level: replay(replace(scenario, level=level)) for level in ("roofline", "physical", "calibrated")}
    assert runs["roofline"].latency < runs["calibrated"].latency
    assert runs["calibrated"].latency == pytest.approx(runs["physical"].latency, rel=0.2)
    assert runs["calibrated"].latency != runs["physical"].latency


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["device.hbm.bandwidth=3 TB/s"], "device.hbm.bandwidth differs from the file of a100-sxm-80gb"),
        (["device=l40s"], "l40s was never fitted"),
        (["device=a100-pcie-40gb"], "a100-pcie-40gb was never fitted"),
    ],
)
@pytest.mark.parametrize("asked", [[], ["level=calibrated"]])
def test_on_another_device_the_correction_has_no_weight(overrides: list[str], why: str, asked: list[str]) -> None:
    example = "examples/stable-diffusion-a100.yaml"
    found, physical = (replay(load(example, [*overrides, *level])) for level in (asked, ["level=physical"]))
    assert found.latency == physical.latency
    assert found.scenario == physical.scenario
    assert found.correction == Correction("", why)
    assert f"No learned correction: {why}." in calibration_line(found)
    assert physical.correction == Correction("", "level physical")


def test_the_committed_calibration_is_the_default_of_the_device_that_was_fitted() -> None:
    scenario = load("examples/stable-diffusion-a100.yaml")
    found = replay(scenario)
    assert (scenario.level, found.correction) == ("calibrated", Correction("a100", ""))
    assert found.to_json()["correction"] == {"fit": "a100", "why_none": ""}
    assert "by the fit a100; --level physical leaves that out" in calibration_line(found)


def test_fp32_is_not_said_to_be_corrected() -> None:
    """The fit corrects 16-bit products; fp32 ones were measured on an A100, so "no measurement covers" it would be wrong."""
    found = replay(load("examples/stable-diffusion-a100.yaml", ["request.dtype=fp32"]))
    assert (
        found.correction == Correction("", "the fit a100 corrects 16-bit matrix products with weights, and there are none")
    )  # fmt: skip
    line = calibration_line(found)
    assert f"No learned correction: {found.correction.why_none}." in line
    assert "no measurement covers" not in line
    assert "outside the covered hardware 0.0 %" in line


def test_parts_that_take_next_to_nothing_are_not_called_host_bound() -> None:
    """The text encoder waits for the host: 9 ms in a run of some seconds."""
    eager = ["request.dtype=fp32", "software.cuda_graphs=false"]
    found, short = (
        replay(load("examples/stable-diffusion-a100.yaml", [*eager, f"request.steps={n}"])) for n in (50, 1)
    )
    assert found.latency > 10 * short.latency
    assert found.host_paced() == ()
    assert short.host_paced() == ("text_encoder",)


def test_designs_are_compared_without_the_correction_the_baseline_included() -> None:
    at = origin("examples/stable-diffusion-a100.yaml")
    physical = replay(replace(at.scenario, level="physical")).latency
    assert at.scenario.level == at.varied(["device.hbm.bandwidth=3 TB/s"]).level == "physical"
    assert evaluate(prepare(at.scenario), {})["latency_s"][0] == pytest.approx(physical)
    assert evaluate(prepare(replace(at.scenario, level="calibrated")), {})["latency_s"][0] == pytest.approx(physical)


def test_a_correction_beyond_the_shapes_of_the_fit_is_not_covered() -> None:
    rows, fitted = kernels([gemm(4096, 1024, 1024), gemm(1 << 20, 1024, 1024), gemm(4096, 1024, 20000)]), fits.load(FIT)
    assert outside(rows, fitted, DEVICE)[rows.gemm[0] == 1].tolist() == [False, True, True]
    assert not outside(rows, fitted, "l40s").any()
