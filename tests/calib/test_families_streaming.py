"""Norms, softmax and elementwise rows: bytes, bounds, monotone in the device, labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib import streaming
from calib.families import elementwise
from calib.families.base import Family, families
from calib.families.elementwise import passes
from calib.smooth import _near
from hwspecs import device
from hwspecs.rates import Rates, rates
from sim.fitted import base_terms

TERMS = base_terms()
A100 = rates(device.load("a100-pcie-40gb"))
CASES = [
    ("norm", "layernorm"),
    ("norm", "rmsnorm"),
    ("softmax", "softmax"),
    ("elementwise", "gelu"),
    ("elementwise", "add"),
]
SIZE = st.integers(1, 1 << 14)


def table(op: str, rows: int = 4096, cols: int = 1024, **columns: Any) -> pd.DataFrame:
    row = {"op": op, "dtype": "fp32", "software": "s", "timing": "kernel", "rows": float(rows), "cols": float(cols)}
    return pd.DataFrame([row | {"inputs": 2.0 if op == "add" else 1.0} | columns])


def seconds(family: Family, frame: pd.DataFrame, on: Rates = A100) -> float:
    return float(family.physical(frame, on, TERMS).time[0])


@settings(deadline=None, max_examples=25)
@given(rows=SIZE, cols=SIZE, timing=st.sampled_from(["kernel", "with_launch"]))
@pytest.mark.parametrize(("name", "op"), CASES)
def test_bounds_and_features(name: str, op: str, rows: int, cols: int, timing: str) -> None:
    family, frame = families()[name], table(op, rows, cols, timing=timing)
    priced = family.physical(frame, A100, TERMS)
    assert priced.time[0] > 0
    assert timing == "with_launch" or priced.time[0] >= priced.lower[0]
    assert all(np.isfinite(v).all() and v.shape == (1,) for v in family.features(frame, priced, A100).values())


@settings(deadline=None, max_examples=25)
@given(rows=SIZE, cols=SIZE, factor=st.floats(1.0, 4.0), timing=st.sampled_from(["kernel", "with_launch"]))
@pytest.mark.parametrize(("name", "op"), CASES)
def test_a_faster_device_is_never_slower(name: str, op: str, rows: int, cols: int, factor: float, timing: str) -> None:
    family, frame = families()[name], table(op, rows, cols, timing=timing)
    base = seconds(family, frame) * (1 + 1e-9)
    for field in ("hbm_bandwidth", "sm_clock", "sm_count", "l2_capacity"):
        improved = replace(A100, **{field: getattr(A100, field) * factor})
        assert seconds(family, frame, improved) <= base


@pytest.mark.parametrize(("name", "op"), CASES)
def test_large_rows_run_at_the_bandwidth_of_their_pattern(name: str, op: str) -> None:
    family, frame = families()[name], table(op, 1 << 16, 1 << 13)
    share = TERMS.hbm_stream if name == "elementwise" else TERMS.hbm_reduce
    moved = streaming.tensor_bytes(frame)[0] * (3.0 if op == "add" else 2.0)
    assert moved / seconds(family, frame) == pytest.approx(A100.hbm_bandwidth * share, rel=0.03)


def test_passes_over_memory() -> None:
    ops = {
        "gelu": (1, 1),
        "add": (2, 1),
        "add_add": (4, 2),
        "silu_and_mul": (2, 1),
        "geglu": (2, 1),
        "add_broadcast": (1, 1),
    }
    for op, (read, written) in ops.items():
        assert [v[0] for v in passes(table(op))] == [read, written]
    assert set(elementwise.OPS) >= set(ops)


@given(time=st.floats(1e-7, 1e-2), more=st.floats(1.0, 3.0))
def test_a_kernel_hides_behind_dispatch(time: float, more: float) -> None:
    shown, longer = (streaming.hidden(np.array([t]))[0] for t in (time, time * more))
    assert 0 <= shown <= time
    assert shown <= longer
    assert streaming.hidden(np.array([1e-2]))[0] == pytest.approx(1e-2, rel=1e-4)


def test_labels() -> None:
    norm = families()["norm"]
    frame = pd.concat([table("layernorm", timing="with_launch"), table("layernorm", software=None)])
    assert norm.floor(frame).tolist() == ["layernorm | s", ""]
    assert norm.condition(frame).tolist() == ["s", ""]
    assert norm.groups(frame).tolist() == ["4096_1024"] * 2


@pytest.mark.parametrize(("name", "op"), CASES)
def test_a_smooth_correction_follows_extents_and_shares_over_short_distances(name: str, op: str) -> None:
    family, frame = families()[name], table(op)
    names = tuple(family.features(frame, family.physical(frame, A100, TERMS), A100))
    fine = {n for n, near in zip(names, _near(names)[1], strict=True) if near > 0.0}
    assert fine == {"rows", "cols", "size", *(n for n in names if n.startswith("share_"))}
    assert {"share_hbm", "share_latency"} <= fine
