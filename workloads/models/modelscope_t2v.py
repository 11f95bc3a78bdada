"""ModelScope text-to-video 1.7B: OpenCLIP ViT-H/14 text encoder, UNet with spatial and temporal layers, VAE decoder.

Wang et al., ModelScope Text-to-Video Technical Report, 2023 (arXiv 2308.06571). The numbers below are those of
{text_encoder,unet,vae}/config.json of damo-vilab/text-to-video-ms-1.7b; the VAE is that of Stable Diffusion 1.5. Each level
of the UNet has spatial self- and cross-attention over the pixels of a frame, and a temporal transformer block of two
self-attentions over the frames of a pixel; beside each 2-D residual block are four temporal 3x1x1 convolutions.
The decoder takes all frames of all clips as one batch, as diffusers' TextToVideoSDPipeline does, or, with `vae_slicing`, one
frame at a time. Left out: the sampler's and the guidance's pointwise operators on the latent, the conversion to pixels.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Doc, Quantity
from workloads.dtypes import torch_dtype
from workloads.fields import Cached, Clips, Dtype, Guidance, Images, VaeTile, passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import LATENT_CHANNELS, PIXELS, TEXT_LEN, Height, Width, vae_decoder
from workloads.parts.meta import meta
from workloads.transforms import transformed

TEXT_WIDTH = 1024  # text_encoder/config.json, hidden_size; unet/config.json, cross_attention_dim


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of the pipeline."""

    height: Height = 256
    width: Width = 256
    frames: Annotated[int, Quantity(ge=1, le=262144, doc="frames of a clip; the model was trained with 16")] = 16
    batch: Clips = 1
    steps: Annotated[int, Quantity(ge=1, le=1000, doc="denoising steps; the model was trained with 1000")] = 50
    guidance: Guidance = True
    dtype: Dtype = "fp16"
    vae_slicing: Annotated[bool, Doc("decode one frame at a time (diffusers' enable_vae_slicing), not all at once")] = (
        False
    )
    images: Images = None
    vae_tile: VaeTile = None
    cache: Cached = None


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), UNet for every step, VAE decoder."""
    dtype, frames = request.dtype, request.batch * request.frames
    guided = passes(request.guidance)
    clips = guided.rows * request.batch
    size = (request.height // PIXELS, request.width // PIXELS)
    latent = (clips, LATENT_CHANNELS, request.frames, *size)
    at_once = 1 if request.vae_slicing else frames
    return (
        Stage(
            "text_encoder", "text_encoder", guided.prompts, partial(text_encoder, dtype),
            lambda: ((meta("int64", request.batch, TEXT_LEN),), {}), frames=0,
        ),
        Stage(
            "unet", "unet", guided.runs * request.steps, partial(unet, dtype),
            lambda: (
                (meta(dtype, *latent), meta("int64"), meta(dtype, clips, TEXT_LEN, TEXT_WIDTH)),
                {"return_dict": False},
            ),
            steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", frames // at_once, partial(vae_decoder, dtype),
            lambda: ((meta(dtype, at_once, LATENT_CHANNELS, *size),), {}), frames=0,
        ),
    )  # fmt: skip


def text_encoder(dtype: str) -> Any:
    """OpenCLIP ViT-H/14's text transformer without its last layer: 23 layers, width 1024, 16 heads; on the meta device."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=TEXT_WIDTH, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
        max_position_embeddings=TEXT_LEN, hidden_act="gelu", layer_norm_eps=1e-5, projection_dim=512,
        bos_token_id=0, eos_token_id=2, pad_token_id=1, attn_implementation="sdpa",
    )  # fmt: skip
    with torch.device("meta"):
        return CLIPTextModel(config).to(torch_dtype(dtype))


def unet(dtype: str) -> Any:
    """The latent UNet: 320, 640, 1280, 1280 channels, heads of 64; on the meta device."""
    import torch
    from diffusers import UNet3DConditionModel
    from diffusers.models.attention_processor import AttnProcessor2_0

    down = ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D")
    up = ("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D")
    with torch.device("meta"):
        module = UNet3DConditionModel(
            sample_size=32, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, layers_per_block=2,
            block_out_channels=(320, 640, 1280, 1280), attention_head_dim=64, cross_attention_dim=TEXT_WIDTH,
            down_block_types=down, up_block_types=up, act_fn="silu", norm_num_groups=32, norm_eps=1e-5,
            downsample_padding=1, mid_block_scale_factor=1,
        )  # fmt: skip
    module.set_attn_processor(AttnProcessor2_0())
    return module.to(torch_dtype(dtype))


MODEL = Model(
    id="modelscope-t2v",
    title="ModelScope text-to-video 1.7B",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Wang et al., arXiv 2308.06571; damo-vilab/text-to-video-ms-1.7b, {text_encoder,unet,vae}/config.json",
    libraries=("torch", "diffusers", "transformers"),
)
