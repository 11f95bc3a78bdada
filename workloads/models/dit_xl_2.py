"""DiT-XL/2: a class-conditional diffusion transformer over patches of 2 x 2 latents, VAE decoder of Stable Diffusion 1.5.

Peebles and Xie, Scalable Diffusion Models with Transformers, ICCV 2023 (arXiv 2212.09748). Written from memory of
transformer/config.json of facebook/DiT-XL-2-{256,512}. The paper has 675 M parameters; diffusers' module, which is what is
captured, has 750 M: it gives each of the 28 blocks a timestep and class embedder of its own, where the paper has one.
Published weights are for 256 x 256 and 512 x 512; the module takes square images of any multiple of 16.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, RuleError
from workloads.fields import passes
from workloads.model import Model, Stage
from workloads.models.stable_diffusion_1_5 import LATENT_CHANNELS, PIXELS, vae_decoder
from workloads.parts.meta import meta, on_meta
from workloads.parts.request import ImageRequest, Side16, Steps
from workloads.transforms import transformed


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request(ImageRequest):
    """What is asked of the pipeline."""

    height: Side16 = 256
    width: Side16 = 256
    steps: Steps = 250  # the paper's, section 4

    def __post_init__(self) -> None:
        """Refuse what is not square: diffusers' module arranges the patches in a square."""
        if self.height != self.width:
            near = f"width {self.height}, or height {self.width}"
            raise RuleError(
                [("width", f"found {self.width} at height {self.height}, expected a square; nearest: {near}")]
            )


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Transformer for every step (under guidance with the null class beside each class), VAE decoder."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    n = guided.rows * batch
    size = (LATENT_CHANNELS, request.height // PIXELS, request.width // PIXELS)

    def latents() -> tuple[tuple[Any, ...], dict[str, Any]]:
        known = {"timestep": meta("int64", n), "class_labels": meta("int64", n), "return_dict": False}
        return (meta(dtype, n, *size),), known

    return (
        Stage(
            "transformer",
            "transformer",
            guided.runs * request.steps,
            partial(transformer, dtype, size[1]),
            latents,
            steps=request.steps,
        ),
        Stage("vae_decoder", "vae_decoder", 1, partial(vae_decoder, dtype), lambda: ((meta(dtype, batch, *size),), {})),
    )


def transformer(dtype: str, side: int) -> Any:
    """28 blocks of width 1152, 16 heads, adaptive layer norm; `side`: of the latents that its positions are made for."""
    from diffusers import DiTTransformer2DModel

    return on_meta(
        lambda: DiTTransformer2DModel(
            sample_size=side, num_layers=28, num_attention_heads=16, attention_head_dim=72, in_channels=LATENT_CHANNELS,
            out_channels=2 * LATENT_CHANNELS, patch_size=2, activation_fn="gelu-approximate", attention_bias=True,
            num_embeds_ada_norm=1000, norm_type="ada_norm_zero", norm_elementwise_affine=False,
        ),
        dtype,
    )  # fmt: skip


MODEL = Model(
    id="dit-xl-2",
    title="DiT-XL/2",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Peebles and Xie, arXiv 2212.09748; facebook/DiT-XL-2-256, transformer/config.json",
    libraries=("torch", "diffusers"),
)
