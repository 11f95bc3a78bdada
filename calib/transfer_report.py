"""What is left of a prediction's accuracy on a chip that was left out, as text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from calib.transfer import DRAWS, POINTS, Left

STAGES = ("roofline", "spec", "ten points")
HEADS = (
    "part",
    "group",
    "left out",
    "fitted on",
    "rows",
    "roofline",
    "from the spec",
    "bias",
    f"after {POINTS} points",
    "sustained",
)


def text(found: Sequence[Left]) -> str:
    """One line a part: MAPE of all rows / of those of 50 us and more."""
    notes = (
        "MAPE in % of all rows / of rows of 50 us and more. 'from the spec': no number of the chip was measured; its sustained",
        "share of the matrix rate follows from TDP, SMs and clock, without the chip itself. 'bias': median error, %.",
        "'sustained': that share, and after ten points; on the vector lanes it is of the clock, for streams of the bandwidth.",
        f"'after {POINTS} points': the mean of {DRAWS} draws of them.",
        "Host time inside rows is read off each chip's smallest ones.",
    )
    return f"{table(found)}\n\n" + "\n".join(notes)


def table(found: Sequence[Left]) -> str:
    """The table alone, as Markdown."""
    return str(tabulate([_line(f) for f in found], HEADS, tablefmt="github", disable_numparse=True))


def _line(f: Left) -> list[str]:
    each = {name: _two(f, name) for name in STAGES}
    share = f"{f.sustained[0]:.2f}, {f.sustained[1]:.2f}"
    bias = f"{f.by['spec'][0]['bias']:+.1f}"
    return [
        f.part,
        f.group,
        f.chip,
        ", ".join(f.others),
        str(f.rows),
        each["roofline"],
        each["spec"],
        bias,
        each["ten points"],
        share,
    ]


def _two(f: Left, stage: str) -> str:
    all_, long = f.by[stage]
    return f"{all_['mape']:.1f}" + (f" / {long['mape']:.1f}" if long else "")


def to_json(found: Sequence[Left]) -> dict[str, Any]:
    """Plain data; percent."""
    parts = [
        {
            "part": f.part, "group": f.group, "left_out": f.chip, "fitted_on": list(f.others), "rows": f.rows,
            "sustained": {"spec": f.sustained[0], "ten_points": f.sustained[1]},
            "interval80": {n: float(v) for n, v in zip(("low", "high"), np.exp(np.quantile(f.away, (0.1, 0.9))), strict=True)},
            **{name.replace(" ", "_"): {"all": dict(f.by[name][0]), "long": dict(f.by[name][1])} for name in STAGES},
        }
        for f in found
    ]  # fmt: skip
    return {"schema_version": 1, "parts": parts}
