"""Rows that a fit does not explain: found by a robust threshold, counted, and the worst of each operator named.

They stay in the fit, where they weigh little, and in its scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

FAR = 6.0  # spreads of the log error (standard deviations, were it normal) beyond which a row is an outlier
LEAST_SPREAD = (
    0.04  # of the log error: what good rows of one shape differ by; serving libraries, same kernels: 0.03 to 0.1
)
NAMED = 10  # of each operator
EXTENTS = (
    "batch", "m", "n", "k", "in_channels", "out_channels", "height", "width", "heads", "kv_heads", "q_len", "kv_len", "head_dim",
    "rows", "cols", "gpus", "bytes",
)  # fmt: skip


def found(measured: NDArray[np.float64], guess: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows (rows,) whose error, as a factor, is far outside what most rows have. Both in seconds."""
    away = np.log(guess / measured)
    away = away - np.median(away)
    spread = max(1.4826 * float(np.median(np.abs(away))), LEAST_SPREAD)
    return np.asarray(np.abs(away) > FAR * spread)


def named(frame: pd.DataFrame, measured: NDArray[np.float64], guess: NDArray[np.float64]) -> tuple[str, ...]:
    """One line for each of the worst outliers of every operator: file and line, shape, software, measured and predicted."""
    mask, factor = found(measured, guess), np.abs(np.log(guess / measured))
    ops, lines = frame["op"].to_numpy(dtype=object), []
    for op in sorted(set(ops[mask])):
        rows = np.flatnonzero(mask & (ops == op))
        worst = rows[np.argsort(-factor[rows], kind="stable")[:NAMED]]
        lines += [_line(frame.iloc[i], measured[i], guess[i]) for i in worst]
    return tuple(lines)


def _line(row: pd.Series[Any], measured: float, guess: float) -> str:
    place = f"{Path(str(row['path'])).name}:{row['line']:.0f}: " if "path" in row and "line" in row else ""
    shape = ", ".join(f"{name} {row[name]:g}" for name in EXTENTS if name in row and row[name] == row[name])
    software = f", {row['software']}" if str(row.get("software", "") or "") not in ("", "nan") else ""
    return f"{place}{row['op']} {row['dtype']}, {shape}{software}: measured {1e6 * measured:.4g} us, fitted {1e6 * guess:.4g} us"
