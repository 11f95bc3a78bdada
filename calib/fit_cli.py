"""`framecast calib fit`, `framecast calib score` and `framecast predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from calib.table import Measurements

TABLES = click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
MOST_LINES = 20  # rows left out that are told; the rest is counted


def register(calib: click.Group) -> None:
    """Add `fit` and `score` to `framecast calib`."""
    calib.add_command(fit)
    calib.add_command(score)


def register_predict(cli: click.Group) -> None:
    """Add `predict` to the command line."""
    cli.add_command(predict)


@click.command()
@TABLES
@click.option("--hardware", metavar="ID", help="Only rows of this device; all that TABLE has by default.")
@click.option(
    "--out", metavar="NAME", help="NAME.yaml, and NAME.npz beside it; the hardware's id and '-fit' by default."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is held out, and of the training.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes.")
def fit(tables: tuple[str, ...], hardware: str | None, out: str | None, seed: int, workers: int) -> None:
    """Fit the cost models to the measurements in TABLE.

    Physical terms by robust least squares, as many as the rows carry; from 75 rows of a kind on also a learned correction, for
    these devices only. Errors are of rows held out by whole shapes.

    \b
    Examples:
      framecast calib fit results/operators.csv --hardware l40s --out l40s-mine
      framecast calib score more.csv --hardware l40s-mine
    """
    from calib.make import made, report
    from sim.fitted import dump

    fitted = made(_read(tables), hardware, out or f"{hardware or 'all'}-fit", tables, seed, workers, _say)
    path = Path(f"{(out or fitted.name).removesuffix('.yaml')}.yaml")
    dump(fitted, path)
    click.echo(report(fitted))
    click.echo(f"{path}: written; use it with 'framecast calib score TABLE --hardware {path.stem}'", err=True)


@click.command()
@TABLES
@click.option("--hardware", metavar="NAME", help="A device or a fit; by default every row is priced on its own device.")
@click.option(
    "--level", type=click.Choice(["roofline", "physical", "calibrated"]), default="calibrated", show_default=True
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
@click.option("--out", metavar="DIR", help="Also write score.json, rows.csv and parity.png to DIR.")
@click.option(
    "--leave-out", metavar="DEVICE", help="Fit on the other devices of TABLE, and predict this one from its spec."
)
def score(
    tables: tuple[str, ...], hardware: str | None, level: str, form: str, out: str | None, leave_out: str | None
) -> None:
    """Hold predictions against the measurements in TABLE.

    \b
    Examples:
      framecast calib score gemm.csv.gz --hardware a100-sxm-80gb
      framecast calib score gemm.csv.gz --hardware l40s --level physical --format json
      framecast calib score gemm.csv.gz attention.csv.gz --leave-out l40s
    """
    if leave_out:
        _transfer(tables, leave_out, form, hardware, out)
        return
    from calib import score as scoring
    from calib.predict import target

    on = target(hardware)
    found = scoring.score(_read(tables), on, hardware or "", level)
    click.echo(json.dumps(scoring.to_json(found), indent=2) if form == "json" else scoring.text(found))
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "score.json").write_text(json.dumps(scoring.to_json(found), indent=2) + "\n", encoding="utf-8")
        found.frame.to_csv(folder / "rows.csv", index=False)
        scoring.parity(found, folder / "parity.png")


def _transfer(tables: tuple[str, ...], id_: str, form: str, hardware: str | None, out: str | None) -> None:
    """`--leave-out`: which chip, not `--hardware`, says what is predicted; there is no fit to write rows of."""
    from calib import transfer_report
    from calib.make import rows_on
    from calib.transfer import left_out
    from hwspecs.errors import CalibrationError

    if hardware or out:
        raise CalibrationError(
            f"--leave-out: found with {'--hardware' if hardware else '--out'}, which it does not take"
        )
    found = left_out(rows_on(_read(tables).frame, None), id_)
    form_json = json.dumps(transfer_report.to_json(found), indent=2)
    click.echo(form_json if form == "json" else transfer_report.text(found))


@click.command()
@click.argument("table", metavar="TABLE")
@click.option("--hardware", metavar="NAME", help="Device that all rows are priced on; each row's own by default.")
@click.option(
    "--level", type=click.Choice(["roofline", "physical", "calibrated"]), default="calibrated", show_default=True
)
@click.option("--out", metavar="FILE", help="Where the table goes (CSV, or Parquet by its name); stdout by default.")
def predict(table: str, hardware: str | None, level: str, out: str | None) -> None:
    """Predict the operators in TABLE one by one.

    Appends predicted_us, low_us and high_us (80 %), bound and in_range. TABLE has the columns of docs/measurements.md; latency_us
    is not needed. A row that cannot be priced stays empty, and the reason is told.

    \b
    Examples:
      framecast predict examples/shapes.csv --hardware a100-sxm-80gb
    """
    from calib.make import predicted_table
    from hwspecs.errors import CalibrationError

    frame, why = predicted_table(Path(table), hardware, level)
    for line in why[:MOST_LINES]:
        click.echo(line, err=True)
    if len(why) > MOST_LINES:
        click.echo(f"and {len(why) - MOST_LINES} more rows", err=True)
    if out and out.endswith(".parquet"):
        frame.to_parquet(out, index=False)
    else:
        frame.to_csv(out or sys.stdout, index=False)
    if frame["predicted_us"].isna().all():
        raise CalibrationError(f"{table}: no row could be priced")


def _say(line: str) -> None:
    click.echo(line, err=True)


def _read(tables: tuple[str, ...]) -> Measurements:
    """The usable rows; those that are not are told."""
    from calib.table import read

    found = read(tables)
    for line in found.problems[:MOST_LINES]:
        _say(line)
    if len(found.problems) > MOST_LINES:
        _say(f"and {len(found.problems) - MOST_LINES} more rows")
    return found
