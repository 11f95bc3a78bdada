"""What a convolution's time has beside its kernels: time that a shape has alike on several GPUs (docs/accuracy.md)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from calib.conv_lanes import PART, fitted, kernels, on_device
from calib.families.base import Floats
from calib.fit import Rows, errors, held_units, parts_of

if TYPE_CHECKING:
    import pandas as pd

DEVICES = ("a100-pcie-80gb", "v100-pcie", "t4")
SHAPE = ["batch", "in_channels", "out_channels", "height", "width", "kernel_h", "stride_h", "padding_h"]
NEAR = ["batch", "in_channels", "out_channels", "height"]  # by whose logarithms the nearest other shape is found
EDGES = (0.0, 100.0, 300.0, 700.0, np.inf)  # us of the kernels on the first device
SHORT = 100e-6  # s of kernels below which what is left of a call is the host's
QUANTILES = (0.1, 0.5, 0.9)
STEPS = 101  # of host times that a prediction may add
COLUMNS = "us of {}", "rest {}"


def section(frame: pd.DataFrame) -> str:
    """What kernels leave of a call, alike on three devices, and what accuracy that leaves; '' without all devices."""
    rows = [_rows(frame, device) for device in DEVICES]
    if any(one is None for one in rows):
        return ""
    own = [one for one in rows if one is not None]
    rests = [_rest(one) for one in own]
    both = rests[0]
    for one in rests[1:]:
        both = both.merge(one, on=SHAPE)
    median, mape, p90 = bound(own[0], rests[0])
    text = (
        "## fp32 convolution: what no model of the kernels can know\n"
        "With constants of its own fitted to each of three GPUs, what kernels leave of a call is host and library. A shape has\n"
        "it alike on all three machines, to some 20 us, whatever its kernels take; but it follows no feature of the shape that\n"
        "we found: the nearest other shape says nothing of it, and neither do trees with every extent, its remainders, bytes\n"
        "and algorithm (they explain less than nothing of rows left out). A prediction that knew each kernel of the held-out\n"
        "rows exactly, and of the host only how its times are spread, would have a median error of "
        f"{median:.1f} %, a mean of {mape:.1f} %\nand a 90th percentile of {p90:.1f} %."
    )
    return "\n\n".join([text, _table(both)])


def bound(rows: Rows, rest: pd.DataFrame) -> tuple[float, float, float]:
    """Median, mean and 90th percentile, in percent, of the best that can be said of the held-out pairs with exact kernels: those
    as fitted, with each host time of short calls in turn; the prediction adds what makes the mean error least."""
    host = 1e-6 * rest.loc[rest[COLUMNS[0].format(DEVICES[0])] < 1e6 * SHORT, COLUMNS[1].format(DEVICES[0])].to_numpy()
    out = rows.take(held_units(rows.unit, 0))
    own = kernels(out, on_device(out), fitted(rows).values)
    own = own[np.isfinite(own)]
    added = np.quantile(host, np.linspace(0.0, 1.0, STEPS))
    measured = own[:, None] + host[None, :]
    mean = np.stack([np.abs((own + a)[:, None] / measured - 1.0).mean(axis=1) for a in added])
    guess = own + added[mean.argmin(axis=0)]
    found = errors(measured.ravel(), np.repeat(guess, len(host)))
    return found["median"], found["mape"], found["p90"]


def _rows(frame: pd.DataFrame, device: str) -> Rows | None:
    """Rows of a device that name their algorithm."""
    own = frame[(frame["device_id"] == device) & (frame["family"] == "conv")].reset_index(drop=True)
    rows = next((r for r in parts_of(own) if r.name == PART), None) if len(own) else None
    return rows.take(rows.condition != "") if rows is not None else None


def _rest(rows: Rows) -> pd.DataFrame:
    """Shape, microseconds of the kernels and of the rest of the rows of a device whose algorithm can run the shape."""
    device, own = str(rows.frame["device_id"].iat[0]), kernels(rows, on_device(rows), fitted(rows).values)
    columns = dict(zip((c.format(device) for c in COLUMNS), (1e6 * own, 1e6 * (rows.measured - own)), strict=True))
    return rows.frame[SHAPE].assign(**columns)[np.isfinite(own)].drop_duplicates(SHAPE)


def _table(both: pd.DataFrame) -> str:
    first, *others = (COLUMNS[1].format(device) for device in DEVICES)
    lines = []
    for low, high in pairwise(EDGES):
        us = both[COLUMNS[0].format(DEVICES[0])]
        some = both[(us >= low) & (us < high)]
        spread = " / ".join(f"{some[first].quantile(q):.0f}" for q in QUANTILES) if len(some) else "–"
        name = f"{low:.0f} to {high:.0f} us" if np.isfinite(high) else f"{low:.0f} us and more"
        each = [f"{some[first].corr(some[other]):.2f}" for other in others]
        lines.append([name, str(len(some)), spread, *each, f"{_nearest(some, some[first].to_numpy()):.2f}"])
    quantiles = " / ".join(f"{100 * q:.0f}" for q in QUANTILES)
    heads = [
        f"kernels on {DEVICES[0]}", "shapes", f"rest of the call, us ({quantiles} %)",
        *(f"correlation with {device}" for device in DEVICES[1:]), "with the nearest shape",
    ]  # fmt: skip
    return str(tabulate(lines, heads, tablefmt="github", disable_numparse=True))


def _nearest(shapes: pd.DataFrame, rest: Floats) -> float:
    """Correlation of each row's rest with that of the other shape that is nearest; NaN of fewer than three."""
    if len(rest) < 3:
        return float("nan")
    at = np.log2(shapes[NEAR].to_numpy(dtype=np.float64))
    away = ((at[:, None, :] - at[None, :, :]) ** 2).sum(axis=2)
    np.fill_diagonal(away, np.inf)
    return float(np.corrcoef(rest, rest[away.argmin(axis=1)])[0, 1])
