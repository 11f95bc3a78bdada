"""Requests to capture a model at, drawn at random from all that it takes, and the stages that they ask for.

For maintainers: the templates of `workloads.templates` are found and proven at these.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, islice, product
from typing import Any, Literal, get_args, get_origin

from hwspecs import spec
from hwspecs.errors import FramecastError
from workloads.model import Model, Stage, find
from workloads.signature import Signature, signature
from workloads.trace import Trace

SMALL = 0.35  # share of the draws of a number that are among its least FEW values: there structures change
FEW = 12
DTYPES = ("fp16", "bf16", "fp32")
LIMITS = {"frames": 61, "batch": 5}  # largest values drawn: a capture of a loop over frames or images takes seconds
FAR = 2  # times as far is drawn for proofs at large sizes
LIMIT = 2048  # of any other number
USUAL = 0.25  # share of the draws that are around the default request
AROUND = (-0.8, 0.5)  # logarithm of how many times its numbers
SIBLINGS = 6  # requests of each choice of numbers that are shared with one
NEXT = 0.3  # share of `least` that are next to the least
TRIES = 500  # draws, one after the other, that a model may refuse
KEPT = 4  # modules that are kept, at most
DRAWS, LARGE_DRAWS = (
    200,
    40,
)  # requests drawn of a model for `pool`; and at sizes beyond those that templates are found at
SIDES = (256, 512, 768, 1024)  # pixels of a side that users ask for
BATCHES = (1, 2, 4)  # images or clips that users ask for at a time
CORNERS = {"height": 3, "width": 3, "frames": 2, "batch": 2}  # least values of each, for `least_together`
SCANNED = 600  # consecutive whole numbers, searched for the least that a field takes and for its step


@dataclass(frozen=True)
class Sample:
    """A stage of a drawn request, and the same stage at other frames (itself where the request has none)."""

    model: str
    request: Any
    signature: Signature
    stage: Stage
    other: Stage
    frames: int | None


def samples(model: Model, draws: int, rng: random.Random, *, large: bool = False, **fixed: Any) -> Iterator[Sample]:
    """The stages of the default request and of drawn ones, each in every dtype; those without a signature are left out.

    large: from FAR times as far. fixed: fields that are not drawn.
    """
    usual = () if large or fixed else (model.request(),)
    for request in (*usual, *islice(requests(model, rng, large=large, **fixed), draws)):
        for dtype in DTYPES:
            yield from of_request(model, replace(request, dtype=dtype))


def of_request(model: Model, request: Any) -> Iterator[Sample]:
    """The stages of a request."""
    from workloads.cache import others

    frames = getattr(request, "frames", None)
    for stage, other in zip(model.stages(request), others(model, request), strict=True):
        found = signature(stage, frames)
        if found is not None:
            yield Sample(model.id, request, found, stage, other, frames)


def requests(model: Model, rng: random.Random, *, large: bool = False, **fixed: Any) -> Iterator[Any]:
    """Requests, each field drawn by itself; fields that only change repeats have their defaults.

    Some are around the default request, whose sizes may be beyond LIMITS. Without end, but where the fixed fields have values
    that the model does not take together: it ends after TRIES that were refused one after the other.
    """
    fields = [f for f in spec.fields(model.request) if f.path not in fixed]
    refused = 0
    while refused < TRIES:
        usual = not large and rng.random() < USUAL
        if usual:
            drawn = {f.path: _around(model, f, rng, getattr(model.request(), f.path, None)) for f in fields}
        else:
            drawn = {f.path: _drawn(model, f, rng, FAR if large else 1) for f in fields}
        known = {name: value for name, value in {**drawn, **fixed}.items() if value is not None}
        if "height" in known and rng.random() < 0.2 and "width" not in fixed:
            known["width"] = known["height"]
        request = valid(model, known)
        refused = refused + 1 if request is None else 0
        if request is not None:
            yield request


def least(model: Model, rng: random.Random, **fixed: Any) -> Iterator[Any]:
    """Requests with one or two whole numbers at the least that they may be, or next to it, the others drawn, a few times each."""
    names = [f.path for f in spec.fields(model.request) if _counts(model, f) and f.path not in fixed]
    for chosen in [(), *combinations(names, 1), *combinations(names, 2)]:
        for _ in range(SIBLINGS if len(chosen) == 1 else 1):
            start = {name: progression(model, name) for name in chosen}
            known = {name: first + step * (rng.random() < NEXT) for name, (first, step) in start.items()}
            yield from islice(requests(model, rng, **{**known, **fixed}), 1)


def usual(model: Model) -> Iterator[Any]:
    """The default request and those beside it that users ask for, without any drawn at random.

    First one thing changed: the size (SIDES, square, and one side alone), the batch, another number to about half or twice, a
    choice; then the size with the batch and with the choices. `dtype` stays: see `in_every_dtype`.
    """
    own = model.request()
    whole = [f.path for f in spec.fields(model.request) if _counts(model, f)]
    sides = [name for name in ("height", "width") if name in whole]
    sizes: list[dict[str, Any]] = [dict.fromkeys(sides, side) for side in SIDES if sides]
    sizes += [{name: side} for name in sides for side in SIDES] if len(sides) > 1 else []
    others: list[dict[str, Any]] = [{"batch": n} for n in BATCHES if "batch" in whole]
    others += [
        {name: _near_value(model, name, getattr(own, name) * times)}
        for name in whole
        if name not in (*sides, "batch")
        for times in (0.5, 2)
    ]
    for f in spec.fields(model.request):
        if f.path != "dtype" and type(value := getattr(own, f.path, None)) in (bool, str):
            choices = (not value,) if isinstance(value, bool) else get_args(f.type)
            others += [{f.path: c} for c in choices if c != value]
    changes = [{}, *sizes, *others, *({**a, **b} for a in sizes for b in others)]
    yield from (r for change in changes if (r := valid(model, change)) is not None)


def least_together(model: Model, **fixed: Any) -> Iterator[Any]:
    """Requests whose sides, frames and batch are at their least, next to it, or as by default, in every combination; each of
    them also with one choice changed, or another number at its least. fixed: fields that have one value in all."""
    own = model.request()
    whole = [f.path for f in spec.fields(model.request) if _counts(model, f) and f.path not in fixed]
    sizes = {name: _corner_values(model, name, count) for name, count in CORNERS.items() if name in whole}
    changes: list[dict[str, Any]] = [{}]
    changes += [{name: progression(model, name)[0]} for name in whole if name not in CORNERS]
    for f in spec.fields(model.request):
        if f.path not in fixed and isinstance(value := getattr(own, f.path, None), bool):
            changes.append({f.path: not value})
    for values, change in product(product(*sizes.values()), changes):
        request = valid(model, {**dict(zip(sizes, values, strict=True)), **change, **fixed})
        if request is not None:
            yield request


def corners(wanted: Iterable[Model]) -> dict[str, list[Sample]]:
    """The stages of `least_together` of some models, in every dtype, by key."""
    return by_key(s for model in wanted for s in in_every_dtype(model, least_together(model)))


def _corner_values(model: Model, name: str, count: int) -> list[int]:
    """The least values of a whole number, so many of them, and its default."""
    first, step = progression(model, name)
    return sorted({*range(first, first + count * step, step), getattr(model.request(), name)})


def in_every_dtype(model: Model, found: Iterable[Any]) -> Iterator[Sample]:
    """The stages of requests, each in every dtype."""
    for request, dtype in product(found, DTYPES):
        yield from of_request(model, replace(request, dtype=dtype))


def _near_value(model: Model, name: str, value: float) -> int:
    """The value nearest to one that a whole number of a request may have."""
    first, step = progression(model, name)
    return first + step * max(0, round((value - first) / step))


def _counts(model: Model, field: spec.Field) -> bool:
    return type(getattr(model.request(), field.path, None)) is int and field.path not in model.repeat_fields


def siblings(sample: Sample, rng: random.Random) -> Iterator[Sample]:
    """Stages of a sample's key, of requests that share some of its whole numbers, each choice of them a few times."""
    model = find(sample.model)
    given = {f.path: getattr(sample.request, f.path, None) for f in spec.fields(model.request)}
    numbers = [n for n, value in given.items() if type(value) is int and n not in model.repeat_fields]
    for count in range(len(numbers) - 1, 0, -1):
        for kept in combinations(numbers, count):
            others = [f for f in spec.fields(model.request) if f.path in numbers and f.path not in kept]
            for turn in range(SIBLINGS):
                drawn = {
                    f.path: _around(model, f, rng, given[f.path]) if turn % 2 else _drawn(model, f, rng, 1)
                    for f in others
                }
                request = valid(model, {n: v for n, v in {**given, **drawn}.items() if v is not None})
                if request is not None:
                    yield from (s for s in of_request(model, request) if s.signature.key == sample.signature.key)


def _drawn(model: Model, field: spec.Field, rng: random.Random, times: int) -> Any:
    """A value of a field; None: its default. What is not asked for by default changes a request's stages, and is left out."""
    if field.path in model.repeat_fields or getattr(model.request(), field.path, None) is None:
        return None
    if bool in (field.type, *get_args(field.type)):
        return rng.random() < 0.5
    if get_origin(field.type) is Literal:
        return rng.choice(get_args(field.type))
    if field.type is not int:
        return None
    least, step = progression(model, field.path)
    count = max(1, (LIMITS.get(field.path, LIMIT) * times - least) // step)
    index = min(rng.randrange(FEW), count) if rng.random() < SMALL else round(math.exp(rng.uniform(0, math.log(count))))
    return least + step * index


def _around(model: Model, field: spec.Field, rng: random.Random, own: Any) -> Any:
    """A value around a field's own, where that is a whole number; else as `_drawn`."""
    if type(own) is not int or field.path in model.repeat_fields:
        return _drawn(model, field, rng, 1)
    least, step = progression(model, field.path)
    return least + step * max(0, round((own * math.exp(rng.uniform(*AROUND)) - least) / step))


@cache
def progression(model: Model, name: str) -> tuple[int, int]:
    """(least, step) of the values that a whole number of a request may have."""
    taken = [n for n in range(SCANNED) if valid(model, {name: n, **({"width": n} if name == "height" else {})})]
    if not taken and name == "width":
        return progression(model, "height")
    return taken[0], (taken[1] - taken[0] if len(taken) > 1 else 1)


def valid(model: Model, values: dict[str, Any]) -> Any:
    """A request with those values; None where the model takes none such."""
    try:
        return model.request(**values)
    except (FramecastError, ValueError):
        return None


def uncut(sample: Sample) -> Trace:
    """What a template is of: as `captured`, where the stage has a module that takes everything in one piece, of that one."""
    stage, other = (replace(s, build=s.uncut or s.build) for s in (sample.stage, sample.other))
    return captured(replace(sample, stage=stage, other=other))


def captured(sample: Sample) -> Trace:
    """The trace of a sample's stage alone, one segment without a name. SpecError as `workloads.capture.capture`."""
    from workloads.cache import captured_stage

    stage, other = (replace(s, name="", build=_kept(s, sample.frames)) for s in (sample.stage, sample.other))
    return captured_stage(stage, other, sample.frames)


def _kept(stage: Stage, frames: int | None) -> Callable[[], Any]:
    """A stage's `build`, whose modules are kept: making one takes longer than capturing it."""
    found = signature(stage, frames)
    if found is None:
        return stage.build
    key = found.module

    def build() -> Any:
        if key not in _MODULES:
            if len(_MODULES) >= KEPT:
                _MODULES.clear()
            _MODULES[key] = stage.build()
        return _MODULES[key]

    return build


_MODULES: dict[Any, Any] = {}


def forget() -> None:
    """Let go of the modules that are kept."""
    _MODULES.clear()


def by_key(found: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Samples of distinct numbers, by the key of their signature."""
    held: dict[str, dict[tuple[int, ...], Sample]] = {}
    for sample in found:
        held.setdefault(sample.signature.key, {}).setdefault(sample.signature.numbers, sample)
    return {key: list(distinct.values()) for key, distinct in held.items()}


def pool(wanted: Iterable[Any], rng: random.Random, *, large: bool) -> dict[str, dict[str, list[Sample]]]:
    """Samples of all models by function and key, shuffled, but for the first."""
    drawn = [s for model in wanted for s in samples(model, LARGE_DRAWS if large else DRAWS, rng, large=large)]
    found: dict[str, dict[str, list[Sample]]] = {}
    for key, group in sorted(by_key(drawn).items()):
        first = group[0]
        rng.shuffle(group)
        group.sort(key=lambda s: s is not first)  # the default request of some model, where it has this key
        found.setdefault(group[0].signature.function, {})[key] = group
    return found
