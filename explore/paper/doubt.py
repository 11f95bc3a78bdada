"""How far a value may be off: the errors of the cost model, drawn for each kind of kernel, and what they do to a claim.

Each kind of kernel is given one error, which all its kernels share: what decides shares and ratios is not how single
shapes scatter
but how far a whole kind is off. Its size is the mean absolute error of the physical level on measurements of that
kind that no fit
has seen (docs/accuracy.md, "What each level adds"), as the spread of a normal logarithm. Drawn with a fixed seed; an interval
reaches from the 10th to the 90th percentile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from explore.paper.suite import KERNELS, Floats

# Mean absolute relative error, docs/accuracy.md, column "physical"; tests hold these to the page. GEMM: the largest of the three
# splits of 16-bit rows; fused attention: prefill, unseen pairs; convolution: fp32, algorithm predicted.
ERRORS = {
    "GEMM": 0.088, "fused attention": 0.297, "convolution": 0.132, "norm": 0.252, "softmax": 0.074, "element-wise": 0.150,
}  # fmt: skip
DRAWS, SEED, ENDS = 400, 0, (10, 90)


def factors() -> Floats:
    """Factors on the time of each kind of kernel, (DRAWS, KERNELS)."""
    spread = np.array(
        [math.sqrt(math.pi / 2) * ERRORS[kind] for kind in KERNELS]
    )  # mean |x| of a normal is sqrt(2/pi) sigma
    return np.asarray(np.exp(np.random.default_rng(SEED).standard_normal((DRAWS, len(KERNELS))) * spread))


def interval(values: Callable[[Floats], Sequence[float]]) -> tuple[float, float]:
    """Ends of the least and of the greatest of a claim's values over the draws; `values` takes factors (KERNELS,)."""
    drawn = [values(factor) for factor in factors()]
    low, high = np.percentile([min(v) for v in drawn], ENDS[0]), np.percentile([max(v) for v in drawn], ENDS[1])
    return float(low), float(high)
