"""Phenaki: T5-XXL encoder, bidirectional transformer that decodes the space-time tokens of a clip in parallel, C-ViViT decoder.

Villegas et al., Phenaki: Variable Length Video Generation from Open Domain Textual Descriptions, 2022 (arXiv 2210.02399): 1.8 B
parameters, clips of 11 frames of 128 x 128 as 6 x 16 x 16 tokens of 8192 (the first frame alone, then pairs of frames; patches
of 8 x 8). The decoder runs a transformer causal in time, then one over the pixels' patches of each frame. Depth and width
of neither are known to us: 24 layers of Muse's width, cross-attention reading the text at its own width, make 1.85 B; the
decoder has 4 + 4 layers of width 512. Steps (24, Muse's) and guidance are assumptions as well. Unfused attention is that of
lucidrains/phenaki-pytorch (`workloads.baselines`).
"""

from __future__ import annotations

from functools import cache, partial
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.blocks import layer, masked_transformer
from workloads.fields import Clips, Dtype, GuidanceTogether, Images, TextLen, multiple_of
from workloads.model import Model, Stage
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.transforms import transformed

PATCH, TUBE = 8, 2  # pixels and frames of a token along their axes
CODES = 8192

Height = Annotated[
    int, Quantity(ge=8, le=2048, doc="frame height in pixels, a multiple of 8; trained at 128"),
    AfterValidator(multiple_of(PATCH)),
]  # fmt: skip
Width = Annotated[
    int, Quantity(ge=8, le=2048, doc="frame width in pixels, a multiple of 8; trained at 128"),
    AfterValidator(multiple_of(PATCH)),
]  # fmt: skip
Frames = Annotated[
    int, Quantity(ge=1, le=4097, doc="frames of a clip: the first, and pairs; trained with 11"),
    AfterValidator(multiple_of(TUBE, start=1)),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of the pipeline."""

    height: Height = 128
    width: Width = 128
    frames: Frames = 11
    text_len: TextLen = 128
    batch: Clips = 1
    steps: Annotated[int, Quantity(ge=1, le=1000, doc="steps of the parallel decoding; not published")] = 24
    guidance: GuidanceTogether = True
    dtype: Dtype = "bf16"
    images: Images = None


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder (prompt and, under guidance, empty prompt), transformer for its steps, decoder."""
    dtype, n = request.dtype, request.batch * (2 if request.guidance else 1)
    grid = (1 + request.frames // TUBE, request.height // PATCH, request.width // PATCH)
    length = grid[0] * grid[1] * grid[2]
    return (
        text.encoder(
            "text_encoder", partial(text.t5_xxl, dtype), request.batch, request.text_len, 2 if request.guidance else 1
        ),
        Stage(
            "transformer", "transformer", request.steps, partial(transformer, dtype, length),
            lambda: ((meta("int64", n, length), meta(dtype, n, request.text_len, text.T5_WIDTH), request.guidance), {}),
            frames=0,
        ),
        Stage(
            "video_decoder", "video_decoder", 1, partial(video_decoder, dtype),
            lambda: ((meta("int64", request.batch, *grid),), {}),
        ),
    )  # fmt: skip


def transformer(dtype: str, length: int, width: int = 2048, layers: int = 24, heads: int = 16) -> Any:
    """The transformer over `length` tokens; on the meta device."""
    return on_meta(lambda: masked_transformer()(CODES, length, width, layers, heads, 4 * width, text.T5_WIDTH), dtype)


def video_decoder(dtype: str, width: int = 512, layers: int = 4, heads: int = 8) -> Any:
    """The decoder of C-ViViT; on the meta device."""
    return on_meta(lambda: _video_decoder()(width, layers, heads), dtype)


@cache
def _video_decoder() -> Any:
    from torch import nn

    Layer = layer()

    class VideoDecoder(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int, layers: int, heads: int) -> None:
            super().__init__()
            self.codes = nn.Embedding(CODES, width)
            self.time = nn.ModuleList(Layer(width, heads, 4 * width) for _ in range(layers))
            self.space = nn.ModuleList(Layer(width, heads, 4 * width) for _ in range(layers))
            self.norm = nn.LayerNorm(width)
            self.first, self.pair = (nn.Linear(width, frames * 3 * PATCH * PATCH) for frames in (1, TUBE))

        def forward(self, codes: Any) -> Any:
            """Codes [n, 1 + pairs, h, w] -> frames [n, 3, 1 + 2 pairs, 8 h, 8 w], the first apart from the pairs."""
            n, times, height, width = codes.shape
            x = self.codes(codes).permute(0, 2, 3, 1, 4).flatten(0, 2)
            for part in self.time:
                x = part(x, causal=True)
            x = x.unflatten(0, (n, height * width)).transpose(1, 2).flatten(0, 1)
            for part in self.space:
                x = part(x)
            x = self.norm(x).unflatten(0, (n, times))
            return self._pixels(self.first(x[:, :1]), height, width), self._pixels(self.pair(x[:, 1:]), height, width)

        def _pixels(self, x: Any, height: int, width: int) -> Any:
            """[n, tubes, h w, frames 3 8 8] -> [n, 3, tubes frames, 8 h, 8 w]."""
            x = x.unflatten(3, (-1, 3, PATCH, PATCH)).unflatten(2, (height, width))
            return x.permute(0, 5, 1, 4, 2, 6, 3, 7).flatten(6).flatten(4, 5).flatten(2, 3)

    return VideoDecoder


MODEL = Model(
    id="phenaki",
    title="Phenaki 1.8B",
    request=Request,
    stages=stages,
    repeat_fields=("steps",),
    sources="Villegas et al., arXiv 2210.02399; google/t5-v1_1-xxl, config.json",
    libraries=("torch", "transformers"),
    frame_step=TUBE,
)
