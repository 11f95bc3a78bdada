"""What a request may change of a pipeline without changing the model: images in turn, tiled decoding, feature caching.

They change what is computed; what they do to the images is not asked. Images and tiles act on stages: other repeats, other
inputs. Feature caching acts on a captured trace: a cached step is the full step without the calls under the named modules,
and reads the tensors that those produced in the full step, by their ids: they stay in memory between the steps, and are read
anew in each. Guidance is a matter of the models' own inputs, see `workloads.fields.passes`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial, wraps
from itertools import product
from typing import Any

import numpy as np

from hwspecs.errors import SpecError, nearest
from workloads.kind import Ints
from workloads.model import Reuse, Stage
from workloads.trace import Segment, Trace

DECODER = "vae_decoder"  # the stage that tiles cut up, in the models that have one
OVERLAP = 0.25  # share of a tile that the next one decodes again; diffusers, AutoencoderKL.tile_overlap_factor
DERIVED = ("images", "cache")  # fields that act on what was captured: no capture depends on them
FIELD = "request.cache.reuse"


def transformed(pixels: int = 8) -> Callable[[Callable[..., tuple[Stage, ...]]], Callable[..., tuple[Stage, ...]]]:
    """Decorates a model's `stages`, whose last argument is the request: those of its fields are applied that are given.

    `pixels`: of the image, per latent along a side. Calls raise SpecError for cached modules of no denoising stage.
    """

    def of(stages: Callable[..., tuple[Stage, ...]]) -> Callable[..., tuple[Stage, ...]]:
        @wraps(stages)
        def run(*args: Any) -> tuple[Stage, ...]:
            request, found = args[-1], stages(*args)
            if tile := getattr(request, "vae_tile", None):
                sides = request.height // pixels, request.width // pixels
                found = tiled(found, tiles(*sides, tile // pixels), pixels)
            if kept := getattr(request, "cache", None):
                found = cached(found, kept.every, kept.reuse)
            if images := getattr(request, "images", None):
                found = tuple(replace(s, repeats=s.repeats * (images // request.batch)) for s in found)
            return found

        return run

    return of


def tiles(height: int, width: int, tile: int) -> Counter[tuple[int, int]]:
    """How many tiles of which (height, width) diffusers decodes an image in, all in latents; tiles at the ends are cut short.

    A tile starts every (1 - OVERLAP) of a tile; an image within one tile is decoded whole (AutoencoderKL.tiled_decode).
    """
    if max(height, width) <= tile:
        return Counter({(height, width): 1})
    stride = int(tile * (1 - OVERLAP))
    rows, columns = ([min(tile, side - start) for start in range(0, side, stride)] for side in (height, width))
    return Counter(product(rows, columns))


def tiled(stages: tuple[Stage, ...], counts: Counter[tuple[int, int]], pixels: int) -> tuple[Stage, ...]:
    """The stages with the decoder run once for each tile: a stage for each size, latents being the last two dimensions."""
    if len(counts) == counts.total() == 1:
        return stages
    found: list[Stage] = []
    for stage in stages:
        if stage.name != DECODER:
            found.append(stage)
            continue
        for (height, width), count in counts.items():
            name = f"{DECODER}_{height * pixels}x{width * pixels}"
            inputs = partial(_cropped, stage.inputs, height, width)
            found.append(replace(stage, name=name, repeats=count * stage.repeats, inputs=inputs))
    return tuple(found)


def cached(stages: tuple[Stage, ...], every: int, paths: Sequence[str]) -> tuple[Stage, ...]:
    """The stages with every `every`-th step of those that `paths` name in full, and a stage for the steps between.

    SpecError for a path that begins with no denoising stage's name.
    """
    named: dict[str, list[str]] = {stage.name: [] for stage in stages if stage.steps}
    for path in paths:
        if (first := path.partition(".")[0]) not in named:
            text = f"expected a path that begins with a denoising stage: {', '.join(named)}{nearest(first, named)}"
            raise SpecError(f"{FIELD}: found '{path}', {text}")
        named[first].append(path)
    return tuple(one for stage in stages for one in _in_part(stage, every, tuple(named.get(stage.name, ()))))


def _in_part(stage: Stage, every: int, paths: tuple[str, ...]) -> Iterator[Stage]:
    """The stage in full, every `every`-th step, and the steps between; as it is where there are none."""
    full = -(-stage.steps // every)
    if not paths or full == stage.steps:
        yield stage
        return
    runs = stage.repeats // stage.steps
    yield replace(stage, repeats=runs * full)
    kept = Reuse(stage.name, paths)
    yield replace(stage, name=f"{stage.name}_cached", repeats=stage.repeats - runs * full, reuse=kept)


def plain(request: Any) -> Any:
    """The request without the fields that no capture depends on."""
    given = {name: None for name in DERIVED if getattr(request, name, None) is not None}
    return replace(request, **given) if given else request


def of_stages(trace: Trace, stages: Sequence[Stage]) -> Trace:
    """What was captured of the stages that are captured, as a trace of all of them, with their repeats.

    SpecError for a module to be reused that does not run.
    """
    runs = [stage for stage in stages if stage.reuse is None]
    segments = (replace(s, repeats=stage.repeats) for s, stage in zip(trace.segments, runs, strict=True))
    found = replace(trace, segments=tuple(segments))
    for stage in stages:
        if stage.reuse is not None:
            found = reusing(found, stage.reuse, stage.name, stage.repeats)
    return found


def reusing(trace: Trace, reuse: Reuse, name: str, repeats: int) -> Trace:
    """The trace with a segment behind `reuse.of`: the same calls but for those under `reuse.paths`, whose results it reads.

    SpecError for a path of no module that runs there, or where nothing would be left to run.
    """
    index = next(i for i, s in enumerate(trace.segments) if s.name == reuse.of)
    segment = trace.segments[index]
    calls = np.arange(segment.start, segment.stop)
    dropped = _under(trace, segment, reuse.paths)
    if dropped.all():
        raise SpecError(
            f"{FIELD}: found '{', '.join(reuse.paths)}', which leaves nothing of a step; name modules inside"
        )
    inputs, outputs, sizes = _relinked(trace, calls, dropped)
    kept = calls[~dropped]
    last = len(kept)
    added = replace(segment, name=name, start=segment.stop, stop=segment.stop + last, repeats=repeats)
    later = (replace(s, start=s.start + last, stop=s.stop + last) for s in trace.segments[index + 1 :])
    at = segment.stop
    return replace(
        trace,
        call_op=np.insert(trace.call_op, at, trace.call_op[kept]),
        call_path=np.insert(trace.call_path, at, trace.call_path[kept]),
        call_in_attention=np.insert(trace.call_in_attention, at, trace.call_in_attention[kept]),
        **_inserted(trace, "input", at, inputs),
        **_inserted(trace, "output", at, outputs),
        tensor_bytes=np.append(trace.tensor_bytes, trace.tensor_bytes[sizes]),
        tensor_is_weight=np.append(trace.tensor_is_weight, np.zeros(len(sizes), dtype=np.bool_)),
        segments=(*trace.segments[: index + 1], added, *later),
    )  # fmt: skip


def _cropped(inputs: Callable[[], Any], height: int, width: int) -> Any:
    """The inputs with a first one of another height and width."""
    (latents, *rest), known = inputs()
    return (latents.new_empty((*latents.shape[:-2], height, width)), *rest), known


def _under(trace: Trace, segment: Segment, paths: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which calls of a segment run at or under the paths, bool (calls,). SpecError for a path of no module that runs there."""
    ran = trace.call_path[segment.start : segment.stop]
    steps = {int(p): trace.paths[p].split(".") for p in np.unique(ran)}
    known = {".".join(step[:n]) for step in steps.values() for n in range(1, len(step) + 1)}
    wanted: set[str] = set()
    for path in paths:
        for one in _written_out(path):
            if one not in known:
                text = f"found '{path}', which" if one == path else f"found '{path}', of which '{one}'"
                raise SpecError(f"{FIELD}: {text} is no module that a step of {segment.name} runs{nearest(one, known)}")
            wanted.add(one)
    chosen = [p for p, step in steps.items() if any(".".join(step[:n]) in wanted for n in range(1, len(step) + 1))]
    return np.isin(ran, chosen)


def _written_out(path: str) -> Iterator[str]:
    """'unet.down_blocks.1-3' -> unet.down_blocks.1, .2, .3. SpecError for a range that runs backwards."""
    parts: list[Any] = []
    for part in path.split("."):
        ends = re.fullmatch(r"(\d+)-(\d+)", part)
        if ends and int(ends[1]) > int(ends[2]):
            raise SpecError(f"{FIELD}: found '{path}', expected '{ends[2]}-{ends[1]}': a range from low to high")
        parts.append(map(str, range(int(ends[1]), int(ends[2]) + 1)) if ends else (part,))
    return map(".".join, product(*parts))


def _relinked(trace: Trace, calls: Ints, dropped: Any) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Inputs and outputs of the calls that stay, and for each tensor of their own which one it is like.

    A tensor that a dropped call wrote last is the full step's; weights are shared; all others are new ones.
    """
    own: dict[int, int] = {}
    stored: dict[int, bool] = {}  # tensor -> whether the call that wrote it last was dropped

    def like(tensor: int) -> int:
        return tensor if trace.tensor_is_weight[tensor] else own.setdefault(tensor, len(trace.tensor_bytes) + len(own))

    inputs, outputs = [], []
    for call, gone in zip(calls.tolist(), dropped.tolist(), strict=True):
        written = trace.outputs(call).tolist()
        if not gone:
            inputs.append([t if stored.get(t) else like(t) for t in trace.inputs(call).tolist()])
            outputs.append([like(t) for t in written])
        stored.update(dict.fromkeys(written, gone))
    return inputs, outputs, list(own)


def _inserted(trace: Trace, side: str, at: int, rows: list[list[int]]) -> dict[str, Any]:
    """The ids and offsets of 'input' or 'output' with further calls' lists before call `at`."""
    ids, offsets = getattr(trace, f"{side}_ids"), getattr(trace, f"{side}_offsets")
    new = np.array([tensor for row in rows for tensor in row], dtype=np.int64)
    lengths = np.insert(np.diff(offsets), at, [len(row) for row in rows])
    return {
        f"{side}_ids": np.insert(ids, offsets[at], new),
        f"{side}_offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    }
