"""How near a fit of 10, 100 or 400 measured products comes to a device that is new: a section of docs/accuracy.md.

One device is taken for new: its parameters start from those fitted on the other alone, its sustained rate from none of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from calib import power
from calib.fit import Rows, errors, held_units, parts_of, physical_stage, predicted, trained
from hwspecs import device

if TYPE_CHECKING:
    import pandas as pd

PART = "gemm/16-bit"
DEVICES = ("l40s", "a100-sxm-80gb")
ASKED = {10: 10.0, 100: 8.0, 400: 7.0}  # rows -> MAPE in percent of products of LEAST seconds and more
LEAST = 50e-6
DRAWS = 10
MOST_SCORED = 4000  # held-out rows, drawn at random
STARTED = 2000  # rows of the other device, drawn at random
MEDIAN = "median of the serving libraries"


@dataclass(frozen=True)
class Few:
    """MAPE of the draws, percent, by the number of rows that were fitted."""

    device: str
    rows: int  # that were scored
    mape: dict[int, tuple[float, ...]]


def measured_few(frame: pd.DataFrame, workers: int = 2) -> list[Few]:
    """Fit and score both of DEVICES; nothing where the frame lacks one."""
    parts = {id_: _products(frame, id_) for id_ in DEVICES}
    if not all(len(rows) for rows in parts.values()):
        return []
    with ProcessPoolExecutor(max_workers=workers) as pool:
        others = [parts[id_] for id_ in reversed(DEVICES)]
        known = list(pool.map(_parameters, [rows.frame for rows in others]))
        tasks = [(id_, _middle(parts[id_]), own) for id_, own in zip(DEVICES, known, strict=True)]
        return list(pool.map(_few, tasks))


def _products(frame: pd.DataFrame, id_: str) -> Rows:
    """Linear layers timed by the serving libraries, which all devices here have."""
    mask = (frame["device_id"] == id_) & (frame["op"] == "linear") & (frame["dtype"] == "bf16")
    return _rows(frame[mask].reset_index(drop=True))


def _rows(frame: pd.DataFrame) -> Rows:
    return next(rows for rows in parts_of(frame) if rows.name == PART)


def _middle(rows: Rows) -> pd.DataFrame:
    """One row for each shape: the median of the libraries, which differ among themselves by more than a fit should follow."""
    middle = rows.frame.assign(software=MEDIAN)
    middle["latency_us"] = middle.groupby(["m", "n", "k"])["latency_us"].transform("median")
    return middle.drop_duplicates(["m", "n", "k"]).reset_index(drop=True)


def _parameters(frame: pd.DataFrame) -> dict[str, float]:
    """What a fit of a device says of terms, without its sustained rate and its gap between kernels."""
    rows = _rows(frame)
    part = physical_stage(rows.take(np.sort(np.random.default_rng(0).permutation(len(rows))[:STARTED])), 0)
    return {name: p.value for name, p in part.parameters.items() if name != "launch_gap"}


def _few(task: tuple[str, pd.DataFrame, dict[str, float]]) -> Few:
    import torch

    from calib.network import Recipe

    torch.set_num_threads(1)
    id_, frame, known = task
    rows = _rows(frame)
    known = known | {"tensor_sustained": power.law([id_]).share(device.load(id_))}
    held = held_units(rows.unit, 0)
    scored = np.flatnonzero(held & (rows.measured >= LEAST))
    asked = rows.take(np.sort(np.random.default_rng(0).permutation(scored)[:MOST_SCORED]))
    mape: dict[int, list[float]] = {count: [] for count in ASKED}
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(np.flatnonzero(~held))
        for count in ASKED:
            part = trained(rows.take(np.sort(order[:count])), Recipe(), known, scored=False)
            mape[count].append(errors(asked.measured, predicted(asked, part)[0])["mape"])
    return Few(id_, len(asked), {count: tuple(values) for count, values in mape.items()})


def _draws(mape: Sequence[float]) -> str:
    return f"{np.mean(mape):.1f} ({min(mape):.1f} to {max(mape):.1f})"


def section(found: Sequence[Few]) -> str:
    """The section of docs/accuracy.md; '' without both devices."""
    if not found:
        return ""
    heads = ["new device", "rows scored", *(f"{n} rows: MAPE % (asked ≤ {most:g})" for n, most in ASKED.items())]
    lines = [[f.device, str(f.rows), *(_draws(f.mape[n]) for n in ASKED)] for f in found]
    return "\n\n".join(
        [
            "## A new GPU from few measured products\n"
            "16-bit products of 50 us and more on pairs (n, k) that no fit saw, the median of the serving libraries at a\n"
            f"shape: the mean of {DRAWS} random draws of the rows that are fitted, and the least and the largest. Each device\n"
            "is taken for new: parameters start from those of the other alone, the sustained rate from the law of power without\n"
            "this chip. Below 50 rows that rate alone is refitted, from 400 on all parameters; from 75 on a smooth correction\n"
            "is added (`calib/smooth.py`), whose distances were chosen with the A100 as the new device.",
            str(tabulate(lines, heads, tablefmt="github", disable_numparse=True)),
        ]
    )
