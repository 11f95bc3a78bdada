"""`framecast study`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwspecs.notes import shows_progress

if TYPE_CHECKING:
    from explore.paper.answer import Answer

WORKERS = 2  # captures at a time, each of some 0.5 GB


def register(cli: click.Group) -> None:
    """Add `study` to the command line."""
    cli.add_command(study)


@click.command()
@click.option("--only", default="", metavar="IDS", help="Claims and figures, e.g. C18,fig5; all where none is named.")
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", help="Output on stdout."
)
@click.option(
    "--out",
    metavar="DIR",
    help="Also write study.html, claims.csv, values.csv, figures (PNG, SVG, CSV) and scenarios to DIR.",
)
def study(only: str, form: str, out: str | None) -> int:
    """Hold the simulator against the reference study, claim by claim.

    Regenerates what the study shows (Golden et al., ISPASS 2024) from the simulator alone: one row a claim, by rules that
    were written before the first run, and seven figures with their numbers. Without --only, all of it: some 20 s the first time.

    \b
    Examples:
      framecast study --only C18,fig7
      framecast study --only C13,C31,fig4 --out out/study
      framecast study --only C14 --format csv
    """
    from explore.paper import report
    from explore.paper.answer import answer, chosen, needed

    ids = chosen(only)
    capture_beside(list(needed(ids)))
    with _progress(len(ids)) as done:
        found = answer(ids, done=done)
    if out is not None:
        from sim.files import write_all

        write_all(files(found), out)
    rendered = {
        "table": lambda: f"{report.text(found)}\n" if found.findings else "",
        "json": lambda: report.to_json(found),
        "csv": lambda: report.claims_csv(found),
    }
    click.echo(rendered[form](), nl=False)
    if form == "table" and found.figures:
        click.echo(_figures(list(found.figures), out))
    return 0


def _figures(names: Sequence[str], out: str | None) -> str:
    """Where figures went, which a table has no room for."""
    what = f"Figure{'s' * (len(names) > 1)} {', '.join(names)}"
    if out is not None:
        return f"{what}: in {Path(out) / 'figures'} (PNG, SVG, CSV)."
    return f"{what}: not written; --out DIR writes {'them' if len(names) > 1 else 'it'} to DIR/figures (PNG, SVG, CSV)."


def capture_beside(asked: Sequence[tuple[str, Any]]) -> None:
    """Capture what is not stored yet, WORKERS at a time; on one core, or of one trace, nothing: it is then made
    where it is read.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from workloads.cache import cached

    missing = [(model, request) for model, request in asked if not cached(model, request)]
    workers = min(
        WORKERS, len(missing), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if workers < 2:
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_capture, missing))


def _capture(asked: tuple[str, Any]) -> None:
    from workloads.cache import trace_of

    trace_of(*asked)


@contextmanager
def _progress(count: int) -> Iterator[Callable[[str], object] | None]:
    """On a terminal a bar on stderr; else nothing."""
    if not shows_progress():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=count, unit="claim", file=sys.stderr, leave=False) as bar:
        yield lambda _: bar.update()


def files(found: Answer) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Name and writer of each file of `--out`."""
    from functools import partial

    from explore.paper import page, report
    from explore.paper.drawing import draw, svg
    from sim.files import text_file

    if found.findings:
        yield "claims.csv", text_file(report.claims_csv(found))
        yield "values.csv", text_file(report.values_csv(found))
    for name, tables in found.figures.items():
        for table in tables:
            yield f"figures/{table.name}.csv", text_file(table.csv())
        yield f"figures/{name}.svg", text_file(svg(name, tuple(tables), page.source(found)))
        yield f"figures/{name}.png", partial(draw, name, tables, page.source(found))
    for member in found.suite.members():
        yield f"scenarios/{member.scenario.name}.yaml", text_file(member.scenario.resolved())
    yield "study.json", text_file(report.to_json(found))
    yield "study.html", text_file(page.page(found))
