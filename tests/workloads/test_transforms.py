"""Guidance in turn, images in all, tiled decoding: what each changes, its laws, diffusers' own tiles."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwspecs.rates import rates
from hwspecs.spec import dump, to_data
from sim.memory import memory
from sim.scenario import load
from sim.simulate import price, replay
from tests.workloads.conftest import MODEL
from workloads.capture import assemble, capture
from workloads.fields import passes
from workloads.kind import Dims, kinds
from workloads.model import Model, Stage, denoising, find, models
from workloads.transforms import plain, tiled, tiles

REQUEST = find(MODEL).request
DENOISERS = [m for m in models().values() if {"guidance", "cache"} <= set(m.request.__dataclass_fields__)]
BATCHES = [m for m in models().values() if "images" in m.request.__dataclass_fields__]


def flops_of(stage: Stage) -> int:
    """Matrix FLOPs of all runs of a stage."""
    found = capture(stage.build(), *stage.inputs(), path=stage.name, assume=stage.assume)
    each = (kinds()[c.kind].flops(Dims(dict(zip(kinds()[c.kind].dims, c.dims, strict=True)))) for c in found.calls)
    return stage.repeats * sum(int(n) for n in each)


# --- absent, nothing changes


@pytest.mark.parametrize("model", models().values(), ids=lambda m: m.id)
def test_absent_fields_are_in_no_dump_and_no_cache_key(model: Model) -> None:
    names = {"images", "vae_tile", "cache"}
    assert not names & set(to_data(model.request()))
    assert plain(model.request()) == model.request()
    assert not names & {line.split(":")[0] for line in dump(model.request()).splitlines()}


def test_names_of_what_is_the_default_are_the_default() -> None:
    assert REQUEST(guidance="batched") == REQUEST(guidance=True)
    assert REQUEST(guidance="none") == REQUEST(guidance=False)
    assert find("wan2.1-1.3b").request(guidance="sequential") == find("wan2.1-1.3b").request()
    assert find("muse").request(guidance="none") == find("muse").request(guidance=False)


def test_given_fields_are_dumped_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(
        f"model: {MODEL}\ndevice: a100-sxm-80gb\nsoftware: pytorch-eager\nrequest:\n  guidance: sequential\n  batch: 2\n"
        "  images: 6\n  vae_tile: 512\n  cache:\n    every: 5\n    reuse: [unet.mid_block]\n"
    )
    first = load(file)
    assert first.request.cache.reuse == ("unet.mid_block",)
    file.write_text(first.resolved())
    assert load(file).resolved() == first.resolved()
    assert load(file).request == first.request


# --- guidance


@pytest.mark.parametrize("model", DENOISERS, ids=lambda m: m.id)
def test_sequential_guidance_is_half_the_batch_twice(model: Model) -> None:
    """Of the guided stages; all others (text encoders, upscalers that take no text, decoders) stay as they are."""
    runs = {way: model.stages(model.request(guidance=way, batch=3)) for way in ("batched", "sequential", "none")}
    twice = 0
    for both, turns, one in zip(runs["batched"], runs["sequential"], runs["none"], strict=True):
        assert both.name == turns.name == one.name
        if both.steps and turns.repeats != both.repeats:
            twice += 1
            assert turns.repeats == 2 * both.repeats == 2 * one.repeats
        else:
            assert turns.repeats == both.repeats
            assert (
                both.repeats
                == (2 if both.name.removeprefix("refiner_").startswith("text_encoder") else 1) * one.repeats
            )
    assert twice >= 1


@pytest.mark.parametrize(("model", "stage"), [("dit-xl-2", "transformer"), ("wan2.1-1.3b", "transformer")])
def test_sequential_guidance_has_the_same_flops(model: str, stage: str) -> None:
    size = {"height": 64, "width": 64} | ({} if model == "dit-xl-2" else {"frames": 5})
    found = {}
    for way in ("batched", "sequential", "none"):
        stages = find(model).stages(find(model).request(**size, guidance=way))
        found[way] = flops_of(next(s for s in stages if s.name == stage))
    assert found["batched"] == found["sequential"] == 2 * found["none"]


@given(st.sampled_from(["batched", "sequential", "none", True, False]), st.sampled_from(["batched", "sequential"]))
def test_rows_times_runs_are_the_prompts(way: Any, own: Any) -> None:
    found = passes(way, own)
    assert found.prompts == found.rows * found.runs == (1 if way in ("none", False) else 2)
    if way is True:
        assert found == passes(own, own)


# --- images


@given(st.sampled_from(BATCHES), st.integers(1, 6), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_images_repeat_every_stage(model: Model, batch: int, times: int) -> None:
    once, more = (model.stages(model.request(batch=batch, images=n)) for n in (None, batch * times))
    assert [(s.name, times * s.repeats) for s in once] == [(s.name, s.repeats) for s in more]
    assert denoising(model, model.request(batch=batch, images=batch * times)) == denoising(model, model.request())


def scenario(folder: Path, *overrides: str) -> Any:
    file = folder / "scenario.yaml"
    file.write_text(f"model: {MODEL}\ndevice: a100-sxm-80gb\nsoftware: pytorch-eager\n")
    return load(file, overrides)


@pytest.mark.usefixtures("sd")
def test_images_scale_time_and_leave_the_rest(tmp_path: Path) -> None:
    one, four = (replay(scenario(tmp_path, *more)) for more in ((), ("request.images=4",)))
    assert four.gpu_time == pytest.approx(4 * one.gpu_time)
    assert four.latency == pytest.approx(4 * one.latency, rel=0.01)
    assert four.step_time() == pytest.approx(one.step_time(), rel=1e-6)
    assert four.to_json()["images_per_s"] == pytest.approx(1 / one.latency, rel=0.01)
    assert four.memory.peak == one.memory.peak


# --- tiles


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 96))
def test_tiles_cover_the_image_and_a_large_tile_is_the_image(height: int, width: int, tile: int) -> None:
    found = tiles(height, width, tile)
    assert sum(h * w * n for (h, w), n in found.items()) >= height * width
    assert all(h <= max(tile, 1) and w <= tile for h, w in found) or found == {(height, width): 1}
    assert (found == Counter({(height, width): 1})) == (max(height, width) <= tile)


@pytest.mark.parametrize(("height", "width", "tile"), [(20, 20, 8), (8, 9, 8), (16, 40, 12), (5, 7, 8)])
def test_tiles_are_those_of_diffusers(height: int, width: int, tile: int) -> None:
    import torch
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(32,) * 4, sample_size=8 * tile, up_block_types=("UpDecoderBlock2D",) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
        )  # fmt: skip
    seen: Counter[tuple[int, int]] = Counter()
    vae.decoder.register_forward_pre_hook(lambda _m, args: seen.update([tuple(args[0].shape[-2:])]))
    vae.enable_tiling()
    assert (vae.tile_latent_min_size, vae.tile_overlap_factor) == (tile, 0.25)
    with torch.no_grad():
        vae.decode(torch.empty(1, 4, height, width, device="meta"))
    assert seen == tiles(height, width, tile)


@pytest.mark.parametrize(
    "model", [m for m in models().values() if "vae_tile" in m.request.__dataclass_fields__], ids=lambda m: m.id
)
def test_a_tiled_decoder_is_a_stage_for_each_size_of_tile(model: Model) -> None:
    request = model.request(height=768, width=768)
    whole, cut = (model.stages(replace(request, vae_tile=tile)) for tile in (None, 256))
    assert [s.name for s in cut if not s.name.startswith("vae_decoder")] == [s.name for s in whole[:-1]]
    parts = [s for s in cut if s.name.startswith("vae_decoder")]
    assert sum(s.repeats for s in parts) == 16 * whole[-1].repeats
    assert {s.module for s in parts} == {"vae_decoder"}
    pixels = 32 if model.id == "ltx-video" else 8
    for part in parts:
        (was, *_), (now, *_) = whole[-1].inputs()[0], part.inputs()[0]
        assert now.shape[:-2] == was.shape[:-2]
        assert part.name == f"vae_decoder_{now.shape[-2] * pixels}x{now.shape[-1] * pixels}"
    assert [s.name for s in model.stages(replace(request, vae_tile=768))] == [s.name for s in whole]


def test_tiles_need_less_memory_and_no_fewer_flops() -> None:
    from hwspecs import device, software

    stages = find(MODEL).stages(REQUEST(height=256, width=256))[-1:]
    needs, flops = [], []
    for some in (stages, tiled(stages, tiles(32, 32, 16), 8)):
        runs = [(s.name, s.module, s.repeats, capture(s.build(), *s.inputs(), path=s.name)) for s in some]
        found = assemble(MODEL, {}, runs)
        needs.append(
            memory(
                found,
                price(found, software.load("pytorch-eager"), rates(device.load("a100-sxm-80gb")), "physical").cost,
            )
        )
        flops.append(found.flops())
    assert needs[1].peak < needs[0].peak
    assert needs[1].weights == needs[0].weights
    assert flops[0] < flops[1] < 1.6 * flops[0]  # 1.56 times the pixels, less attention
