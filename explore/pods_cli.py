"""`framecast pods`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from explore.completion import settings
from hwspecs.completion import files
from hwspecs.notes import shows_progress

if TYPE_CHECKING:
    from explore.pods import Comparison
    from explore.pods_search import Progress
    from explore.pods_verdict import Turn


def register(cli: click.Group) -> None:
    """Add `pods` to the command line."""
    cli.add_command(pods)


@click.command()
@click.argument("scenario", shell_complete=files)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    shell_complete=settings,
    help="Change one field, e.g. pods.search.size='[1, 4]'.",
)
@click.option("--trials", type=click.IntRange(1), metavar="N", help="Schedules to try in all; else pods.trials.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
@click.option(
    "--out",
    metavar="DIR",
    help="Also write scenario.resolved.yaml, pods.json, timeline.json and plots/pods.png, .svg to DIR.",
)
def pods(scenario: str, overrides: tuple[str, ...], trials: int | None, form: str, out: str | None) -> int:
    """Search for the schedule in which denoising steps or requests run at the same time, and hold it against the others.

    The `pods:` section of SCENARIO says what runs together and what is searched. The best schedule found stands beside
    serial, batched (one larger batch) and lockstep (all at once), with a lower bound and a verdict of one line.

    \b
    Examples:
      framecast pods examples/pods-stable-diffusion.yaml
      framecast pods examples/pods-stable-diffusion.yaml --set device.hbm.bandwidth='1 TB/s' --trials 40
      framecast pods examples/pods-stable-diffusion.yaml --out out/pods
      framecast pods examples/pods-stable-diffusion.yaml --format json | jq .verdict
    """
    from explore import pods_report
    from explore.pods import compare
    from explore.pods_verdict import turning
    from sim.scenario import load

    loaded = load(scenario, [*overrides, *([f"pods.trials={trials}"] if trials else [])])
    with _progress() as progress:
        found = compare(loaded, progress)
    turn = turning(found)
    if out is not None:
        from sim.files import write_all

        write_all(_files(found, turn), out)
    click.echo(
        json.dumps(pods_report.to_json(found, turn), indent=2) if form == "json" else pods_report.text(found, turn)
    )
    return 0


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar on stderr, on a terminal only."""
    if not shows_progress():
        yield None
        return
    from tqdm import tqdm

    with tqdm(unit=" schedules", file=sys.stderr, leave=False) as bar:

        def advance(done: int, trials: int, best: float) -> None:
            bar.total = trials
            bar.set_postfix_str(f"best {best:.4g}", refresh=False)
            bar.update(done - bar.n)

        yield advance


def _files(found: Comparison, turn: Turn | None) -> Iterator[tuple[str, Callable[[Path], object]]]:
    from explore import pods_plots, pods_report, pods_trace

    result = json.dumps(pods_report.to_json(found, turn), indent=2) + "\n"
    yield "scenario.resolved.yaml", lambda path: path.write_text(found.scenario.resolved(), encoding="utf-8")
    yield "pods.json", lambda path: path.write_text(result, encoding="utf-8")
    yield "timeline.json", lambda path: path.write_text(json.dumps(pods_trace.trace_events(found)), encoding="utf-8")
    yield "plots/pods.png", lambda path: pods_plots.gantt(found, path)
    yield "plots/pods.svg", lambda path: pods_plots.gantt(found, path)
