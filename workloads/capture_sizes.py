"""A user's model at any size, without its modules: templates of a capture file's stages, and the file that holds them.

`framecast capture FILE --out NAME.sizes` captures each stage at some sizes around those of the file, finds an exact expression
for every dimension as for the built-in models (`workloads.search`), proves them at sizes that took no part, and writes them.
Only finding them needs torch.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from hwspecs.errors import FramecastError, SpecError, StudyError
from hwspecs.notes import say
from hwspecs.spec import to_data
from workloads import templates
from workloads.capture_file import StageFile, input_of, repeat_only, repeats_of
from workloads.capture_inputs import TensorSpec, names
from workloads.capture_source import Source, searched
from workloads.join import join
from workloads.kind import kinds
from workloads.model import Model, Stage
from workloads.signature import Signature
from workloads.trace import Trace

SUFFIX = ".sizes"
VERSION = 1
DRAWN, SEED = 60, 0  # sizes drawn around those of the file; of the draws
NEAR = 2  # times the file's size, at most, are drawn; one proof is at up to twice as far
STEP, PARTS = (
    64,
    8,
)  # a dimension is drawn in steps of the largest power of 2 in it, up to STEP and up to a PARTS-th of it
SIBLINGS = 4  # sizes of each choice of dimensions that are shared with a rare structure


@dataclass(frozen=True)
class Sized:
    """One stage of a capture file at some dimensions."""

    captured: Any  # workloads.capture_model.Captured
    name: str
    stage: StageFile
    dims: Mapping[str, int]

    @property
    def model(self) -> str:
        """For messages."""
        return self.captured.where or self.stage.module

    @cached_property
    def signature(self) -> Signature:
        """Its numbers are those of `numbers_of`."""
        return Signature(self.stage.module, numbers_of(self.stage, self.dims), 0)


def numbers_of(stage: StageFile, dims: Mapping[str, int]) -> tuple[int, ...]:
    """What the sizes of a stage are expressions of: the extents of its inputs, and each dimension that no extent shows alone.

    SpecError as `input_of`.
    """
    inputs = [input_of(text, dims) for text in stage.inputs.values()]
    extents = [n for x in inputs if isinstance(x, TensorSpec) for n in x.shape]
    parts = [names(part) for text in stage.inputs.values() if isinstance(text, str) for part in text.split(",")]
    alone = {next(iter(part)) for part in parts if len(part) == 1}
    return (*extents, *(n for d, n in dims.items() if d not in alone))


def find(captured: Any) -> dict[str, Any]:
    """The templates of a capture file's stages, as the JSON of a `.sizes` file.

    SpecError: no dimension to vary, a stage of which nothing could be proven, and as a capture.
    """
    from workloads.capture_roles import check

    file, where = captured.file, captured.where or "--dim"
    kept = repeat_only(file)
    if not [d for d in file.dims if d not in kept]:
        raise SpecError(f"{where}: no dimension changes what is captured; name one (dims:, or --dim height=512)")
    stages = []
    check(
        [_observed(Sized(captured, n, s, _seen(file)), _seen(file)) for n, s in file.stages.items()], file.corrections
    )
    for name, stage in file.stages.items():
        stages.append(_stage(captured, name, stage))
    return {
        "format": "framecast sizes", "version": VERSION, "title": file.title, "dims": dict(file.dims),
        "repeat_only": list(kept), "kind_dims": {name: list(kind.dims) for name, kind in kinds().items()}, "stages": stages,
    }  # fmt: skip


def _seen(file: Any) -> dict[str, int]:
    """The dimensions that decide what is captured, at the file's values."""
    return {d: n for d, n in file.dims.items() if d not in repeat_only(file)}


def _stage(captured: Any, name: str, stage: StageFile) -> dict[str, Any]:
    from workloads.pool import Ways
    from workloads.search import Contradicted, find_family

    own = Sized(captured, name, stage, _seen(captured.file))
    first = _observed(own, own.dims)
    group = _distinct([own, *_drawn(own, random.Random(SEED), NEAR)])
    far = list(_drawn(own, random.Random(SEED + 1), 2 * NEAR))
    ways = Ways(partial(_taken, by_hand=first.by_hand), _siblings, quiet=True)
    try:
        found = find_family(group, far, ways=ways)
        if found.family.at(own.signature.numbers) is None:
            raise Contradicted("no structure could be proven at the file's own sizes")
    except Contradicted as error:
        raise SpecError(f"stages.{name}: sizes of no rule: {error}; capture each size instead") from None
    count = len(found.family.templates)
    say(
        f"{name}: {count} structure{'s' if count > 1 else ''} in {found.captures} captures, "
        f"{found.covered} of {found.drawn} sizes drawn"
    )
    return {
        "name": name, "repeats": stage.repeats, "inputs": stage.inputs, "notes": list(first.notes),
        "by_hand": [list(row) for row in first.by_hand], "family": templates.family_data(found.family),
    }  # fmt: skip


def _distinct(samples: Sequence[Sized]) -> list[Sized]:
    return list({s.signature.numbers: s for s in reversed(samples)}.values())[::-1]


def _observed(sample: Sized, dims: Mapping[str, int]) -> Any:
    from workloads.cache import quiet
    from workloads.capture_model import build
    from workloads.capture_roles import How, observed

    file, captured = sample.captured.file, sample.captured
    how = How(
        sample.name, partial(build, captured, sample.name, sample.stage), file.corrections, file.assume, file.real,
        file.by_hand == "fused",
    )  # fmt: skip
    with quiet(), searched(Source(sample.stage.module, captured.folder)):
        return observed(how, dims)


def _taken(sample: Sized, by_hand: tuple[tuple[str, str], ...]) -> Trace:
    """A fresh capture. ValueError where it has other attention written by hand than the file's own sizes."""
    from workloads.capture import assemble

    found = _observed(sample, sample.dims)
    if found.by_hand != by_hand:
        raise ValueError("another role of attention written by hand")
    return assemble("", {}, [("", "", 1, found.passed)])


def _drawn(own: Sized, rng: random.Random, times: int) -> Iterator[Sized]:
    """Samples at dimensions around a stage's own, each drawn by itself; sizes that its expressions cannot take left out."""
    for _ in range(DRAWN):
        yield from _at(own, {d: _value(n, rng, times) for d, n in own.dims.items()})


def _siblings(own: Sized, rng: random.Random) -> Iterator[Sized]:
    """Samples that share all dimensions but one with a stage, or one."""
    for kept in own.dims:
        for _ in range(SIBLINGS):
            drawn = {d: _value(own.captured.file.dims[d], rng, NEAR) for d in own.dims}
            yield from _at(own, {**own.dims, kept: drawn[kept]})
            yield from _at(own, {**drawn, kept: own.dims[kept]})


def _at(own: Sized, dims: Mapping[str, int]) -> Iterator[Sized]:
    sample = replace(own, dims=dims)
    try:
        if sample.signature.numbers:
            yield sample
    except FramecastError:
        return


def _value(own: int, rng: random.Random, times: int) -> int:
    """A value around a dimension's own, in steps that keep its factors of 2 for the most part."""
    step = min(own & -own, STEP, 1 << max(own // PARTS, 1).bit_length() - 1)
    return step * max(1, round(math.exp(rng.uniform(0, math.log(max(times * own // step, 2))))))


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Raises StudyError where that cannot be."""
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(text.encode()))
    except OSError as error:
        raise StudyError(f"{path}: cannot be written: {error.strerror or error}") from None


def model(path: str) -> Model:
    """The model in a `.sizes` file: any size that its templates cover, without torch. StudyError for a file that is none."""
    from workloads.capture_model import request_type

    data = _load(Path(path))
    stages = [_held(s) for s in data["stages"]]
    return Model(
        id=path,
        title=data["title"] or Path(path).stem,
        request=request_type(data["dims"]),
        stages=lambda request: tuple(_as_stage(s, to_data(request)) for s in stages),
        repeat_fields=tuple(data["repeat_only"]),
        sources=", ".join(str(s["name"]) for s in data["stages"]),
        libraries=(),
        trace=lambda request: _trace(path, data, stages, to_data(request)),
        fingerprint=lambda: hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    )


@dataclass(frozen=True)
class Held:
    """A stage of a `.sizes` file."""

    name: str
    file: StageFile
    family: templates.Family
    notes: tuple[str, ...]
    by_hand: tuple[tuple[str, str], ...]


def _held(entry: Mapping[str, Any]) -> Held:
    """A stage's entry, read."""
    file = StageFile(module="none:none", inputs=entry["inputs"], repeats=entry["repeats"])
    by_hand = tuple((str(path), str(role)) for path, role in entry["by_hand"])
    return Held(entry["name"], file, templates.family(entry["family"], {}), tuple(entry["notes"]), by_hand)


def _as_stage(held: Held, dims: Mapping[str, int]) -> Stage:
    repeats = repeats_of(held.file, dims, floor=True)
    return Stage(held.name, held.name, repeats, lambda: None, lambda: ((), {}))


def _trace(path: str, data: Mapping[str, Any], stages: Sequence[Held], dims: Mapping[str, int]) -> Trace:
    """The trace at some dimensions. SpecError where nothing was proven."""
    seen = {d: n for d, n in dims.items() if d not in data["repeat_only"]}
    parts = []
    for held in stages:
        try:
            found = held.family.at(numbers_of(held.file, seen))
        except SpecError as error:
            raise SpecError(f"{path}: stages.{held.name}: {problem}" for problem in error.problems) from None
        if found is None:
            size = ", ".join(f"{d} {n}" for d, n in seen.items())
            text = f"nothing was proven at {size} for {held.name}; capture that size where the module is at hand"
            raise SpecError(f"{path}: {text}")
        (segment,) = found.segments
        named = replace(segment, name=held.name, module=held.name, repeats=repeats_of(held.file, dims))
        parts.append(replace(found, segments=(named,), notes=held.notes, by_hand=held.by_hand))
    return join(path, dict(dims), parts)


def _load(path: Path) -> dict[str, Any]:
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        data = json.loads(lzma.decompress(stored))
    except (lzma.LZMAError, EOFError, ValueError):
        raise StudyError(f"{path}: truncated, damaged, or not written by framecast capture") from None
    if not isinstance(data, dict) or data.get("format") != "framecast sizes" or data.get("version") != VERSION:
        raise StudyError(
            f"{path}: expected a file that `framecast capture --out NAME{SUFFIX}` wrote, of version {VERSION}"
        )
    used = {kind for s in data["stages"] for t in s["family"]["templates"] for kind in t["kinds"]}
    for kind in sorted(used):
        if kind not in kinds() or data["kind_dims"].get(kind) != list(kinds()[kind].dims):
            raise StudyError(f"{path}: made with other dimensions of operator kind '{kind}'; write it again")
    return data
