"""The files of a measurement campaign: CSV that survives a kill, and the plan. Standard library only.

Columns are described in docs/measurements.md.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

SHAPE = (
    "batch", "m", "n", "k", "b_layout", "in_channels", "out_channels", "channels", "depth", "height", "width", "kernel_d",
    "kernel_h", "kernel_w", "stride_d", "stride_h", "stride_w", "padding_d", "padding_h", "padding_w", "groups", "bias", "heads",
    "kv_heads", "q_len", "kv_len", "head_dim", "causal", "implementation", "rows", "cols", "elements", "inputs", "run", "affine",
)  # fmt: skip
PLAN = ("plan_id", "priority", "use", "origin", "op", "dtype", "layout", "condition", *SHAPE)
MEASURED = (
    "status", "reason", "latency_us", "spread", "n_meas", "visits", "min_us", "method", "timing", "footprint_bytes", "source",
    "device", "software", "started",
)  # fmt: skip
Row = Mapping[str, Any]


class RefusedError(Exception):
    """Input that cannot be used: one line for the user."""


class Rows:
    """A CSV file that is appended to row by row, each flushed to the disk; `done` holds the keys of the rows in it."""

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]) -> None:
        self.path, self.columns, self.key = path, tuple(columns), tuple(key)
        self.done: dict[tuple[str, ...], str] = {}
        if path.exists():
            self._resume()
        else:
            self._head()

    def append(self, row: Row) -> None:
        """Write one row; texts lose their line breaks, so that a line of the file is a row."""
        self.extend([row])

    def extend(self, rows: Sequence[Row]) -> None:
        """Write rows that belong together, flushed once; those whose key is there already are left out."""
        cells = [{name: _cell(row.get(name, "")) for name in self.columns} for row in rows if not self.has(row)]
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns).writerows(cells)
            _to_disk(file)
        for row in cells:
            self.done[tuple(row[name] for name in self.key)] = row.get("status", "")

    def has(self, row: Row) -> bool:
        """Whether a row of this key was written."""
        return tuple(_cell(row.get(name, "")) for name in self.key) in self.done

    def _resume(self) -> None:
        """Read the keys; cut off a last line that was not finished."""
        stored = self.path.read_bytes()
        kept = stored[: stored.rfind(b"\n") + 1]
        if len(kept) < len(stored):
            os.truncate(self.path, len(kept))
        lines = list(csv.reader(kept.decode("utf-8", "replace").splitlines()))
        if not lines:
            self._head()
        elif tuple(lines[0]) != self.columns:
            raise RefusedError(f"{self.path}:1: the columns are not those that this version writes; use another --out")
        for cells in lines[1:]:
            row = dict(zip(self.columns, cells))  # noqa: B905 (a damaged line is short)
            self.done[tuple(row.get(name, "") for name in self.key)] = row.get("status", "")

    def _head(self) -> None:
        with self.path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(self.columns)
            _to_disk(file)


def _to_disk(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return " ".join(str(value).split())


def read_plan(path: Path) -> list[dict[str, str]]:
    """The rows of a plan, in its order. RefusedError: no such file, missing columns, no rows."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise RefusedError(f"{path}: cannot read the plan: {reason}; `framecast calib plan` writes one") from None
    missing = [name for name in ("plan_id", "op", "dtype", "condition") if name not in (reader.fieldnames or ())]
    if missing:
        raise RefusedError(f"{path}:1: the plan lacks the column '{missing[0]}'; `framecast calib plan` writes it")
    if not rows:
        raise RefusedError(f"{path}: the plan has no rows")
    return rows
