"""Check bits that lie beside the data: which kernels of a run they slow, and by how much."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwspecs import device
from hwspecs.rates import rates
from sim.calibration import load
from sim.cost import Cost, cost
from tests.build import kernels

N = 1 << 28
ADD = "elementwise", {"elements": N, "read0": 2 * N, "read1": 2 * N, "read2": 0, "write": 2 * N, "exps": 0}
SOFTMAX = "softmax", {"rows": 1 << 16, "cols": 1 << 12}
TRANSPOSE = "permute", {"read0": 2 * N, "read1": 0, "read2": 0, "write": 2 * N, "run": 0, "layout": 0}
PRODUCT = "gemm", {"batch": 1, "m": 16, "n": 16384, "k": 16384, "weight": 1, "bias": 0}


def priced(name: str, inline_ecc: bool | None = None, level: str = "physical") -> Cost:
    """The four kernels on a device, as in its file or with check bits switched on or off."""
    found = device.load(name)
    if inline_ecc is not None:
        hbm, sources = (
            dataclasses.replace(found.hbm, inline_ecc=inline_ecc),
            {**found.sources, "hbm.inline_ecc": "a test"},
        )
        found = dataclasses.replace(found, hbm=hbm, sources=sources)
    return cost(kernels([ADD, SOFTMAX, TRANSPOSE, PRODUCT]), rates(found), level)


@pytest.mark.parametrize("name", ["l40s", "t4", "l4", "a10"])
def test_a_run_on_such_a_board_streams_at_what_is_left(name: str) -> None:
    own, without = priced(name), priced(name, inline_ecc=False)
    share = load().terms.inline_ecc
    assert share == 0.87
    np.testing.assert_allclose(own.hbm[:3], without.hbm[:3] / share, rtol=1e-12)
    assert own.time[0] / without.time[0] == pytest.approx(1.0 / share, rel=0.01)
    assert (own.time[3], own.hbm[3]) == (without.time[3], without.hbm[3])  # tiles: fitted with and without together
    np.testing.assert_array_equal(own.hbm_bytes, without.hbm_bytes)
    np.testing.assert_array_equal(priced(name, level="roofline").time, priced(name, False, "roofline").time)


def test_elementwise_kernels_reach_what_was_published() -> None:
    """Public eager relu, elu and tanh of 0.5 GB (KernelBench): 0.773 of the peak on an L40S, 0.888 on an RTX A6000."""
    for name, share in (("l40s", 0.773), ("rtx-a6000", 0.888)):
        reached = 6.0 * N / priced(name).time[0] / device.load(name).hbm.bandwidth
        assert reached == pytest.approx(share, rel=0.03)


def test_other_memory_is_as_it_was() -> None:
    own, without = priced("a100-sxm-80gb"), priced("a100-sxm-80gb", inline_ecc=False)
    np.testing.assert_array_equal(own.time, without.time)
    assert (priced("a100-sxm-80gb", inline_ecc=True).time[:3] > own.time[:3]).all()
