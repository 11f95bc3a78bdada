"""The compiled loops give what the array code gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwspecs import device
from hwspecs.rates import rates
from sim import compiled
from sim.cost import cost
from sim.host import host_time, serial_makespan
from sim.packed import pack
from tests.build import eager, trace
from workloads.kind import kinds
from workloads.lower import lower


@pytest.mark.parametrize(
    "changes", [{}, {"attention": "unfused"}, {"attention": "auto"}, {"fusion": "pointwise", "cuda_graphs": True}]
)
def test_compiled_equals_array_code(changes: dict[str, object]) -> None:
    ops = [(name, example) for name, kind in kinds().items() for example in kind.examples]
    t, software = trace(ops, repeats=7), eager(**changes)
    a100 = device.load("a100-sxm-80gb")
    designs = [
        dataclasses.replace(
            a100,
            sm_count=int(n),
            sm_clock=float(f),
            hbm=dataclasses.replace(a100.hbm, bandwidth=float(b), inline_ecc=bool(int(n) % 2)),
            l2=dataclasses.replace(a100.l2, capacity=float(c)),
            sources={**a100.sources, "hbm.inline_ecc": "a test"},
        )
        for n, f, b, c in np.random.default_rng(0).uniform((20, 5e8, 2e11, 1e6), (400, 3e9, 1e13, 1e9), (300, 4))
    ]
    stack, kernels = rates(designs), lower(t, software)
    priced = compiled.price(pack(kernels), stack)
    plain = cost(kernels, stack)
    np.testing.assert_allclose(priced.time.T, plain.per_row(plain.time), rtol=1e-12)
    launches = np.broadcast_to(priced.launches, priced.time.shape).T  # one column where no row has a choice of ways
    np.testing.assert_array_equal(launches, plain.per_row(plain.launches))
    expected = serial_makespan(plain.per_call(plain.time + plain.gap), host_time(t, plain, software), t)
    np.testing.assert_allclose(compiled.latency(priced, kernels, t, stack, software), expected, rtol=1e-12)
