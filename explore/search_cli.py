"""`framecast sweep` and `framecast search`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from explore.completion import settings
from hwspecs.completion import files
from hwspecs.notes import say, shows_progress

if TYPE_CHECKING:
    import pandas as pd

    from explore.answer import Answer
    from explore.objectives import Search
    from explore.storage import Location
    from explore.study import Trials
    from explore.sweep import Plan, Swept
    from explore.walk import Found

CLUSTER = click.option(
    "--cluster", is_flag=False, flag_value="local", metavar="[ADDRESS]",
    help="Price on Dask: workers on this machine, or those of the scheduler at ADDRESS (tcp://host:8786).",
)  # fmt: skip
SETTING = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    shell_complete=settings,
    help="Change one field, e.g. device=h100-sxm; of a section, add or replace it; null takes it out.",
)
FORMAT = click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", help="Output on stdout."
)
TABLES = (".csv", ".parquet")  # endings of a table of `sweep --out`
SEED = 999_999  # largest; as search.seed


def register(cli: click.Group) -> None:
    """Add `sweep` and `search` to the command line."""
    cli.add_command(sweep)
    cli.add_command(search)


@click.command()
@click.argument("scenario", shell_complete=files)
@SETTING
@FORMAT
@click.option(
    "--out", metavar="PATH", help="Also write a table (.csv or .parquet), or to a folder the table and a plot."
)
@CLUSTER
def sweep(scenario: str, overrides: tuple[str, ...], form: str, out: str | None, cluster: str | None) -> int:
    """Price SCENARIO at every point of a sweep.

    Its section `sweep:` maps fields to values: a list, `64..256 step 8`, `1..8 TB/s, 8 points` or `1..8 TB/s log, 8 points`. All
    combinations are priced; with `mode: list` the first values of all fields, then the second, and so on; with `sample: N` a
    sample spread evenly. A large sweep, and one with `objectives:`, is priced in chunks: front and totals are printed, and
    --out DIR keeps every point as Parquet; the same command goes on after a kill.

    \b
    Examples:
      framecast sweep examples/sweep-stable-diffusion.yaml
      framecast sweep examples/sweep-hardware.yaml --out out/points
      framecast sweep examples/sweep-stable-diffusion.yaml --set device=h100-sxm --format csv
      framecast sweep examples/sweep-stable-diffusion.yaml --out points.parquet
      framecast sweep examples/sweep-stable-diffusion.yaml --out out/sweep
    """
    from explore import report
    from explore import sweep as sweeps
    from explore.space import origin

    _check_out(out)
    plan = sweeps.plan(origin(scenario, overrides))
    if plan.walked or cluster is not None:
        return _walk(plan, form, out, cluster)
    with _bar(plan.count, "point") as bar:
        swept = sweeps.sweep(plan, bar.update if bar is not None else None)
    if line := report.misfits(swept):
        say(f"warning: {line}")
    if out is not None:
        _write_sweep(swept, out)
    if form == "csv":
        click.echo(swept.frame().to_csv(index=False), nl=False)
    else:
        click.echo(report.sweep_json(swept) if form == "json" else report.sweep_text(swept))
    return 0


@click.command()
@click.argument("scenario", shell_complete=files)
@SETTING
@click.option("--trials", type=click.IntRange(1), metavar="N", help="Designs in all, also of a study that goes on.")
@click.option("--study", metavar="FILE|URL", help="Where the study is kept; else NAME.journal, or in DIR of --out.")
@click.option("--seed", type=click.IntRange(0, SEED), metavar="N", help="Of the sampler; else search.seed.")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Designs asked and priced together.")
@click.option("--sampler", metavar="NAME", help="nsga2 or nsga3; for one objective tpe, gp or cmaes.")
@click.option(
    "--repeats",
    type=click.IntRange(1, 100),
    default=1,
    metavar="N",
    help="Seeds, from --seed on; their spread is told.",
)
@CLUSTER
@FORMAT
@click.option("--out", metavar="DIR", help="Also write search.html, search.json, trials.csv, tables and plots to DIR.")
def search(
    scenario: str, overrides: tuple[str, ...], trials: int | None, study: str | None, seed: int | None,
    batch: int | None, sampler: str | None, repeats: int, cluster: str | None, form: str, out: str | None,
) -> int:  # fmt: skip
    """Search for the device that suits SCENARIO best.

    Its section `search:` names numbers of the device with their ranges, objectives with directions, and constraints.
    Optuna proposes designs in batches (NSGA-II, or TPE for one objective; --sampler has others). The study is kept in a file; the
    same command goes on with it. --study postgresql://... lets several machines work on one study: start the same command on
    each.

    \b
    Examples:
      framecast search examples/hardware-search.yaml
      framecast search examples/hardware-search.yaml --trials 2000 --study wide.journal
      framecast search examples/hardware-search.yaml --repeats 3 --trials 64 --study seeds.journal
      framecast search examples/hardware-search.yaml --out out/search --format json | jq '.front[0]'
    """
    from explore import objectives, report
    from explore.answer_json import to_json
    from explore.answer_report import search_text
    from explore.space import origin
    from explore.storage import Location

    _check_folder(out, "search")
    given = {"trials": trials, "seed": seed, "batch": batch, "sampler": sampler}
    settings = [f"search.{name}={value}" for name, value in given.items() if value is not None]
    wanted = objectives.read(origin(scenario, (*overrides, *settings)))
    default = str(Path(out) / "study.journal") if out is not None else f"{wanted.scenario.name}.journal"
    where = Location(study or default)
    say(report.before(wanted, repeats))
    if wanted.sampler == "cmaes" and wanted.constraints:
        say("warning: CMA-ES does not know of constraints, and may try many designs that miss them; tpe and gp do")
    found = _searched(wanted, where, repeats, cluster)
    if out is not None:
        from sim.files import write_all

        write_all(_files(found), out)
    if form == "csv":
        click.echo(report.trials_frame(found).to_csv(index=False), nl=False)
    else:
        click.echo(json.dumps(to_json(found), indent=2) if form == "json" else search_text(found))
    return 0


def _searched(wanted: Search, where: Location, repeats: int, cluster: str | None) -> Answer:
    """Every seed's study completed, one after the other."""
    from explore.answer import answer
    from explore.objectives import repeated
    from explore.study import run

    runs = []
    try:
        for one in repeated(wanted, repeats):
            with _bar(one.trials, "design") as bar, _pricing(one, cluster) as prices:
                runs.append(run(one, where, _advance(bar, one), prices))
    except KeyboardInterrupt:
        click.echo(f"{where.shown} keeps every finished batch; the same command goes on", err=True)
        raise
    return answer(wanted, runs, where)


@contextmanager
def _pricing(search: Search, cluster: str | None) -> Iterator[Any]:
    """What prices batches on Dask; None where they are priced here."""
    if cluster is None:
        yield None
        return
    from explore.cluster import pricing

    with pricing(search, cluster) as prices:
        yield prices


def _walk(plan: Plan, form: str, out: str | None, cluster: str | None) -> int:
    """A sweep in chunks."""
    from functools import partial

    from explore import walk, walk_report

    _check_folder(out, "sweep in chunks")
    ready = walk.walk(plan)
    say(walk_report.before(ready))
    elsewhere = None
    if cluster is not None:
        from explore.cluster import chunks

        elsewhere = partial(chunks, address=cluster)
    with _bar(plan.count, "point") as bar:
        try:
            found = walk.run(ready, Path(out) if out else None, _walked(bar), elsewhere)
        except KeyboardInterrupt:
            if out is not None:
                click.echo(f"{out} keeps every finished chunk; the same command goes on", err=True)
            raise
    if out is not None:
        from sim.files import write_all

        write_all(walk_report.files(ready, found), out)
    if form == "csv":
        click.echo(walk_report.frame(ready, found).to_csv(index=False), nl=False)
    elif form == "json":
        click.echo(json.dumps(walk_report.to_json(ready, found), indent=2))
    else:
        click.echo(walk_report.text(ready, found, out))
    return 0


def _walked(bar: Any) -> Callable[[int, Found], None] | None:
    """Tells the bar how many points are done and feasible, and how many the front has."""
    if bar is None:
        return None

    def advance(points: int, found: Found) -> None:
        front = len(found.front.get("point", ()))
        bar.set_postfix_str(f"{found.feasible} feasible, {front} on the front", refresh=False)
        bar.update(points)

    return advance


@contextmanager
def _bar(total: int, unit: str) -> Iterator[Any]:
    """A progress bar on stderr, None where that is no terminal."""
    if not shows_progress():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, file=sys.stderr, leave=False) as bar:
        yield bar


def _advance(bar: Any, search: Search) -> Callable[[Trials], None] | None:
    """Tells the bar how many designs are done and feasible, and the best so far."""
    if bar is None:
        return None
    from explore.goals import VIOLATION

    name, direction = next(iter(search.objectives.items()))

    def advance(trials: Trials) -> None:
        values = trials.outputs[name][trials.feasible]
        best = (values.max() if direction == "maximize" else values.min()) if len(values) else float("nan")
        missed = {n.removeprefix(VIOLATION): int((trials.outputs[n] > 0).sum()) for n in trials.constraints}
        told = [f"{count} miss {reason}" for reason, count in missed.items() if count]
        bar.set_postfix_str(", ".join([f"best {name} {best:.4g}, {len(values)} feasible", *told]), refresh=False)
        bar.update(len(trials) - bar.n)

    return advance


def _check_out(out: str | None) -> None:
    """SpecError where PATH looks like a table of a kind that is not written."""
    suffix = Path(out or "").suffix
    if suffix and suffix not in TABLES and not Path(out or "").is_dir():
        from hwspecs.errors import SpecError, nearest

        wanted = "expected a table (.csv or .parquet), or a folder, whose name has no ending"
        raise SpecError(f"--out {out}: found the ending '{suffix}', {wanted}{nearest(suffix, TABLES)}")


def _check_folder(out: str | None, what: str) -> None:
    """SpecError where DIR is empty, or looks like a table."""
    from hwspecs.errors import SpecError

    if out is not None and not out:
        raise SpecError("--out: empty; expected the name of a folder")
    if Path(out or "").suffix in TABLES and not Path(out or "").is_dir():
        raise SpecError(f"--out {out}: a {what} writes many files; expected a folder, whose name has no ending")


def _write_sweep(swept: Swept, out: str) -> None:
    """One table, or a folder."""
    from sim.files import write_all

    path = Path(out)
    if path.suffix in TABLES:
        write_all([(path.name, lambda target: _table(swept, target))], str(path.parent))
    else:
        write_all(_sweep_files(swept), out)


def _table(swept: Swept, path: Path) -> None:
    if path.suffix == ".parquet":
        swept.frame().to_parquet(path, index=False)
    else:
        swept.frame().to_csv(path, index=False)


def _sweep_files(swept: Swept) -> Iterator[tuple[str, Callable[[Path], object]]]:
    from explore import plots

    yield "scenario.resolved.yaml", lambda p: p.write_text(swept.plan.origin.scenario.resolved(), encoding="utf-8")
    yield "sweep.csv", lambda p: _table(swept, p)
    for suffix in ("png", "svg"):
        yield f"plots/sweep.{suffix}", lambda p: plots.sweep_plot(swept, p)


def _files(found: Answer) -> Iterator[tuple[str, Callable[[Path], object]]]:
    from functools import partial

    from explore import answer_page, answer_plots, report
    from explore.answer_json import to_json
    from sim.files import text_file

    yield "scenario.resolved.yaml", text_file(found.search.scenario.resolved())
    yield "search.json", text_file(json.dumps(to_json(found), indent=2) + "\n")
    yield "trials.csv", lambda p: report.trials_frame(found).to_csv(p, index=False)
    if len(found.front):
        tables = {"front": found.front_frame, "ranking": found.ranking_frame, "bounds": found.bounds_frame,
                  "sensitivity": found.sensitivity_frame}  # fmt: skip
        for name, made in tables.items():
            yield f"{name}.csv", partial(_csv, made())
    for name, draw in answer_plots.plots(found).items():
        for suffix in ("png", "svg"):
            yield f"plots/{name}.{suffix}", partial(draw, found)
    yield "search.html", text_file(answer_page.page(found))


def _csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)
