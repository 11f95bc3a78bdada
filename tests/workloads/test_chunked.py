"""What diffusers cuts up in a decoder, added by rule to the trace of one that cuts nothing: equal to captures of what it runs."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hwspecs.errors import SpecError
from workloads import chunked, samples, templates
from workloads.cache import carried, trace_of
from workloads.join import join
from workloads.kind import kinds
from workloads.model import find
from workloads.samples import Sample
from workloads.trace import Trace, same


def decoder(model: str, **asked: Any) -> Sample:
    found = find(model)
    return next(s for s in samples.of_request(found, found.request(**asked)) if s.stage.name == "vae_decoder")


def calls_of(trace: Trace, kind: str, **dims: int) -> int:
    names = kinds()[kind].dims
    values = trace.op_dims[trace.call_op][:, [names.index(n) for n in dims]]
    return int((np.isin(trace.call_op, trace.ops_of(kind)) & (values == list(dims.values())).all(axis=1)).sum())


def test_pieces_are_those_of_the_library() -> None:
    """part_num = int(memory / 2 GB) + 1 and torch.chunk, as CogVideoXSafeConv3d has them."""
    import torch

    rng = random.Random(5)
    for _ in range(400):
        frames, rest = rng.randrange(1, 120), rng.randrange(1, 1 << rng.randrange(20, 27))
        memory = frames * rest * 2 / 1024**3
        parts = torch.chunk(torch.empty(frames, device="meta"), int(memory / 2) + 1)
        expected = tuple(len(part) for part in parts) if memory > 2 else (frames,)
        assert chunked.pieces(frames, frames * rest) == expected


# Cut on several levels in different numbers; one frame left for the last; none cut; at 784 x 656 the positions at the edges
# decide: without them Mochi's largest convolution would be cut in 9. (channels, taps) -> calls that its level makes of each.
@pytest.mark.parametrize(
    ("model", "asked", "channels", "times"),
    [
        ("mochi", {"height": 784, "width": 656, "frames": 139}, 128, 10),
        ("mochi", {"height": 400, "width": 640, "frames": 73, "batch": 2}, 256, 3),
        ("mochi", {"height": 128, "width": 96, "frames": 19}, 128, 1),
        ("cogvideox-2b", {"height": 768, "width": 1360, "frames": 17}, 128, 2 + 2),
        ("cogvideox-5b", {"height": 480, "width": 720, "frames": 13, "batch": 3}, 128, 2 + 2),
        ("cogvideox-2b", {"height": 480, "width": 832, "frames": 9}, 128, 1),
    ],
)
def test_what_the_rule_cuts_is_what_the_library_runs(
    model: str, asked: dict[str, Any], channels: int, times: int
) -> None:
    sample = decoder(model, **asked)
    uncut, captured = samples.uncut(sample), samples.captured(sample)
    assert same(join("", {}, [templates.whole(sample.stage, uncut)]), captured)
    dims = {"c": channels, "k": channels, "taps": 27}
    later = (
        2 if model.startswith("cogvideox") and asked["frames"] > 9 else 1
    )  # passes over latents, each with its convolutions
    assert calls_of(captured, "conv", **dims) * later == calls_of(uncut, "conv", **dims) * times
    samples.forget()


def test_norms_are_cut_eight_frames_at_a_time() -> None:
    trace = trace_of(
        "mochi", find("mochi").request(height=128, width=96, frames=67)
    )  # 12 latents: 8 + 4, ... 72 frames: 9 x 8
    assert calls_of(trace, "group_norm", n=4, c=768) == calls_of(trace, "group_norm", n=8, c=768) > 0
    assert calls_of(trace, "group_norm", n=8, c=128) == 9 * 6


@pytest.mark.parametrize(("model", "frames"), [("mochi", 2), ("cogvideox-5b", 1)])
def test_what_the_library_cuts_too_small_is_told(model: str, frames: int) -> None:
    """Its own convolution raises there: of the first piece there is nothing to convolve."""
    with pytest.raises(SpecError) as raised:
        trace_of(model, find(model).request(height=2048, width=2048, frames=25))
    where, said = str(raised.value).split(": ", 1)
    assert where.startswith("vae_decoder.vae.decoder.")
    assert said == (
        f"the library cuts this convolution, which takes 3 frames at a time, into pieces of {frames}, and cannot run it; "
        "ask for a smaller height, width or batch, or set vae_tile: 1024"
    )
    tiled = find(model).request(height=2048, width=2048, frames=25, vae_tile=1024)
    assert "vae_decoder_1024x1024" in {segment.name for segment in trace_of(model, tiled).segments}
    assert not carried(model, find(model).request(height=2048, width=2048, frames=25))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        samples.captured(decoder(model, height=2048, width=2048, frames=25))
    samples.forget()


def test_positions_of_no_frame_are_refused() -> None:
    uncut = samples.uncut(decoder("mochi", height=480, width=848, frames=163))
    with pytest.raises(ValueError, match="positions are no frames of 7"):
        chunked.cut(uncut, lambda _: 7)
    samples.forget()


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("mochi", {"height": 640, "width": 128, "frames": 49}),
        ("mochi", {"height": 240, "width": 432, "frames": 31}),
        ("cogvideox-2b", {"height": 96, "width": 160, "frames": 33}),
        ("cogvideox-2b", {"height": 256, "width": 416, "frames": 9}),
        ("hunyuanvideo", {"height": 96, "width": 160, "frames": 29}),
        ("hunyuanvideo", {"height": 192, "width": 64, "frames": 13}),
    ],
)
def test_several_clips_have_templates(model: str, asked: dict[str, Any]) -> None:
    """More than at any capture that a template was found at, with convolutions cut and with none."""
    sample = decoder(model, batch=samples.LIMITS["batch"] + 2, **asked)
    found = templates.stage_trace(replace(sample.stage, name=""), sample.frames)
    assert found is not None
    assert same(join("", {}, [found]), samples.captured(sample))
    samples.forget()


@pytest.mark.parametrize(("clips", "frames"), [(2, 25), (2, 49), (4, 37), (7, 25), (8, 121)])
def test_clips_have_templates_where_one_latent_is_left_for_the_last_stretch(clips: int, frames: int) -> None:
    """Of four and more clips a copy reads in runs of twelve, of fewer in runs of three a clip."""
    sample = decoder("hunyuanvideo", batch=clips, height=96, width=160, frames=frames)
    found = templates.stage_trace(replace(sample.stage, name=""), sample.frames)
    assert found is not None
    assert same(join("", {}, [found]), samples.captured(sample))
    samples.forget()


def test_a_tile_is_cut_by_its_own_size() -> None:
    model = find("mochi")
    request = model.request(height=480, width=848, frames=163, vae_tile=384, guidance=False)
    tiles = [s for s in samples.of_request(model, request) if s.stage.name.startswith("vae_decoder_")]
    assert len(tiles) > 1
    for sample in tiles[:2]:
        named = templates.stage_trace(replace(sample.stage, name=""), sample.frames)
        assert named is not None
        assert same(join("", {}, [named]), samples.captured(sample)), sample.stage.name
    samples.forget()
