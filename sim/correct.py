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

from hwspecs.device import load as load_device
from hwspecs.rates import Rates, rates
from sim import fitted as fits
from sim.fitted import RUNS, Fitted, Part
from sim.gemm_reference import Shapes, features, price
from sim.residual import BOUND
from workloads.kind import ITEMSIZE
from workloads.lower import Kernels

Floats: TypeAlias = NDArray[np.float64]
WEIGHT_COPIES = 6.0  # of the benchmark that the part was fitted to
UNKNOWN = ""  # software: no run is on one of the serving libraries that were measured


def corrects(kernels: Kernels, fitted: Fitted, device: str) -> bool:
    """Whether any kernel is one that the fit corrects."""
    part = _correcting(fitted, device)
    return part is not None and bool((_corrected(kernels) & np.isin(np.array(kernels.dtype), part.dtypes)).any())


def _correcting(fitted: Fitted, device: str) -> Part | None:
    """The part of a fit that corrects runs on a device; None where it has none."""
    part = fitted.parts.get(RUNS)
    return None if part is None or part.residual is None or device not in part.devices else part


def factors(kernels: Kernels, fitted: Fitted, device: str) -> Floats:
    """Factor on the time of every kernel, (kernels,): 1 where the fit has nothing to say, else within exp(+-BOUND)."""
    out = np.ones(len(kernels))
    part = _correcting(fitted, device)
    if part is None:
        return out
    products = _corrected(kernels)
    dtypes = np.array(kernels.dtype, dtype=object)
    for dtype in part.dtypes:
        rows = np.flatnonzero((dtypes == dtype) & products)
        if len(rows):
            out[rows] = _of_products(kernels.gemm[1:, rows], dtype, part, rates(load_device(device)))
    return out


def outside(kernels: Kernels, fitted: Fitted, device: str) -> NDArray[np.bool_]:
    """Kernels (kernels,) that are corrected beyond the shapes of the fit, where the correction is held constant."""
    out = np.zeros(len(kernels), dtype=bool)
    part = fitted.parts.get(RUNS)
    if part is None or device not in part.devices:
        return out
    for values, name in zip(kernels.gemm[1:], "mnk", strict=True):
        low, high = part.extents[name]
        out |= (values < low) | (values > high)
    return np.asarray(out & _corrected(kernels), dtype=bool)


def _corrected(kernels: Kernels) -> NDArray[np.bool_]:
    """Matrix products with a weight that the batch shares."""
    products = np.array([family.startswith("gemm/") for family in kernels.family])
    return np.asarray(products & (kernels.gemm[0] == 1), dtype=bool)


def _of_products(mnk: Floats, dtype: str, part: Part, on: Rates) -> Floats:
    """Factors of products C[m,n] = A[m,k] B on the fitted device."""
    m, n, k = mnk
    itemsize = float(ITEMSIZE[dtype])
    distance = itemsize * (m * k + m * n + WEIGHT_COPIES * n * k)
    one = np.ones(len(m))
    shapes = Shapes(one, m, n, k, one, distance, itemsize, dtype)
    base = fits.base_terms()
    changed = part.rates(on)
    own = price(shapes, changed, part.terms(base), writes_stay=True, from_memory=True)
    gap = float(np.max(changed.launch_gap))
    own = replace(own, time=own.time + gap)
    seen = features(shapes, own, own.time, float(np.max(on.sm_count)))
    seen |= {"bmm": 0.0 * one, "bias": 0.0 * one, "fp32": 0.0 * one}
    assert part.residual is not None
    total = own.time * np.exp(part.residual(seen, [UNKNOWN] * len(m)))
    plain = price(shapes, on, base, from_memory=True).time + float(np.max(on.launch_gap))
    return np.asarray(np.exp(np.clip(np.log(total / plain), -BOUND, BOUND)))
