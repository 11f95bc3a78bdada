"""Torch blocks of the models that no library carries: attention over text, time and cached tokens, transformer layers,
pseudo-3D convolutions, VQGAN decoder, the sampling of masked tokens.

Each function imports torch when it is called and returns a class, made once. Feature maps are [images, channels, height, width],
the frames of a clip one after the other among the images; tokens are [sequences, length, width].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from workloads.decoding import extend

GROUPS = 32  # of every GroupNorm (Dhariwal and Nichol 2021, guided-diffusion's normalization())


def over_time(run: Callable[[Any], Any], x: Any, frames: int) -> Any:
    """Run something over the frames of every pixel: [clips frames, c, h, w] -> [clips h w, frames, c] -> and back."""
    images, channels, height, width = x.shape
    clips = images // frames
    rows = x.view(clips, frames, channels, height, width).permute(0, 3, 4, 1, 2).reshape(-1, frames, channels)
    out = run(rows).view(clips, height, width, frames, -1).permute(0, 3, 4, 1, 2)
    return out.reshape(images, -1, height, width)


@cache
def attention() -> Any:
    """Multi-head attention over a sequence, over a context, or over both side by side."""
    import torch
    from torch import nn

    class Attention(nn.Module):  # type: ignore[misc]
        """q of x [n, length, width]; keys and values of x, or, given `context_width`, of a context [n, text, context_width].

        joined: keys and values of the context come before x's own, in one attention (Imagen, appendix D.3.1).
        """

        def __init__(
            self,
            width: int,
            heads: int,
            *,
            inner: int = 0,
            context_width: int = 0,
            joined: bool = False,
            bias: bool = True,
        ) -> None:
            super().__init__()
            self.heads, inner = heads, inner or width
            self.to_q = nn.Linear(width, inner, bias=bias)
            source = width if joined or not context_width else context_width
            self.to_k, self.to_v = (nn.Linear(source, inner, bias=bias) for _ in range(2))
            self.joined = joined
            if joined:
                self.add_k, self.add_v = (nn.Linear(context_width, inner, bias=bias) for _ in range(2))
            self.to_out = nn.Linear(inner, width, bias=bias)

        def keys(self, source: Any) -> tuple[Any, Any]:
            """Keys and values of a sequence, [n, heads, length, head_dim]."""
            return self._split(self.to_k(source)), self._split(self.to_v(source))

        def forward(
            self, x: Any, context: Any = None, *, held: Any = None, start: int | None = None, causal: bool = False
        ) -> Any:
            """held: keys and values made before; with `start`, a cache that x's own are written to at that position."""
            q = self._split(self.to_q(x))
            if held is not None and start is None:
                k, v = held
            else:
                k, v = self.keys(x if context is None or self.joined else context)
            if held is not None and start is not None:
                k, v = extend(held, k, v, start)
            if context is not None and self.joined:
                k = torch.cat([self._split(self.add_k(context)), k], dim=2)
                v = torch.cat([self._split(self.add_v(context)), v], dim=2)
            out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return self.to_out(out.transpose(1, 2).flatten(2))

        def _split(self, x: Any) -> Any:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    return Attention


@cache
def map_attention() -> Any:
    """Attention of feature maps: over the pixels of an image, or over the frames of every pixel.

    The map becomes tokens once, and back (guided-diffusion's AttentionBlock, Make-A-Video's ATTN_P3D, section 3.2.2): both moves
    are kernels of the attention module, as its products are.
    """
    Attention = attention()

    class SpaceAttention(Attention):  # type: ignore[misc,valid-type]
        """Maps [n, width, h, w] over their pixels, with a context as `attention` has it."""

        def forward(self, x: Any, context: Any = None) -> Any:
            return super().forward(x.flatten(2).mT.contiguous(), context).mT.reshape(x.shape)

    class TimeAttention(Attention):  # type: ignore[misc,valid-type]
        """Maps [clips frames, width, h, w] over the frames of every pixel."""

        def forward(self, x: Any, frames: int) -> Any:
            return over_time(super().forward, x, frames)

    return SpaceAttention, TimeAttention


@cache
def multi_axis_attention() -> Any:
    """Self-attention: half the heads stay inside blocks of an image, half step across them (Zhao et al., HiT, 2021)."""
    import torch
    from torch import nn

    class MultiAxisAttention(nn.Module):  # type: ignore[misc]
        """Tokens [n, side side', width]; blocks of `block` x `block` tokens."""

        def __init__(self, width: int, heads: int, block: int) -> None:
            super().__init__()
            self.heads, self.block = heads, block
            self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width, bias=False) for _ in range(4))

        def forward(self, x: Any, rows: int, columns: int) -> Any:
            """rows x columns tokens, each a multiple of the block's side."""
            shape = (rows // self.block, self.block, columns // self.block, self.block, 2, self.heads // 2, -1)
            q, k, v = (
                to(x).unflatten(2, shape[4:]).unflatten(1, shape[:4]) for to in (self.to_q, self.to_k, self.to_v)
            )
            inside = self._attend(q, k, v, 0, (0, 1, 3, 5, 2, 4, 6))
            across = self._attend(q, k, v, 1, (0, 2, 4, 5, 1, 3, 6))
            return self.to_out(torch.stack([inside, across], dim=5).flatten(5).flatten(1, 4))

        def _attend(self, q: Any, k: Any, v: Any, half: int, order: tuple[int, ...]) -> Any:
            """Half the heads; `order` puts the axes that are batch first, then the heads, then the sequence, then head_dim."""
            q, k, v = (t[:, :, :, :, :, half].permute(order) for t in (q, k, v))
            out = nn.functional.scaled_dot_product_attention(*(t.reshape(-1, *self._flat(t)) for t in (q, k, v)))
            back = [order.index(axis) for axis in range(len(order))]
            return out.reshape(q.shape).permute(back)

        def _flat(self, t: Any) -> tuple[int, int, int]:
            return t.shape[3], t.shape[4] * t.shape[5], t.shape[6]

    return MultiAxisAttention


@cache
def layer() -> Any:
    """A pre-norm transformer layer: self-attention, cross-attention if there is a context, feed-forward network."""
    from torch import nn

    Attention = attention()

    class Layer(nn.Module):  # type: ignore[misc]
        """Width, heads, width of the feed-forward network (GELU), width of the context (0: no cross-attention)."""

        def __init__(self, width: int, heads: int, mlp: int, context_width: int = 0, own: Any = None) -> None:
            super().__init__()
            self.norm1, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attn1 = own or Attention(width, heads, bias=False)
            if context_width:
                self.norm2 = nn.LayerNorm(width)
                self.attn2 = Attention(width, heads, context_width=context_width, bias=False)
            self.mlp_in, self.mlp_out = nn.Linear(width, mlp, bias=False), nn.Linear(mlp, width, bias=False)

        def forward(
            self, x: Any, context: Any = None, *, keys: Any = None, shape: tuple[int, ...] = (), **own: Any
        ) -> Any:
            """keys: of the context, made before; shape, own: go to the self-attention."""
            x = x + self.attn1(self.norm1(x), *shape, **own)
            if context is not None or keys is not None:
                x = x + self.attn2(self.norm2(x), context, held=keys)
            return x + self.mlp_out(nn.functional.gelu(self.mlp_in(self.norm3(x))))

    return Layer


@cache
def convolution() -> Any:
    """A 2-D convolution, followed, if temporal, by a 1-D one over the frames (Make-A-Video, section 3.2.1)."""
    from torch import nn

    class PseudoConv3d(nn.Module):  # type: ignore[misc]
        """3 x 3, and 3 over the frames."""

        def __init__(self, inputs: int, outputs: int, *, stride: int = 1, temporal: bool = False) -> None:
            super().__init__()
            self.space = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
            self.temporal = temporal
            if temporal:
                self.time = nn.Conv1d(outputs, outputs, 3, padding=1)

        def forward(self, x: Any, frames: int = 1) -> Any:
            """Maps [clips frames, inputs, h, w]."""
            x = self.space(x)
            return over_time(lambda rows: self.time(rows.mT).mT, x, frames) if self.temporal else x

    return PseudoConv3d


@cache
def vqgan_decoder() -> Any:
    """Decoder of a VQGAN without attention: codes -> image (Esser et al. 2021; Muse, appendix A.2)."""
    from torch import nn

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
            self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
            self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

        def forward(self, x: Any) -> Any:
            h = self.conv1(nn.functional.silu(self.norm1(x)))
            return self.skip(x) + self.conv2(nn.functional.silu(self.norm2(h)))

    class VqganDecoder(nn.Module):  # type: ignore[misc]
        """Codes [n, h, w] -> images [n, 3, f h, f w], f = 2 ** (levels - 1)."""

        def __init__(self, codes: int, code_width: int, width: int, multipliers: tuple[int, ...], blocks: int) -> None:
            super().__init__()
            self.codes = nn.Embedding(codes, code_width)
            channels = [width * m for m in reversed(multipliers)]
            parts: list[Any] = [nn.Conv2d(code_width, channels[0], 3, padding=1)]
            parts += [Residual(channels[0], channels[0]) for _ in range(blocks)]
            for level, (before, here) in enumerate(zip([channels[0], *channels], channels, strict=False)):
                if level:
                    parts += [nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(before, before, 3, padding=1)]
                parts += [Residual(before if i == 0 else here, here) for i in range(blocks)]
            parts += [nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(channels[-1], 3, 3, padding=1)]
            self.parts = nn.Sequential(*parts)

        def forward(self, codes: Any) -> Any:
            return self.parts(self.codes(codes).permute(0, 3, 1, 2))

    return VqganDecoder


def unmask(logits: Any, tokens: Any, guidance: bool) -> Any:
    """One step of parallel decoding (MaskGIT, Chang et al. 2022, section 3.2): new tokens [n, length] of masked ones.

    Guidance, a sample of every token by the Gumbel trick, its probability as confidence, and the most confident kept. How many
    are kept follows a schedule; the number changes no size, and a threshold stands for it.
    """
    import torch

    if guidance:
        unconditional, conditional = logits.chunk(2)
        logits, tokens = unconditional + 3.0 * (conditional - unconditional), tokens.chunk(2)[0]
    noise = -torch.log(-torch.log(torch.rand_like(logits)))
    sampled = (logits + noise).argmax(-1)
    confidence = torch.softmax(logits, -1).gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
    threshold = confidence.sort(-1).values[..., confidence.shape[-1] // 2 :][..., :1]
    kept = torch.where(confidence >= threshold, sampled, tokens)
    return torch.cat([kept, kept]) if guidance else kept


@cache
def masked_transformer() -> Any:
    """A bidirectional transformer that predicts masked tokens from those that are known and a text (MaskGIT; Muse, section 2)."""
    import torch
    from torch import nn

    Layer = layer()

    class MaskedTransformer(nn.Module):  # type: ignore[misc]
        """Codes, tokens of an image or a clip, and the sizes of the layers; the text's width goes into the cross-attention.

        own: makes the self-attention of a layer, where it is not over all tokens; it is called with x and `shape`.
        """

        def __init__(
            self, codes: int, length: int, width: int, layers: int, heads: int, mlp: int, text_width: int,
            *, own: Callable[[], Any] | None = None, shape: tuple[int, ...] = (),
        ) -> None:  # fmt: skip
            super().__init__()
            self.shape = shape
            self.tokens = nn.Embedding(codes + 1, width)  # and the mask
            self.positions = nn.Parameter(torch.zeros(length, width))
            self.layers = nn.ModuleList(
                Layer(width, heads, mlp, text_width, own=own() if own else None) for _ in range(layers)
            )
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, codes)

        def forward(self, tokens: Any, context: Any, guidance: bool) -> Any:
            """Tokens [n, length], context [n, text, text_width] -> tokens after one step."""
            x = self.tokens(tokens) + self.positions
            for part in self.layers:
                x = part(x, context, shape=self.shape)
            return unmask(self.head(self.norm(x)), tokens, guidance)

    return MaskedTransformer
