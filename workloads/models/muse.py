"""Muse: T5-XXL encoder, base and super-resolution transformers that decode image tokens in parallel, VQGAN decoder.

Chang et al., Muse: Text-To-Image Generation via Masked Generative Transformers, 2023 (arXiv 2301.00704), appendix A: base of 48
layers, width 2048, MLP 8192, over 16 x 16 tokens, 24 steps; super-resolution of 16 + 32 layers, width 1024, MLP 4096, over 64 x
64 tokens, 8 steps, with multi-axis attention; 8192 codes; the finetuned decoder has 4 residual blocks a level and width 256.
Published are 3 B for the base, to one digit; with cross-attention in every layer these sizes make 3.3 B. Heads (of 128 and
64), the decoder's multipliers and the blocks of the multi-axis attention (8 x 8) are not published.
The decoder of the base's own tokens (f = 16) runs only where no super-resolution is asked for. Unfused attention is that of
lucidrains/muse-maskgit-pytorch (`workloads.baselines`).
"""

from __future__ import annotations

from functools import cache, partial
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Doc, Quantity
from workloads.blocks import layer, masked_transformer, multi_axis_attention, vqgan_decoder
from workloads.fields import Batch, Dtype, GuidanceTogether, Images, TextLen, multiple_of
from workloads.model import Model, Stage
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.transforms import transformed

CODES, CODE_WIDTH = 8192, 256  # appendix A.2; the width of a code is VQGAN's (Esser et al. 2021)
BASE_PIXELS, PIXELS = 32, 8  # final image pixels of a base token and of a super-resolution token along a side
BLOCK = 8  # tokens along a side of a block of the multi-axis attention
MULTIPLE = 64  # pixels: super-resolution tokens come in whole blocks
MULTIPLIERS = {8: (1, 1, 2, 4), 16: (1, 1, 2, 2, 4)}  # of the decoder, by its factor; MaskGIT's for 16

Height = Annotated[
    int, Quantity(ge=64, le=4096, doc="image height in pixels, a multiple of 64; trained at 512"),
    AfterValidator(multiple_of(MULTIPLE)),
]  # fmt: skip
Width = Annotated[
    int, Quantity(ge=64, le=4096, doc="image width in pixels, a multiple of 64; trained at 512"),
    AfterValidator(multiple_of(MULTIPLE)),
]  # fmt: skip
Steps = Annotated[int, Quantity(ge=1, le=1000, doc="steps of the base's parallel decoding")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of the pipeline."""

    height: Height = 512
    width: Width = 512
    super_resolution: Annotated[
        bool, Doc("decode tokens of 8 pixels after the base's; without it, the image is half as large")
    ] = True
    text_len: TextLen = 128
    batch: Batch = 1
    steps: Steps = 24
    upscale_steps: Annotated[int, Quantity(ge=1, le=1000, doc="steps of the super-resolution's parallel decoding")] = 8
    guidance: GuidanceTogether = True
    dtype: Dtype = "bf16"
    images: Images = None


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder, base transformer for its steps, super-resolution (its context once, then its steps), decoder."""
    dtype, n = request.dtype, request.batch * (2 if request.guidance else 1)
    low, high = (tuple(side // pixels for side in (request.height, request.width)) for pixels in (BASE_PIXELS, PIXELS))
    small, large = low[0] * low[1], high[0] * high[1]
    prompt = (n, request.text_len, text.T5_WIDTH)
    upscale = cache(partial(super_resolution, dtype, low, high))
    encoded = (n, small + request.text_len, UPSCALE_WIDTH)
    last, factor = (high, 8) if request.super_resolution else (low, 16)
    upscaling = (
        Stage(
            "super_resolution_context", "super_resolution", 1, upscale,
            lambda: ((), {"low": meta("int64", n, small), "prompt": meta(dtype, *prompt)}),
        ),
        Stage(
            "super_resolution", "super_resolution", request.upscale_steps, upscale,
            lambda: ((meta("int64", n, large), meta(dtype, *encoded), request.guidance), {}),
        ),
    )  # fmt: skip
    return (
        text.encoder(
            "text_encoder", partial(text.t5_xxl, dtype), request.batch, request.text_len, 2 if request.guidance else 1
        ),
        Stage(
            "base", "base", request.steps, partial(base, dtype, small),
            lambda: ((meta("int64", n, small), meta(dtype, *prompt), request.guidance), {}),
        ),
        *(upscaling if request.super_resolution else ()),
        Stage(
            "vqgan_decoder", "vqgan_decoder", 1, partial(decoder, dtype, factor),
            lambda: ((meta("int64", request.batch, *last),), {}),
        ),
    )  # fmt: skip


UPSCALE_WIDTH = 1024  # appendix A.3


def base(dtype: str, length: int, width: int = 2048, layers: int = 48, heads: int = 16) -> Any:
    """The base transformer over `length` tokens; on the meta device."""
    return on_meta(lambda: _prompted()(text.T5_WIDTH, CODES, length, width, layers, heads, 4 * width, width), dtype)


def super_resolution(
    dtype: str, low: tuple[int, ...], high: tuple[int, ...], width: int = UPSCALE_WIDTH, heads: int = 16,
    layers: tuple[int, int] = (16, 32),
) -> Any:  # fmt: skip
    """The transformer over the tokens of the final image, conditioned on the text and on the base's tokens; on meta."""
    return on_meta(lambda: _super_resolution()(low, high, width, heads, layers), dtype)


def decoder(dtype: str, factor: int, width: int = 256, blocks: int = 4) -> Any:
    """The finetuned decoder of the VQGAN; on the meta device."""
    return on_meta(lambda: vqgan_decoder()(CODES, CODE_WIDTH, width, MULTIPLIERS[factor], blocks), dtype)


@cache
def _prompted() -> Any:
    from torch import nn

    Masked = masked_transformer()

    class Prompted(Masked):  # type: ignore[misc,valid-type]
        """The text is projected to the width of the layers first (section 2.1)."""

        def __init__(self, text_width: int, *sizes: Any, **options: Any) -> None:
            super().__init__(*sizes, **options)
            self.prompt = nn.Linear(text_width, sizes[-1])

        def forward(self, tokens: Any, prompt: Any, guidance: bool) -> Any:
            return super().forward(tokens, self.prompt(prompt), guidance)

    return Prompted


@cache
def _super_resolution() -> Any:
    import torch
    from torch import nn

    Layer, Masked, MultiAxis = layer(), masked_transformer(), multi_axis_attention()

    class SuperResolution(Masked):  # type: ignore[misc,valid-type]
        def __init__(
            self, low: tuple[int, ...], high: tuple[int, ...], width: int, heads: int, layers: tuple[int, int]
        ) -> None:
            super().__init__(
                CODES, high[0] * high[1], width, layers[1], heads, 4 * width, width,
                own=lambda: MultiAxis(width, heads, BLOCK), shape=high,
            )  # fmt: skip
            self.low, self.prompt = nn.Embedding(CODES, width), nn.Linear(text.T5_WIDTH, width)
            self.low_positions = nn.Parameter(torch.zeros(low[0] * low[1], width))
            self.low_layers = nn.ModuleList(Layer(width, heads, 4 * width) for _ in range(layers[0]))

        def forward(
            self,
            tokens: Any = None,
            context: Any = None,
            guidance: bool = False,
            *,
            low: Any = None,
            prompt: Any = None,
        ) -> Any:
            """The base's tokens and the prompt -> context; or tokens and context -> tokens after one step."""
            if low is None:
                return super().forward(tokens, context, guidance)
            x = self.low(low) + self.low_positions
            for part in self.low_layers:
                x = part(x)
            return torch.cat([x, self.prompt(prompt)], dim=1)

    return SuperResolution


MODEL = Model(
    id="muse",
    title="Muse 3B",
    request=Request,
    stages=stages,
    repeat_fields=("steps", "upscale_steps"),
    sources="Chang et al., arXiv 2301.00704, section 2 and appendix A; google/t5-v1_1-xxl, config.json",
    libraries=("torch", "transformers"),
)
