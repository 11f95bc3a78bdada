"""The learned correction in a run: a factor on the time of each kernel, once per trace, the same for every device.

A factor is what the fit makes of a shape, over what the shared physical terms make of it, both on the device that was fitted and
with operands as its benchmark left them. It then multiplies the time under the reuse that the trace has. Matrix products only:
the attention that was measured on the fitted device is another (causal, head_dim 128, inside a serving layer).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.device import Device
from hwspecs.device import load as load_device
from hwspecs.rates import Rates, rates
from sim import fitted as fits
from sim.fitted import Fitted, Part
from sim.gemm_reference import Shapes, features, price
from sim.residual import BOUND
from workloads.kind import ITEMSIZE
from workloads.lower import Kernels

Floats: TypeAlias = NDArray[np.float64]
PART = "gemm/16-bit"
WEIGHT_COPIES = 6.0  # of the benchmark that the part was fitted to
UNKNOWN = ""  # software: no run is on one of the serving libraries that were measured


def fit_of(device: Device) -> Fitted | None:
    """The fit that may correct runs on a device: one that holds it, with every number as in its file."""
    fitted = fits.find(device.name)
    return fitted if fitted and fits.applies(device, fitted.devices) else None


def factors(kernels: Kernels, fitted: Fitted, device: str) -> Floats:
    """Factor on the time of every kernel, (kernels,): 1 where the fit has nothing to say, else within exp(+-BOUND)."""
    out = np.ones(len(kernels))
    part = fitted.parts.get(PART)
    if part is None or part.residual is None or device not in part.devices:
        return out
    products = np.array([family.startswith("gemm/") for family in kernels.family]) & (kernels.gemm[0] == 1)
    dtypes = np.array(kernels.dtype, dtype=object)
    for dtype in part.dtypes:
        rows = np.flatnonzero((dtypes == dtype) & products)
        if len(rows):
            out[rows] = _of_products(kernels.gemm[1:, rows], dtype, part, rates(load_device(device)))
    return out


def _of_products(mnk: Floats, dtype: str, part: Part, on: Rates) -> Floats:
    """Factors of products C[m,n] = A[m,k] B on the fitted device."""
    m, n, k = mnk
    itemsize = float(ITEMSIZE[dtype])
    distance = itemsize * (m * k + m * n + WEIGHT_COPIES * n * k)
    one = np.ones(len(m))
    shapes = Shapes(one, m, n, k, one, distance, itemsize, dtype)
    base = fits.base_terms()
    changed = part.rates(on)
    own = price(shapes, changed, part.terms(base))
    gap = float(np.max(changed.launch_gap))
    own = replace(own, time=own.time + gap)
    seen = features(shapes, own, own.time, float(np.max(on.sm_count)))
    seen |= {"bmm": 0.0 * one, "bias": 0.0 * one, "fp32": 0.0 * one}
    assert part.residual is not None
    total = own.time * np.exp(part.residual(seen, [UNKNOWN] * len(m)))
    plain = price(shapes, on, base).time + float(np.max(on.launch_gap))
    return np.asarray(np.exp(np.clip(np.log(total / plain), -BOUND, BOUND)))
