"""Sections of docs/accuracy.md on chips that were left out, intervals, and published end-to-end times.

`make accuracy` writes them with the page; `python -m calib.accuracy_transfer TABLES` replaces them alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from calib import power, published, transfer_report, validate_report
from calib.cells import cells
from calib.make import rows_on
from calib.transfer import Left, left_out
from calib.validate import validate
from hwspecs import device
from sim.spread import load as spreads

if TYPE_CHECKING:
    import pandas as pd

PAGE = Path("docs/accuracy.md")
HEAD, NEXT = "## Hardware that nobody has measured", "## What not to use it for"
CHIPS = ("a100-sxm-80gb", "l40s", "v100-pcie", "t4")
FILES = ("gemm", "attention", "norm", "softmax", "elementwise", "conv2d", "collective")
SIZES = ("below 10 us", "10 to 50 us", "50 to 500 us", "500 us and more")  # groups of sim.spread.ROW_EDGES
LATENCIES = "published_latencies.csv"


def section(frame: pd.DataFrame, folder: Path) -> str:
    """All of them as Markdown. CalibrationError where the folder lacks the table of published latencies."""
    own = rows_on(frame[frame["op"].notna()], None)
    law, found = power.scored(), [f for id_ in CHIPS for f in left_out(own, id_)]
    table = published.read(folder / LATENCIES)
    rows = validate(table)
    return Path(__file__).with_suffix(".md").read_text(encoding="utf-8").format(
        transfer=transfer_report.text(found),
        base=f"{1e9 * law.base:.2f}", product=f"{1e9 * law.product:.2f}", cap=f"{law.cap:.2f}", spread=f"{100 * law.spread:.0f}",
        law=_law(), spreads=_spreads(), rows=_cells(found),
        priced=len(rows),
        software=validate_report.by_software(rows), model=validate_report.by_model(rows), classes=validate_report.by_class(rows),
        left_out="\n".join(f"- {line}" for line in validate_report.left_out(table).splitlines()),
    )  # fmt: skip


def _law() -> str:
    lines = []
    for id_ in device.device_names():
        d = device.load(id_)
        cited = "yes" if id_ in power.CITED else "no"
        shares = (f"{d.tensor.sustained:.2f}", f"{power.law([id_]).share(d):.2f}")
        lines.append((id_, f"{1e9 * power.joules(d):.2f}", cited, *shares))
    heads = ("device", "TDP over SMs and clock, nJ", "in the law", "share in its file", "by the law without its chip")
    return _table(lines, heads)


def _spreads() -> str:
    known = spreads()
    lines = [
        (name, where, f"{100 * s.device:.0f}", f"{100 * s.shape:.0f}", s.rows, s.source)
        for where, own in (("not measured on the device", known.abroad), ("measured on the device", known.home))
        for name, s in own.items()
    ]
    return _table(lines, ("family", "where", "shared on a device, %", "of each shape, %", "rows", "from"))


def _cells(found: Sequence[Left]) -> str:
    """Intervals of rows on new chips, and what those of all other chips would have covered of each."""
    lines = []
    for name, cell in cells(found).items():
        part, _, bin_ = name.partition(" | ")
        ends = f"{100 * cell.low:+.0f} to {100 * cell.high:+.0f}"
        told = [
            ", ".join(f"{chip} {100 * share:.0f}" for chip, share in shares.items()) or "-"
            for shares in (cell.covered, cell.pooled)
        ]
        lines.append(
            (part, SIZES[int(bin_)] if bin_ else "all", str(cell.rows), ends, f"{100 * cell.margin:.0f}", *told)
        )
    heads = (
        "part",
        "predicted",
        "rows",
        "80 %: %",
        "margin in it, %",
        "covers of a chip left out, %",
        "without the margin, %",
    )
    return _table(lines, heads)


def _table(lines: Sequence[Sequence[Any]], heads: Sequence[str]) -> str:
    return str(tabulate(lines, heads, tablefmt="github", disable_numparse=True))


def spliced(page: str, own: str) -> str:
    """A page with its sections from HEAD to NEXT replaced, or set before NEXT."""
    at = page.index(HEAD) if HEAD in page else page.index(NEXT)
    return f"{page[:at]}{own.rstrip()}\n\n{page[page.index(NEXT) :]}"


def main(arguments: Sequence[str]) -> None:
    """Replace the sections in the page."""
    from calib.table import read

    folder = Path(arguments[0])
    frame = read([p for name in FILES for p in sorted(folder.glob(f"{name}.csv*"))]).frame
    PAGE.write_text(spliced(PAGE.read_text(encoding="utf-8"), section(frame, folder)), encoding="utf-8")
    print(f"{PAGE}: sections written", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
