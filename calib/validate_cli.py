"""`framecast validate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hwspecs.notes import shows_progress


def register(cli: click.Group) -> None:
    """Add `validate` to the command line."""
    cli.add_command(validate)


@click.command()
@click.argument("table", metavar="TABLE")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
def validate(table: str, form: str) -> None:
    """Hold published latencies of whole pipelines against ours.

    TABLE is a CSV of published times with the columns of examples/published-latencies.csv. Beside each row stand the software
    that is assumed for its words and our time, over all devices that it may mean, with what the sampler of its program adds; then
    errors by model, rows bound by the host apart, and what rows that are off are made of. Nothing is fitted to such times.

    \b
    Examples:
      framecast validate examples/published-latencies.csv
      framecast validate examples/published-latencies.csv --format json | jq .models
    """
    from calib import published
    from calib.validate import validate as compared
    from calib.validate_report import text, to_json

    found = published.read(Path(table))
    rows = compared(
        found, (lambda line: click.echo(f"pricing {line}", err=True)) if shows_progress() else lambda _: None
    )
    click.echo(json.dumps(to_json(found, rows), indent=2) if form == "json" else text(found, rows))
