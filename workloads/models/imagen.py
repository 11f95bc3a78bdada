"""Imagen: T5-XXL encoder, base UNet over 64 x 64 pixels, two super-resolution UNets, to 256 (or 768) and to 1024.

Saharia et al., Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding, 2022 (arXiv 2205.11487), whose
sections are named below. Published are about 2 B, 600 M and 400 M parameters; with the hyperparameters of appendix F and the
figures A.27 to A.30 we count 2.27 B, 467 M and 459 M. Nothing was bent to close that: the two super-resolution UNets share one
table and differ only in their attention, which cannot make 200 M; the base's total is given to one digit, and NVIDIA NeMo's
build of the same table (conf/base64-2b.yaml) has 2.1 B, without residual blocks for resampling. The text enters the UNets at
four times their width (DeepFloyd IF and NeMo project it so). Sampling steps are not published: 256, 128 and 32 are in the
hundreds that Muse's authors say it takes (Chang et al., arXiv 2301.00704, section 2.8), and give the last network 36 % of the
FLOPs; it takes 4.2 of the 13.3 s that their table 3 has for 1024 x 1024, against 9.1 s for 256 x 256.
Left out: the samplers' pointwise operators, dynamic thresholding, the noise on the smaller images.
Unfused attention is that of openai/guided-diffusion, whose UNet ours is (`workloads.baselines`).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Doc, Quantity
from workloads.fields import Batch, Cached, Dtype, Guidance, Images, TextLen, multiple_of, passes
from workloads.model import Model, Stage
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.transforms import transformed
from workloads.unets import efficient_unet, unet

MULTIPLE = 128  # the base works at a sixteenth of the size, and halves it three times

Height = Annotated[
    int,
    Quantity(ge=128, le=8192, doc="image height in pixels, a multiple of 128"),
    AfterValidator(multiple_of(MULTIPLE)),
]
Width = Annotated[
    int,
    Quantity(ge=128, le=8192, doc="image width in pixels, a multiple of 128"),
    AfterValidator(multiple_of(MULTIPLE)),
]
Steps = Annotated[int, Quantity(ge=1, le=1000, doc="denoising steps of the base UNet; not published")]
UpscaleSteps = Annotated[
    int, Quantity(ge=1, le=1000, doc="denoising steps of the first super-resolution UNet; not published")
]
LastSteps = Annotated[
    int, Quantity(ge=1, le=1000, doc="denoising steps of the last super-resolution UNet; not published")
]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of the pipeline."""

    height: Height = 1024
    width: Width = 1024
    middle: Annotated[
        Literal["256", "768"],
        Doc("side that the first super-resolution gives an image of 1024: 256 as published, or 768"),
    ] = "256"
    text_len: TextLen = 128
    batch: Batch = 1
    steps: Steps = 256
    upscale_steps_1: UpscaleSteps = 128
    upscale_steps_2: LastSteps = 32
    guidance: Guidance = True
    dtype: Dtype = "bf16"
    images: Images = None
    cache: Cached = None


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, empty prompt), then the three UNets, each for its steps."""
    dtype, guided = request.dtype, passes(request.guidance)
    n = guided.rows * request.batch
    small, middle, large = (
        tuple(side * part // 1024 for side in (request.height, request.width))
        for part in (64, int(request.middle), 1024)
    )
    prompt = (n, request.text_len, text.T5_WIDTH)

    def upscale(low: tuple[int, ...], high: tuple[int, ...]) -> Any:
        shapes = ((n, 3, *high), (n, 3, *low))
        return (*(meta(dtype, *shape) for shape in shapes), meta("fp32", n), meta(dtype, *prompt)), {}

    return (
        text.encoder(
            "text_encoder", partial(text.t5_xxl, dtype), request.batch, request.text_len, guided.prompts
        ),
        Stage(
            "base", "base", guided.runs * request.steps, partial(base, dtype),
            lambda: ((meta(dtype, n, 3, *small), meta("fp32", n), meta(dtype, *prompt)), {}),
            steps=request.steps,
        ),
        Stage(
            "super_resolution_1", "super_resolution_1", guided.runs * request.upscale_steps_1,
            partial(super_resolution, dtype, "joined"), lambda: upscale(small, middle), steps=request.upscale_steps_1,
        ),
        Stage(
            "super_resolution_2", "super_resolution_2", guided.runs * request.upscale_steps_2,
            partial(super_resolution, dtype, "cross"), lambda: upscale(middle, large), steps=request.upscale_steps_2,
        ),
    )  # fmt: skip


def base(dtype: str, width: int = 512) -> Any:
    """The base UNet (appendix F.1): multipliers 1, 2, 3, 4, three blocks a level, attention with the text at 32, 16 and 8."""
    return on_meta(
        lambda: unet()(
            3, 3, width, (1, 2, 3, 4), 3, attend=(1, 2, 3), text_width=text.T5_WIDTH, context_width=4 * width
        ),
        dtype,
    )  # fmt: skip


def super_resolution(dtype: str, attend: Literal["joined", "cross"]) -> Any:
    """An Efficient UNet (appendices F.2 and F.3): 'joined' self-attention with the text, or 'cross' attention to it alone."""
    return on_meta(lambda: efficient_unet()((128, 256, 512, 1024), (2, 4, 8, 8), text.T5_WIDTH, attend), dtype)


MODEL = Model(
    id="imagen",
    title="Imagen",
    request=Request,
    stages=stages,
    repeat_fields=("steps", "upscale_steps_1", "upscale_steps_2"),
    sources="Saharia et al., arXiv 2205.11487, appendices B.1, D.3.1 and F; google/t5-v1_1-xxl, config.json",
    libraries=("torch", "transformers"),
)
