"""Traces by model and request: captured once, then read from `$FRAMECAST_CACHE` without loading torch.

The key covers everything that a capture depends on. Fields that only change how often a stage runs (steps) are applied
after loading, so that a run with other steps is warm.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwspecs.errors import FramecastError, StudyError
from hwspecs.notes import say, shows_progress
from hwspecs.spec import to_data
from workloads import trace as traces
from workloads.model import Model, Stage, find
from workloads.trace import Trace
from workloads.transforms import of_stages, plain

if TYPE_CHECKING:
    from workloads.capture import CapturedPass

_CODE = (
    "aten.py",
    "capture.py",
    "kept.py",
    "kind.py",
    "trace.py",
    "model.py",
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
_SECONDS = 8  # a capture with its imports, on two CPU cores; for the line on the terminal


def trace_of(model_id: str, request: Any) -> Trace:
    """The trace of a model for a request (an instance of `find(model_id).request`).

    A damaged entry and a folder that cannot be written are one line on stderr each; the trace is then captured anew.
    Raises SpecError for an unknown model, a module that cannot be captured, a module to be reused that does not run.
    """
    model = find(model_id)
    if model.trace is not None:
        return model.trace(request)
    stages, alone = model.stages(request), plain(request)
    data = to_data(alone)
    path = _entry(model, data)
    trace = _stored(path)
    if trace is None:
        trace = _capture(model, alone, model.stages(alone), data)
        _store(trace, path)
    return replace(of_stages(trace, stages), request=to_data(request))


def cached(model_id: str, request: Any) -> bool:
    """Whether `trace_of` has an entry for a request, sound or not; True of a user's own model, where it is not looked for.

    Raises SpecError for an unknown model.
    """
    model = find(model_id)
    return model.trace is not None or _entry(model, to_data(plain(request))).exists()


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
    versions = {name: importlib.metadata.version(name) for name in model.libraries}
    here = Path(__file__).parent
    files = [
        *(file for pattern in _CODE for file in sorted(here.glob(pattern))),
        Path(inspect.getfile(inspect.unwrap(model.stages))),
    ]
    code = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    return hashlib.sha256(json.dumps([model.id, captured, versions, code], sort_keys=True).encode()).hexdigest()[:24]


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


def _capture(model: Model, asked: Any, stages: tuple[Stage, ...], request: Mapping[str, Any]) -> Trace:
    if shows_progress():
        size = "x".join(str(request[name]) for name in ("frames", "height", "width") if name in request)
        print(f"capturing {model.id} {size} (once; about {_SECONDS} s) ...", file=sys.stderr)
    frames = request.get("frames")
    others = model.stages(replace(asked, frames=_other(frames, model.frame_step))) if frames else stages
    with quiet():
        from workloads.capture import assemble

        passes = [
            (stage.name, stage.module, stage.repeats, _captured(stage, other, frames))
            for stage, other in zip(stages, others, strict=True)
        ]
        return assemble(model.id, request, passes)


def _captured(stage: Stage, other: Stage, frames: int | None) -> CapturedPass:
    """A stage's pass; where the request has frames, its temporal attention found against the stage at other frames."""
    from workloads.capture import capture
    from workloads.temporal import with_temporal

    asked = [stage, other] if frames and stage.frames != 0 else [stage]
    found, *more = (capture(one.build(), *one.inputs(), path=stage.name, assume=stage.assume) for one in asked)
    for line in found.assumed:
        say(f"note: {line}")
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
