"""Constants of convolutions on the matrix unit: found again in rows that are made of them, and never by a row's own problem."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from calib import conv_unit
from calib.families.conv import Unit, physical
from calib.fit import Rows, parts_of
from hwspecs.device import load
from hwspecs.rates import rates
from sim.fitted import base_terms
from tests.calib.test_families_conv import table

KNOWN = Unit(convert=1.9, grouped=3.5, depthwise=14.0, access_3d=32.0, few=4.0)


@pytest.fixture(scope="module")
def rows() -> Rows:
    kinds = (
        {"in_channels": 64.0, "out_channels": 96.0}, {"in_channels": 32.0, "out_channels": 32.0, "groups": 32.0},
        {"in_channels": 64.0, "out_channels": 64.0, "groups": 4.0, "op": "conv_transpose2d"},
        {"in_channels": 3.0, "out_channels": 64.0},
    )  # fmt: skip
    frame = pd.concat(
        [
            table(math="tf32", layout="nchw", code_path=path, height=float(side), width=float(side), batch=32.0, **kind)
            for kind in kinds
            for side in (96, 128, 160, 192, 256)
            for path in ("eager", "compile_default")
        ],
        ignore_index=True,
    ).assign(device_id="a100-sxm-40gb", timing="kernel")
    time = physical(frame, rates(load("a100-sxm-40gb")), base_terms(), KNOWN).time
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal(len(frame)))
    (own,) = parts_of(frame.assign(latency_us=1e6 * time * noise))
    return own


def test_known_constants_are_found(rows: Rows) -> None:
    found = conv_unit.fitted(rows)
    assert found.unit.few == KNOWN.few
    for name in ("convert", "grouped", "depthwise"):
        away = (found.fit.values[name] - getattr(KNOWN, name)) / found.fit.errors[name]
        assert abs(away) < 3, (name, found.fit.values[name], found.fit.errors[name])


def test_a_problem_says_nothing_of_itself(rows: Rows) -> None:
    """With one problem slowed down in both of its code paths, its own predictions stay where they were."""
    side = rows.frame["height"].to_numpy() == 256.0
    plain = side & (rows.frame["in_channels"].to_numpy() == 64.0) & (rows.frame["op"] == "conv2d").to_numpy()
    assert plain.sum() == 2
    before = conv_unit.crossed(rows)
    slowed = rows.take(np.arange(len(rows)))
    slowed.measured[plain] *= 3.0
    after = conv_unit.crossed(slowed)
    assert after[plain] == pytest.approx(before[plain], rel=1e-6)
    assert np.abs(before / rows.measured - 1.0).mean() < 0.1
