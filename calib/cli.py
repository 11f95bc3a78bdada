"""`framecast calib`: plan a measurement campaign, run it, read what came back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from calib import fit_cli, silicon_cli, validate_cli

if TYPE_CHECKING:
    from calib.table import Measurements

MOST_LINES = 20  # rows left out that are told; the rest is counted


def register(cli: click.Group) -> None:
    """Add `calib` to the command line."""
    cli.add_command(calib)
    fit_cli.register(calib)
    silicon_cli.register(calib)
    fit_cli.register_predict(cli)
    validate_cli.register(cli)


@click.group()
def calib() -> None:
    """Measure operators on a machine, and check measurement tables.

    \b
    Examples:
      framecast calib plan --out plan.csv
      framecast calib measure --plan plan.csv --out results --minutes 8
      framecast calib table results/operators.csv
    """


@calib.command()
@click.option(
    "--out", default="plan.csv", show_default=True, metavar="FILE", help="Where the plan goes; '-' is stdout."
)
@click.option(
    "--models", metavar="ID,...", help="Models whose operators are measured; by default all that make images or video."
)
@click.option(
    "--sizes", metavar="PIXELS,...", help="Image sizes; by default the model's own, 256,512,1024, for video 256,512."
)
@click.option(
    "--frames", metavar="COUNT,...", help="Frame counts of video models; by default the model's own and 8,16."
)
@click.option("--measured", multiple=True, metavar="TABLE", help="Measured before: what lies close to it comes later.")
@click.option("--budget-minutes", type=click.FloatRange(0), default=0.0, help="Only the rows that fit; all by default.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the design; the same seed, the same plan.")
def plan(
    out: str, models: str | None, sizes: str | None, frames: str | None, measured: tuple[str, ...], budget_minutes: float,
    seed: int,
) -> None:  # fmt: skip
    """Write the shapes to measure, most informative first.

    The operators of the models at several sizes, and a space-filling design around them. A row's place is its share of the
    models' time multiplied by its distance from what was measured before or is planned earlier.

    \b
    Examples:
      framecast calib plan
      framecast calib plan --models stable-diffusion-1.5 --sizes 512,768 --budget-minutes 8
      framecast calib plan --measured results/operators.csv --out next.csv
    """
    from calib import plan as planning
    from workloads.model import find
    from workloads.model import models as known

    ids = [find(word.strip()).id for word in models.split(",")] if models else planning.pictured(known())
    sides, counts = _counts("--sizes", sizes), _counts("--frames", frames)
    click.echo("tracing (a few seconds for each size that is new):", err=True)
    traces = planning.suite(ids, sides, counts, _say)
    order = planning.ordered(planning.candidates(traces, seed), _before(measured))
    text = planning.to_csv(order, budget_minutes)
    rows = text.count("\n") - 1
    if out == "-":
        click.echo(text, nl=False)
        return
    _write(Path(out), text)
    minutes = rows * planning.ROW_SECONDS / 60
    click.echo(f"{out}: {rows} of {len(order)} rows, about {minutes:.0f} minutes on a GPU", err=True)


@calib.command()
@click.option("--plan", "plan_file", required=True, metavar="FILE", help="A plan, as `framecast calib plan` writes it.")
@click.option("--out", required=True, metavar="DIR", help="Folder of the results; one that has some is continued.")
@click.option(
    "--minutes", type=click.FloatRange(0.01), default=8.0, show_default=True, help="All of it stops before this."
)
@click.option(
    "--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="What is measured."
)
@click.option("--only", default="", help="Phases (peaks, operators, modules, streams) or operators, with commas.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order, and of the numbers in tensors.")
def measure(plan_file: str, out: str, minutes: float, device: str, only: str, seed: int) -> int:
    """Time the rows of a plan, the machine's peaks, whole modules and streams.

    The same as `python calib/measure.py`, which needs torch and numpy alone. Every row is on the disk when it is done: killed
    or out of time, the same command goes on where it stopped.

    \b
    Examples:
      framecast calib measure --plan plan.csv --out results --minutes 8
      framecast calib measure --plan plan.csv --out results --only peaks,conv2d
      framecast calib measure --plan plan.csv --out results-cpu --device cpu --only peaks --minutes 1
    """
    from calib.measure import main

    return main(
        [
            "--plan",
            plan_file,
            "--out",
            out,
            "--minutes",
            str(minutes),
            "--device",
            device,
            "--only",
            only,
            "--seed",
            str(seed),
        ]
    )


@calib.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--cpu", is_flag=True, help="The rows that were timed on a CPU, which are left out otherwise.")
def table(files: tuple[str, ...], cpu: bool) -> None:
    """Check measurement tables and show what is in them.

    Rows that cannot be used are left out and told on stderr: not positive, faster than the device can be, on an unknown
    device, twice the same, far from the other rows of their shape.

    \b
    Examples:
      framecast calib table results/operators.csv
      framecast calib table results-cpu/operators.csv --cpu
    """
    from calib.table import read

    found = read(files, cpu)
    for line in found.problems[:MOST_LINES]:
        click.echo(line, err=True)
    if len(found.problems) > MOST_LINES:
        click.echo(f"and {len(found.problems) - MOST_LINES} more rows", err=True)
    click.echo(_summary(found))


def _say(text: str) -> None:
    click.echo(f"  {text}", err=True)


def _counts(option: str, text: str | None) -> list[int]:
    """'256,512' -> [256, 512]. SpecError for anything that is not a positive whole number."""
    from hwspecs.errors import SpecError

    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    bad = [word for word in words if not word.isdecimal() or int(word) == 0]
    if bad:
        raise SpecError(f"{option}: found '{bad[0]}', expected whole numbers with commas, for example 256,512")
    return [int(word) for word in words]


def _before(files: tuple[str, ...]) -> list[dict[str, object]]:
    """Rows that were measured before, as a plan names them."""
    if not files:
        return []
    from calib.table import read

    frame = read(files).frame
    return [{str(k): v for k, v in row.items() if v == v} for row in frame.to_dict("records")]


def _write(path: Path, text: str) -> None:
    from hwspecs.errors import StudyError

    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StudyError(f"{path}: cannot write the plan: {error.strerror}") from None


def _summary(found: Measurements) -> str:
    """Rows used and left out by file, and what the rows achieve by device and operator."""
    from tabulate import tabulate

    files = [
        (p.path, p.rows, p.used, ", ".join(f"{n} {why}" for why, n in p.dropped.items()) or "-")
        for p in found.provenance
    ]
    text = str(tabulate(files, headers=("file", "rows", "used", "left out"), disable_numparse=True))
    if not len(found.frame):
        return text
    f = found.frame.assign(
        tflops=found.frame.flops / found.frame.latency_us / 1e6,
        gbs=(found.frame.read_bytes + found.frame.write_bytes) / found.frame.latency_us / 1e3,
    )
    rows = [
        (*key, len(part), f"{part.latency_us.min():.1f}", _spread(part.tflops), _spread(part.gbs))
        for key, part in f.groupby(["device_id", "op", "dtype"])
    ]
    heads = ("device", "operator", "dtype", "rows", "least us", "TFLOP/s min / median / max", "GB/s min / median / max")
    note = "GB/s counts every tensor once; what stays in a cache can exceed the memory's bandwidth."
    return "\n\n".join([text, str(tabulate(rows, headers=heads, disable_numparse=True)), note])


def _spread(column: object) -> str:
    values = [getattr(column, name)() for name in ("min", "median", "max")]
    return " / ".join(f"{value:.3g}" for value in values) if values[2] > 0 else "-"


@calib.command()
@click.option("--out", default="campaign.pyz", show_default=True, metavar="FILE", help="Where the file goes.")
def pack(out: str) -> None:
    """Put the whole campaign into one file, for a machine that has torch, numpy and nothing of framecast.

    There, `python campaign.pyz --plan plan.csv --out results --minutes 8` does what `calib measure` does here.

    \b
    Examples:
      framecast calib pack --out campaign.pyz
    """
    import zipfile

    from hwspecs.errors import SpecError

    folder = Path(__file__).parent
    try:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in (folder / "__init__.py", *sorted(folder.glob("measure*.py"))):
                packed.write(file, f"calib/{file.name}")
            packed.writestr("__main__.py", "import sys\nfrom calib.measure import main\nsys.exit(main(sys.argv[1:]))\n")
    except OSError as error:
        raise SpecError(f"--out {out}: cannot write the file: {(error.strerror or str(error)).lower()}") from None
    click.echo(f"{out}: run it with python FILE --plan plan.csv --out results --minutes 8")
