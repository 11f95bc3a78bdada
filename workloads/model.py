"""Model and Stage: what a pipeline runs for a request, and the registry of the files in `models/`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwspecs.errors import SpecError, nearest

if TYPE_CHECKING:
    from workloads.trace import Trace


@dataclass(frozen=True)
class Reuse:
    """What makes a stage a cached step: it leaves out modules of the stage `of`, and reads what that one computed in them."""

    of: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A torch module that a pipeline runs.

    Attributes:
        name: of the segment; goes before the module paths.
        module: who owns the weights; stages that run the same weights share it.
        repeats: runs in one inference.
        build: () -> the nn.Module on the meta device; imports torch when called.
        inputs: () -> (args, kwargs), tensors on the meta device.
        frames: that the module sees at most, where more than the request's (an interpolation); None: the request's;
            0: no attention is over frames alone, so that none is looked for.
        assume: answers to operators that need a tensor's values; see `workloads.kept.assumed`.
        steps: denoising steps that the repeats are made of; 0 where they are none.
        reuse: of a step that reuses features, which are not captured; see `workloads.transforms`.
        counts: whole numbers that its operators follow and its inputs do not show, such as how many chunks there are and what
            is left for the last: where the operators change, the model says by what.
        uncut: `build` of the same module that takes in one piece what a library cuts up; templates are then of this one.
        cut: (the trace of that module, the shape of its first input) -> of the one that runs; see `workloads.chunked`.
    """

    name: str
    module: str
    repeats: int
    build: Callable[[], Any]
    inputs: Callable[[], tuple[tuple[Any, ...], Mapping[str, Any]]]
    frames: int | None = None
    assume: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    reuse: Reuse | None = None
    counts: tuple[int, ...] = ()
    uncut: Callable[[], Any] | None = None
    cut: Callable[[Trace, tuple[int, ...]], Trace] | None = None


@dataclass(frozen=True)
class Model:
    """A pipeline with a published configuration.

    Attributes:
        id: as scenarios name it.
        title: as people name it.
        request: frozen pydantic dataclass of what can be asked of it, with defaults.
        stages: request -> stages in the order in which they run. Imports no torch.
        repeat_fields: fields of the request that change how often stages run, and nothing that is captured.
        sources: where the configuration is published.
        libraries: distributions whose versions decide what is captured.
        frame_step: the frame counts that a request may ask differ by multiples of it.
        trace: request -> its trace, of a user's own model (a capture file, or a stored trace); None for a built-in one.
        fingerprint: () -> what decides the traces beside the request, where the id does not say it.
    """

    id: str
    title: str
    request: type[Any]
    stages: Callable[[Any], tuple[Stage, ...]]
    repeat_fields: tuple[str, ...]
    sources: str
    libraries: tuple[str, ...]
    frame_step: int = 1
    trace: Callable[[Any], Trace] | None = None
    fingerprint: Callable[[], str] = str


def denoising(model: Model, request: Any) -> tuple[int, ...]:
    """Indices of the stages of one denoising step, each as often as the step runs it; () for a model without `steps`.

    Of steps that reuse features those count that run in full.
    """
    if not hasattr(request, "steps"):
        return ()
    once = replace(request, **{name: None for name in ("images", "cache") if hasattr(request, name)})
    steps = once.steps
    now, other = (model.stages(replace(once, steps=n)) for n in (steps, steps - 1 if steps > 1 else steps + 1))
    runs = {a.name: abs(a.repeats - b.repeats) for a, b in zip(now, other, strict=True)}
    return tuple(i for i, stage in enumerate(model.stages(request)) for _ in range(runs.get(stage.name, 0)))


def shown(request: Any, frames: float) -> float:
    """Frames of the clip for `frames` of the request, more where the model interpolates between them."""
    return (frames - 1) * getattr(request, "frames_between", 1) + 1


def shown_frames(request: Any) -> int | None:
    """Frames of each clip of a request, as `shown`; None for a model of images."""
    frames = getattr(request, "frames", None)
    return None if frames is None else int(shown(request, frames))


@cache
def models() -> dict[str, Model]:
    """Every model in `models/` by id, in alphabetical order; a file has MODEL, or MODELS where it holds several.

    ValueError when two files claim one id.
    """
    import workloads.models as package

    found: dict[str, Model] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
        module = importlib.import_module(f"workloads.models.{info.name}")
        several: tuple[Model, ...] = getattr(module, "MODELS", None) or (module.MODEL,)
        for model in several:
            if model.id in found:
                raise ValueError(f"workloads/models/{info.name}.py: model '{model.id}' is defined twice")
            found[model.id] = model
    return dict(sorted(found.items()))


def find(model_id: str) -> Model:
    """The model of an id, or at the path of a capture file or stored trace.

    SpecError names the nearest id; of a file whose ending says nothing, the endings.
    """
    from workloads.capture_model import ENDINGS, is_file, model_of

    if is_file(model_id):
        return model_of(model_id)
    known = models()
    if model_id not in known and Path(model_id).is_file():
        raise SpecError(f"{model_id}: a file, but no ending that framecast knows (known: {', '.join(ENDINGS)})")
    if model_id not in known:
        raise SpecError(f"unknown model '{model_id}'{nearest(model_id, known)} (known: {', '.join(known)})")
    return known[model_id]
