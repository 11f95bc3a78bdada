"""`framecast run` and `framecast check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from hwspecs.completion import files
from hwspecs.notes import say
from sim.completion import settings

if TYPE_CHECKING:
    from sim.result import Result
    from sim.scenario import Scenario
    from workloads.unpriced import Unpriced

SCENARIO = click.argument("scenario", shell_complete=files)
# README of Dao-AILab/flash-attention: FlashAttention-2 for Ampere, Ada and Hopper, 3 for Hopper; for Turing version 1.
FUSED, FUSED_K = ("flash-2", "flash-3"), 16
NAMED = 1e-3  # share of bytes from which on an operator without a cost model is named beside a run; `trace` names all
OUT_OF_RANGE = 4  # exit code: operators without a measurement behind them, under --strict
SETTING = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change one field, e.g. device.hbm.bandwidth='4 TB/s'; repeatable. A file (device=my-device.yaml) is looked for in "
    "the current folder; one that SCENARIO names, in SCENARIO's folder.",
    shell_complete=settings,
)


# What other layers say of the sections of a scenario: (path, overrides, names of sections) -> name -> plain data; that as text.
SectionCheck: TypeAlias = tuple[
    Callable[[str, Sequence[str], Sequence[str]], dict[str, Any]], Callable[[dict[str, Any]], Iterator[str]]
]
SECTION_CHECKS: list[SectionCheck] = []


def register(cli: click.Group) -> None:
    """Add `run` and `check` to the command line."""
    cli.add_command(run)
    cli.add_command(check)


@click.command()
@SCENARIO
@SETTING
@click.option(
    "--level", metavar="LEVEL", help="Cost model: roofline, physical or calibrated; the same as --set level=LEVEL."
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", help="Output on stdout."
)
@click.option(
    "--out",
    metavar="DIR",
    help="Also write report.html, result.json, ops.csv, timeline.json (Perfetto) and plots to DIR.",
)
@click.option(
    "--strict", is_flag=True, help="Stop when it does not fit into memory (exit code 3) or is not calibrated (4)."
)
def run(scenario: str, overrides: tuple[str, ...], level: str | None, form: str, out: str | None, strict: bool) -> int:
    """Replay SCENARIO and say where the time goes.

    SCENARIO is a YAML file: a model, a request, a device and the software on it.

    \b
    Examples:
      framecast run examples/stable-diffusion-a100.yaml
      framecast run examples/stable-diffusion-a100.yaml --set request.height=768 --set software.attention=unfused
      framecast run examples/stable-diffusion-a100.yaml --set device.hbm.bandwidth='4 TB/s' --out results
      framecast run examples/stable-diffusion-a100.yaml --format json | jq .latency_s
    """
    from sim.simulate import replay

    result = replay(_load(scenario, overrides, level), _command())
    _say_notes(result)
    _warn_memory(result, strict)
    if strict and result.not_calibrated():
        _say(_uncovered(result))
        return OUT_OF_RANGE
    if out is not None:
        from sim.files import write

        write(result, out)
    click.echo(_rendered(result, form), nl=False)
    return 0


@click.command()
@SCENARIO
@SETTING
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
def check(scenario: str, overrides: tuple[str, ...], form: str) -> int:
    """Resolve SCENARIO, count it, fit it into memory.

    Prints the scenario with every reference and default resolved, how many operators it has, the memory that it
    needs, and what of it is not calibrated; of `sweep:` and `search:` also the space, its size, which share of it cannot be, and
    the time it will take.

    Exit codes: 0 it can run, 2 a problem in the file, 3 it does not fit.

    \b
    Examples:
      framecast check examples/stable-diffusion-a100.yaml
      framecast check examples/stable-diffusion-a100.yaml --set device=a100-sxm-40gb --set request.batch=16
    """
    from sim.feasible import problem
    from sim.simulate import replay

    result = replay(_load(scenario, overrides, None), _command())
    _say_notes(result)
    infeasible = problem(result)
    sections = [(tell(scenario, overrides, list(result.scenario.sections)), say_it) for tell, say_it in SECTION_CHECKS]
    if form == "json":
        click.echo(_checked_json(result, {name: data for found, _ in sections for name, data in found.items()}))
    else:
        click.echo("\n\n".join([_checked(result), *(line for found, say_it in sections for line in say_it(found))]))
    if infeasible:
        _say(infeasible)
        return 3
    return 0


def _load(path: str, overrides: tuple[str, ...], level: str | None) -> Scenario:
    """The scenario; a warning for each override that changes no result."""
    from sim.parts import without_effect
    from sim.scenario import load

    scenario = load(path, [*overrides, *([f"level={level}"] if level else [])])
    for line in without_effect(overrides):
        say(f"warning: {line}")
    return scenario


def _command() -> str:
    """What was typed, to repeat it."""
    import shlex

    return shlex.join(["framecast", *sys.argv[1:]])


def _say(text: str) -> None:
    click.echo(text, err=True)


def _say_notes(result: Result) -> None:
    """What was assumed about data when the model was captured, which of its operators have no cost model, and a kernel that is
    priced on a chip for which its library has none."""
    from workloads.unpriced import unpriced

    for line in result.trace.notes:
        say(f"note: {line}")
    shares = [_share(found) for found in unpriced(result.trace) if found.flops or found.byte_share >= NAMED]
    if shares:
        say(f"note: without a cost model, priced as memory traffic: {', '.join(shares)}")
    tile, device = result.scenario.device.tensor.tile, result.scenario.device
    newer = [way for way in result.attention_ways() if way in FUSED]
    if newer and tile.k < FUSED_K:
        has = f"{tile.m} x {tile.n} x {tile.k}" if tile.k > 1 else "none"
        kernel = f"{newer[0]} is written for matrix instructions of 16 x 8 x 16 (Ampere) and newer ones"
        say(f"note: {kernel}, and {device.title} has {has}: its time is that of the same kernel written for it")


def _share(found: Unpriced) -> str:
    flops = "FLOPs not known" if found.flop_share is None else f"{100 * found.flop_share:.1f} % of FLOPs"
    return f"{found.label} ({100 * found.byte_share:.1f} % of bytes, {flops})"


def _warn_memory(result: Result, strict: bool) -> None:
    """A warning where the device's memory is too small; under --strict an InfeasibleError."""
    from hwspecs.errors import InfeasibleError
    from sim.feasible import problem

    line = problem(result)
    if line and strict:
        raise InfeasibleError(line)
    if line:
        say(f"warning: {line}; the times below are those of a device with enough memory")


def _uncovered(result: Result) -> str:
    from sim.report import calibration_line

    line = calibration_line(result).splitlines()[0]
    return f"{result.scenario.path}: {line[0].lower()}{line[1:].rstrip('.')}; without --strict the numbers are printed"


def _rendered(result: Result, form: str) -> str:
    from sim import report

    if form == "json":
        return json.dumps(result.to_json(), indent=2) + "\n"
    return report.ops_csv(result) if form == "csv" else report.text(result) + "\n"


def _checked(result: Result) -> str:
    from sim import report

    trace, s = result.trace, result.scenario
    counts = ", ".join(f"{seg.name} {seg.stop - seg.start} x {seg.repeats}" for seg in trace.segments)
    verdict = "ok" if result.fits else "does not fit the device's memory"
    head = f"{s.path}: {verdict}, scenario {s.hash}\n{trace.calls} calls of {len(trace.op_kind)} distinct operators: {counts}"
    return "\n\n".join([head, report.memory_line(result), report.calibration_line(result), s.resolved().rstrip()])


def _checked_json(result: Result, sections: dict[str, Any]) -> str:
    found = result.to_json()
    keys = (
        "schema_version", "scenario_hash", "model", "device", "software", "fits_memory", "peak_memory_bytes",
        "memory_capacity_bytes", "memory", "not_calibrated", "correction",
    )  # fmt: skip
    more: dict[str, Any] = {
        "calls": {s.name: s.stop - s.start for s in result.trace.segments},
        "repeats": {s.name: s.repeats for s in result.trace.segments},
        "distinct_operators": len(result.trace.op_kind),
        "resolved": result.scenario.resolved(),
        **({"spaces": sections} if sections else {}),
    }
    return json.dumps({key: found[key] for key in keys} | more, indent=2)
