"""`framecast trace` and `framecast models`: what is computed, whatever it runs on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

SCHEMA_VERSION = 1  # of the JSON of both commands
_COMMON = ("height", "width", "batch", "steps", "guidance", "dtype")  # fields of a request with an option of their own


def register(cli: click.Group) -> None:
    """Add `trace` and `models` to the command line."""
    cli.add_command(trace)
    cli.add_command(models)


def _examples(*lines: str) -> str:
    """The last section of a command's help."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def model_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of models, and capture files, for a shell's TAB."""
    ids = [CompletionItem(name) for name in _models() if name.startswith(incomplete)]
    return ids or [CompletionItem(incomplete, type="file")]


def model_ids(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of models alone, for a shell's TAB."""
    return [CompletionItem(name) for name in _models() if name.startswith(incomplete)]


_FORMAT = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout."
)


@click.command(
    epilog=_examples(
        "framecast trace stable-diffusion-1.5",
        "framecast trace stable-diffusion-1.5 --height 768 --width 768 --no-guidance",
        "framecast trace stable-diffusion-1.5 --set request.batch=4 --format json",
        "framecast trace stable-diffusion-1.5 --out sd.et",
        "framecast trace sd.et --out sd.parquet",
    )
)
@click.argument("model", metavar="MODEL|FILE", shell_complete=model_names)
@click.option("--height", help="Image height in pixels.")
@click.option("--width", help="Image width in pixels.")
@click.option("--batch", help="Images at a time.")
@click.option("--steps", help="Denoising steps.")
@click.option("--guidance/--no-guidance", default=None, help="Classifier-free guidance.")
@click.option("--dtype", help="Of weights and activations, for example fp16.")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Any field of the request; repeatable.")
@click.option(
    "--out", metavar="FILE", help="Also write the trace: .npz (framecast's own), .parquet, or .et (MLCommons Chakra)."
)
@_FORMAT
def trace(model: str, overrides: tuple[str, ...], form: str, out: str | None, **common: Any) -> None:
    """Show what MODEL computes for a request: calls, FLOPs and attention sizes of every component.

    MODEL is an id (`framecast models`) or a capture file (`framecast capture`). In its place, a trace in a FILE: one that
    --out wrote, or a timeline of the PyTorch Profiler (.json, .json.gz, recorded with record_shapes=True).
    """
    from workloads import formats

    if out is not None:
        formats.check_ending(out)
    made = trace_for(model, common, overrides)
    if out is not None:
        formats.save(made, out)
    found = summary(made)
    click.echo(json.dumps(found, indent=2) if form == "json" else described(found))


@click.command(
    epilog=_examples(
        "framecast models",
        "framecast models stable-diffusion-1.5",
        "framecast models hunyuanvideo wan2.1-14b --format json",
    )
)
@click.argument("names", metavar="[MODEL]...", nargs=-1, shell_complete=model_ids)
@_FORMAT
def models(names: tuple[str, ...], form: str) -> None:
    """List the models, or those named, with the fields of their requests and where their configurations are published."""
    known = [_listed(model) for model in _named(names)]
    if form == "json":
        click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "models": known}, indent=2))
        return
    for model in known:
        click.echo(f"{model['id']}: {model['title']}\n  source: {model['sources']}\n")
        rows = [(f"request.{f['path']}", _plain(f["default"]), f["doc"]) for f in model["request"]]
        click.echo(_indent(_table(rows, ("field", "default", "meaning"), "lll")))


def trace_for(model: str, common: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """The trace of a model for a request (see `request_of`), or the one in a file, which has no request to change.

    Raises SpecError or StudyError for what `request_of` and `formats.load` raise, or for a field of a file's request.
    """
    from workloads import formats
    from workloads.capture_file import SUFFIXES
    from workloads.capture_model import STORED

    if model.endswith((*SUFFIXES, STORED)) or not formats.names_file(model):
        from workloads.cache import trace_of

        return trace_of(model, request_of(model, common, overrides))
    given = [f"--{name}" for name in _COMMON if common.get(name) is not None] + [f"--set {text}" for text in overrides]
    if given:
        from hwspecs.errors import SpecError

        raise SpecError(f"{given[0]}: {model} is the trace of one request; only a model's id takes another")
    return formats.load(model)


def request_of(model: str, common: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """The request of a model from options (None: not given) and 'field=value' texts, with or without 'request.'.

    Raises SpecError for an unknown model or field, a value that the model cannot take, or an override without '='.
    """
    from hwspecs import nodes, spec
    from hwspecs.errors import SpecError
    from workloads.model import find

    cls = find(model).request
    node = spec.wrap({}, f"trace {model}")
    for name in _COMMON:
        value = common.get(name)
        if value is not None:
            option = f"--{'' if value is not False else 'no-'}{name}"
            given = nodes.parse(str(value).lower() if isinstance(value, bool) else value, option)
            field = spec.Node(given.value, option, text=given.text)  # an option has no line
            node = spec.merge(node, spec.Node({name: field}, node.source))
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise SpecError(f"--set {text}: expected FIELD=VALUE, for example request.height=768")
        node = spec.set_path(node, path.strip().removeprefix("request."), value.strip())
    return spec.build(cls, node, at="request")


def summary(trace: Any) -> dict[str, Any]:
    """What `trace --format json` prints; its keys are documented in docs/json.md."""
    from workloads.by_hand import attention_calls
    from workloads.unpriced import unpriced

    attention = attention_calls(trace)
    return {
        "schema_version": SCHEMA_VERSION,
        "model": trace.model,
        "request": dict(trace.request),
        "components": [_component(trace, segment, attention) for segment in trace.segments],
        "unpriced": [vars(operator) for operator in unpriced(trace)],
        "notes": list(trace.notes),
    }


def _component(trace: Any, segment: Any, attention: tuple[Any, Any]) -> dict[str, Any]:
    """One segment: sizes of one pass. attention: of the trace, as `workloads.by_hand.attention_calls` has it."""
    ops = trace.call_op[segment.start : segment.stop]
    flops = trace.op_flops()
    by_kind: dict[str, list[int]] = {}
    for op in ops:
        by_kind.setdefault(trace.kinds[trace.op_kind[op]], []).append(int(flops[op]))
    return {
        "name": segment.name,
        "repeats": segment.repeats,
        "parameters": segment.parameters,
        "weight_bytes": segment.weight_bytes,
        "flops": sum(map(sum, by_kind.values())),
        "calls": {kind: len(by_kind[kind]) for kind in sorted(by_kind)},
        "flops_by_kind": {kind: sum(by_kind[kind]) for kind in sorted(by_kind)},
        "attention": [
            _attention(dims.tolist())
            for call, dims in zip(*attention, strict=True)
            if segment.start <= call < segment.stop
        ],
    }


def _attention(values: list[int]) -> dict[str, Any]:
    from workloads.ops.attention import DIMS, ROLES

    dims = dict(zip(DIMS, values, strict=True))
    sizes = {name: dims[name] for name in ("batch", "heads", "q_len", "kv_len", "head_dim")}
    return {"role": ROLES[dims["role"]], **sizes, "causal": bool(dims["causal"])}


def described(found: Mapping[str, Any]) -> str:
    """The tables of a summary: components, kinds, attention."""
    from workloads.quantities import column

    request = ", ".join(f"{name} {_plain(value)}" for name, value in found["request"].items())
    components = found["components"]
    total = sum(c["flops"] * c["repeats"] for c in components)
    unit, (in_all,) = column([total], "T", 2)
    return "\n\n".join(
        [
            f"{found['model']}{': ' if request else ''}{request}\n"
            f"{in_all} {unit}FLOP in all (matrix products; multiply and add are 2)",
            _components(components, total),
            _kinds(components),
            _attentions(components),
            *([_unpriced(found["unpriced"])] if found["unpriced"] else []),
            *(["\n".join(f"note: {line}" for line in found["notes"])] if found["notes"] else []),
        ]
    )


def _components(components: Sequence[Mapping[str, Any]], total: int) -> str:
    """A row a component, with its share of `total` FLOPs."""
    from workloads.quantities import column

    inference = [c["flops"] * c["repeats"] for c in components]
    sizes, parameters = column([c["parameters"] for c in components], "M", 1)
    one, passes = column([c["flops"] for c in components], "G", 1)
    all_, sums = column(inference, "T", 2)
    shares = [f"{100 * flops / max(total, 1):.1f}" for flops in inference]
    names, repeats = [c["name"] for c in components], [c["repeats"] for c in components]
    calls = [sum(c["calls"].values()) for c in components]
    rows = list(zip(names, repeats, parameters, calls, passes, sums, shares, strict=True))
    count = f"parameters, {sizes}" if sizes else "parameters"
    heads = ("component", "repeats", count, "calls a pass", f"{one}FLOP a pass", f"{all_}FLOP in all", "share, %")
    return _table(rows, heads, "lrrrrrr")


def _unpriced(operators: Sequence[Mapping[str, Any]]) -> str:
    """Operators that no cost model knows, with their shares of the inference."""
    rows = [
        (
            o["label"], o["calls"], f"{o['bytes'] / 1e9:,.3g}", f"{100 * o['byte_share']:.1f}",
            "not known" if o["flops"] is None else f"{100 * o['flop_share']:.1f}",
        )
        for o in operators
    ]  # fmt: skip
    heads = ("operator", "calls in all", "GB in all", "share of bytes, %", "share of FLOPs, %")
    return f"Without a cost model, priced as memory traffic:\n{_table(rows, heads, 'lrrrr')}"


def _kinds(components: Sequence[Mapping[str, Any]]) -> str:
    from workloads.quantities import column

    found = [
        (c["name"], kind, calls, c["flops_by_kind"].get(kind, 0))
        for c in components
        for kind, calls in sorted(c["calls"].items(), key=lambda item: -c["flops_by_kind"].get(item[0], 0))
    ]
    unit, flops = column([row[-1] for row in found], "G", 1)
    rows = [(*row[:-1], text) for row, text in zip(found, flops, strict=True)]
    return _table(rows, ("component", "operator kind", "calls a pass", f"{unit}FLOP a pass"), "llrr")


def _attentions(components: Sequence[Mapping[str, Any]]) -> str:
    """Distinct attention sizes with their counts, longest first within a component."""
    names = ("role", "batch", "heads", "q_len", "kv_len", "head_dim")
    counts: dict[tuple[Any, ...], int] = {}
    for component in components:
        for call in component["attention"]:
            key = (component["name"], *(call[name] for name in names))
            counts[key] = counts.get(key, 0) + 1
    if not counts:
        return "No attention"
    rows = [(*key, count) for key, count in counts.items()]
    return _table(rows, ("component", "attention", *names[1:], "calls a pass"), "llrrrrrr")


def _models() -> Mapping[str, Any]:
    from workloads.model import models as known

    return known()


def _named(ids: Sequence[str]) -> list[Any]:
    """The models of some ids, each once, in their order; of none, all. SpecError: a line for each unknown one."""
    from hwspecs.errors import SpecError, nearest

    known = _models()
    unknown = [name for name in ids if name not in known]
    if unknown:
        listed = f"(known: {', '.join(known)})"
        raise SpecError(f"unknown model '{name}'{nearest(name, known)} {listed}" for name in dict.fromkeys(unknown))
    return [known[name] for name in dict.fromkeys(ids or known)]


def _listed(model: Any) -> dict[str, Any]:
    """A model for `models`: id, title, fields of its request with defaults, sources."""
    from hwspecs import spec

    defaults = spec.to_data(model.request())  # without the fields that are left out
    fields = [{"path": f.path, "doc": f.doc, "default": defaults.get(f.path)} for f in spec.fields(model.request)]
    return {"id": model.id, "title": model.title, "request": fields, "sources": model.sources}


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_plain(inner) for inner in value)
    if value is None or isinstance(value, bool):
        return {True: "on", False: "off", None: "none"}[value]
    return str(value)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _table(rows: Sequence[Sequence[Any]], heads: Sequence[str], align: str) -> str:
    from tabulate import tabulate

    sides = [{"l": "left", "r": "right"}[side] for side in align]
    return str(tabulate(rows, headers=heads, tablefmt="simple", disable_numparse=True, colalign=sides))
