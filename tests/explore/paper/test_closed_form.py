"""The study's closed form of similarity memory, against a captured UNet of what it describes: one attention block a level."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from explore.paper.claims_shape import lengths
from explore.paper.suite import Suite
from explore.paper.tables import similarity_bytes, study_form
from workloads.capture import assemble, capture
from workloads.views import attention, matrix_bytes_per_pass

WIDTH = 16
META: dict[str, Any] = {"device": "meta", "dtype": torch.float16}


class Block(nn.Module):  # type: ignore[misc]
    """Attention of a map's pixels to each other, then to a text, of one head."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.ModuleList(nn.Linear(WIDTH, WIDTH, **META) for _ in range(3))
        self.cross = nn.ModuleList(nn.Linear(WIDTH, WIDTH, **META) for _ in range(3))

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(2).mT
        for layers, context in ((self.own, None), (self.cross, text)):
            q, k, v = (to(rows if i == 0 or context is None else context)[:, None] for i, to in enumerate(layers))
            rows = rows + F.scaled_dot_product_attention(q, k, v)[:, 0]
        return rows.mT.reshape(x.shape)


class UNet(nn.Module):  # type: ignore[misc]
    """Levels of one block down and one up, each a factor smaller, and one block at the bottom."""

    def __init__(self, factor: int, depth: int) -> None:
        super().__init__()
        self.down, self.up = (nn.ModuleList(Block() for _ in range(depth)) for _ in range(2))
        self.bottom = Block()
        self.shrink = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, factor, factor, **META) for _ in range(depth))
        self.grow = nn.Upsample(scale_factor=float(factor), mode="nearest")

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        skips = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = block(x, text)
            skips.append(x)
            x = shrink(x)
        x = self.bottom(x, text)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(self.grow(x) + skip, text)
        return x


@pytest.mark.parametrize(
    ("latent", "factor", "depth", "text"), [(64, 2, 3, 77), (16, 2, 1, 5), (81, 3, 2, 128), (8, 2, 2, 1)]
)
def test_the_closed_form_is_the_memory_of_a_unet_with_one_block_a_level(
    latent: int, factor: int, depth: int, text: int
) -> None:
    asked = (torch.empty(1, WIDTH, latent, latent, **META), torch.empty(1, text, WIDTH, **META))
    trace = assemble("toy", {}, [("unet", "unet", 1, capture(UNet(factor, depth), asked))])
    found = attention(trace)
    assert len(found.call) == 2 * (2 * depth + 1)
    assert matrix_bytes_per_pass(found) == {"unet": study_form(latent, factor, depth, text)}


@pytest.mark.parametrize("side", [512, 1024])
def test_similarity_memory_of_stable_diffusion_is_the_formula_at_its_own_sizes(side: int) -> None:
    assert matrix_bytes_per_pass(lengths(Suite(), side))["unet"] == similarity_bytes(side // 8)
