"""`framecast calib dies|power|coefficients`: the area and the power model against parts that are public, and their sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

SCHEMA_VERSION = 1  # of the JSON


def register(calib: click.Group) -> None:
    """Add both to `calib`."""
    calib.add_command(dies)
    calib.add_command(power)
    calib.add_command(coefficients)


@click.command()
@click.option("--out", metavar="FILE", help="Write the coefficients there (hwspecs/data/silicon/area.yaml holds ours).")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
def dies(out: str | None, form: str) -> None:
    """Fit the area model to the public dies, and print each die's error when the fit did not see it.

    \b
    Examples:
      framecast calib dies
      framecast calib dies --format json
      framecast calib dies --out area.yaml
    """
    from calib import dies as fitting
    from hwspecs.errors import SpecError

    found = fitting.fit()
    if form == "json":
        click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **_data(found)}, indent=2))
    else:
        click.echo(fitting.text(found))
    if out:
        try:
            fitting.write(found, Path(out))
        except OSError as error:
            raise SpecError(f"--out {out}: cannot write the file: {(error.strerror or str(error)).lower()}") from None


def _data(found: Any) -> dict[str, Any]:
    rows = [
        {
            "name": r.published["name"], "node": r.published["node"], "area_mm2": r.published["area_mm2"],
            "fitted_mm2": r.fitted, "left_out_mm2": r.left_out, "error": r.error, "source": r.published["source"],
            "doubt": r.published.get("doubt"),
        }
        for r in found.rows
    ]  # fmt: skip
    summary = {"median_error": found.median, "worst_error": found.worst, "log_error": found.spread}
    return {"coefficients_mm2": found.values, "standard_errors": found.errors, **summary, "dies": rows}


@click.command()
def power() -> None:
    """Hold the estimated power of every device at full activity against its board power limit.

    \b
    Examples:
      framecast calib power
    """
    from tabulate import tabulate

    from hwspecs.device import device_names, load
    from hwspecs.power import UNTHROTTLED, of_device

    rows = []
    for device in map(load, device_names()):
        found = of_device(device)
        if found is None or device.imaginary:
            continue
        full, idle, limit = found.full, found.idle, device.power.tdp
        rows.append(
            [
                device.name, f"{limit:g}", f"{full.value:.0f} ({full.low:.0f} to {full.high:.0f})",
                f"{100 * (full.value / limit - 1):+.0f}", f"{idle.value:.0f} ({idle.low:.0f} to {idle.high:.0f})",
                f"{found.clock / 1e6:.0f} of {device.sm_clock / 1e6:.0f}",
                f"{UNTHROTTLED * found.clock / device.sm_clock:.2f}", f"{device.tensor.sustained:.2f}",
            ]
        )  # fmt: skip
    heads = (
        "device",
        "limit W",
        "full activity W",
        "error %",
        "idle W",
        "clock under the limit MHz",
        "sustained share",
        "of its file",
    )
    sides = ("left", *["right"] * 7)
    click.echo(tabulate(rows, heads, "simple", colalign=sides, disable_numparse=True))


@click.command()
def coefficients() -> None:
    """Print every coefficient of area, power and price with its range and source, as the files hold them.

    \b
    Examples:
      framecast calib coefficients
    """
    from hwspecs.estimate import FOLDER

    click.echo(
        "\n".join(
            (FOLDER / f"{name}.yaml").read_text(encoding="utf-8") for name in ("nodes", "area", "energy", "prices")
        )
    )
