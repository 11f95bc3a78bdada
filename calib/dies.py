"""The fit of the area model to public dies, with the error of every die when the fit did not see it.

Coefficients are positive, move in their logarithm, and are pulled weakly towards where they start (standard deviation of 0.4 to
0.7 of the logarithm), so that a die left out does not set one free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib.physics import Start, least_squares
from hwspecs.silicon import PARTS, Die, area, features, nodes, public_dies

Floats: TypeAlias = NDArray[np.float64]
HELD = (0.15, 0.30)  # median and worst relative error of dies left out that the model is held to
DIGITS = 4  # of committed coefficients
# mm2 at N7. tensor, vector, graphics: an SM of some 4 mm2 on GA100 (die photographs), shared among them. sram: L2 macros take two
# to three times their bit cells, registers and crossbars more. phy: an HBM PHY with its controller, some 15 mm2 (likewise).
START = {
    "tensor": Start(1.0, 0.7), "vector": Start(1.0, 0.7), "graphics": Start(0.5, 0.7), "sram": Start(2.2, 0.4),
    "phy": Start(15.0, 0.4), "rest": Start(30.0, 0.7),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One die: what is published of it, mm2 of the fit, and of a fit without it."""

    published: dict[str, Any]
    fitted: float
    left_out: float

    @property
    def error(self) -> float:
        """Relative error of the fit without it."""
        return float(self.left_out / self.published["area_mm2"] - 1)


@dataclass(frozen=True)
class Fit:
    """Coefficients (mm2 at N7) by name, their relative standard errors, every die."""

    values: dict[str, float]
    errors: dict[str, float]
    rows: tuple[Row, ...]

    @property
    def median(self) -> float:
        """Median of the relative errors of dies left out, without sign."""
        return float(np.median([abs(row.error) for row in self.rows]))

    @property
    def worst(self) -> float:
        """The largest of them."""
        return max(abs(row.error) for row in self.rows)

    @property
    def spread(self) -> float:
        """Root mean square of the logarithm of left-out over published area: what intervals are made of."""
        return float(np.sqrt(np.mean([np.log(row.left_out / row.published["area_mm2"]) ** 2 for row in self.rows])))


def fit() -> Fit:
    """Fit the public dies, all of them and each time all but one."""
    rows = public_dies()
    table, measured = _table([die for _, die in rows]), np.array([float(row["area_mm2"]) for row, _ in rows])
    whole = _fit(table, measured, np.ones(len(rows), dtype=bool))
    found = []
    for i, (row, _) in enumerate(rows):
        without = _fit(table, measured, np.arange(len(rows)) != i)
        predicted = (_area(table, f.values)[i] for f in (whole, without))
        found.append(Row(row, *map(float, predicted)))
    return Fit(dict(whole.values), {n: whole.errors[n] / whole.values[n] for n in PARTS}, tuple(found))


def _fit(table: dict[str, Floats], measured: Floats, keep: NDArray[np.bool_]) -> Any:
    some = {name: column[keep] for name, column in table.items()}
    return least_squares(lambda values: _area(some, values), measured[keep], START, np.arange(int(keep.sum())))


def _table(dies: Sequence[Die]) -> dict[str, Floats]:
    """Features as columns (dies,)."""
    each = [features(die) for die in dies]
    return {name: np.array([float(f[name]) for f in each]) for name in (*PARTS, "crossbar")}


def _area(table: dict[str, Floats], values: Any) -> Floats:
    return np.asarray(table["crossbar"] + sum(values[name] * table[name] for name in PARTS))


def text(found: Fit) -> str:
    """Coefficients with their errors, and every die with its error when left out."""
    from tabulate import tabulate

    rows = [
        [r.published["name"], r.published["node"], r.published["area_mm2"], f"{r.fitted:.0f}", f"{r.left_out:.0f}",
         f"{100 * r.error:+.1f}", r.published.get("doubt", "")]
        for r in found.rows
    ]  # fmt: skip
    heads = ("die", "node", "published mm2", "fitted", "fitted without it", "error %", "doubt")
    sides = ("left", "left", "right", "right", "right", "right", "left")
    values = [[name, f"{found.values[name]:.3g}", f"{100 * found.errors[name]:.0f}"] for name in PARTS]
    table = tabulate(
        values,
        ("coefficient", "mm2 at N7", "standard error %"),
        "simple",
        colalign=("left", "right", "right"),
        disable_numparse=True,
    )
    held = f"Left out of the fit: median error {100 * found.median:.1f} %, worst {100 * found.worst:.1f} %, {len(rows)} dies"
    bounds = [
        [row["name"], row["node"], f"< {row['area_mm2']}", f"{area(die, found.values):.0f}", row.get("doubt", "")]
        for row, die in public_dies(bounds=True)
    ]
    heads_of_bounds = ("die", "node", "published mm2", "fitted", "doubt")
    beside = tabulate(bounds, heads_of_bounds, "simple", colalign=(*sides[:4], "left"), disable_numparse=True)
    title = "Only a bound is public, not fitted"
    sources = [f"{r.published['name']}: {r.published['source']}" for r in found.rows]
    published = tabulate(rows, heads, "simple", colalign=sides, disable_numparse=True)
    sources += [f"{row['name']}: {row['source']}" for row, _ in public_dies(bounds=True)]
    return "\n\n".join([published, held, f"{title}\n{beside}", table, "\n".join(["Sources", *sources])])


def coefficients(found: Fit) -> str:
    """The content of `hwspecs/data/silicon/area.yaml`."""
    lines = [
        f"{name}: {found.values[name]:.{DIGITS}g}  # standard error {100 * found.errors[name]:.0f} %" for name in PARTS
    ]
    head = "# mm2 at N7 of what `hwspecs.silicon.features` counts, fitted to dies.yaml by `framecast calib dies --out FILE`."
    last = f"error: {found.spread:.{DIGITS}g}  # root mean square of the log errors of dies left out"
    seen = {r.published["node"] for r in found.rows}
    covered = f"nodes: [{', '.join(n for n in nodes() if n in seen)}]  # of the dies"
    return "\n".join([head, *lines, last, covered]) + "\n"


def write(found: Fit, path: Path) -> None:
    """Put the coefficients into a file."""
    path.write_text(coefficients(found), encoding="utf-8")
