"""`framecast measured`: a profiler's timeline beside the prediction of the same operators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwspecs.completion import devices, files

if TYPE_CHECKING:
    from sim.measured import Check, Line

SCHEMA_VERSION = 1  # of the JSON
LONGEST = 10  # modules and operators that the tables list
LEVELS = ("roofline", "physical", "calibrated")


def register(cli: click.Group) -> None:
    """Add `measured` to the command line."""
    cli.add_command(measured)


@click.command()
@click.argument("timeline", shell_complete=files)
@click.option(
    "--device",
    shell_complete=devices,
    help="What it was measured on: an id (framecast hardware list) or a device file.",
)
@click.option("--software", default="pytorch-eager", show_default=True, help="How it ran: an id or a software file.")
@click.option("--level", type=click.Choice(LEVELS), default="physical", show_default=True, help="Cost model.")
@click.option("--calls", metavar="FILE", help="Also write every call with its measured time, as CSV.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
def measured(timeline: str, device: str | None, software: str, level: str, calls: str | None, form: str) -> None:
    """Hold a measured TIMELINE against the prediction: kernel times by operator class, measured and predicted.

    TIMELINE is what torch.profiler exported (.json, .json.gz), recorded with record_shapes=True on a CUDA device;
    with_stack=True adds the modules. Without --device, only what was measured is shown.

    \b
    Examples:
      framecast measured profile.json.gz --device a100-sxm-80gb
      framecast measured profile.json.gz --device h100-sxm --format json | jq .classes
      framecast measured profile.json.gz --calls calls.csv
    """
    from hwspecs.notes import say
    from sim import measured as held
    from workloads.formats import profiler

    found = profiler.load(Path(timeline))
    for line in profiler.notes(found):
        say(f"note: {timeline}: {line}")
    if calls is not None:
        _write(calls, profiler.to_csv(found))
    if device is None:
        checked = held.alone(found)
    else:
        from hwspecs.device import load as load_device
        from hwspecs.software import load as load_software

        checked = held.check(found, load_device(device), load_software(software), level)
    click.echo(json.dumps(_json(checked), indent=2) if form == "json" else _text(checked))


def _write(path: str, text: str) -> None:
    from hwspecs.errors import SpecError

    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"--calls {path}: cannot write: {(error.strerror or str(error)).lower()}") from None


def _json(checked: Check) -> dict[str, Any]:
    def lines(found: tuple[Line, ...]) -> list[dict[str, Any]]:
        return [
            {
                "name": x.name, "calls": x.calls, "kernels": x.kernels, "measured_s": x.measured, "predicted_s": x.predicted,
                "predicted_over_measured": x.ratio,
            }
            for x in found
        ]  # fmt: skip

    return {
        "schema_version": SCHEMA_VERSION,
        "title": checked.title,
        "all": lines((checked.all,))[0],
        "unattributed_s": checked.unattributed,
        "classes": lines(checked.classes),
        "modules": lines(checked.modules),
        "operators": lines(checked.operators),
    }


def _text(checked: Check) -> str:
    """By class, then the modules and the operators that took longest."""
    parts = [checked.title, _table("class", (*checked.classes, checked.all))]
    if len(checked.modules) > 1:
        parts.append(_table(f"module (longest {LONGEST})", checked.modules[:LONGEST]))
    parts.append(_table(f"operator (longest {LONGEST})", checked.operators[:LONGEST]))
    if checked.unattributed:
        parts.append(f"{1e3 * checked.unattributed:,.3f} ms of kernels belong to no operator and are in no line.")
    return "\n\n".join(parts)


def _table(head: str, lines: tuple[Line, ...]) -> str:
    from sim.report import table

    rows = [
        (x.name, f"{x.calls:,}", f"{x.kernels:,}", f"{1e3 * x.measured:,.3f}", *_predicted(x)) for x in lines
    ]  # fmt: skip
    heads = (head, "calls", "kernels", "measured, ms", "predicted, ms", "predicted / measured")
    return table(rows, heads, "lrrrrr")


def _predicted(line: Line) -> tuple[str, str]:
    if line.predicted is None:
        return "", ""
    return f"{1e3 * line.predicted:,.3f}", "" if line.ratio is None else f"{line.ratio:.2f}"
