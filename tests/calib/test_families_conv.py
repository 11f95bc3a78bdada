"""Convolutions of measurement tables: shapes, algorithms, the part on the matrix unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import convolutions
from calib.families.base import families
from calib.work import work
from hwspecs import device
from hwspecs.rates import Rates, rates
from sim.fitted import base_terms

FAMILY = families()["conv"]
TERMS = base_terms()
A100 = rates(device.load("a100-pcie-80gb"))
EXTENT = st.integers(1, 64)
CHANNELS = st.integers(1, 2048)


def table(**columns: Any) -> pd.DataFrame:
    """One conv2d row, 3x3 with padding 1, as `calib.table.read` gives it; columns replaced or added."""
    row = {
        "op": "conv2d", "dtype": "fp32", "software": "s", "timing": "with_launch", "family": "conv", "batch": 8.0,
        "in_channels": 64.0, "out_channels": 128.0, "height": 28.0, "width": 28.0, "layout": "nchw",
        **{f"{w}_{a}": v for w, v in (("kernel", 3.0), ("stride", 1.0), ("padding", 1.0)) for a in "hw"},
    }  # fmt: skip
    return pd.DataFrame([row | columns])


def seconds(frame: pd.DataFrame, on: Rates = A100) -> float:
    return float(FAMILY.physical(frame, on, TERMS).time[0])


def better(**columns: Any) -> Rates:
    return replace(A100, **columns)


@settings(deadline=None, max_examples=40)
@given(batch=EXTENT, c=CHANNELS, k=CHANNELS, side=EXTENT)
def test_counts_the_flops_of_the_table(batch: int, c: int, k: int, side: int) -> None:
    frame = table(
        batch=float(batch), in_channels=float(c), out_channels=float(k), height=float(side), width=float(side)
    )
    s = convolutions.shape(frame)
    flops, reads, writes = work(frame)
    assert s.flops == pytest.approx(flops)
    assert 4 * (s.x + s.w) == pytest.approx(reads)
    assert 4 * s.y == pytest.approx(writes)


@settings(deadline=None, max_examples=40)
@given(batch=EXTENT, c=CHANNELS, k=CHANNELS, side=EXTENT)
def test_predicted_algorithm_is_the_fastest_and_never_below_the_bound(batch: int, c: int, k: int, side: int) -> None:
    sizes = {
        "batch": float(batch),
        "in_channels": float(c),
        "out_channels": float(k),
        "height": float(side),
        "width": float(side),
    }
    named = [seconds(table(algorithm=a, **sizes)) for a in convolutions.ALGORITHMS]
    priced = FAMILY.physical(table(**sizes), A100, TERMS)
    assert priced.time[0] == pytest.approx(min(named))
    assert priced.time[0] >= priced.lower[0]
    assert all(np.isfinite(v).all() for v in FAMILY.features(table(**sizes), priced, A100).values())


@settings(deadline=None, max_examples=30)
@given(c=CHANNELS, k=CHANNELS, side=EXTENT, factor=st.floats(1.0, 4.0))
@pytest.mark.parametrize("extra", [{}, {"math": "tf32"}, {"dtype": "fp16"}])
def test_a_faster_device_is_never_slower(extra: dict[str, str], c: int, k: int, side: int, factor: float) -> None:
    frame = table(in_channels=float(c), out_channels=float(k), height=float(side), width=float(side), **extra)
    base = seconds(frame) * (1 + 1e-9)
    assert seconds(frame, better(hbm_bandwidth=A100.hbm_bandwidth * factor)) <= base
    assert seconds(frame, better(sm_clock=A100.sm_clock * factor)) <= base
    assert seconds(frame, better(sm_count=np.ceil(A100.sm_count * factor))) <= base


def test_winograd_only_where_it_exists() -> None:
    cannot: list[dict[str, Any]] = [
        {"kernel_h": 5.0},
        {"stride_h": 2.0},
        {"groups": 2.0},
        {"dilation_h": 2.0},
        {"op": "conv_transpose2d"},
    ]
    for columns in cannot:
        s = convolutions.shape(table(**columns))
        assert np.isinf(convolutions.seconds(s, A100, 0.9)["winograd"]).all()
    assert np.isfinite(convolutions.seconds(convolutions.shape(table()), A100, 0.9)["winograd"]).all()


def test_a_named_algorithm_that_cannot_run_the_shape_is_not_believed() -> None:
    assert seconds(table(kernel_h=5.0, algorithm="winograd")) == seconds(table(kernel_h=5.0))


def test_parts_by_arithmetic() -> None:
    rows = [table(), table(math="tf32"), table(dtype="fp16"), table(math="fp32")]
    assert [FAMILY.part(r).iat[0] for r in rows] == ["fp32", "tensor", "tensor", "fp32"]


def test_matrix_unit_is_faster_and_channels_last_saves_the_conversions() -> None:
    big: dict[str, Any] = {"in_channels": 512.0, "out_channels": 512.0, "batch": 64.0}
    lanes, unit = seconds(table(algorithm="implicit_gemm", **big)), seconds(table(dtype="fp16", **big))
    assert unit < lanes / 5
    assert seconds(table(dtype="fp16", layout="nhwc", **big)) < unit


def test_a_transposed_convolution_applies_its_taps_at_the_input() -> None:
    s = convolutions.shape(table(op="conv_transpose2d", stride_h=2.0, stride_w=2.0, out_height=55.0, out_width=55.0))
    assert (s.positions[0], s.written[0]) == (28.0 * 28.0, 55.0 * 55.0)
    unstated = convolutions.shape(table(op="conv_transpose2d", stride_h=2.0, stride_w=2.0))
    assert unstated.written[0] == s.written[0]


def test_labels() -> None:
    frame = table(algorithm="fft", code_path="compile_default")
    assert FAMILY.condition(frame).tolist() == ["fft"]
    assert FAMILY.condition(table()).tolist() == [""]
    assert FAMILY.floor(frame).tolist() == ["conv | s compile"]
    assert FAMILY.floor(table(timing="kernel")).tolist() == [""]
    assert FAMILY.floor(table(timing=None, method="events around one eager call")).tolist() == ["conv | s eager"]
    assert FAMILY.groups(frame).tolist() == ["64_128"]


@pytest.mark.parametrize(
    "columns", [{"code_path": "eager"}, {"code_path": "compile_default"}, {"op": "conv_transpose2d"}]
)
def test_grouped_and_depthwise_rows_have_a_time(columns: dict[str, Any]) -> None:
    for groups in (4.0, 64.0):
        assert seconds(table(math="tf32", groups=groups, out_channels=64.0, **columns)) > 0


def test_compiled_depthwise_streams_where_no_fit_is_for_the_device() -> None:
    """The kernel that takes so many cycles is one of the A100's library."""
    row = table(
        dtype="fp32", math="tf32", code_path="compile_default", groups=64.0, in_channels=64.0, out_channels=64.0,
        height=512.0, width=512.0,
    )  # fmt: skip
    assert FAMILY.abroad is not None
    compiled, eager = (float(FAMILY.abroad(row.assign(code_path=p), A100, TERMS).time[0]) for p in ("compile", "eager"))
    assert compiled == eager
    assert seconds(row) > 2.0 * compiled
