"""What the pipelines from the libraries take and refuse, and what the fields of a request change."""

from __future__ import annotations

from typing import Any

import pytest

from hwspecs.errors import SpecError
from hwspecs.spec import build, wrap
from tests.workloads.test_library_models_totals import MODELS, small
from workloads.capture import CapturedCall, capture
from workloads.model import Stage, find
from workloads.ops.attention import DIMS, ROLES


def refusal(model: str, given: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as refused:
        build(find(model).request, wrap(given, "test"), at="request")
    return str(refused.value)


STEP = {"stable-diffusion-2.1": 8, "sdxl": 8, "svd-xt": 8, "animatediff": 8, "ltx-video": 32}
GROUPS = {
    "cogvideox-2b": 4,
    "cogvideox-5b": 4,
    "wan2.1-1.3b": 4,
    "wan2.1-14b": 4,
    "hunyuanvideo": 4,
    "ltx-video": 8,
    "mochi": 6,
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("side", ["height", "width"])
def test_a_size_between_two_latents_names_the_nearest(model: str, side: str) -> None:
    step = STEP.get(model, 16)
    given = {"height": 480 + 1, "width": 480 + 1}
    expected = f"test: request.{side}: found 481, expected a multiple of {step}; nearest: 480, {480 + step}"
    assert expected in refusal(model, given).splitlines()


@pytest.mark.parametrize("model", GROUPS)
def test_frames_between_two_groups_name_the_nearest(model: str) -> None:
    group = GROUPS[model]
    assert refusal(model, {"frames": group + 2}) == (
        f"test: request.frames: found {group + 2}, expected 1 plus a multiple of {group}; "
        f"nearest: {group + 1}, {2 * group + 1}"
    )
    assert find(model).frame_step == group


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (
            "dit-xl-2", {"height": 512, "width": 256},
            "test: request.width: found 256 at height 512, expected a square; nearest: width 512, or height 256",
        ),
        (
            "sd3-medium", {"height": 3088},
            "test: request.height: found '3088', expected a whole number of at least 16 and at most 3072",
        ),
        (
            "animatediff", {"frames": 33},
            "test: request.frames: found '33', expected a whole number of at least 1 and at most 32",
        ),
        (
            "sdxl", {"refiner_steps": -1},
            "test: request.refiner_steps: found '-1', expected a whole number of at least 0 and at most 1000",
        ),
        (
            "flux.1-dev", {"dtype": "fp17"},
            "test: request.dtype: found 'fp17', expected one of fp16, bf16, fp32; did you mean 'fp16'?",
        ),
    ],
)  # fmt: skip
def test_refuses(model: str, given: dict[str, Any], message: str) -> None:
    assert refusal(model, given) == message


def shape(stage: Stage) -> tuple[int, ...]:
    """Of the first input."""
    return tuple(stage.inputs()[0][0].shape)


def stage_of(model: str, name: str, **request: Any) -> Stage:
    return next(s for s in small(model, **request) if s.name == name)


def test_guidance_doubles_the_batch_or_the_passes() -> None:
    """Flux and HunyuanVideo have it distilled: off by default. They and Wan run twice, the others on twice the batch."""
    for model in MODELS:
        denoiser = "unet" if "unet" in MODELS[model][1] else "transformer"
        off, on = (stage_of(model, denoiser, guidance=g, batch=3) for g in (False, True))
        twice = model in ("flux.1-dev", "hunyuanvideo", "wan2.1-1.3b", "wan2.1-14b")
        assert on.repeats == (2 if twice else 1) * off.repeats, model
        assert shape(off)[0] == 3, model
        assert shape(on)[0] == (3 if twice else 6), model
        assert find(model).request().guidance is (model not in ("flux.1-dev", "hunyuanvideo"))


def test_latents_follow_height_width_and_frames() -> None:
    assert shape(stage_of("sdxl", "unet", height=96, width=64)) == (2, 4, 12, 8)
    assert shape(stage_of("flux.1-dev", "transformer", height=96, width=64)) == (1, 24, 64)
    assert shape(stage_of("svd-xt", "unet", frames=7)) == (2, 7, 8, 8, 9)
    assert shape(stage_of("cogvideox-5b", "transformer", frames=49)) == (2, 13, 16, 8, 6)
    assert shape(stage_of("wan2.1-14b", "transformer", frames=81)) == (1, 16, 21, 8, 6)
    assert shape(stage_of("ltx-video", "transformer", frames=161)) == (2, 21 * 2 * 3, 128)
    assert shape(stage_of("mochi", "transformer", frames=163)) == (2, 12, 28, 4, 6)


@pytest.mark.parametrize("model", ["svd-xt", "animatediff", "latte"])
def test_slicing_decodes_one_frame_at_a_time(model: str) -> None:
    together, apart = (stage_of(model, "vae_decoder", frames=5, vae_slicing=s) for s in (False, True))
    assert (together.repeats, shape(together)[0]) == (1, 5)
    assert (apart.repeats, shape(apart)[0]) == (5, 1)


def test_the_refiner_runs_after_the_base_and_encodes_the_prompt_again() -> None:
    assert [(s.name, s.module, s.repeats) for s in small("sdxl", steps=40, refiner_steps=10)] == [
        ("text_encoder", "text_encoder", 2), ("text_encoder_2", "text_encoder_2", 2), ("unet", "unet", 40),
        ("refiner_text_encoder_2", "text_encoder_2", 2), ("refiner", "refiner", 10), ("vae_decoder", "vae_decoder", 1),
    ]  # fmt: skip
    assert "refiner" not in {s.module for s in small("sdxl", refiner_steps=0)}


@pytest.mark.parametrize(
    ("model", "dtype", "decoded"), [("sdxl", "fp16", 4), ("sdxl", "bf16", 2), ("wan2.1-1.3b", "bf16", 4)]
)
def test_decoders_in_fp32(model: str, dtype: str, decoded: int) -> None:
    assert stage_of(model, "vae_decoder", dtype=dtype).inputs()[0][0].element_size() == decoded


def attention(stage: Stage) -> list[dict[str, int]]:
    traced = capture(stage.build(), *stage.inputs(), path=stage.name, assume=stage.assume)
    return [dict(zip(DIMS, c.dims, strict=True)) for c in traced.calls if c.kind == "attention"]


def test_joint_attention_is_self_attention_over_text_and_image() -> None:
    found = attention(stage_of("sd3-medium", "transformer"))
    assert {(ROLES[d["role"]], d["q_len"], d["kv_len"], d["mask"]) for d in found} == {("self", 345, 345, 0)}
    assert len(found) == 24


def test_masks_of_padded_prompts_are_read() -> None:
    """PixArt: a row of biases for each head, as the library expands it. T5: one bias for every head and pair of tokens."""
    cross = [d for d in attention(stage_of("pixart-alpha", "transformer")) if ROLES[d["role"]] == "cross"]
    assert {(d["q_len"], d["kv_len"]) for d in cross} == {(12, 120)}
    assert all(d["mask"] > 0 for d in cross)
    own = attention(stage_of("pixart-alpha", "text_encoder"))
    assert {d["mask"] for d in own} == {64 * 120 * 120 * 2}


def test_mochis_assumption_is_named() -> None:
    stage = stage_of("mochi", "transformer")
    traced = capture(stage.build(), *stage.inputs(), path=stage.name, assume=stage.assume)
    assert traced.assumed == ("transformer: aten.nonzero taken as all, 96 times",)
    joint: list[CapturedCall] = [c for c in traced.calls if c.kind == "attention" and c.dims[0] == 1]
    assert {c.dims[DIMS.index("kv_len")] for c in joint} == {256 + 2 * 2 * 3}
