"""Stable Diffusion 1.5: CLIP ViT-L/14 text encoder, latent UNet under classifier-free guidance, VAE decoder.

Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022. The numbers below are those of
{text_encoder,unet,vae}/config.json of runwayml/stable-diffusion-v1-5, where they differ from the library's defaults too.
Left out: the sampler's and the guidance's dozen pointwise operators a step on the latent (below 0.1 % of a step's bytes),
the safety checker, the conversion to 8-bit pixels.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.dtypes import torch_dtype
from workloads.fields import Batch, Cached, Dtype, Guidance, Images, VaeTile, passes
from workloads.model import Model, Stage
from workloads.parts.meta import meta
from workloads.transforms import transformed

TEXT_LEN = 77  # tokens; text_encoder/config.json, max_position_embeddings (a prompt is padded to it)
PIXELS = 8  # image pixels per latent element along a side: the VAE halves the resolution three times
LATENT_CHANNELS = 4  # vae/config.json, latent_channels
SCALE = 0.18215  # latents are divided by it before they are decoded; vae/config.json, scaling_factor


def _multiple(side: int) -> int:
    """Refuse a size between two latent sizes. The UNet and the decoder take any latent of at least 1 x 1."""
    if side % PIXELS:
        below = side // PIXELS * PIXELS
        raise ValueError(f"found {side}, expected a multiple of {PIXELS}; nearest: {below}, {below + PIXELS}")
    return side


Height = Annotated[
    int, Quantity(ge=8, le=8192, doc="image height in pixels, a multiple of 8"), AfterValidator(_multiple)
]
Width = Annotated[int, Quantity(ge=8, le=8192, doc="image width in pixels, a multiple of 8"), AfterValidator(_multiple)]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of the pipeline."""

    height: Height = 512
    width: Width = 512
    batch: Batch = 1
    steps: Annotated[int, Quantity(ge=1, le=1000, doc="denoising steps; the model was trained with 1000")] = 50
    guidance: Guidance = True
    dtype: Dtype = "fp16"
    images: Images = None
    vae_tile: VaeTile = None
    cache: Cached = None


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), UNet for every step, VAE decoder."""
    dtype, guided = request.dtype, passes(request.guidance)
    latents = guided.rows * request.batch
    size = (LATENT_CHANNELS, request.height // PIXELS, request.width // PIXELS)
    text = (latents, TEXT_LEN, 768)
    return (
        Stage(
            "text_encoder", "text_encoder", guided.prompts, partial(text_encoder, dtype),
            lambda: ((meta("int64", request.batch, TEXT_LEN),), {}),
        ),
        Stage(
            "unet", "unet", guided.runs * request.steps, partial(unet, dtype),
            lambda: ((meta(dtype, latents, *size), meta("int64"), meta(dtype, *text)), {"return_dict": False}),
            steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype),
            lambda: ((meta(dtype, request.batch, *size),), {}),
        ),
    )  # fmt: skip


def text_encoder(dtype: str) -> Any:
    """CLIP ViT-L/14's text transformer: 12 layers, width 768, 12 heads; on the meta device."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=TEXT_LEN, hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=768,
        bos_token_id=0, eos_token_id=2, pad_token_id=1, attn_implementation="sdpa",
    )  # fmt: skip
    with torch.device("meta"):
        return CLIPTextModel(config).to(torch_dtype(dtype))


def unet(dtype: str) -> Any:
    """The latent UNet: 320, 640, 1280, 1280 channels, 8 heads at every level; on the meta device."""
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor2_0

    with torch.device("meta"):
        module = UNet2DConditionModel(
            sample_size=64, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, layers_per_block=2,
            block_out_channels=(320, 640, 1280, 1280), attention_head_dim=8, cross_attention_dim=768,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            act_fn="silu", norm_num_groups=32, norm_eps=1e-5, center_input_sample=False, downsample_padding=1,
            flip_sin_to_cos=True, freq_shift=0, mid_block_scale_factor=1,
        )  # fmt: skip
    module.set_attn_processor(AttnProcessor2_0())
    return module.to(torch_dtype(dtype))


def vae_decoder(dtype: str) -> Any:
    """The VAE's decoder behind its 1x1 convolution: 512, 512, 256, 128 channels; on the meta device."""
    import torch
    from diffusers import AutoencoderKL
    from diffusers.models.attention_processor import AttnProcessor2_0

    class Decoder(torch.nn.Module):  # type: ignore[misc]
        """Latents [batch, 4, h, w] -> images [batch, 3, 8h, 8w]."""

        def __init__(self, vae: Any) -> None:
            super().__init__()
            self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

        def forward(self, latents: Any) -> Any:
            return self.decoder(self.post_quant_conv(latents / SCALE))

    with torch.device("meta"):
        vae = AutoencoderKL(
            in_channels=3, out_channels=3, latent_channels=LATENT_CHANNELS, block_out_channels=(128, 256, 512, 512),
            layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            act_fn="silu", norm_num_groups=32, sample_size=512, scaling_factor=SCALE,
        )  # fmt: skip
    vae.set_attn_processor(AttnProcessor2_0())
    return Decoder(vae).to(torch_dtype(dtype))


MODEL = Model(
    id="stable-diffusion-1.5",
    title="Stable Diffusion 1.5",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Rombach et al., CVPR 2022; runwayml/stable-diffusion-v1-5, {text_encoder,unet,vae}/config.json",
    libraries=("torch", "diffusers", "transformers"),
)
