"""Stable Video Diffusion XT: CLIP ViT-H/14 image encoder, VAE encoder of the first image, spatio-temporal UNet, temporal decoder.

Blattmann et al., Stable Video Diffusion, 2023 (arXiv 2311.15127). Written from memory of the config.json files of
stabilityai/stable-video-diffusion-img2vid-xt, which are diffusers' defaults, and checked by the parameter totals. The UNet
has a temporal layer beside every spatial residual block and transformer. In fp16 the first image is encoded in fp32
(vae/config.json, `force_upcast`); the decoder takes all frames at once, as diffusers' pipeline does by default, or, with
`vae_slicing`, one at a time. Guidance grows over the frames, so that it is always on in the published pipeline.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.fields import Dtype, passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import LATENT_CHANNELS, PIXELS
from workloads.parts.decoder import encoder
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import Frames, Side8, Slicing, Steps, VideoRequest
from workloads.transforms import transformed

CONTEXT = 1024  # image_encoder/config.json, projection_dim
CLIP_SIDE = 224  # pixels; image_encoder/config.json, image_size


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(VideoRequest):
    """What is asked of the pipeline."""

    height: Side8 = 576
    width: Side8 = 1024
    frames: Frames = 25
    steps: Steps = 25
    dtype: Dtype = "fp16"
    vae_slicing: Slicing = False


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Image encoder and VAE encoder of the first image, UNet for every step, temporal decoder."""
    dtype, batch, frames, guided = request.dtype, request.batch, request.frames, passes(request.guidance)
    height, width = request.height // PIXELS, request.width // PIXELS
    at_once = 1 if request.vae_slicing else frames
    encoded = "fp32" if dtype == "fp16" else dtype

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        sample = meta(dtype, n, frames, 2 * LATENT_CHANNELS, height, width)
        known = {"added_time_ids": meta(dtype, n, 3), "return_dict": False}
        return (sample, meta("int64"), meta(dtype, n, 1, CONTEXT)), known

    def decoded() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (meta(dtype, batch * at_once, LATENT_CHANNELS, height, width), at_once), {}

    image = (batch, 3, request.height, request.width)
    return (
        Stage(
            "image_encoder", "image_encoder", 1, partial(image_encoder, dtype),
            lambda: ((meta(dtype, batch, 3, CLIP_SIDE, CLIP_SIDE),), {}), frames=0,
        ),
        Stage(
            "vae_encoder", "vae_encoder", 1, partial(encoder, vae, encoded), lambda: ((meta(encoded, *image),), {}),
            frames=0,
        ),
        Stage("unet", "unet", guided.runs * request.steps, partial(unet, dtype), latents, steps=request.steps),
        Stage(
            "vae_decoder", "vae_decoder", frames // at_once, partial(vae_decoder, dtype), decoded, frames=0,
            counts=(batch,),  # clips among the images
        ),
    )  # fmt: skip


def image_encoder(dtype: str) -> Any:
    """CLIP ViT-H/14's vision transformer with its projection: 32 layers, width 1280; on the meta device."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, image_size=CLIP_SIDE,
        patch_size=14, hidden_act="gelu", projection_dim=CONTEXT, attn_implementation="sdpa",
    )  # fmt: skip
    return on_meta(lambda: CLIPVisionModelWithProjection(config), dtype)


def unet(dtype: str) -> Any:
    """The spatio-temporal UNet: 320, 640, 1280, 1280 channels in heads of 64; on the meta device."""
    from diffusers import UNetSpatioTemporalConditionModel

    return on_meta(
        lambda: UNetSpatioTemporalConditionModel(
            sample_size=96, in_channels=2 * LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
            block_out_channels=(320, 640, 1280, 1280), num_attention_heads=(5, 10, 20, 20), layers_per_block=2,
            cross_attention_dim=CONTEXT, transformer_layers_per_block=1, addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=768, num_frames=25,
        ),
        dtype,
    )  # fmt: skip


def vae() -> Any:
    """Stable Diffusion's encoder and a decoder with temporal layers."""
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder(
        in_channels=3, out_channels=3, latent_channels=LATENT_CHANNELS, block_out_channels=(128, 256, 512, 512),
        layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4,
    )  # fmt: skip


def vae_decoder(dtype: str) -> Any:
    """The temporal decoder: latents of some frames, and how many -> frames; on the meta device."""
    import torch

    class Decoder(torch.nn.Module):  # type: ignore[misc]
        """Latents [clips frames, 4, h, w] -> frames [clips frames, 3, 8h, 8w]."""

        def __init__(self) -> None:
            super().__init__()
            self.decoder = vae().decoder

        def forward(self, latents: Any, frames: int) -> Any:
            clips = latents.shape[0] // frames
            none_still = torch.zeros(clips, frames, dtype=latents.dtype, device=latents.device)
            return self.decoder(latents, num_frames=frames, image_only_indicator=none_still)

    return on_meta(Decoder, dtype)


MODEL = Model(
    id="svd-xt",
    title="Stable Video Diffusion XT",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Blattmann et al., arXiv 2311.15127; stabilityai/stable-video-diffusion-img2vid-xt, */config.json",
    libraries=("torch", "diffusers", "transformers"),
)
