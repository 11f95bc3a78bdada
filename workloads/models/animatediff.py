"""AnimateDiff v1-5-2 over Stable Diffusion 1.5: motion modules (attention over frames) in every block of the UNet.

Guo et al., AnimateDiff, 2023 (arXiv 2307.04725). Written from memory of config.json of guoyww/animatediff-motion-adapter-v1-5-2
and runwayml/stable-diffusion-v1-5, checked by the parameter totals. Text encoder and decoder are those of Stable Diffusion
1.5; the text is repeated for every frame, as diffusers' pipeline does. The decoder takes all frames of all clips as one
batch or, with `vae_slicing`, one frame at a time (diffusers: 16 at a time).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.fields import Dtype, passes
from workloads.model import Model, Stage
from workloads.models import stable_diffusion_1_5 as sd
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import Side8, Slicing, Steps, VideoRequest
from workloads.transforms import transformed

POSITIONS = 32  # frames that the motion modules have positions for; config.json, motion_max_seq_length


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(VideoRequest):
    """What is asked of the pipeline."""

    height: Side8 = 512
    width: Side8 = 512
    frames: Annotated[int, Quantity(ge=1, le=POSITIONS, doc="frames of a clip; the model has positions for 32")] = 16
    steps: Steps = 25
    dtype: Dtype = "fp16"
    vae_slicing: Slicing = False


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), UNet for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    size = (request.height // sd.PIXELS, request.width // sd.PIXELS)
    at_once = 1 if request.vae_slicing else batch * request.frames

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        sample = meta(dtype, n, sd.LATENT_CHANNELS, request.frames, *size)
        return (sample, meta("int64"), meta(dtype, n * request.frames, sd.TEXT_LEN, 768)), {"return_dict": False}

    return (
        text.encoder("text_encoder", partial(sd.text_encoder, dtype), batch, sd.TEXT_LEN, guided.prompts),
        Stage("unet", "unet", guided.runs * request.steps, partial(unet, dtype), latents, steps=request.steps),
        Stage(
            "vae_decoder", "vae_decoder", batch * request.frames // at_once, partial(sd.vae_decoder, dtype),
            lambda: ((meta(dtype, at_once, sd.LATENT_CHANNELS, *size),), {}), frames=0,
        ),
    )  # fmt: skip


def unet(dtype: str) -> Any:
    """Stable Diffusion 1.5's UNet with motion modules of 8 heads in all blocks, the middle one too; on the meta device."""
    from diffusers import UNetMotionModel

    return on_meta(
        lambda: UNetMotionModel(
            sample_size=64, in_channels=sd.LATENT_CHANNELS, out_channels=sd.LATENT_CHANNELS, layers_per_block=2,
            block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, num_attention_heads=8,
            motion_num_attention_heads=8, motion_max_seq_length=POSITIONS, use_motion_mid_block=True,
        ),
        dtype,
    )  # fmt: skip


MODEL = Model(
    id="animatediff",
    title="AnimateDiff v1-5-2 over Stable Diffusion 1.5",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Guo et al., arXiv 2307.04725; guoyww/animatediff-motion-adapter-v1-5-2, runwayml/stable-diffusion-v1-5",
    libraries=("torch", "diffusers", "transformers"),
)
