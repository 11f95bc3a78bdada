"""Stable Diffusion XL: CLIP-L and OpenCLIP-bigG text encoders, base UNet, optionally the refiner's UNet, VAE decoder.

Podell et al., SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis, 2023 (arXiv 2307.01952). Written
from memory of the config.json files of stabilityai/stable-diffusion-xl-{base,refiner}-1.0 and checked by the parameter totals
of the checkpoints. In fp16 the decoder runs in fp32, as vae/config.json asks (`force_upcast`). The refiner takes the base's
latent over for its own steps, after encoding the prompt with the larger text encoder again, as diffusers' pipeline does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.fields import passes
from workloads.model import Model, Stage
from workloads.models import stable_diffusion_1_5 as sd
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import ImageRequest, Side8
from workloads.transforms import transformed

POOLED = 1280  # text_encoder_2/config.json, projection_dim


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(ImageRequest):
    """What is asked of the pipeline."""

    height: Side8 = 1024
    width: Side8 = 1024
    refiner_steps: Annotated[
        int, Quantity(ge=0, le=1000, doc="denoising steps by the refiner after those of the base; 0 leaves it out")
    ] = 0


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoders (prompt and, under guidance, negative prompt), base UNet, refiner if it has steps, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    size = (sd.LATENT_CHANNELS, request.height // sd.PIXELS, request.width // sd.PIXELS)
    decoded = "fp32" if dtype == "fp16" else dtype

    def denoised(width: int, sizes: int) -> Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]:
        """Inputs: text of a width, and `sizes` numbers about the image's size (and aesthetic score)."""

        def inputs() -> tuple[tuple[Any, ...], dict[str, Any]]:
            n = guided.rows * batch
            more = {"text_embeds": meta(dtype, n, POOLED), "time_ids": meta(dtype, n, sizes)}
            known = {"added_cond_kwargs": more, "return_dict": False}
            return (meta(dtype, n, *size), meta("int64"), meta(dtype, n, text.CLIP_LEN, width)), known

        return inputs

    def big(again: str = "") -> Stage:
        name, length = "text_encoder_2", text.CLIP_LEN
        return text.encoder(name, partial(text.clip_g, dtype), batch, length, guided.prompts, again=again)

    refined = (
        big("refiner_"),
        Stage(
            "refiner",
            "refiner",
            guided.runs * request.refiner_steps,
            partial(refiner, dtype),
            denoised(POOLED, 5),
            steps=request.refiner_steps,
        ),
    )
    return (
        text.encoder("text_encoder", partial(sd.text_encoder, dtype), batch, text.CLIP_LEN, guided.prompts),
        big(),
        Stage(
            "unet", "unet", guided.runs * request.steps, partial(unet, dtype), denoised(2048, 6), steps=request.steps
        ),
        *(refined if request.refiner_steps else ()),
        Stage(
            "vae_decoder",
            "vae_decoder",
            1,
            partial(sd.vae_decoder, decoded),
            lambda: ((meta(decoded, batch, *size),), {}),
        ),
    )


def unet(dtype: str) -> Any:
    """The base's UNet: 320, 640, 1280 channels, 2 and 10 transformer layers at the lower two levels; on the meta device."""
    return _unet(
        dtype, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
        transformer_layers_per_block=(1, 2, 10), projection_class_embeddings_input_dim=2816,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def refiner(dtype: str) -> Any:
    """The refiner's UNet: 384, 768, 1536, 1536 channels, 4 transformer layers at the middle levels; on the meta device."""
    return _unet(
        dtype, block_out_channels=(384, 768, 1536, 1536), attention_head_dim=(6, 12, 24, 24), cross_attention_dim=POOLED,
        transformer_layers_per_block=4, projection_class_embeddings_input_dim=2560,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def _unet(dtype: str, **config: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return on_meta(
        lambda: UNet2DConditionModel(
            sample_size=128, in_channels=sd.LATENT_CHANNELS, out_channels=sd.LATENT_CHANNELS, layers_per_block=2,
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256, **config,
        ),
        dtype,
    )  # fmt: skip


MODEL = Model(
    id="sdxl",
    title="Stable Diffusion XL",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Podell et al., arXiv 2307.01952; stabilityai/stable-diffusion-xl-{base,refiner}-1.0, */config.json",
    libraries=("torch", "diffusers", "transformers"),
)
