"""How far a parameter may be from where a fit starts: standard deviations of its logarithm; and how large it may be at most."""

from __future__ import annotations

from calib.few import MANY_ROWS
from sim.calibration import SHARES

SPREAD = 0.5
CARRIED = 0.3  # of a term that few rows refit: fits of an A100 and of an L40S alone differ by 0.28 (root mean square)
TIGHT = {
    "tensor_sustained": 0.2,  # twice what the law of power misses chips by that it was not fitted to (docs/accuracy.md)
    "burst": 0.3,  # as far as the L40S is from 1 (calibrations/physical.yaml)
}
LOOSE = {"loop_latency": 2.0, "split_reduction": 2.0}  # which differ between vector lanes and matrix units
LANES = "fp32"  # the part that is on the lanes
MOST = {"tensor_sustained": 1.0} | dict.fromkeys(SHARES, 1.0)


def spread(name: str, part: str, rows: int) -> float:
    """Of a parameter in a fit of so many rows of a part."""
    is_few = rows < MANY_ROWS
    loose = {} if is_few and part != LANES else LOOSE
    return (loose | TIGHT).get(name, CARRIED if is_few else SPREAD)
