"""A capture file: which torch modules of the user's make a model, with which example inputs, how often each runs.

    dims: {height: 512, width: 512, steps: 50}
    stages:
      unet:
        module: diffusers:UNet2DConditionModel
        config: unet.json
        inputs:
          sample: 2,4,{height/8},{width/8}:bf16
          timestep: ":int64"
          encoder_hidden_states: 2,77,768:bf16
        repeats: "{steps}"
    corrections: {"unet.*.attn2": cross}

Paths are relative to the file. Nothing here imports torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic.dataclasses import dataclass

from hwspecs import nodes, spec
from hwspecs.errors import SpecError
from hwspecs.nodes import Node, shown
from hwspecs.spec import CONFIG, Doc, Quantity, RuleError
from workloads.capture_inputs import filled, names, nested, number, read_input
from workloads.kept import ALL, ITEM, NONZERO

Role: TypeAlias = Literal["self", "cross", "temporal", "spatial", "none"]
Dim: TypeAlias = Annotated[int, Quantity(ge=1, le=2**31, doc="a dimension of a user's capture file")]
SUFFIXES = (".yaml", ".yml")
RESERVED = ("images", "cache")  # fields of a request that transform a built-in model; no dimension may be called so


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class StageFile:
    """One module of the model, run `repeats` times in one inference."""

    module: Annotated[
        str, Doc("package.module:name, or file.py:name, of an nn.Module class or of a function that builds one")
    ]
    config: Annotated[Any, Doc("arguments of the class or function: fields, or a JSON or YAML file")] = None
    inputs: Annotated[
        dict[str, Any], Doc("by argument: SHAPE:DTYPE with {dimensions}, or a plain value; '0' is the first position")
    ] = field(default_factory=dict)
    dtype: Annotated[
        Literal["fp16", "bf16", "fp32", "fp64"] | None,
        Doc("of the weights; where left out, that of the floating inputs if they agree"),
    ] = None
    repeats: Annotated[Any, Doc("runs in one inference: a number, or {dimension}")] = 1

    def __post_init__(self) -> None:
        """RuleError for a module that is no `where:name`, inputs and a config of a wrong type, repeats that are no number."""
        problems = []
        if not re.fullmatch(r"[^:]+:[A-Za-z_]\w*", self.module):
            problems.append(
                ("module", f"found '{self.module}', expected MODULE:NAME, for example diffusers:UNet2DModel")
            )
        if not (self.config is None or isinstance(self.config, str | dict)):
            problems.append(("config", f"found '{self.config}', expected fields or a file"))
        problems += [
            (f"inputs.{name}", "found a list or fields, expected SHAPE:DTYPE or a plain value")
            for name, value in self.inputs.items()
            if isinstance(value, list | dict)
        ]
        if isinstance(self.repeats, bool) or not isinstance(self.repeats, int | str) or self.repeats == 0:
            problems.append(
                ("repeats", f"found '{self.repeats}', expected a whole number of at least 1 or {{dimension}}")
            )
        if problems:
            raise RuleError(problems)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class CaptureFile:
    """Dimensions with their defaults, the stages in the order in which they run, and what the user knows better."""

    title: Annotated[str, Doc("as people name the model", descriptive=True)] = ""
    dims: Annotated[dict[str, Dim], Doc("named dimensions and their defaults; the fields of a scenario's request")] = (
        field(default_factory=dict)
    )
    stages: Annotated[dict[str, StageFile], Doc("modules in the order in which they run")]
    corrections: Annotated[
        dict[str, Role],
        Doc("attention by module path, * for any part: self, cross, temporal or spatial; none: only looks like it"),
    ] = field(default_factory=dict)
    assume: Annotated[dict[str, Any], Doc(f"answers in place of values: {NONZERO}: {ALL}, {ITEM}: a number")] = field(
        default_factory=dict
    )
    by_hand: Annotated[
        Literal["as-written", "fused"],
        Doc(
            "attention written as products and a softmax: the kernels that it is, or an attention call, as software runs it"
        ),
    ] = "as-written"
    real: Annotated[bool, Doc("run on the CPU where a capture without values fails, whatever the size")] = False

    def __post_init__(self) -> None:
        """RuleError for names that are none, an empty list of stages, answers that there are not."""
        problems = [
            (f"dims.{d}", "expected a name of letters, digits and _") for d in self.dims if not d.isidentifier()
        ]
        problems += [(f"dims.{d}", "the name has another meaning; choose another") for d in self.dims if d in RESERVED]
        problems += [
            (f"stages.{s}", "expected a name of letters, digits, _ and -")
            for s in self.stages
            if not re.fullmatch(r"[A-Za-z_][\w-]*", s)
        ]
        if not self.stages:
            problems.append(("stages", "empty; expected at least one module"))
        problems += [
            (f"assume.{name}", text) for name, answer in self.assume.items() if (text := assumption(name, answer))
        ]
        if problems:
            raise RuleError(problems)


def assumption(name: str, answer: Any) -> str:
    """What is wrong with an assumed answer, '' if nothing."""
    if name not in (NONZERO, ITEM):
        return f"no answer is known for this operator (allowed: {NONZERO}, {ITEM})"
    if name == NONZERO:
        return "" if answer == ALL else f"found '{answer}', expected {ALL}"
    return "" if isinstance(answer, int | float) else f"found '{answer}', expected a number, true or false"


def load(path: Path | str) -> CaptureFile:
    """The capture file at a path. SpecError with every problem of the file, a line each."""
    return build(nodes.read(Path(path)))


def build(root: Node) -> CaptureFile:
    """A capture file from a tree. SpecError as `load`: fields, then expressions, which are tried at the default sizes."""
    made = spec.build(CaptureFile, root)
    problems = [
        spec.placed(root, "", f"stages.{name}.{below}", text)
        for name, stage in made.stages.items()
        for below, text in _wrong(stage, made.dims)
    ]
    if problems:
        raise SpecError(problems)
    return made


def _wrong(stage: StageFile, dims: Mapping[str, int]) -> list[tuple[str, str]]:
    """(field, text) of every expression of a stage that does not work out at these dimensions."""
    tries: list[tuple[str, Callable[[], Any]]] = [
        *((f"inputs.{name}", lambda text=text: input_of(text, dims)) for name, text in stage.inputs.items()),
        ("inputs", lambda: nested(stage.inputs)),
        ("config", lambda: filled(stage.config, dims)),
        ("repeats", lambda: repeats_of(stage, dims)),
    ]
    found = []
    for place, work in tries:
        try:
            work()
        except SpecError as error:
            text = "; ".join(error.problems).removeprefix(f"{place}: ")
            inner = re.match(r"(inputs\.\S+): (.*)", text)
            found.append((inner[1], inner[2]) if inner else (place, text))
    return found


def input_of(text: Any, dims: Mapping[str, int]) -> Any:
    """`read_input` of a text; any other plain value is itself."""
    return read_input(text, dims) if isinstance(text, str) else text


def repeats_of(stage: StageFile, dims: Mapping[str, int], *, floor: bool = False) -> int:
    """Runs of a stage in one inference. SpecError for what is no whole number of at least 1; `floor`: it is made one."""
    text = str(stage.repeats).strip()
    value = number(text.removeprefix("{").removesuffix("}"), dims, floor=floor)
    if floor:
        return max(value, 1)
    if value < 1:
        raise SpecError(f"found {value}, expected a whole number of at least 1")
    return value


def repeat_only(made: CaptureFile) -> tuple[str, ...]:
    """Dimensions that only say how often stages run: they are no part of what is captured."""
    captured = set().union(*(names(dict(s.inputs)) | names(s.config) for s in made.stages.values()))
    counts = set().union(*(names(f"{{{str(s.repeats).strip('{} ')}}}") for s in made.stages.values()))
    return tuple(d for d in made.dims if d in counts - captured)


def config_of(
    stage: StageFile, folder: Path, dims: Mapping[str, int], place: str = "config", *, fill: bool = True
) -> dict[str, Any]:
    """The arguments of a stage's class or function, read where they are in a file; `fill`: dimensions filled in.

    SpecError: a file that is missing or no mapping.
    """
    found = stage.config
    if isinstance(found, str):
        found = _read_config(folder / found, place)
    try:
        return dict(filled(found or {}, dims) if fill else found or {})
    except SpecError as error:
        raise SpecError(f"{place}: {problem}" for problem in error.problems) from None


def _read_config(path: Path, place: str) -> dict[str, Any]:
    """Keys that begin with '_' are notes of the library that wrote the file, and left out."""
    if path.suffix != ".json":
        return {name: value for name, value in nodes.read(path).plain().items() if not name.startswith("_")}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{place}: {path}: cannot be read ({(error.strerror or str(error)).lower()})") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        line = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SpecError(f"{place}: {path}{line}: not JSON") from None
    if not isinstance(data, dict):
        raise SpecError(f"{place}: {path}: expected a mapping of fields")
    return {name: value for name, value in data.items() if not name.startswith("_")}


def with_dims(made: CaptureFile, given: Sequence[str]) -> CaptureFile:
    """The file with other defaults: texts 'name=value'. SpecError for an unknown dimension or a value that is none."""
    dims: dict[str, Any] = dict(made.dims)
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise SpecError(f"--dim {text}: expected NAME=LENGTH, for example height=64")
        if not re.fullmatch(r"\d{1,10}", value) or not 1 <= int(value) <= 2**31:
            raise SpecError(
                f"--dim {name}: found {shown(Node(value, '', text=value))}, expected a whole number of at least 1"
            )
        dims[name] = int(value)
    return replace(made, dims=dims)
