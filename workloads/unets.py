"""UNets over pixels that no library carries: the guided-diffusion UNet, with text and time if asked, and Imagen's Efficient UNet.

As in `blocks`, a function imports torch when it is called and returns a class. Feature maps are [images, channels, height,
width], the frames of a clip one after the other among the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from workloads.blocks import GROUPS, attention, convolution, map_attention


@cache
def _embedding() -> Any:
    """Time step, and the context pooled by attention, as one vector (Imagen, appendix F: feature_pooling_type attention)."""
    import torch
    from torch import nn

    Attention = attention()

    class Embedding(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int, context_width: int) -> None:
            super().__init__()
            self.half = width // 2
            self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
            self.pools = bool(context_width)
            if context_width:
                self.pool = Attention(context_width, max(1, context_width // 64), context_width=context_width)
                self.text = nn.Linear(context_width, 4 * width)

        def forward(self, steps: Any, context: Any, dtype: Any) -> Any:
            """Time steps [n], context [n, text, context_width] -> [n, 4 width]."""
            rates = torch.exp(torch.arange(self.half, device=steps.device) * (-9.21 / self.half))  # ln 10^4
            angles = steps[:, None] * rates
            found = self.time(torch.cat([angles.cos(), angles.sin()], -1).to(dtype))
            if not self.pools:
                return found
            return found + self.text(self.pool(context.mean(1, keepdim=True), context)[:, 0])

    return Embedding


@cache
def _residual() -> Any:
    """Residual block of guided-diffusion: scale and shift by the embedding, resampling inside (BigGAN's)."""
    from torch import nn

    Convolution = convolution()

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, outputs: int, embedded: int, temporal: bool, resample: str = "") -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
            self.conv1 = Convolution(inputs, outputs, temporal=temporal)
            self.conv2 = Convolution(outputs, outputs, temporal=temporal)
            self.modulation = nn.Linear(embedded, 2 * outputs)
            self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
            sizes = {"down": nn.AvgPool2d(2), "up": nn.Upsample(scale_factor=2.0, mode="nearest")}
            self.resample = sizes.get(resample, nn.Identity())

        def forward(self, x: Any, embedding: Any, frames: int) -> Any:
            h = self.resample(nn.functional.silu(self.norm1(x)))
            h = self.norm2(self.conv1(h, frames))
            scale, shift = self.modulation(nn.functional.silu(embedding))[:, :, None, None].chunk(2, dim=1)
            h = self.conv2(nn.functional.silu(h * (1 + scale) + shift), frames)
            return self.skip(self.resample(x)) + h

    return Residual


@cache
def _attended() -> Any:
    """Spatial attention, its keys joined by the context's; then, if temporal, attention over the frames of every pixel."""
    from torch import nn

    SpaceAttention, TimeAttention = map_attention()

    class Attended(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int, head_dim: int, context_width: int, temporal: bool) -> None:
            super().__init__()
            heads = width // head_dim
            self.norm = nn.GroupNorm(GROUPS, width)
            self.space = SpaceAttention(width, heads, context_width=context_width, joined=bool(context_width))
            if temporal:
                self.time_norm, self.time = nn.GroupNorm(GROUPS, width), TimeAttention(width, heads)
            self.temporal = temporal

        def forward(self, x: Any, context: Any, frames: int) -> Any:
            x = x + self.space(self.norm(x), context)
            return x + self.time(self.time_norm(x), frames) if self.temporal else x

    return Attended


@dataclass(frozen=True)
class _Block:
    """A residual block: channels in and out, whether attention follows, 'up' or 'down', whether it takes a skip."""

    inputs: int
    outputs: int
    attends: bool = False
    resample: str = ""
    joins: bool = False


def _down(channels: list[int], blocks: int, attend: tuple[int, ...]) -> list[_Block]:
    """The first half: a few blocks a level, and one between levels that halves the size."""
    found = []
    for level, here in enumerate(channels):
        before = channels[max(level - 1, 0)]
        found += [_Block(before if i == 0 else here, here, level in attend) for i in range(blocks)]
        found += [_Block(here, here, resample="down")] * (level < len(channels) - 1)
    return found


def _up(channels: list[int], blocks: int, attend: tuple[int, ...]) -> list[_Block]:
    """The second half: one block more a level, each joined by what the first half held at its place, last in first out."""
    skips = [channels[0], *(block.outputs for block in _down(channels, blocks, attend))]
    found, now = [], channels[-1]
    for level, here in reversed(list(enumerate(channels))):
        for _ in range(blocks + 1):
            found.append(_Block(now + skips.pop(), here, level in attend, joins=True))
            now = here
        found += [_Block(here, here, resample="up")] * (level > 0)
    return found


@cache
def unet() -> Any:
    """The UNet of guided-diffusion (Dhariwal and Nichol 2021), which Imagen's base, unCLIP's and Make-A-Video's UNets adapt."""
    from torch import nn

    Embedding, Residual, Attended, Convolution = _embedding(), _residual(), _attended(), convolution()

    class UNet(nn.Module):  # type: ignore[misc]
        """Channels in and out, width of the first level, multipliers of it, residual blocks a level, levels that attend.

        A context comes with its own `context_width`, or as text of `text_width`, which is projected, and pooled besides.
        """

        def __init__(
            self, inputs: int, outputs: int, width: int, multipliers: tuple[int, ...], blocks: int,
            *, attend: tuple[int, ...] = (), head_dim: int = 64, text_width: int = 0, context_width: int = 0,
            temporal: bool = False,
        ) -> None:  # fmt: skip
            super().__init__()
            channels = [width * m for m in multipliers]
            middle = [_Block(channels[-1], channels[-1], here) for here in (bool(attend), False)]
            self.plan = [*_down(channels, blocks, attend), *middle, *_up(channels, blocks, attend)]
            self.kept = len(self.plan) - sum(b.joins or b.resample == "up" for b in self.plan) - len(middle)
            self.context_in = nn.Linear(text_width, context_width) if text_width else nn.Identity()
            self.embedding = Embedding(width, context_width if text_width else 0)
            self.conv_in = Convolution(inputs, width, temporal=temporal)
            self.residual = nn.ModuleList(
                Residual(b.inputs, b.outputs, 4 * width, temporal, b.resample) for b in self.plan
            )
            self.attended = nn.ModuleList(
                Attended(b.outputs, head_dim, context_width, temporal) if b.attends else nn.Identity()
                for b in self.plan
            )
            self.norm_out, self.conv_out = nn.GroupNorm(GROUPS, width), Convolution(width, outputs, temporal=temporal)

        def forward(self, x: Any, steps: Any, context: Any = None, vector: Any = None) -> Any:
            """Images [n, c, h, w] or clips [n, c, frames, h, w], time steps [n], context [n, text, its width] -> as x.

            vector [n, 4 width] is added to the embedding of the time step."""
            context = self.context_in(context)
            embedding = self.embedding(steps, context, x.dtype)
            embedding = embedding if vector is None else embedding + vector
            if x.dim() == 4:
                return self._images(x, embedding, context, 1)
            frames = x.shape[2]
            embedding, context = (t if t is None else t.repeat_interleave(frames, 0) for t in (embedding, context))
            images = self._images(x.transpose(1, 2).flatten(0, 1), embedding, context, frames)
            return images.unflatten(0, (-1, frames)).transpose(1, 2)

        def _images(self, x: Any, embedding: Any, context: Any, frames: int) -> Any:
            x = self.conv_in(x, frames)
            skips = [x]
            for index, (block, residual, attended) in enumerate(
                zip(self.plan, self.residual, self.attended, strict=True)
            ):
                x = residual(_joined(x, skips.pop()) if block.joins else x, embedding, frames)
                x = attended(x, context, frames) if block.attends else x
                skips += [x] * (index < self.kept)
            return self.conv_out(nn.functional.silu(self.norm_out(x)), frames)

    return UNet


def _joined(x: Any, skip: Any) -> Any:
    import torch

    return torch.cat([x, skip], dim=1)


@cache
def _plain() -> Any:
    """Efficient UNet's residual block: no embedding, and a 1 x 1 convolution beside it always (Imagen, figure A.27)."""
    from torch import nn

    class Plain(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
            self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
            self.skip = nn.Conv2d(inputs, outputs, 1)

        def forward(self, x: Any) -> Any:
            h = self.conv2(nn.functional.silu(self.norm2(self.conv1(nn.functional.silu(self.norm1(x))))))
            return self.skip(x) + h

    return Plain


@cache
def _level() -> Any:
    """What DBlock and UBlock share (figures A.28 and A.29): embeddings combined, residual blocks, one attention."""
    from torch import nn

    (SpaceAttention, _), Plain = map_attention(), _plain()

    class Level(nn.Module):  # type: ignore[misc]
        """attend: '' none, 'joined' self-attention with the text's keys, 'cross' attention to the text alone."""

        def __init__(
            self, inputs: int, channels: int, blocks: int, embedded: int, context_width: int, attend: str
        ) -> None:
            super().__init__()
            self.modulation = nn.Linear(embedded, 2 * inputs)
            self.blocks = nn.ModuleList(Plain(inputs if i == 0 else channels, channels) for i in range(blocks))
            if attend:
                self.norm = nn.GroupNorm(GROUPS, channels)
                self.attend = SpaceAttention(
                    channels, HEADS, inner=2 * channels, context_width=context_width, joined=attend == "joined"
                )
            self.attends = bool(attend)

        def forward(self, x: Any, embedding: Any, context: Any) -> Any:
            scale, shift = self.modulation(nn.functional.silu(embedding))[:, :, None, None].chunk(2, dim=1)
            x = x * (1 + scale) + shift
            for part in self.blocks:
                x = part(x)
            return x + self.attend(self.norm(x), context) if self.attends else x

    return Level


HEADS = (
    8  # of the Efficient UNet's attention, whose hidden size is twice the channels (Imagen, figure A.28, appendix F.2)
)


@cache
def efficient_unet() -> Any:
    """Imagen's Efficient UNet (appendix B.1, figures A.27 to A.30)."""
    from torch import nn

    Embedding, Level = _embedding(), _level()

    class EfficientUNet(nn.Module):  # type: ignore[misc]
        """Channels and residual blocks of the levels; every level halves the size, before its convolutions; the last attends."""

        def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...], text_width: int, attend: str) -> None:
            super().__init__()
            width, count, context_width = channels[0], len(channels), 4 * channels[0]
            self.context_in = nn.Linear(text_width, context_width)
            kinds = [*[""] * (count - 1), attend]
            self.embedding = Embedding(width, context_width)
            self.conv_in = nn.Conv2d(6, width, 3, padding=1)
            before = (width, *channels)
            self.shrink = nn.ModuleList(nn.Conv2d(before[i], channels[i], 3, 2, padding=1) for i in range(count))
            self.down = nn.ModuleList(
                Level(channels[i], channels[i], blocks[i], 4 * width, context_width, kinds[i]) for i in range(count)
            )
            self.up = nn.ModuleList(
                Level(2 * channels[i], channels[i], blocks[i], 4 * width, context_width, kinds[i]) for i in range(count)
            )
            self.grow = nn.ModuleList(nn.Conv2d(channels[i], before[i], 3, padding=1) for i in range(count))
            self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

        def forward(self, x: Any, low: Any, steps: Any, context: Any) -> Any:
            """Noisy images [n, 3, h, w], smaller images, time steps [n], text [n, text, text_width] -> [n, 3, h, w]."""
            context = self.context_in(context)
            embedding = self.embedding(steps, context, x.dtype)
            low = nn.functional.interpolate(low, size=x.shape[-2:], mode="bilinear")
            x, skips = self.conv_in(_joined(x, low)), []
            for shrink, level in zip(self.shrink, self.down, strict=True):
                x = level(shrink(x), embedding, context)
                skips.append(x)
            for grow, level, skip in reversed(list(zip(self.grow, self.up, skips, strict=True))):
                x = grow(level(_joined(x, skip), embedding, context))
                x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            return self.conv_out(x)

    return EfficientUNet
