"""A section of docs/accuracy.md: how far one measured product is from its own neighbours, which no model of other pairs can beat.

The ratio of measured to physical time of a product is held against the ratios of the next smaller and the next larger m of the
same n, k and software, interpolated in the logarithm of m. What is left is kernels changing from one m to the next, and noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from calib.fit import Rows, parts_of, physical_stage, with_floor

if TYPE_CHECKING:
    import pandas as pd

PART = "gemm/16-bit"
KEYS = ["software", "op", "dtype", "n", "k"]


def section(frame: pd.DataFrame) -> str:
    """The section; '' without 16-bit products."""
    rows = next((r for r in parts_of(frame) if r.name == PART), None)
    if rows is None:
        return ""
    away, heads = scatter(rows), ("software", "rows", "median %", "mean %", "p90 %")
    lines = []
    for software in sorted(set(rows.condition)):
        own = away[(rows.condition == software) & np.isfinite(away)]
        numbers = [100.0 * value for value in (np.median(own), own.mean(), np.quantile(own, 0.9))]
        lines.append([software, str(len(own)), *(f"{value:.1f}" for value in numbers)])
    return (
        "## How smooth the measured products are\n"
        "The ratio of measured to physical time of a product against that of its neighbours in m (same n, k and software),\n"
        "interpolated: what is left are kernels that change from one m to the next, and noise. Rows of sglang 0.5.9 are\n"
        "further from their own neighbours than from what the fit makes of pairs that it never saw: its target is out of\n"
        "reach. Those of 'torch + vLLM kernels' are smooth in m: there the 35 pairs (n, k) are too few to tell how the next\n"
        "pair differs.\n\n"
        + str(tabulate(lines, heads, tablefmt="github", disable_numparse=True))
    )  # fmt: skip


def scatter(rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Distance of each row from its neighbours, (rows,), in the logarithm; nan at the ends."""
    ratio = np.log(rows.measured / with_floor(rows, physical_stage(rows, 0)).time)
    frame = rows.frame[[*KEYS, "m"]].assign(ratio=ratio, x=np.log(rows.frame["m"].astype(float)))
    frame = frame.sort_values([*KEYS, "m"], kind="stable")
    group = frame.groupby(KEYS, dropna=False)
    before, after = group[["x", "ratio"]].shift(1), group[["x", "ratio"]].shift(-1)
    share = (frame["x"] - before["x"]) / (after["x"] - before["x"])
    between = (1.0 - share) * before["ratio"] + share * after["ratio"]
    return np.asarray((frame["ratio"] - between).abs().reindex(rows.frame.index).to_numpy(dtype=np.float64))
