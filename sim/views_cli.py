"""`framecast trace ... --plot DIR --over FIELD=VALUES`: views of traces. Plots need sim, which workloads does not import."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from workloads.view_tables import View

MOST = 8  # settings side by side: as many as there are colours
EXAMPLES = (
    "  framecast trace stable-diffusion-1.5 --plot views",
    "  framecast trace stable-diffusion-1.5 --over height=256,512 --over width=256,512",
)


def register(cli: click.Group) -> None:
    """Give the command `trace` the options --plot and --over."""
    command = copy.copy(cli.commands["trace"])
    plain = command.callback
    assert plain is not None

    def callback(plot: str | None, over: tuple[str, ...], **given: Any) -> None:
        if plot is None and not over:
            plain(**given)
        else:
            show(plot, over, **given)

    command.callback = callback
    command.params = [
        *command.params,
        click.Option(
            ["--plot"], metavar="DIR",
            help="Write plots and tables: sequence lengths, similarity matrices, arithmetic intensity; and print the tables.",
        ),
        click.Option(
            ["--over"], multiple=True, metavar="FIELD=V1,V2,...",
            help="The same side by side at several values of a field; several fields change together.",
        ),
    ]  # fmt: skip
    command.epilog = "\n".join((command.epilog or "", *EXAMPLES))
    cli.add_command(command)


def show(plot: str | None, over: Sequence[str], *, form: str, out: str | None, **request: Any) -> None:
    """Print the views of one trace or of several side by side, and write them to a folder where one is named."""
    from hwspecs.errors import SpecError
    from workloads import view_tables

    if out is not None:
        raise SpecError("--out: writes one trace; give it without --plot and --over")
    views = list(_views(settings(over), **request))
    if plot is not None:
        from sim.files import write_all

        write_all(_files(views), plot, "--plot")
    click.echo(json.dumps(view_tables.to_json(views), indent=2) if form == "json" else view_tables.text(views))


def settings(over: Sequence[str]) -> list[tuple[str, ...]]:
    """'height=256,512', 'width=256,512' -> ('height=256', 'width=256'), ('height=512', 'width=512'); [()] for nothing.

    Raises SpecError for one without values, a field that is given twice, or fields with different numbers of values.
    """
    from hwspecs.errors import SpecError

    found: dict[str, list[str]] = {}
    for text in over:
        field, equals, values = text.partition("=")
        field, listed = field.strip().removeprefix("request."), [v.strip() for v in values.split(",") if v.strip()]
        if not (equals and field and listed):
            raise SpecError(f"--over {text}: expected FIELD=VALUE,VALUE,..., for example height=256,512,1024")
        if field in found:
            raise SpecError(f"--over {text}: the field {field} is given twice")
        found[field] = listed
    counts = {len(values) for values in found.values()}
    if len(counts) > 1:
        told = ", ".join(f"{field} {len(values)}" for field, values in found.items())
        raise SpecError(f"--over: fields change together, found {told} values; expected as many of each")
    if max(counts, default=1) > MOST:
        raise SpecError(f"--over: found {max(counts)} values, expected at most {MOST} side by side")
    return [tuple(f"{f}={v[i]}" for f, v in found.items()) for i in range(max(counts, default=1))]


def _views(asked: Sequence[tuple[str, ...]], model: str, overrides: Sequence[str], **common: Any) -> Iterator[View]:
    from hwspecs.errors import SpecError
    from workloads.cli import trace_for
    from workloads.view_tables import View

    named: Mapping[str, Any] = common
    for setting in asked:
        try:
            yield View(" ".join(setting), trace_for(model, named, [*overrides, *setting]))
        except SpecError as error:
            fields = {f"--set {text.partition('=')[0]}:": f"--over {text}:" for text in setting}
            raise SpecError(_renamed(problem, fields) for problem in error.problems) from None


def _renamed(problem: str, fields: Mapping[str, str]) -> str:
    """A problem of a field that --over set, under the option that was typed."""
    for ours, typed in fields.items():
        problem = problem.replace(ours, typed, 1)
    return problem


def _files(views: Sequence[View]) -> Iterator[tuple[str, Any]]:
    """Name and writer of each file of --plot."""
    from sim.files import text_file
    from sim.view_plots import writers
    from workloads.view_tables import rows, to_csv

    for name, found in rows(views).items():
        yield f"{name}.csv", text_file(to_csv(name, found))
    for name, draw in writers(views).items():
        for suffix in ("png", "svg"):
            yield f"{name}.{suffix}", _drawn(draw, suffix)


def _drawn(draw: Any, suffix: str) -> Any:
    def write(path: Path) -> None:
        draw(path.with_suffix(f".{suffix}"))

    return write
