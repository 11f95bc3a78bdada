"""Small modules of a user's, each with one habit that trips a capture. Loaded by path, as a user's file is."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

WIDTH = 16


class Inner(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.lin(x))


class Looks(Inner):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lin(x)
        return y * 2 if y.abs().sum().item() > 1e9 else y + 1


class Picks(Inner):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin(x)[x.sum(1) < 1e9]


class StaysOnCpu(Inner):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin(x) + torch.ones(WIDTH).to("cpu")


class Raises(Inner):
    def forward(self, _: torch.Tensor) -> torch.Tensor:
        raise KeyError("no such key\nin two lines")


class HalfLinear(Inner):
    """Attention after a look at the data: a real run has to compute its values, and count it once."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.rms_norm(F.scaled_dot_product_attention(x, x, x), (WIDTH,))
        assert not y.isnan().any().item()
        return self.lin(y)


class Plain(Inner):
    """A tensor that is neither a parameter nor a buffer, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.ones(WIDTH)
        self.again = self.lin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.again(self.lin(x)) + self.table


class Outer(nn.Module):  # type: ignore[misc]
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([inner])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[0](x)


class Video(nn.Module):  # type: ignore[misc]
    """Attention over pixels, over a context, and over frames; `motion` sounds temporal and is not."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.q, self.kv = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.spatial, self.text, self.motion, self.over = (Attend() for _ in range(4))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        _, _, _, c = x.shape  # batch, frames, pixels, width
        rows = x.flatten(0, 1)
        rows = self.spatial(*self.qkv(rows).chunk(3, -1))
        rows = self.text(self.q(rows), *self.kv(context).chunk(2, -1))
        rows = self.motion(*self.qkv(rows).chunk(3, -1)).view(x.shape).transpose(1, 2).reshape(-1, x.shape[1], c)
        return self.over(*self.qkv(rows).chunk(3, -1))


class Attend(nn.Module):  # type: ignore[misc]
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(*(y[:, None] for y in (q, k, v)))[:, 0]


def video(frames: int = 4, pixels: int = 9) -> tuple[Any, Any]:
    return Video(), {"x": torch.empty(1, frames, pixels, WIDTH), "context": torch.empty(frames, 5, WIDTH)}


def linear(rows: int = 4) -> tuple[Any, Any]:
    return Outer(Inner()), torch.empty(rows, WIDTH)


def anything(**dims: int) -> Any:
    return Inner(), (torch.empty(dims["rows"], WIDTH),)


def nothing() -> int:
    return 3


CONSTANT = 3
