"""A user's capture file as a model: its request, its stages and its traces, beside the built-in ones.

`model_of` is what `workloads.model.find` returns for a path; nothing on the way to a stored trace imports torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass as spec_dataclass

from hwspecs.errors import SpecError, StudyError, nearest
from hwspecs.spec import CONFIG, Quantity, to_data
from workloads import cache as stored_traces
from workloads import capture_file, formats
from workloads import trace as traces
from workloads.capture_file import CaptureFile, StageFile, config_of, input_of, repeat_only, repeats_of
from workloads.capture_inputs import TensorSpec, names, nested
from workloads.capture_source import Source, searched, source_key
from workloads.model import Model, Stage
from workloads.trace import Trace

SIZES = ".sizes"  # templates in a file (`workloads.capture_sizes`): any size, no torch needed
STORED = ".trace"  # a trace in a file: one size, no torch needed
IMPORTED = (".npz", ".parquet", ".et", ".json", ".json.gz")  # traces as `workloads.formats` reads them
ENDINGS = (*capture_file.SUFFIXES, SIZES, STORED, *IMPORTED)  # of files that stand for a model
CODE = (
    "aten.py", "by_hand.py", "capture*.py", "dtypes.py", "kept.py", "kind.py", "ops/*.py", "temporal.py", "trace.py",
)  # decide what a capture holds  # fmt: skip


@dataclass(frozen=True)
class Captured:
    """A capture file and where it is: `where` goes before messages ('' for one that was only typed), `folder` before paths."""

    file: CaptureFile
    where: str
    folder: Path


def is_file(name: str) -> bool:
    """Whether a model's name is the path of a capture file, of a stored trace, or of a trace from outside."""
    return name.endswith(ENDINGS)


def model_of(path: str) -> Model:
    """The model in a capture file or a stored trace. SpecError as `capture_file.load`; StudyError for a damaged trace."""
    try:
        stat = os.stat(path)
    except OSError:
        return _read(path, 0, 0)  # says what is wrong
    return _read(path, stat.st_mtime_ns, stat.st_size)


@cache
def _read(path: str, _changed: int, _size: int) -> Model:
    if path.endswith((STORED, *IMPORTED)):
        return _stored(path)
    if path.endswith(SIZES):
        from workloads import capture_sizes

        return capture_sizes.model(path)
    return as_model(path, Captured(capture_file.load(path), path, Path(path).parent))


def as_model(name: str, captured: Captured) -> Model:
    """A capture file as a model called `name`."""
    file = captured.file
    return Model(
        id=name,
        title=file.title or Path(name).stem,
        request=request_type(file.dims),
        stages=lambda request: _stages(captured, to_data(request)),
        repeat_fields=repeat_only(file),
        sources=", ".join(stage.module for stage in file.stages.values()),
        libraries=(),
        trace=lambda request: trace(name, captured, to_data(request)),
        fingerprint=lambda: _content(captured),
    )


def request_type(dims: Mapping[str, int], only: bool = False) -> type[Any]:
    """A request with the dimensions as fields; `only`: with no other values than these."""
    fields = [
        (
            name,
            Annotated[
                int,
                Quantity(ge=1, le=2**31, doc="a dimension of the capture"),
                *([AfterValidator(_one_size(name, value))] if only else []),
            ],
            dataclasses.field(default=value),
        )
        for name, value in dims.items()
    ]
    plain = dataclasses.make_dataclass("Request", fields, kw_only=True, frozen=True)
    return spec_dataclass(plain, frozen=True, kw_only=True, config=CONFIG)


def _one_size(name: str, known: int) -> Callable[[int], int]:
    def check(value: int) -> int:
        if value != known:
            text = f"found {value}, expected {known}: a stored trace has one size; capture it again at another"
            # a schedule asks for other batches by itself, where no loader stands by to place a ValueError
            raise StudyError(f"request.{name}: {text}") if name == "batch" else ValueError(text)
        return value

    return check


def _stored(path: str) -> Model:
    """A model with one trace, read from a file. Its steps are no field: which segments follow them is not stored."""
    held = formats.load(path) if path.endswith(IMPORTED) else traces.load(Path(path))
    dims = {name: value for name, value in held.request.items() if type(value) is int and name != "steps"}
    stages = tuple(Stage(s.name, s.module, s.repeats, lambda: None, lambda: ((), {})) for s in held.segments)
    return Model(
        id=path, title=Path(path).stem, request=request_type(dims, only=True), stages=lambda _: stages, repeat_fields=(),
        sources=f"trace of {held.model}", libraries=(), trace=lambda _: replace(held, model=path),
        fingerprint=lambda: hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    )  # fmt: skip


def trace(name: str, captured: Captured, dims: Mapping[str, int]) -> Trace:
    """The trace at the given dimensions, from the cache if it is there, with the repeats that they ask for.

    SpecError: a module that cannot be captured, a line with the file and the field or the module path.
    """
    with _placed(captured.where):
        repeats = [repeats_of(stage, dims) for stage in captured.file.stages.values()]
        entry = stored_traces.folder() / f"captured-{_key(captured, dims)}.npz"
        found = stored_traces.kept(entry, lambda: fresh(captured, dims))
    segments = tuple(replace(s, repeats=n) for s, n in zip(found.segments, repeats, strict=True))
    return replace(found, model=name, request=dict(dims), segments=segments)


def again(name: str, captured: Captured) -> Trace:
    """The trace at the file's own dimensions, captured now and stored in the place of what was there. SpecError as `trace`."""
    entry = stored_traces.folder() / f"captured-{_key(captured, captured.file.dims)}.npz"
    with contextlib.suppress(OSError):
        entry.unlink(missing_ok=True)
    return trace(name, captured, captured.file.dims)


def fresh(captured: Captured, dims: Mapping[str, int]) -> Trace:
    """Captured now, whatever is stored; the model's name is left empty."""
    from workloads.capture import assemble
    from workloads.capture_roles import How, check, observed

    file = captured.file
    seen = {d: n for d, n in dims.items() if d not in repeat_only(file)}
    _check_used(captured, seen)
    fuse = file.by_hand == "fused"
    seen_stages = []
    for name, stage in file.stages.items():
        how = How(name, partial(build, captured, name, stage), file.corrections, file.assume, file.real, fuse)
        with searched(Source(stage.module, captured.folder)):
            seen_stages.append(observed(how, seen))
    check(seen_stages, file.corrections)
    stages = zip(file.stages.items(), seen_stages, strict=True)
    runs = [(name, name, repeats_of(stage, dims), found.passed) for (name, stage), found in stages]
    trace = assemble("", dict(dims), runs, [note for found in seen_stages for note in found.notes])
    return replace(trace, by_hand=tuple(row for found in seen_stages for row in found.by_hand))


def _check_used(captured: Captured, dims: Mapping[str, int]) -> None:
    """SpecError for a dimension that no input, config or function uses, with the nearest that one would."""
    stages = captured.file.stages.values()
    named = set().union(*(names(dict(s.inputs)) | names(config_of(s, captured.folder, {}, fill=False)) for s in stages))
    taken = [_arguments(Source(s.module, captured.folder)) for s in stages] if set(dims) - named else []
    if any(some is None for some in taken):  # a function that takes any
        return
    known = sorted(set().union(*(some or () for some in taken)))
    problems = [
        f"dims.{d}: no input, config or function uses it{nearest(d, known)}" for d in dims if d not in {*named, *known}
    ]
    if problems:
        raise SpecError(problems)


def _arguments(source: Source) -> frozenset[str] | None:
    from workloads.capture_source import arguments

    with searched(source):
        return arguments(source)


def _stages(captured: Captured, dims: Mapping[str, int]) -> tuple[Stage, ...]:
    seen = {d: n for d, n in dims.items() if d not in repeat_only(captured.file)}
    return tuple(
        Stage(
            name, name, repeats_of(stage, dims, floor=True),  # also asked at other numbers of steps, to tell the denoiser
            build=lambda n=name, s=stage: _made(captured, n, s, seen)[0],  # type: ignore[misc]
            inputs=lambda n=name, s=stage: _made(captured, n, s, seen)[1],  # type: ignore[misc]
            assume=captured.file.assume,
        )
        for name, stage in captured.file.stages.items()
    )  # fmt: skip


def _made(captured: Captured, name: str, stage: StageFile, dims: Mapping[str, int]) -> Any:
    with searched(Source(stage.module, captured.folder)):
        return build(captured, name, stage, dims)


def build(captured: Captured, name: str, stage: StageFile, dims: Mapping[str, int]) -> Any:
    """(module, (args, kwargs)) on torch's default device; an input that the file gives is a TensorSpec or a plain value."""
    from workloads.capture_source import made
    from workloads.dtypes import torch_dtype

    place = f"stages.{name}"
    given: dict[str, Any] = {}
    for key, text in stage.inputs.items():
        with _placed(f"{place}.inputs.{key}"):
            given[key] = input_of(text, dims)
    config = config_of(stage, captured.folder, dims, f"{place}.config")
    module, own = made(Source(stage.module, captured.folder), config, dims, place)
    args, kwargs = nested(given)
    if own is not None:
        args, kwargs = args or own[0], {**own[1], **kwargs}
    check_inputs(module, args, kwargs, place)
    dtype = stage.dtype or _agreed(given)
    return (module.to(torch_dtype(dtype)) if dtype else module), (args, kwargs)


def _agreed(given: Mapping[str, Any]) -> str | None:
    """The one dtype of the floating inputs, None where there is none or several."""
    found = {
        x.dtype for x in given.values() if isinstance(x, TensorSpec) and x.dtype in ("fp16", "bf16", "fp32", "fp64")
    }
    return found.pop() if len(found) == 1 else None


def check_inputs(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], place: str) -> None:
    """SpecError for inputs that a module's forward does not have, with the nearest, and for those that it lacks."""
    import inspect

    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    problems = [
        f"{place}.inputs.{name}: {type(module).__name__}.forward has no such input{nearest(name, known)}"
        for name in kwargs
        if name not in known and not anything
    ]
    ordered = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    missing = [
        p.name
        for i, p in enumerate(parameters)
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in kwargs
        and not (p in ordered and i < len(args))
    ]  # fmt: skip
    problems += [f"{place}.inputs.{name}: missing; expected SHAPE:DTYPE or a value" for name in missing]
    if problems:
        raise SpecError(problems)


@contextlib.contextmanager
def _placed(where: str) -> Iterator[None]:
    """Puts a file's path before the problems of what runs inside; '' is none."""
    try:
        yield
    except SpecError as error:
        raise SpecError(p if not where or p.startswith(where) else f"{where}: {p}" for p in error.problems) from None


def _content(captured: Captured) -> str:
    """Digest of what decides the model at any dimensions: the file, its configs, the sources of its modules."""
    file = captured.file
    configs = [config_of(s, captured.folder, file.dims, f"stages.{n}.config") for n, s in file.stages.items()]
    return _digest([to_data(file), configs, _sources(captured)])


def _key(captured: Captured, dims: Mapping[str, int]) -> str:
    """Digest of everything that decides a trace: how often stages run and the defaults of dimensions are no part of it."""
    file = captured.file
    apart = repeat_only(file)
    stages = [
        [
            name, stage.module, config_of(stage, captured.folder, dims, f"stages.{name}.config"), stage.inputs, stage.dtype,
        ]
        for name, stage in file.stages.items()
    ]  # fmt: skip
    sizes = {d: n for d, n in dims.items() if d not in apart}
    here = Path(__file__).parent
    code = [hashlib.sha256(p.read_bytes()).hexdigest() for pattern in CODE for p in sorted(here.glob(pattern))]
    return _digest(
        [
            stages,
            sizes,
            list(file.corrections.items()),
            dict(file.assume),
            file.real,
            file.by_hand,
            _sources(captured),
            code,
        ]
    )[:24]


def _sources(captured: Captured) -> list[list[str]]:
    found = [source_key(Source(stage.module, captured.folder)) for stage in captured.file.stages.values()]
    return [
        *found,
        *(source_key(Source(f"{name}:Any", captured.folder)) for name in ("torch", "diffusers", "transformers")),
    ]


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()
