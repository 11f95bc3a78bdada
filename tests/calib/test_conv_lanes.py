"""Constants of convolutions on the fp32 lanes: found again in rows that are made of them; what a shape's calls share is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from calib import conv_alike, conv_lanes
from calib.convolutions import ALGORITHMS, COST, seconds, shape
from calib.fit import Rows, parts_of
from hwspecs.device import load
from hwspecs.rates import rates
from sim.fitted import base_terms
from tests.calib.test_families_conv import table

KNOWN = {name: 1.15 * value for name, value in COST.items()}
HOST = 120e-6  # s
SHAPES = 900
A100 = rates(load("a100-pcie-80gb"))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Random 3x3 shapes, each by its fastest algorithm."""
    rng = np.random.default_rng(0)
    one = pd.concat([table()] * SHAPES, ignore_index=True)
    side = np.exp(rng.uniform(np.log(5), np.log(60), SHAPES)).round()
    columns = {
        name: np.exp(rng.uniform(np.log(16), np.log(2000), SHAPES)).round() for name in ("in_channels", "out_channels")
    }
    drawn = one.assign(batch=rng.integers(1, 65, SHAPES).astype(float), height=side, width=side, **columns)
    found = seconds(shape(drawn), A100, base_terms().hbm_stream, KNOWN)
    best = np.stack([found[name] for name in ALGORITHMS]).argmin(axis=0)
    return drawn.assign(algorithm=np.array(ALGORITHMS)[best]).drop_duplicates(list(conv_alike.NEAR), ignore_index=True)


def rows_of(frame: pd.DataFrame, device: str, host: np.ndarray) -> Rows:
    """Rows of a device with these seconds of the host, and two percent of noise."""
    (own,) = parts_of(frame.assign(device_id=device, latency_us=1.0))
    time = conv_lanes.kernels(own, rates(load(device)), KNOWN) + host
    return replace(own, measured=time * np.exp(0.02 * np.random.default_rng(1).standard_normal(len(own))))


def test_known_constants_are_found(frame: pd.DataFrame) -> None:
    found = conv_lanes.fitted(rows_of(frame, "a100-pcie-80gb", np.full(len(frame), HOST)))
    for name in ("fused", "planes", "implicit 256x64", "host"):
        true = {**KNOWN, "host": HOST}[name]
        assert abs(found.values[name] - true) < 3 * found.errors[name] + 0.01 * true, (name, found.values[name], true)


def test_rows_without_an_algorithm_or_with_one_that_cannot_run_say_nothing(frame: pd.DataFrame) -> None:
    rows = rows_of(frame, "a100-pcie-80gb", np.full(len(frame), HOST))
    blind = replace(rows, condition=np.full(len(rows), "", dtype=object))
    assert np.isinf(conv_lanes.kernels(blind, A100)).all()
    strided = table(stride_h=2.0, stride_w=2.0, algorithm="winograd", device_id="a100-pcie-80gb", latency_us=1.0)
    assert np.isinf(conv_lanes.kernels(parts_of(strided)[0], A100)).all()


@pytest.mark.parametrize("images", [16, 32, 48])
def test_winograd_of_large_images_takes_them_by_sixteen(images: int) -> None:
    """What public times show: no difference up to a multiple of 16, and a step after it."""
    time = [
        seconds(shape(table(batch=float(n), in_channels=512.0, out_channels=512.0)), A100, 0.9)["winograd"][0]
        for n in (images - 3, images, images + 1)
    ]
    assert time[0] == pytest.approx(time[1], rel=0.02)
    assert time[2] > 1.15 * time[1]


def test_what_a_shape_has_alike_on_three_devices_is_seen(frame: pd.DataFrame) -> None:
    host = np.random.default_rng(2).uniform(50e-6, 300e-6, len(frame))
    tables = []
    for device in conv_alike.DEVICES:
        rows = rows_of(frame, device, host)
        tables.append(rows.frame.assign(latency_us=1e6 * rows.measured))
    text = conv_alike.section(pd.concat(tables, ignore_index=True))
    short = next(line for line in text.splitlines() if line.startswith("| 0 to 100 us"))
    *_, on_v100, on_t4, nearest = (float(cell) for cell in short.strip("| ").split("|")[-3:])
    assert min(on_v100, on_t4) > 0.9
    assert abs(nearest) < 0.4
    assert conv_alike.section(tables[0]) == ""


def test_a_host_that_never_varies_leaves_nothing_out_of_reach(frame: pd.DataFrame) -> None:
    rows = rows_of(frame, "a100-pcie-80gb", np.full(len(frame), HOST))
    exact = replace(rows, measured=conv_lanes.kernels(rows, A100, KNOWN) + HOST)
    assert max(conv_alike.bound(exact, conv_alike._rest(exact))) < 3.0
