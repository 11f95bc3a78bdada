"""Exact laws in image size and frames, of the denoiser of every pipeline that has one.

Convolutions and linear layers follow the positions, attention over positions their square. A list of alike transformer blocks
is cut to its first and last: what holds of two holds of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import combinations
from typing import Any

import pytest

from tests.workloads.test_library_models_totals import MODELS as LIBRARY
from tests.workloads.test_suite import SMALL
from workloads.capture import CapturedCall, capture
from workloads.kind import Dims, kinds
from workloads.model import Stage, find
from workloads.ops.attention import DIMS, ROLES

# Models whose attention runs over text and image together: tokens of text in its sequence, pixels of a token along a side.
JOINT = {
    "sd3-medium": 333,
    "flux.1-dev": 512,
    "hunyuanvideo": 256,
    "cogvideox-2b": 226,
    "cogvideox-5b": 226,
    "mochi": 256,
}
PIXELS = {"ltx-video": 32, "stable-diffusion-1.5": 64, "stable-diffusion-2.1": 64, "sdxl": 32, "production-latent": 64}
# of a position of the coarsest attention along a side; 16 elsewhere
GROUPS = {
    "cogvideox-2b": 4,
    "cogvideox-5b": 4,
    "wan2.1-1.3b": 4,
    "wan2.1-14b": 4,
    "hunyuanvideo": 4,
    "ltx-video": 8,
    "mochi": 6,
}
DENOISER = {"imagen": "base", "muse": "base"}
IMAGES = (
    "stable-diffusion-1.5", "stable-diffusion-2.1", "sdxl", "production-latent", "dit-xl-2", "pixart-alpha", "sd3-medium",
    "flux.1-dev", "imagen", "muse",
)  # fmt: skip
VIDEOS = (*GROUPS, "phenaki")  # with attention over space and time together
APART = (
    "animatediff",
    "svd-xt",
    "latte",
    "modelscope-t2v",
)  # over space and over time; frames: test_library_models_frames


def stage_of(model: str, **more: Any) -> Stage:
    """The denoiser for a request at the model's small size, changed."""
    given = LIBRARY[model][0] if model in LIBRARY else SMALL.get(model, {})
    found = find(model).stages(find(model).request(**{**given, **more}))
    names = (DENOISER.get(model), "unet", "transformer")
    return next(s for s in found if s.name in names)


@cache
def module_of(model: str, key: tuple[Any, ...]) -> Any:
    """The module with at most two of each list of blocks; `key`: what it is made for, where that matters."""
    from torch import nn

    module = stage_of(model, **dict(key)).build()
    if type(module).__name__.startswith("UNet"):
        return module
    for name, part in list(module.named_children()):
        if isinstance(part, nn.ModuleList) and len(part) > 2:
            setattr(module, name, nn.ModuleList([part[0], part[-1]]))
    return module


def counted(
    model: str, fixed: bool = False, over_time: int = 0, **more: Any
) -> tuple[Counter[str], set[tuple[int, int]]]:
    """FLOPs of one pass by kind and, of attention, role; distinct (q_len, kv_len) of attention within itself.

    over_time: attention of a sequence of that length counts as temporal.
    """
    stage = stage_of(model, **more)
    key = tuple(sorted(more.items())) if fixed else ()
    traced = capture(module_of(model, key), *stage.inputs(), path=stage.name, assume=stage.assume)
    total: Counter[str] = Counter()
    for call in traced.calls:
        what = _what(call)
        what = "temporal" if what == "self" and _dims(call)["q_len"] == over_time else what
        total[what] += int(kinds()[call.kind].flops(Dims(_dims(call))))
    own = {
        (d["q_len"], d["kv_len"])
        for c in traced.calls
        if c.kind == "attention" and _what(c) == "self"
        for d in (_dims(c),)
    }
    return total, own


def _dims(call: CapturedCall) -> dict[str, int]:
    return dict(zip(kinds()[call.kind].dims, call.dims, strict=True))


def _what(call: CapturedCall) -> str:
    return ROLES[call.dims[DIMS.index("role")]] if call.kind == "attention" else call.kind


def ratio(found: Mapping[Any, Counter[str]], kind: str, power: int) -> set[float]:
    """FLOPs of a kind over a power of the positions, at all sizes: one value where the law holds."""
    return {counts[kind] / n**power for n, counts in found.items()}


@pytest.mark.parametrize("model", IMAGES)
def test_two_image_sizes(model: str) -> None:
    """Convolution and cross-attention are linear in the positions, self-attention quadratic, or joint with the text."""
    side = PIXELS.get(model, 16)
    square = model == "dit-xl-2"  # which takes no other; its and Muse's positions are made for a size
    scale = 4 if model == "imagen" else 1  # whose base is a sixteenth of the image
    found, lengths = {}, {}
    for height, width in ((64, 64), (128, 128) if square else (128, 192)):
        counts, own = counted(model, square or model == "muse", height=scale * height, width=scale * width)
        tokens = (height // side) * (width // side)
        found[height * width], lengths[height * width] = counts, (tokens, own)
    assert len(ratio(found, "conv", 1)) == 1
    assert len(ratio(found, "cross", 0 if model == "imagen" else 1)) == 1  # Imagen's is of the pooled text
    if model in JOINT:
        assert all(own == {(JOINT[model] + n, JOINT[model] + n)} for n, own in lengths.values())
    elif model == "imagen":  # 16 keys of the text beside those of the image, at three levels
        for n, own in lengths.values():
            assert {(q_len, q_len + 16) for q_len in (4 * n, n, n // 4)} <= own
    else:
        assert len(ratio(found, "self", 2)) == 1


@pytest.mark.parametrize("model", VIDEOS)
def test_three_frame_counts_and_two_sizes_of_attention_over_space_and_time(model: str) -> None:
    """A sequence of all positions of all latent frames, with the text's where it is joint; cross-attention linear."""
    group, text = GROUPS.get(model, 2), JOINT.get(model, 0)
    found = {}
    for frames, height in ((1 + group, 64), (1 + 2 * group, 64), (1 + 4 * group, 64), (1 + group, 128)):
        counts, own = counted(model, model == "phenaki", frames=frames, height=height, width=64)
        side = PIXELS.get(model, 8 if model == "phenaki" else 16)
        tokens = (1 + (frames - 1) // group) * (height // side) * (64 // side)
        assert (text + tokens, text + tokens) in own
        found[tokens] = counts
    assert len(ratio(found, "cross", 1)) == 1
    if not text:
        assert len(ratio(found, "self", 2)) == 1
    assert all(found[n][kind] < found[m][kind] for n, m in combinations(sorted(found), 2) for kind in ("self", "gemm"))


@pytest.mark.parametrize("model", APART)
def test_two_sizes_of_attention_over_space_and_over_time(model: str) -> None:
    """At 5 frames and 1, 6 or more positions: over space quadratic in the positions, over time linear."""
    found = {}
    for height, width in ((64, 64), (128, 192)):
        given = {"height": height, "width": width, "frames": 5}
        found[height * width], _ = counted(model, model == "latte", over_time=5, **given)
    assert len(ratio(found, "self", 2)) == len(ratio(found, "temporal", 1)) == len(ratio(found, "cross", 1)) == 1
    assert found[64 * 64]["temporal"] > 0
    assert len(ratio(found, "conv", 1)) == 1
