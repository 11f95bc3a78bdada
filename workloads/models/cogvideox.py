"""CogVideoX 2B and 5B: T5-XXL text encoder, a transformer with attention over text, space and time together, causal 3D decoder.

Yang et al., CogVideoX, 2024 (arXiv 2408.06072). Written from memory of transformer/config.json and vae/config.json of
THUDM/CogVideoX-{2b,5b}, which are diffusers' defaults but for heads, layers and rotary positions, and checked by the parameter
totals. The decoder takes two latent frames at a time (diffusers' default). Left out: the sampler's pointwise operators, the
table of rotary positions (made once).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG
from workloads.fields import Dtype, passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import PIXELS
from workloads.parts import text
from workloads.parts.decoder import decoder
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import Frames4, VideoRequest
from workloads.transforms import transformed

TEXT_LEN = 226  # tokens; transformer/config.json, max_text_seq_length
LATENT_CHANNELS = 16  # vae/config.json, latent_channels
HEAD = 64  # transformer/config.json, attention_head_dim
SIZES = {"2b": (30, 30, False), "5b": (48, 42, True)}  # heads, layers, rotary positions; transformer/config.json
WHOLE = (
    2 * 1024**3
)  # B, at two a value, that a convolution reads at most before it is split; diffusers' CogVideoXSafeConv3d
AT_ONCE, RATE = (
    2,
    4,
)  # latents that the decoder takes at a time (the first time one more of an odd number); frames of each
CAUSAL = 2  # frames before its own that a convolution reads; diffusers' CogVideoXCausalConv3d, of kernel size 3
# Channels, and frames before its own, that a convolution at full size reads: the first, its shortcut, those after it
WIDEST = ((256, CAUSAL), (256, 0), (128, CAUSAL))
SCALES = {"2b": 1.15258426, "5b": 0.7}  # vae/config.json, scaling_factor


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(VideoRequest):
    """What is asked of the pipeline."""

    frames: Frames4 = 49


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request2B(Request):
    """What is asked of the pipeline."""

    dtype: Dtype = "fp16"


@transformed()
def stages(size: str, request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, negative prompt), transformer for every step, VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    grid = ((request.frames - 1) // 4 + 1, request.height // PIXELS, request.width // PIXELS)
    tokens = grid[0] * (grid[1] // 2) * (grid[2] // 2)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = guided.rows * batch
        sample = meta(dtype, n, grid[0], LATENT_CHANNELS, *grid[1:])
        angles = (meta("fp32", tokens, HEAD), meta("fp32", tokens, HEAD)) if SIZES[size][2] else None
        known = {"image_rotary_emb": angles, "return_dict": False}
        return (sample, meta(dtype, n, TEXT_LEN, text.T5_WIDTH), meta("int64", n)), known

    return (
        text.encoder("text_encoder", partial(text.t5_xxl, dtype), batch, TEXT_LEN, guided.prompts),
        Stage(
            "transformer", "transformer", guided.runs * request.steps, partial(transformer, dtype, size), latents,
            frames=0, steps=request.steps,
        ),
        Stage(
            "vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype, SCALES[size]),
            lambda: ((meta(dtype, batch, LATENT_CHANNELS, *grid),), {}), frames=0, counts=_counts(batch, grid),
        ),
    )  # fmt: skip


def _counts(batch: int, grid: tuple[int, int, int]) -> tuple[int, ...] | None:
    """() where the decoder runs each convolution whole; else latents of its first pass, and the chunks of those of WIDEST, of the
    first pass and of a later one each.

    None where diffusers splits others too: 256 channels at half the height and width, from 4 times as many values on.
    """
    area = batch * PIXELS * grid[1] * PIXELS * grid[2]
    first = 1 if grid[0] == 1 else AT_ONCE + grid[0] % AT_ONCE
    found: list[int] = [first]
    for latents in (first, min(first, AT_ONCE)):
        frames = RATE * latents - (first % 2 if latents == first else 0) * (RATE - 1)
        for channels, before in WIDEST:
            reads = frames + before
            parts = 1 if 2 * channels * reads * area <= WHOLE else 2 * channels * reads * area // WHOLE + 1
            found.append(-(-reads // -(-reads // parts)))
    if max(found[1:]) == 1:
        return ()
    return tuple(found) if 2 * WIDEST[0][0] * (RATE * first + CAUSAL) * area <= 4 * WHOLE else None


def transformer(dtype: str, size: str) -> Any:
    """Expert transformer over patches of 2 x 2 latents; '2b' or '5b'; on the meta device."""
    from diffusers import CogVideoXTransformer3DModel

    heads, layers, rotary = SIZES[size]
    return on_meta(
        lambda: CogVideoXTransformer3DModel(
            num_attention_heads=heads, attention_head_dim=HEAD, in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS, time_embed_dim=512, text_embed_dim=text.T5_WIDTH, num_layers=layers,
            attention_bias=True, sample_width=90, sample_height=60, sample_frames=49, patch_size=2,
            temporal_compression_ratio=4, max_text_seq_length=TEXT_LEN, use_rotary_positional_embeddings=rotary,
        ),
        dtype,
    )  # fmt: skip


def vae_decoder(dtype: str, scale: float) -> Any:
    """The causal 3D decoder: 512, 256, 256, 128 channels, 4 x 8 x 8 in time, height and width; on the meta device."""
    from diffusers import AutoencoderKLCogVideoX

    return decoder(
        lambda: AutoencoderKLCogVideoX(
            in_channels=3, out_channels=3, latent_channels=LATENT_CHANNELS, block_out_channels=(128, 256, 256, 512),
            layers_per_block=3, temporal_compression_ratio=4, down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
        ),
        dtype,
        scale,
    )  # fmt: skip


def _stages_of(size: str) -> Callable[[Request], tuple[Stage, ...]]:
    return lambda request: stages(size, request)


MODELS = tuple(
    Model(
        id=f"cogvideox-{size}",
        title=f"CogVideoX {size.upper()}",
        request=Request2B if size == "2b" else Request,
        stages=_stages_of(size),
        repeat_fields=("steps",),
        sources=f"Yang et al., arXiv 2408.06072; THUDM/CogVideoX-{size}, {{text_encoder,transformer,vae}}/config.json",
        libraries=("torch", "diffusers", "transformers"),
        frame_step=4,
    )
    for size in SIZES
)
