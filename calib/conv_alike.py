"""What a convolution's time has beside its kernels: misses that a shape has alike on several GPUs (docs/accuracy.md)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from calib.fit import parts_of, physical_stage, with_floor

if TYPE_CHECKING:
    import pandas as pd

PART, DEVICES = "conv/fp32", ("a100-pcie-80gb", "v100-pcie", "t4")
SHAPE = ["batch", "in_channels", "out_channels", "height", "width", "kernel_h", "stride_h", "padding_h"]
EDGES = (0.0, 300.0, 700.0, 2000.0, np.inf)  # us, on the first device


def section(frame: pd.DataFrame) -> str:
    """Correlation of the log errors of the physical terms at one shape, by time on the first device; '' without all devices."""
    found = [_errors(frame, device) for device in DEVICES]
    if any(one is None for one in found):
        return ""
    first, *others = (one for one in found if one is not None)
    both = first
    for one in others:
        both = both.merge(one, on=SHAPE)
    lines = []
    for low, high in pairwise(EDGES):
        some = both[(both[f"us {DEVICES[0]}"] >= low) & (both[f"us {DEVICES[0]}"] < high)]
        each = [some[f"error {DEVICES[0]}"].corr(some[f"error {device}"]) for device in DEVICES[1:]]
        size = 100.0 * np.expm1(some[f"error {DEVICES[0]}"].abs().median())
        name = f"{low:.0f} to {high:.0f} us" if np.isfinite(high) else f"{low:.0f} us and more"
        lines.append([name, str(len(some)), f"{size:.0f}", *(f"{value:.2f}" for value in each)])
    heads = [
        f"time on {DEVICES[0]}",
        "shapes",
        "median miss %",
        *(f"correlation with {device}" for device in DEVICES[1:]),
    ]
    return "\n\n".join(
        [
            "## fp32 convolution: what no model of the kernels can know\n"
            "The physical terms fitted to each of three GPUs miss the same shapes in the same direction, the more so the\n"
            "shorter the call: 19 images of 9 x 9, 6 to 217 channels, take 72, 89 and 108 us (A100, V100, T4), and 20 of\n"
            "5 x 5, 21 to 156 channels, 359, 338 and 456 us. That is time of the host and of the library around the kernels;\n"
            "it follows no feature of the shape that we found (trees with every feature miss as much), and a row holds it.\n"
            "The target for these rows is out of reach for that reason; above 700 us it has little weight.",
            str(tabulate(lines, heads, tablefmt="github", disable_numparse=True)),
        ]
    )


def _errors(frame: pd.DataFrame, device: str) -> pd.DataFrame | None:
    """Shape, microseconds and log(measured / physical) of the rows of a device."""
    own = frame[(frame["device_id"] == device) & (frame["family"] == "conv")].reset_index(drop=True)
    rows = next((r for r in parts_of(own) if r.name == PART), None) if len(own) else None
    if rows is None:
        return None
    guess = with_floor(rows, physical_stage(rows, 0)).time
    columns = {f"us {device}": 1e6 * rows.measured, f"error {device}": np.log(rows.measured / guess)}
    return rows.frame[SHAPE].assign(**columns).drop_duplicates(SHAPE)
