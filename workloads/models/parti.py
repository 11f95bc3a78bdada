"""Parti 20B: text encoder, autoregressive decoder of image tokens with a KV cache, ViT-VQGAN decoder to pixels.

Yu et al., Scaling Autoregressive Models for Content-Rich Text-to-Image Generation, 2022 (arXiv 2206.10789), table 1 and section
2: encoder of 16 and decoder of 64 layers, width 4096, 64 heads, MLP 16384 (20 B; we count 20.6 B); 128 text tokens of 16,000,
an image of 256 x 256 as 32 x 32 tokens of 8192; image decoder of 32 blocks, width 1280, 16 heads, MLP 5120 (600 M; we count
630 M). Every text's keys are made once; image tokens are decoded in a few spans, each at the token in its middle (see
`workloads.decoding`): `decode_512` is the token that sees 512 keys. Attention is dense, as a cache reads it: the paper's
sparse mask would skip scores. Left out: the convolutional upsamplers to 512 and 1024 (15 M and 30 M), ranking of samples.
Unfused attention is that of lucidrains/parti-pytorch, with heads of keys of their own as the paper has (`workloads.baselines`).
"""

from __future__ import annotations

from functools import cache, partial
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.blocks import layer
from workloads.decoding import decode_spans, kv_cache
from workloads.fields import Batch, Dtype, GuidanceTogether, Images, TextLen, multiple_of
from workloads.model import Model, Stage
from workloads.parts.meta import meta, on_meta
from workloads.transforms import transformed

PATCH = 8  # pixels of a token along a side; section 2.1
WIDTH, HEADS, MLP, ENCODER, DECODER = 4096, 64, 16384, 16, 64  # table 1
TEXT_CODES, IMAGE_CODES = 16000, 8192  # section 2

Height = Annotated[
    int, Quantity(ge=8, le=1024, doc="image height in pixels, a multiple of 8; trained at 256"),
    AfterValidator(multiple_of(PATCH)),
]  # fmt: skip
Width = Annotated[
    int, Quantity(ge=8, le=1024, doc="image width in pixels, a multiple of 8; trained at 256"),
    AfterValidator(multiple_of(PATCH)),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of the pipeline."""

    height: Height = 256
    width: Width = 256
    text_len: TextLen = 128
    batch: Batch = 1
    guidance: GuidanceTogether = True
    dtype: Dtype = "bf16"
    images: Images = None


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder with the keys of the text, the spans of the decode, image decoder."""
    dtype, n = request.dtype, request.batch * (2 if request.guidance else 1)
    grid = (request.height // PATCH, request.width // PATCH)
    tokens = grid[0] * grid[1]
    build = cache(partial(transformer, dtype, tokens, request.text_len))

    def decode(kv_len: int) -> Any:
        held, keys = (
            kv_cache(dtype, DECODER, n, HEADS, length, WIDTH // HEADS) for length in (tokens, request.text_len)
        )
        return (), {
            "token": meta("int64", n, 1),
            "start": kv_len - 1,
            "held": held,
            "keys": keys,
            "guidance": request.guidance,
        }

    return (
        Stage("text_encoder", "transformer", 1, build, lambda: ((meta("int64", n, request.text_len),), {})),
        *(
            Stage(f"decode_{kv_len}", "transformer", repeats, build, partial(decode, kv_len))
            for kv_len, repeats in decode_spans(1, tokens)
        ),
        Stage(
            "image_decoder", "image_decoder", 1, partial(image_decoder, dtype, grid),
            lambda: ((meta("int64", request.batch, tokens),), {}),
        ),
    )  # fmt: skip


def transformer(
    dtype: str, tokens: int, text_len: int, width: int = WIDTH, heads: int = HEADS, mlp: int = MLP,
    layers: tuple[int, int] = (ENCODER, DECODER),
) -> Any:  # fmt: skip
    """Encoder and decoder; on the meta device."""
    return on_meta(lambda: _transformer()(tokens, text_len, width, heads, mlp, layers), dtype)


def image_decoder(
    dtype: str, grid: tuple[int, int], width: int = 1280, heads: int = 16, mlp: int = 5120, layers: int = 32
) -> Any:
    """Decoder of the ViT-VQGAN; on the meta device."""
    return on_meta(lambda: _image_decoder()(grid, width, heads, mlp, layers), dtype)


@cache
def _transformer() -> Any:
    import torch
    from torch import nn

    Layer = layer()

    class Parti(nn.Module):  # type: ignore[misc]
        def __init__(
            self, tokens: int, text_len: int, width: int, heads: int, mlp: int, layers: tuple[int, int]
        ) -> None:
            super().__init__()
            self.text, self.image = nn.Embedding(TEXT_CODES, width), nn.Embedding(IMAGE_CODES + 1, width)  # and a start
            self.text_positions = nn.Parameter(torch.zeros(text_len, width))
            self.image_positions = nn.Parameter(torch.zeros(tokens, width))
            self.encoder = nn.ModuleList(Layer(width, heads, mlp) for _ in range(layers[0]))
            self.decoder = nn.ModuleList(Layer(width, heads, mlp, width) for _ in range(layers[1]))
            self.text_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
            self.head = nn.Linear(width, IMAGE_CODES)

        def forward(self, text: Any = None, token: Any = None, **decode: Any) -> Any:
            """Text [n, text_len] -> its keys for every layer; or a token [n, 1] at `start`, with caches -> the next one."""
            return self._keys(text) if token is None else self._next(token, **decode)

        def _keys(self, text: Any) -> Any:
            x = self.text(text) + self.text_positions
            for part in self.encoder:
                x = part(x)
            x = self.text_norm(x)
            return [part.attn2.keys(x) for part in self.decoder]

        def _next(self, token: Any, *, start: int, held: Any, keys: Any, guidance: bool) -> Any:
            x = self.image(token) + self.image_positions[start : start + 1]
            for part, own, text in zip(self.decoder, held, keys, strict=True):
                x = part(x, keys=text, held=own, start=start)
            logits = self.head(self.norm(x))
            if guidance:
                unconditional, conditional = logits.chunk(2)
                logits = unconditional + 3.0 * (conditional - unconditional)
            noise = -torch.log(-torch.log(torch.rand_like(logits)))
            return (logits + noise).argmax(-1)

    return Parti


@cache
def _image_decoder() -> Any:
    import torch
    from torch import nn

    Layer = layer()

    class ImageDecoder(nn.Module):  # type: ignore[misc]
        def __init__(self, grid: tuple[int, int], width: int, heads: int, mlp: int, layers: int) -> None:
            super().__init__()
            self.grid = grid
            self.codes, self.codes_in = nn.Embedding(IMAGE_CODES, 32), nn.Linear(32, width)  # factorized codes
            self.positions = nn.Parameter(torch.zeros(grid[0] * grid[1], width))
            self.layers = nn.ModuleList(Layer(width, heads, mlp) for _ in range(layers))
            self.norm, self.pixels = nn.LayerNorm(width), nn.Linear(width, 3 * PATCH * PATCH)

        def forward(self, tokens: Any) -> Any:
            """Tokens [n, h w] -> images [n, 3, 8 h, 8 w]."""
            x = self.codes_in(self.codes(tokens)) + self.positions
            for part in self.layers:
                x = part(x)
            patches = self.pixels(self.norm(x)).unflatten(1, self.grid).unflatten(3, (3, PATCH, PATCH))
            return patches.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)

    return ImageDecoder


MODEL = Model(
    id="parti",
    title="Parti 20B",
    request=Request,
    stages=stages,
    repeat_fields=(),
    sources="Yu et al., arXiv 2206.10789, section 2 and table 1",
    libraries=("torch",),
)
