"""A small video network of one's own, to show what `framecast capture` records; it needs torch alone.

`build` is what `--from examples/capture/video_net.py:build` calls: the named dimensions come in, the module and its inputs go
out. Weights and inputs may be on any device: framecast looks at their shapes.
"""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

WIDTH, HEADS, TEXT = 128, 4, 77


class Attention(nn.Module):
    """Attention of the rows of x [batch, length, width] over themselves, or over a context."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """x [batch, length, width], context [batch, any length, width] -> as x."""
        rows = self.norm(x)
        other = rows if context is None else context
        q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in (self.q(rows), self.k(other), self.v(other)))
        return x + self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A convolution in each frame, attention over its pixels, over the text, and over the frames of each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.pixels, self.text, self.frames = Attention(), Attention(), Attention()

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """x [batch, frames, channels, height, width], text [batch, tokens, width] -> as x."""
        batch, frames, _, height, width = x.shape
        x = x + torch.relu(self.conv(x.flatten(0, 1))).unflatten(0, (batch, frames))
        rows = x.flatten(3).transpose(2, 3).flatten(0, 1)  # [batch * frames, pixels, width]
        rows = self.text(self.pixels(rows), text.repeat_interleave(frames, 0))
        rows = rows.unflatten(0, (batch, frames)).transpose(1, 2).flatten(0, 1)  # [batch * pixels, frames, width]
        rows = self.frames(rows).unflatten(0, (batch, height * width))
        return rows.permute(0, 2, 3, 1).unflatten(3, (height, width))


class VideoNet(nn.Module):
    """Blocks, and a running sum over time, for which framecast has no cost model."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """As a block."""
        for block in self.blocks:
            x = block(x, text)
        return torch.cumsum(x, 1)


def build(frames: int = 8, height: int = 32, width: int = 32):
    """The network in half precision and one clip of latents."""
    inputs = {"x": torch.empty(1, frames, WIDTH, height, width), "text": torch.empty(1, TEXT, WIDTH)}
    return VideoNet().half(), {name: x.half() for name, x in inputs.items()}
