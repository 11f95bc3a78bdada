"""`framecast capture`: a torch module of the user's, recorded and written as a capture file or a stored trace."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from hwspecs.nodes import Node
    from workloads.capture_file import CaptureFile
    from workloads.capture_model import Captured
    from workloads.trace import Trace

EXAMPLE = "diffusers:UNet2DConditionModel"


def register(cli: click.Group) -> None:
    """Add `capture` to the command line."""
    cli.add_command(capture)


def _files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


@click.command()
@click.argument("file", required=False, shell_complete=_files)
@click.option("--from", "module", metavar="MODULE:NAME", help="An nn.Module class, or a function that builds one.")
@click.option(
    "--config", metavar="FILE", help="Arguments of the class or function, JSON or YAML.", shell_complete=_files
)
@click.option("--input", "inputs", multiple=True, metavar="NAME=SHAPE:DTYPE", help="An example input; repeatable.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=LENGTH", help="A named dimension; repeatable.")
@click.option("--dtype", metavar="DTYPE", help="Of the weights; if left out, that of the floating inputs.")
@click.option("--repeats", metavar="N|{DIM}", help="How often it runs in one inference (1).")
@click.option("--correct", "corrections", multiple=True, metavar="PATH=ROLE", help="Role of an attention; repeatable.")
@click.option(
    "--by-hand",
    type=click.Choice(["as-written", "fused"]),
    help="Attention written as products and a softmax: as the kernels that it is, or as an attention call.",
)
@click.option("--assume", "answers", multiple=True, metavar="OPERATOR=ANSWER", help="In place of values; repeatable.")
@click.option("--real", is_flag=True, help="Run it on the CPU where a capture without values fails, whatever the size.")
@click.option(
    "--out",
    metavar="PATH",
    help="Write a capture file (.yaml), a model for any size (.sizes), or the trace at this size (.trace).",
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
def capture(file: str | None, form: str, out: str | None, dims: tuple[str, ...], **typed: Any) -> None:
    """Record any torch module: from a capture FILE, or --from where it is, with its inputs.

    SHAPE is numbers and {dimensions}, with arithmetic: --dim height=512 --input x=2,4,{height/8},64:bf16. An input may
    also be a plain value (--input return_dict=false). A function gets the dimensions that it has parameters for and returns
    the module, or (module, inputs). A scenario's `model:` may be the file that --out writes; `request:` its dimensions.

    \b
    Examples:
      framecast capture --from examples/capture/video_net.py:build --dim frames=8 --dim height=32 --out video.yaml
      framecast capture video.yaml --dim frames=16 --dim height=64
      framecast capture --from torch.nn:TransformerEncoderLayer --config examples/capture/layer.json --input 0=64,8,512:fp16
      framecast capture examples/capture/unet.yaml --out unet.trace
      framecast capture video.yaml --out video.sizes
      framecast run examples/own-unet.yaml --set request.height=768
    """
    from hwspecs.errors import SpecError

    captured = _captured(file, typed, dims)
    _check_out(out)
    try:
        trace, seconds = _timed(captured)
    except SpecError as error:
        raise SpecError(error.problems if file else map(_as_typed, error.problems)) from None
    _write(captured, trace, out)
    _print(trace, seconds, form)
    if out:
        print(f"wrote {out}; in a scenario: `model: {out}`", file=sys.stderr)


def _as_typed(problem: str) -> str:
    """A problem of a field of the only stage, as one of the option that stands for it."""
    for field, option in (
        (r"stages\.\w+\.module", "--from"), (r"stages\.\w+\.config\.", "--config: "), (r"stages\.\w+\.config", "--config"),
        (r"stages\.\w+\.inputs\.", "--input "), (r"dims\.", "--dim "), (r"corrections\.", "--correct "),
    ):  # fmt: skip
        problem = re.sub(f"^{field}", option, problem)
    return problem


def _timed(captured: Captured) -> tuple[Trace, float]:
    """The trace, captured now, and how long that took with the imports, in seconds; it is stored for what runs next."""
    import time

    from workloads import capture_model

    start = time.perf_counter()
    trace = capture_model.again(_name(captured), captured)
    return trace, time.perf_counter() - start


def _name(captured: Captured) -> str:
    return captured.where or next(iter(captured.file.stages.values())).module


def _print(trace: Trace, seconds: float, form: str) -> None:
    """The tables of `framecast trace` on stdout; time and memory on stderr, or in the JSON."""
    import resource

    from hwspecs.notes import say
    from workloads.cli import described, summary

    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: getrusage(2) of macOS, of Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    found = summary(trace)
    if form == "json":
        click.echo(json.dumps({**found, "capture_s": seconds, "peak_rss_bytes": peak}, indent=2))
        return
    click.echo(described(found))
    say(f"captured in {seconds:.1f} s with the imports of torch and the module; peak memory {peak / 1e9:.2f} GB")


def _captured(file: str | None, typed: Mapping[str, Any], dims: Sequence[str]) -> Captured:
    """What FILE or the options ask for, with the dimensions given. SpecError, a line each."""
    from hwspecs.errors import SpecError
    from workloads import capture_file
    from workloads.capture_model import Captured

    if file is None:
        return Captured(_from_options(typed, dims), "", Path())
    given = [_OPTIONS[name] for name, value in typed.items() if value]
    if given:
        raise SpecError(f"{given[0]}: {file} says this already; change it there, or leave the file out")
    if not file.endswith(capture_file.SUFFIXES):
        raise SpecError(f"{file}: expected a capture file (.yaml); a module is named by --from")
    made = capture_file.load(file)
    known = list(made.dims)
    for text in dims:
        name = text.partition("=")[0]
        if name.isidentifier() and name not in known:
            from hwspecs.errors import nearest

            raise SpecError(f"--dim {name}: unknown dimension{nearest(name, known)} (dimensions: {', '.join(known)})")
    return Captured(capture_file.with_dims(made, dims), file, Path(file).parent)


_OPTIONS = {
    "module": "--from", "config": "--config", "inputs": "--input", "dtype": "--dtype", "repeats": "--repeats",
    "corrections": "--correct", "answers": "--assume", "real": "--real", "by_hand": "--by-hand",
}  # fmt: skip


def _from_options(typed: Mapping[str, Any], dims: Sequence[str]) -> CaptureFile:
    """A capture file of one stage, its nodes placed at the options that they come from."""
    from hwspecs.errors import SpecError
    from workloads import capture_file

    if not typed["module"]:
        raise SpecError(f"capture: expected a capture file, or --from MODULE:NAME, for example --from {EXAMPLE}")
    stage = {
        "module": _node(typed["module"], "--from"),
        **{
            name: _node(typed[name], f"--{name}", parse=name == "repeats" and "{" not in typed[name])
            for name in ("config", "dtype", "repeats")
            if typed[name] is not None
        },
        "inputs": _pairs(typed["inputs"], "--input", "sample=2,4,64,64:bf16"),
    }
    name = _stage_name(typed["module"])
    sizes = capture_file.with_dims(_empty(), dims).dims
    fields = {
        "dims": _mapping({d: _node(str(n), f"--dim {d}", parse=True) for d, n in sizes.items()}, "--dim"),
        "stages": _mapping({name: _mapping(stage, "--from")}, "--from"),
        "corrections": _pairs(typed["corrections"], "--correct", "'*.temporal.*=temporal'"),
        "assume": _pairs(typed["answers"], "--assume", "aten.nonzero=all", parse=True),
        "by_hand": _node(typed["by_hand"] or "as-written", "--by-hand"),
        "real": _node("true" if typed["real"] else "false", "--real", parse=True),
    }
    try:
        return capture_file.build(_mapping(fields, "--from"))
    except SpecError as error:
        raise SpecError(re.sub(r"^(--\w+)( \S+)?: [\w.*-]+(\.\S+)?: ", r"\1\2: ", p) for p in error.problems) from None


def _stage_name(module: str) -> str:
    """Of a class its name, of a function that of its module, in lower case: it goes before every module path."""
    where, _, thing = module.rpartition(":")
    if thing[:1].islower():
        thing = Path(where).stem if where.endswith(".py") else where.rpartition(".")[2]
    name = re.sub(r"\W", "_", thing).lower()
    return name if name[:1].isalpha() else "module"


def _empty() -> CaptureFile:
    from workloads.capture_file import CaptureFile, StageFile

    return CaptureFile(stages={"none": StageFile(module="none:none")})


def _node(text: str, option: str, parse: bool = False) -> Node:
    from hwspecs import nodes

    return nodes.Node(nodes.parse(text, option).value if parse else text, option, text=text)


def _mapping(fields: Mapping[str, Node], option: str) -> Node:
    from hwspecs import nodes

    return nodes.Node(dict(fields), option)


def _pairs(texts: Sequence[str], option: str, example: str, parse: bool = False) -> Node:
    """NAME=VALUE texts as a mapping. SpecError for one without '=', and for a name given twice."""
    from hwspecs.errors import SpecError

    found: dict[str, Node] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise SpecError(f"{option} {text}: expected NAME=VALUE, for example {option} {example}")
        if name in found:
            raise SpecError(f"{option} {name}: given twice")
        found[name] = _node(value, f"{option} {name}", parse)
    return _mapping(found, option)


def _check_out(out: str | None) -> None:
    from hwspecs.errors import SpecError
    from workloads.capture_file import SUFFIXES
    from workloads.capture_model import SIZES, STORED

    if out is not None and not out.endswith((*SUFFIXES, SIZES, STORED)):
        names = f".yaml (a capture file), {SIZES} (any size, without the module) or {STORED} (one size)"
        raise SpecError(f"--out {out}: expected a name that ends in {names}")


def _write(captured: Captured, trace: Trace, out: str | None) -> None:
    """The capture file or the trace at `out`; SpecError where it cannot be written."""
    from hwspecs import spec
    from hwspecs.errors import SpecError
    from workloads import capture_file, capture_sizes
    from workloads import trace as traces
    from workloads.capture_model import SIZES

    if out is None:
        return
    if out.endswith(SIZES):
        capture_sizes.write(Path(out), capture_sizes.find(captured))
        return
    if not out.endswith(capture_file.SUFFIXES):
        traces.save(trace, Path(out))
        return
    text, temporary = spec.dump(_plain(captured, Path(out).parent)), Path(f"{out}.tmp")
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise SpecError(f"--out {out}: cannot be written ({(error.strerror or str(error)).lower()})") from None


def _plain(captured: Captured, folder: Path) -> dict[str, Any]:
    """A capture file as plain data, fields at their defaults left out, paths relative to the folder that it goes to."""
    from hwspecs.spec import to_data

    data: dict[str, Any] = to_data(captured.file)
    stages = {}
    for name, stage in data.pop("stages").items():
        where, _, thing = stage["module"].rpartition(":")
        if where.endswith(".py"):
            stage["module"] = f"{_moved(captured.folder / where, folder)}:{thing}"
        if isinstance(stage["config"], str):
            stage["config"] = _moved(captured.folder / stage["config"], folder)
        stages[name] = {k: v for k, v in stage.items() if k == "module" or v not in (None, {}, 1)}
    kept = {key: value for key, value in data.items() if value not in ("", {}, False, "as-written")}
    dims = kept.pop("dims", None)
    return {**({"dims": dims} if dims else {}), "stages": stages, **kept}


def _moved(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)
