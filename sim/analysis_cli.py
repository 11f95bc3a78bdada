"""`framecast explain`, `compare`, `sensitivity`, `report`: reading a result closely, and beside others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

import click

from hwspecs.completion import files
from hwspecs.notes import say
from sim.cli import SCENARIO, SETTING
from sim.completion import ops, sides

if TYPE_CHECKING:
    from sim.compare import Side
    from sim.result import Result
    from sim.scenario import Scenario

Asked: TypeAlias = (
    "tuple[Side | Scenario, str]"  # a side to compare: a result, or a scenario to replay and what it is called
)
YAML = (".yaml", ".yml")
_FORMAT = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout."
)


def register(cli: click.Group) -> None:
    """Add the commands to the command line."""
    for command in (explain, compare, sensitivity, report):
        cli.add_command(command)


def _replayed(scenario: Scenario) -> Result:
    """The scenario's result; a warning where it does not fit into memory."""
    from sim.feasible import problem
    from sim.simulate import replay

    result = replay(scenario)
    if line := problem(result):
        say(f"warning: {line}; the times below are those of a device with enough memory")
    return result


@click.command()
@SCENARIO
@click.option(
    "--op",
    required=True,
    metavar="PATH",
    shell_complete=ops,
    help="Module path, or what is unique of its end; PATH:LABEL for one of several.",
)
@SETTING
@_FORMAT
def explain(scenario: str, op: str, overrides: tuple[str, ...], form: str) -> None:
    """Explain one operator of SCENARIO, from its shapes to its time.

    The ways to run it and why this one; each kernel's tile, waves, occupancy and bytes through L2 and HBM; every term of its
    time; and which number of the device would have to become what for something else to bound it.

    \b
    Examples:
      framecast explain examples/stable-diffusion-a100.yaml --op down_blocks.0.attentions.0.transformer_blocks.0.attn1
      framecast explain examples/stable-diffusion-a100.yaml --op unet.conv_in --set device.hbm.bandwidth='4 TB/s'
      framecast explain examples/stable-diffusion-a100.yaml --op mid_block.attentions.0.proj_in --format json
    """
    from sim import explain_report
    from sim.explain import explain as explained
    from sim.scenario import load, uncorrected

    found = explained(_replayed(uncorrected(load(scenario, overrides))), op)
    click.echo(json.dumps(explain_report.to_json(found), indent=2) if form == "json" else explain_report.text(found))


@click.command()
@click.argument("a", shell_complete=sides)
@click.argument("b", shell_complete=sides)
@click.option(
    "--scenario",
    metavar="SCENARIO",
    shell_complete=files,
    is_eager=True,
    help="The scenario to run where A and B are devices.",
)
@SETTING
@click.option("--out", metavar="DIR", help="Also write comparison.json and plots/comparison.png, .svg to DIR.")
@_FORMAT
def compare(a: str, b: str, scenario: str | None, overrides: tuple[str, ...], out: str | None, form: str) -> None:
    """Hold A against B: where the time went, and which bounds changed.

    A and B are scenarios (.yaml), results (result.json, or a folder that `run --out` wrote), or devices together with
    --scenario. --set changes both; it cannot change a result that is already there.

    \b
    Examples:
      framecast compare a100-sxm-80gb h100-sxm --scenario examples/stable-diffusion-a100.yaml
      framecast compare a100-sxm-80gb h100-sxm --scenario examples/stable-diffusion-a100.yaml --out slide
      framecast run examples/stable-diffusion-a100.yaml --set request.batch=4 --out batch-4
      framecast compare examples/stable-diffusion-a100.yaml batch-4
    """
    from sim import compare_report
    from sim.compare import compare as compared

    asked = [_asked(name, other, scenario, overrides) for name, other in ((a, b), (b, a))]
    sides = [_priced(one) for one in _alike(asked)]
    found = compared(*sides)
    if out is not None:
        from sim import profile_plots
        from sim.files import text_file, write_all

        files = [("comparison.json", text_file(json.dumps(compare_report.to_json(found), indent=2) + "\n"))]
        drawn = [(f"plots/comparison.{s}", lambda path: profile_plots.comparison(found, path)) for s in ("png", "svg")]
        write_all([*files, *drawn], out)
    click.echo(json.dumps(compare_report.to_json(found), indent=2) if form == "json" else compare_report.text(found))


def _asked(name: str, other: str, scenario: str | None, overrides: tuple[str, ...]) -> Asked:
    """One of the two, beside the `other`: a device under --scenario, a file of results, or a scenario."""
    from pathlib import Path

    from hwspecs.errors import SpecError
    from sim.compare import of_files
    from sim.scenario import load

    if scenario is not None:
        if _is_scenario(name):
            raise SpecError(f"compare {name}: a scenario, but with --scenario both are devices; leave --scenario out")
        loaded = load(scenario, [f"device={name}", *overrides])
        return loaded, loaded.model
    path = Path(name)
    if path.is_dir() or path.suffix == ".json":
        if overrides:
            raise SpecError(
                f"--set {overrides[0]}: cannot change {name}, which is a result already; give its scenario instead"
            )
        side = of_files(path)
        if not side.data.get("fits_memory", True):
            say(f"warning: {name}: does not fit its device; its times are those of a device with enough memory")
        return side, ""
    if path.suffix not in YAML:
        raise SpecError(_neither(name, other))
    loaded = load(name, overrides)
    return loaded, loaded.name


def _alike(asked: list[Asked]) -> list[Asked]:
    """Both without a learned correction, unless both have one: it would favour or burden one side alone."""
    from sim.compare import Side
    from sim.scenario import uncorrected
    from sim.simulate import settled

    levels = {one.data["level"] if isinstance(one, Side) else settled(one)[0].level for one, _ in asked}
    if levels == {"calibrated"}:
        return asked
    return [(one if isinstance(one, Side) else uncorrected(one), title) for one, title in asked]


def _priced(asked: Asked) -> Side:
    from sim.compare import Side, of_result

    one, title = asked
    return one if isinstance(one, Side) else of_result(_replayed(one), _on(title, one))


def _on(what: str, scenario: Scenario) -> str:
    """'... on NVIDIA H100 SXM5 80 GB (mine)': with the id, since a device of one's own may have kept a title."""
    return f"{what} on {scenario.device.title} ({scenario.device.name})"


def _is_scenario(name: str) -> bool:
    """Whether it is a YAML file with a model, which a device's has not."""
    from pathlib import Path

    from hwspecs.nodes import read

    path = Path(name)
    return path.suffix in YAML and path.is_file() and read(path).get("model") is not None


def _neither(name: str, other: str) -> str:
    """What to give instead of a name that is no file of ours."""
    from hwspecs.device import device_names
    from hwspecs.errors import nearest

    if name in device_names() and other.endswith(YAML):
        way_out = f"hold it against another device: framecast compare DEVICE {name} --scenario {other}"
        return f"compare {name}: a device needs a scenario to run; {way_out}"
    if name in device_names():
        return f"compare {name}: a device needs a scenario to run: add --scenario SCENARIO"
    wanted = "expected a scenario (.yaml), a result.json or its folder, or a device with --scenario"
    return f"compare {name}: {wanted}{nearest(name, device_names())}"


@click.command()
@SCENARIO
@SETTING
@click.option("--step", type=click.Choice(["1", "10"]), default="10", help="Change each number by this many percent.")
@click.option("--out", metavar="DIR", help="Also write sensitivity.json and plots/tornado.png, .svg to DIR.")
@_FORMAT
def sensitivity(scenario: str, overrides: tuple[str, ...], step: str, out: str | None, form: str) -> None:
    """Find which numbers of the device matter to SCENARIO, and which change nothing.

    The elasticity of latency and memory to every number of the device and to the host's time per launch; what doubling each
    gives; and which must double, one after the other, to halve the latency.

    \b
    Examples:
      framecast sensitivity examples/stable-diffusion-a100.yaml
      framecast sensitivity examples/stable-diffusion-a100.yaml --set software.cuda_graphs=true --step 1
      framecast sensitivity examples/stable-diffusion-a100.yaml --out slide
    """
    from sim import sensitivity_report
    from sim.scenario import load
    from sim.sensitivity import sensitivity as found_by

    found = found_by(load(scenario, overrides), int(step) / 100)
    if found.peak_memory > found.scenario.device.hbm.capacity:
        _replayed(found.scenario)  # for its warning
    if out is not None:
        from sim import profile_plots
        from sim.files import text_file, write_all

        files = [("sensitivity.json", text_file(json.dumps(sensitivity_report.to_json(found), indent=2) + "\n"))]
        drawn = [(f"plots/tornado.{s}", lambda path: profile_plots.tornado(found, path)) for s in ("png", "svg")]
        write_all([*files, *drawn], out)
    click.echo(
        json.dumps(sensitivity_report.to_json(found), indent=2) if form == "json" else sensitivity_report.text(found)
    )


@click.command()
@click.argument("folder", metavar="DIR", shell_complete=files)
def report(folder: str) -> None:
    """Write report.html in DIR again, a folder that `run --out` wrote.

    The scenario in it is replayed; where this version of framecast gives other figures than the result.json in DIR, it says so.

    \b
    Examples:
      framecast run examples/stable-diffusion-a100.yaml --out results
      framecast report results
    """
    from pathlib import Path

    from hwspecs.errors import SpecError
    from sim import html
    from sim.compare import of_files
    from sim.files import REPORT, RESOLVED, text_file, write_all
    from sim.scenario import load
    from sim.simulate import replay

    out = Path(folder)
    if not (out / RESOLVED).is_file():
        raise SpecError(f"report {folder}: no {RESOLVED} in it; expected a folder that `framecast run --out` wrote")
    before = of_files(out).data
    result = replay(load(out / RESOLVED), str(before["command"]))
    if result.latency != before["latency_s"]:
        text = f"result.json has a latency of {before['latency_s']:.6g} s, this version gives {result.latency:.6g} s"
        say(f"warning: {folder}: {text}; run it again with --out to have both agree")
    write_all([(REPORT, text_file(html.page(result)))], folder)
    click.echo(str(out / REPORT))
