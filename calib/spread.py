"""`python -m calib.spread TABLES...` writes sim/calibrations/spread.yaml: how far chips left out lie from predictions."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from calib import power
from calib.carried import KERNELS, STREAMS, groups
from calib.cells import QUANTILES, cells
from calib.families.base import Floats
from calib.fit import parts_of, priced
from calib.lanes import PRODUCTS
from calib.make import rows_on
from calib.table import read
from calib.transfer import FIT_ROWS, NEVER_FITTED, Left, chips, fitted, launches, least, left_out, with_edges
from sim.fitted import base_terms
from sim.fitted import load as load_fit
from sim.spread import EIGHTY, FILE

if TYPE_CHECKING:
    import pandas as pd

CHIPS = ("a100-sxm-80gb", "l40s", "v100-pcie", "t4")
LAYERS = ("attention/prefill", "attention/decode", PRODUCTS)
PARTS = {  # families of a run -> parts whose rows say how far it is off
    "gemm": ("gemm/16-bit",), "attention": ("attention/prefill",), "stream": STREAMS,
}  # fmt: skip
STUDENT = (
    3.078,
    1.886,
    1.638,
    1.533,
    1.476,
)  # quantiles of 90 % for 1 to 5 chips (Student's t): so few say little of a spread
SHORT = 100e-6  # s: eager convolutions below it are the host's dispatch
CAMPAIGNS = (
    0.05  # one device between measuring campaigns: medians of 389 large products on A100 are 0.77 to 0.85 of peak
)
HOST = 0.54  # 15 to 60 us around 26 (software files): half of ln 4, over EIGHTY
FIT = "a100"


def spreads(frame: pd.DataFrame) -> dict[str, Any]:
    """What the file holds."""
    found = [f for id_ in CHIPS for f in left_out(frame, id_)]
    abroad = {name: _abroad([f for f in found if f.part in parts]) for name, parts in PARTS.items()}
    abroad["gemm"]["device"] = max(abroad["gemm"]["device"], round(power.scored().spread, 3))
    abroad["conv"] = _convolutions(frame)
    part = load_fit(FIT).parts["gemm/16-bit"]
    width = round(float(np.log1p(part.held_out["p80"] / 100.0)) / EIGHTY, 3)
    source = f"rows held out of the fit {FIT}; 'device': medians of campaigns on one device"
    home = {"gemm": {"device": CAMPAIGNS, "shape": width, "rows": part.rows["held_out"], "source": source}}
    host = {"device": HOST, "shape": 0.0, "rows": 0, "source": "range of host_time_per_launch in the software files"}
    return {
        "layers": {part: _layers(frame, part) for part in LAYERS},
        "hosts": _hosts(frame),
        "abroad": abroad,
        "home": home,
        "host": host,
        "rows": {name: [round(c.low, 4), round(c.high, 4)] for name, c in cells(found).items()},
    }


def _abroad(found: Sequence[Left]) -> dict[str, Any]:
    """Every pair of a chip and a group counts once: chips differ by their medians, shapes by what is left."""
    middle = np.array([np.median(f.away) for f in found])
    width = [_width(f.away - m) for f, m in zip(found, middle, strict=True)]
    known = sorted({f.chip for f in found})
    few = STUDENT[min(len(known), len(STUDENT)) - 1] / EIGHTY
    return {
        "device": round(few * float(np.sqrt(np.mean(middle**2))), 3), "shape": round(float(np.mean(width)), 3),
        "rows": sum(f.rows for f in found), "source": f"chips left out, from their specs: {', '.join(known)}",
    }  # fmt: skip


def _layers(frame: pd.DataFrame, part: str) -> dict[str, dict[str, float]]:
    """Terms, and small kernels beside them, of each group that two chips have, fitted on all chips at once; "" of all groups."""
    rows = next(r for r in parts_of(frame) if r.name == part)
    rows = rows.take(~np.isin(chips(rows.frame), NEVER_FITTED))
    known, out = chips(rows.frame), {}
    label = groups(rows)
    for group in ["", *sorted(set(label))]:
        mask = (label == group) if group else np.ones(len(rows), dtype=bool)
        if len(set(known[mask])) > 1:
            own = rows.take(mask)
            some = own.take(np.sort(np.random.default_rng(0).permutation(len(own))[:FIT_ROWS]))
            found = fitted(with_edges(some, least(some), {}))
            out[group] = {n: float(f"{found[n]:.4g}") for n in rows.family.fitted if n in found}
            counted = [v for n, v in found.items() if n.startswith("floor ")]
            if rows.family.floor_unit is not None:
                out[group][KERNELS] = float(f"{np.median(counted):.4g}")
    return out


def _hosts(frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Seconds of the host's dispatch by chip and label, read off the smallest rows of those that hold it."""
    out: dict[str, dict[str, float]] = {}
    for rows in parts_of(frame):
        known, launched = chips(rows.frame), launches(rows)
        for chip in sorted(set(known[launched])):
            labels = least(rows.take(launched & (known == chip)))
            out.setdefault(chip, {}).update({label: float(f"{value:.4g}") for label, value in labels.items()})
    return out


def _width(away: Floats) -> float:
    low, high = np.quantile(away, QUANTILES)
    return float(high - low) / 2.0 / EIGHTY


def _convolutions(frame: pd.DataFrame) -> dict[str, Any]:
    """Convolutions on the matrix unit: no part is fitted to them, so every device is one that was left out."""
    rows = next(r for r in parts_of(frame) if r.name == "conv/tensor")
    rows = rows.take(rows.measured >= SHORT)
    away, known = np.log(rows.measured / priced(rows, base_terms()).time), chips(rows.frame)
    middle = {chip: float(np.median(away[known == chip])) for chip in sorted(set(known))}
    width = [_width(away[known == chip] - m) for chip, m in middle.items()]
    return {
        "device": round(float(np.sqrt(np.mean(np.square(list(middle.values()))))), 3), "shape": round(float(np.mean(width)), 3),
        "rows": len(rows), "source": f"public TF32 and fp16 convolutions above 100 us, none fitted: {', '.join(middle)}",
    }  # fmt: skip


def written(data: Mapping[str, Any]) -> str:
    """The file."""
    head = "# Standard deviations of log(measured / predicted). Written by 'python -m calib.spread TABLES'.\n"
    return head + yaml.safe_dump(dict(data), sort_keys=False, width=130)


def main(tables: Sequence[str]) -> None:
    """Read the tables, leave every chip out once, write the file."""
    FILE.write_text(written(spreads(rows_on(read(tables).frame, None))), encoding="utf-8")
    print(f"{Path(FILE).name}: written", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
