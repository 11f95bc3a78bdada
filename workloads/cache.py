"""Traces by model and request: from the templates that framecast carries (`workloads.templates`), without torch.

A stage that no template covers is captured once; the trace is then read from `$FRAMECAST_CACHE`, without torch again.

The key covers everything that a capture depends on. Fields that only change how often a stage runs (steps) are applied
after loading, so that a run with other steps is warm.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwspecs.errors import INSTALL, FramecastError, SpecError, StudyError
from hwspecs.notes import say
from hwspecs.spec import to_data
from workloads import trace as traces
from workloads.baselines import told
from workloads.join import join
from workloads.model import Model, Stage, find
from workloads.templates import stage_trace
from workloads.trace import Trace
from workloads.transforms import of_stages, plain

if TYPE_CHECKING:
    from workloads.capture import CapturedPass

_CODE = (
    "aten.py",
    "baselines.py",
    "capture.py",
    "chunked.py",
    "kept.py",
    "kind.py",
    "trace.py",
    "model.py",
    "join.py",
    "traces/*.xz",
    "dtypes.py",
    "temporal.py",
    "blocks.py",
    "unets.py",
    "decoding.py",
    "fields.py",
    "transforms.py",
    "ops/*.py",
    "parts/*.py",
    "models/*.py",
)  # decide what a capture holds
LENGTHS = ("prompt_len", "output_len", "text_len")  # fields of a request that are lengths of a text
TILES = (1024, 768, 512, 256)  # sides of tiles, in pixels, that are proposed where a decoder cannot run whole
NAMED = 3  # stages that a message names
_SECONDS = 8  # a capture with its imports, on two CPU cores; for the line on the terminal


def trace_of(model_id: str, request: Any) -> Trace:
    """The trace of a model for a request (an instance of `find(model_id).request`).

    From the templates that framecast carries; where one is missing, from the cache, else captured now with torch, which one
    line on stderr says. A damaged entry and a folder that cannot be written are a line each; the trace is then captured anew.
    Raises SpecError for an unknown model, a module that cannot be captured, a module to be reused that does not run, or a
    capture without torch.
    """
    model = find(model_id)
    if model.trace is not None:
        return model.trace(request)
    stages, alone = model.stages(request), plain(request)
    data, parts = to_data(alone), _parts_or_tile(model, alone)
    if all(part is not None for part in parts):
        trace = _joined(model, alone, data, parts)
    else:
        trace = _stored(_entry(model, data)) or _captured_once(model, alone, parts)
    return replace(of_stages(trace, stages), request=to_data(request), notes=_assumptions(stages))


def _assumptions(stages: Sequence[Stage]) -> tuple[str, ...]:
    """What was answered in place of a tensor's values, a line each."""
    lines = (f"{s.name}: {name} taken as {answer}" for s in stages for name, answer in s.assume.items())
    return tuple(dict.fromkeys(lines))


def captured_now(model_id: str, request: Any) -> Trace:
    """The trace of a model for a request, captured whatever templates and cache hold. Raises SpecError as `trace_of`."""
    model, alone = find(model_id), plain(request)
    stages = model.stages(alone)
    trace = _capture(model, alone, stages, to_data(alone), [None] * len(stages))
    stages = model.stages(request)
    return replace(of_stages(trace, stages), request=to_data(request), notes=_assumptions(stages))


def cached(model_id: str, request: Any) -> bool:
    """Whether `trace_of` needs no capture: templates cover a request, or it has an entry; True of a user's own model.

    Raises SpecError for an unknown model.
    """
    model = find(model_id)
    return model.trace is not None or carried(model_id, request) or _entry(model, to_data(plain(request))).exists()


def carried(model_id: str, request: Any) -> bool:
    """Whether templates cover a request: never that of a user's own model, nor one that a library cannot run.

    Raises SpecError for an unknown model.
    """
    model = find(model_id)
    try:
        return model.trace is None and all(part is not None for part in _parts(model, plain(request)))
    except SpecError:
        return False


def _parts(model: Model, request: Any) -> list[Trace | None]:
    """The trace of each stage from its template, None where there is none."""
    frames = getattr(request, "frames", None)
    return [stage_trace(stage, frames) for stage in model.stages(request)]


def _parts_or_tile(model: Model, request: Any) -> list[Trace | None]:
    """As `_parts`; where a library cannot run the request, SpecError names a tile to decode in with which it can."""
    try:
        return _parts(model, request)
    except SpecError as error:
        tile = _tile_that_runs(model, request)
        raise SpecError(f"{error}{f', or set vae_tile: {tile}' if tile else ''}") from None


def _tile_that_runs(model: Model, request: Any) -> int | None:
    """The largest of TILES with which a request that decodes whole can be run; None where it has no such field, or none is."""
    if getattr(request, "vae_tile", 0) is not None:
        return None
    tiles = (tile for tile in TILES if tile < max(request.height, request.width))
    return next((tile for tile in tiles if _runs(model, replace(request, vae_tile=tile))), None)


def _runs(model: Model, request: Any) -> bool:
    try:
        return bool(_parts(model, request))
    except SpecError:
        return False


def _captured_once(model: Model, request: Any, parts: Sequence[Trace | None]) -> Trace:
    """The trace of a request, what there are no parts of captured, stored for the next time."""
    data = to_data(request)
    trace = _capture(model, request, model.stages(request), data, parts)
    _store(trace, _entry(model, data))
    return trace


def kept(path: Path, capture: Callable[[], Trace]) -> Trace:
    """The trace at a path of the cache; where there is none that can be used, the one that `capture` makes, which is stored."""
    trace = _stored(path)
    if trace is None:
        with quiet():
            trace = capture()
        _store(trace, path)
    return trace


def folder() -> Path:
    """`$FRAMECAST_CACHE`, or `framecast` in the user's cache folder. Nothing is created."""
    chosen = os.environ.get("FRAMECAST_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "framecast"
    except RuntimeError:  # no home folder
        return Path(".framecast-cache")


def _entry(model: Model, request: Mapping[str, Any]) -> Path:
    """Where the trace of a request is stored."""
    return folder() / f"{model.id}-{_key(model, request)}.npz"


def _key(model: Model, request: Mapping[str, Any]) -> str:
    """Hex digest of the model, what is captured of the request, library versions and our own code."""
    captured = {name: value for name, value in request.items() if name not in model.repeat_fields}
    versions = {name: _version(name) for name in model.libraries}
    here = Path(__file__).parent
    files = [
        *(file for pattern in _CODE for file in sorted(here.glob(pattern))),
        Path(inspect.getfile(inspect.unwrap(model.stages))),
    ]
    code = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    return hashlib.sha256(json.dumps([model.id, captured, versions, code], sort_keys=True).encode()).hexdigest()[:24]


def _version(library: str) -> str:
    """The version that is installed, '' if none."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _stored(path: Path) -> Trace | None:
    """The entry, or None if there is none that can be used."""
    try:
        return traces.load(path) if path.exists() else None
    except (StudyError, OSError) as error:
        said = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        reason = said.removeprefix(f"{path}: ").removesuffix("; delete it and capture again")
        _say(f"{path}: {reason}; capturing again")
        return None


def _store(trace: Trace, path: Path) -> None:
    try:
        traces.save(trace, path)
    except FramecastError as error:
        _say(f"{error}; going on without the cache (set FRAMECAST_CACHE to a folder that can be written)")


def _capture(
    model: Model, asked: Any, stages: tuple[Stage, ...], request: Mapping[str, Any], parts: Sequence[Trace | None]
) -> Trace:
    """Captures the stages of which there is no part; SpecError without torch."""
    missing = [stage for stage, part in zip(stages, parts, strict=True) if part is None]
    _announce(model, missing, request)
    frames = request.get("frames")
    found = list(parts)
    for i, (stage, other) in enumerate(zip(stages, others(model, asked), strict=True)):
        if found[i] is None:
            found[i] = captured_stage(stage, other, frames)
    return _joined(model, asked, request, found)


def _joined(model: Model, asked: Any, request: Mapping[str, Any], parts: Sequence[Trace | None]) -> Trace:
    """The trace of a request from those of its stages, each with the baselines that its attention follows."""
    stages = model.stages(asked)
    return join(
        model.id, request, [told(part, stage) for part, stage in zip(parts, stages, strict=True) if part is not None]
    )


def _announce(model: Model, missing: Sequence[Stage], request: Mapping[str, Any]) -> None:
    """One line about a capture. Raises SpecError where a library that it needs is not installed."""
    names = ", ".join(
        [stage.name for stage in missing[:NAMED]] + [f"{len(missing) - NAMED} more"] * (len(missing) > NAMED)
    )
    text = f"{' '.join([model.id, *_asked_for(request)])}: no template holds for {names}"
    absent = [name for name in model.libraries if importlib.util.find_spec(name) is None]
    if absent:
        raise SpecError(f"{text}; to capture it needs {', '.join(absent)}: {INSTALL}")
    say(f"note: {text}; captured once with torch (about {_SECONDS} s)")


def _asked_for(request: Mapping[str, Any]) -> Iterator[str]:
    """What of a request templates depend on: '16x512x512', 'batch 2', 'guidance none', 'fp16'."""
    if size := "x".join(str(request[name]) for name in ("frames", "height", "width") if name in request):
        yield size
    yield from (f"{name} {request[name]}" for name in LENGTHS if name in request)
    if "batch" in request:
        yield f"batch {request['batch']}"
    if "guidance" in request:
        own = request["guidance"]
        yield f"guidance {own if isinstance(own, str) else 'on' if own else 'none'}"
    if "dtype" in request:
        yield request["dtype"]


def captured_stage(stage: Stage, other: Stage, frames: int | None) -> Trace:
    """A stage alone, captured now. SpecError where that cannot be."""
    with quiet():
        from workloads.capture import assemble

        return assemble("", {}, [(stage.name, stage.module, 1, _captured(stage, other, frames))])


def others(model: Model, request: Any) -> tuple[Stage, ...]:
    """The stages of a request at another frame count, to tell temporal attention by; of one without frames, its own."""
    frames = getattr(request, "frames", None)
    return model.stages(replace(request, frames=_other(frames, model.frame_step)) if frames else request)


def _captured(stage: Stage, other: Stage, frames: int | None) -> CapturedPass:
    """A stage's pass; where the request has frames, its temporal attention found against the stage at other frames."""
    from workloads.capture import capture
    from workloads.temporal import with_temporal

    asked = [stage, other] if frames and stage.frames != 0 else [stage]
    found, *more = (capture(one.build(), *one.inputs(), path=stage.name, assume=stage.assume) for one in asked)
    return with_temporal(found, more[0], stage.frames or frames or 0) if more else found


def _other(frames: int, step: int) -> int:
    """A number of frames to tell temporal attention by, within what a request may ask."""
    return frames - step if frames > step else frames + step


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what libraries say while they are imported and run: warnings, and log records below critical."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _say(line: str) -> None:
    say(f"warning: {line}")
