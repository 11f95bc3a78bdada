"""`framecast project`."""

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
    from explore.project import Projection
    from sim.scenario import Scenario

SPOKEN = 3.0  # expected seconds above which a terminal is told before the start


def register(cli: click.Group) -> None:
    """Add `project` to the command line."""
    cli.add_command(project)


@click.command()
@click.argument("scenario", shell_complete=files)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    shell_complete=settings,
    help="Change one field, e.g. project.frames='[8, 64]'.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", help="Output on stdout."
)
@click.option("--out", metavar="DIR", help="Also write project.json, project.csv and three plots (PNG, SVG) to DIR.")
def project(scenario: str, overrides: tuple[str, ...], form: str, out: str | None) -> int:
    """Project a video model over frame counts and image sizes.

    The `project:` section of SCENARIO lists frames and sizes. For each: FLOPs, time and memory of spatial and temporal
    attention, convolution and the rest, and where temporal (or joint) attention overtakes them. Then what to act on: the
    longest clip that fits, other devices, what each better number of the device moves, windowed and sparse attention, chunks.

    \b
    Examples:
      framecast project examples/frames-projection.yaml
      framecast project examples/frames-projection.yaml --set project.sizes='[256]' --set software.attention=unfused
      framecast project examples/feature-film.yaml --set project.seconds='[2 s, 5400 s]' --out out/film
      framecast project examples/frames-projection.yaml --format json | jq '.crossovers'
    """
    from explore.project import project as projected
    from sim.scenario import load

    loaded = load(scenario, overrides)
    with _progress(loaded) as done:
        found = projected(loaded, done)
    if out is not None:
        from sim.files import write_all

        write_all(_files(found), out)
    click.echo(_rendered(found, form), nl=False)
    return 0


@contextmanager
def _progress(scenario: Scenario) -> Iterator[Callable[[int], object] | None]:
    """On a terminal, what it will cost and a bar on stderr; else nothing."""
    if not shows_progress():
        yield None
        return
    from tqdm import tqdm

    from explore.project import expected_seconds, load

    sizes, frames = load(scenario)
    points = len(sizes) * len(frames)
    captures, seconds = expected_seconds(scenario, sizes, frames)
    if seconds > SPOKEN:
        click.echo(f"{points} points, {captures} captures (kept for the next time): about {seconds:.0f} s", err=True)
    with tqdm(total=points, unit="point", file=sys.stderr, leave=False) as bar:
        yield lambda done: bar.update(done - bar.n)


def _rendered(found: Projection, form: str) -> str:
    from explore import project_report

    if form == "csv":
        return project_report.rows_csv(found)
    return f"{json.dumps(project_report.to_json(found), indent=2) if form == 'json' else project_report.text(found)}\n"


def _files(found: Projection) -> Iterator[tuple[str, Callable[[Path], object]]]:
    from explore import horizon_plots, project_plots

    yield "scenario.resolved.yaml", lambda path: path.write_text(found.scenario.resolved(), encoding="utf-8")
    yield "project.json", lambda path: path.write_text(_rendered(found, "json"), encoding="utf-8")
    yield "project.csv", lambda path: path.write_text(_rendered(found, "csv"), encoding="utf-8")
    for suffix in ("png", "svg"):
        yield f"plots/frames.{suffix}", lambda path: project_plots.frames(found, path)
        yield f"plots/frames-share.{suffix}", lambda path: project_plots.share(found, path)
        yield f"plots/ways.{suffix}", lambda path: horizon_plots.ways(found, path)
