"""The networks whose steps a campaign times, in plain torch with random weights: UNets (image and video), a video transformer.

Their shapes are the published ones (sources beside each); they stand in where `diffusers` is not installed, and are timed beside
its modules where it is. Needs torch (2.4 or later), nothing else.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from calib.measure_lab import Lab
from calib.measure_ops import fused


@dataclass(frozen=True)
class UNet:
    """Channels and transformer blocks of each level, heads (or their width), text (tokens, width), latent extents."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    text: tuple[int, int]
    side: int
    heads: int = 8
    head_dim: int = 0  # 0: channels / heads
    frames: int = 1
    batch: int = 2  # the two halves of classifier-free guidance


@dataclass(frozen=True)
class Transformer:
    """One block over all tokens of a clip."""

    width: int
    heads: int
    tokens: int
    batch: int = 2


Network = UNet | Transformer
SD15 = UNet(
    (320, 640, 1280, 1280), (1, 1, 1, 0), (77, 768), 64
)  # runwayml/stable-diffusion-v1-5, unet/config.json, 512 x 512
SDXL = UNet(
    (320, 640, 1280), (0, 2, 10), (77, 2048), 128, head_dim=64
)  # stable-diffusion-xl-base-1.0, unet, 1024 x 1024
# damo-vilab/text-to-video-ms-1.7b, unet/config.json, 16 frames of 256 x 256; two of the four temporal convolutions a block
VIDEO = UNet((320, 640, 1280, 1280), (1, 1, 1, 0), (77, 1024), 32, head_dim=64, frames=16)
# THUDM/CogVideoX-2b, transformer/config.json: 30 heads of 64; 13 latent frames of 30 x 45 tokens and 226 of text
CLIP_BLOCK = Transformer(1920, 30, 17776)
NETWORKS: dict[str, dict[str, Network]] = {
    "cuda": {"sd15-unet": SD15, "temporal-unet": VIDEO, "video-block": CLIP_BLOCK, "sdxl-unet": SDXL},
    "cpu": {
        "tiny-unet": UNet((32, 64), (1, 0), (7, 32), 16, heads=2),
        "tiny-temporal-unet": UNet((32, 64), (1, 0), (7, 32), 8, heads=2, frames=4),
        "tiny-block": Transformer(64, 2, 256),
    },
}
DIFFUSERS = {
    "sd15-unet": {
        "layers_per_block": 2, "block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8,
        "cross_attention_dim": 768, "sample_size": 64,
    },
    "sdxl-unet": {
        "layers_per_block": 2, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048, "sample_size": 128, "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    },
}  # fmt: skip


def has_diffusers() -> bool:
    """Whether the modules of `diffusers` can be timed here."""
    return importlib.util.find_spec("diffusers") is not None


def network(
    machine: Lab, name: str, code: str, attention: str, dtype: str
) -> tuple[Any, Callable[[int], tuple[Any, ...]]]:
    """(module, batch factor -> its inputs). `code`: plain, or diffusers; `attention`: unfused, or an implementation of SDPA."""
    torch, config = machine.torch, NETWORKS[machine.kind][name]
    with torch.device(machine.kind):
        module = _diffusers(name) if code == "diffusers" else _plain(torch, config, _attend(torch, attention))
    module = module.to(_dtype(torch, dtype)).eval().requires_grad_(False)
    return module, lambda factor: _inputs(machine, name, config, code, dtype, factor)


def parameters(module: Any) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())


def _plain(torch: Any, config: Network, attend: Callable[[Any, Any, Any], Any]) -> Any:
    attention = _attention(torch, attend)
    if isinstance(config, Transformer):
        return _transformer(torch, config, attention)
    return _unet(torch, config, _level(torch, _residual(torch), _spatial(torch, _block(torch, attention))))


def _dtype(torch: Any, dtype: str) -> Any:
    return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]


def _inputs(machine: Lab, name: str, config: Network, code: str, dtype: str, factor: int) -> tuple[Any, ...]:
    n = config.batch * factor
    if isinstance(config, Transformer):
        return (machine.new(dtype, n, config.tokens, config.width),)
    size = (n, 4, *((config.frames,) if config.frames > 1 else ()), config.side, config.side)
    step, text = machine.torch.ones(n, device=machine.kind), machine.new(dtype, n, *config.text)
    if code == "diffusers" and name == "sdxl-unet":
        added = {"text_embeds": machine.new(dtype, n, 1280), "time_ids": machine.new(dtype, n, 6)}
        return machine.new(dtype, *size), step, text, None, None, None, None, added
    return machine.new(dtype, *size), step, text


def _diffusers(name: str) -> Any:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor2_0

    module = UNet2DConditionModel(**DIFFUSERS[name])
    module.set_attn_processor(AttnProcessor2_0())
    return module


def _attend(torch: Any, way: str) -> Callable[[Any, Any, Any], Any]:
    """softmax(q k^T / sqrt(d)) v of tensors [batch, heads, length, head_dim]."""

    def unfused(q: Any, k: Any, v: Any) -> Any:
        return torch.matmul(torch.softmax(torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5, -1), v)

    return unfused if way == "unfused" else fused(torch, way)


# Modules are classes inside functions, since torch is imported when it is needed.


def _attention(torch: Any, attend: Callable[[Any, Any, Any], Any]) -> Any:
    """Attention of [batch, length, width] tensors, to themselves or to a text, with its four projections."""
    nn = torch.nn

    class Attention(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, width: int, heads: int, source: int = 0) -> None:
            super().__init__()
            self.heads = heads
            self.q, self.k, self.v = (
                nn.Linear(s, width, bias=False) for s in (width, source or width, source or width)
            )
            self.out = nn.Linear(width, width)

        def forward(self, x: Any, text: Any = None) -> Any:
            source = x if text is None else text
            q, k, v = (
                layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for layer, y in ((self.q, x), (self.k, source), (self.v, source))
            )
            return self.out(attend(q, k, v).transpose(1, 2).flatten(2))

    return Attention


def _block(torch: Any, attention: Any) -> Any:
    """Self-attention, attention to the text (or, without one, to itself again), gated feed-forward."""
    nn = torch.nn

    class GEGLU(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            a, b = self.inner(x).chunk(2, -1)
            return self.outer(a * nn.functional.gelu(b))

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, width: int, heads: int, text: int) -> None:
            super().__init__()
            self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
            self.attn1, self.attn2 = attention(width, heads), attention(width, heads, text)
            self.ff = GEGLU(width)

        def forward(self, x: Any, text: Any) -> Any:
            x = x + self.attn1(self.norm1(x))
            x = x + self.attn2(self.norm2(x), text)
            return x + self.ff(self.norm3(x))

    return Block


def _spatial(torch: Any, block: Any) -> Any:
    """Transformer blocks over the pixels of a frame, or over the frames of a pixel."""
    nn = torch.nn

    class Spatial(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, width: int, heads: int, depth: int, text: int, temporal: bool) -> None:
            super().__init__()
            self.norm, self.temporal = nn.GroupNorm(32, width), temporal
            self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
            self.blocks = nn.ModuleList(block(width, heads, 0 if temporal else text) for _ in range(depth))

        def forward(self, x: Any, text: Any, frames: int) -> Any:
            n, c, h, w = x.shape
            y = self.norm(x)
            if self.temporal:
                y = y.reshape(n // frames, frames, c, h * w).permute(0, 3, 1, 2).reshape(-1, frames, c)
            else:
                y = y.permute(0, 2, 3, 1).reshape(n, h * w, c)
            y = self.inner(y)
            for layer in self.blocks:
                y = layer(y, None if self.temporal else text)
            y = self.outer(y)
            if self.temporal:
                return x + y.reshape(n // frames, h * w, frames, c).permute(0, 2, 3, 1).reshape(n, c, h, w)
            return x + y.reshape(n, h, w, c).permute(0, 3, 1, 2)

    return Spatial


def _residual(torch: Any) -> Any:
    """Two convolutions with the time embedding between them; with frames, two temporal ones after them."""
    nn, F = torch.nn, torch.nn.functional

    class Residual(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, before: int, after: int, time: int, temporal: bool) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.GroupNorm(32, before), nn.GroupNorm(32, after)
            self.conv1, self.conv2 = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
            self.time = nn.Linear(time, after)
            self.short = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
            self.temporal = nn.ModuleList(
                nn.Sequential(nn.GroupNorm(32, after), nn.SiLU(), nn.Conv3d(after, after, (3, 1, 1), padding=(1, 0, 0)))
                for _ in range(2 * temporal)
            )

        def forward(self, x: Any, time: Any, frames: int) -> Any:
            y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
            y = self.short(x) + self.conv2(F.silu(self.norm2(y)))
            for layer in self.temporal:
                z = y.unflatten(0, (-1, frames)).transpose(1, 2)
                y = y + layer(z).transpose(1, 2).flatten(0, 1)
            return y

    return Residual


def _level(torch: Any, residual: Any, spatial: Any) -> Any:
    """A residual block, and transformers where the level has them."""
    nn = torch.nn

    class Level(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, config: UNet, before: int, width: int, depth: int) -> None:
            super().__init__()
            clip, heads = config.frames > 1, width // config.head_dim if config.head_dim else config.heads
            self.residual = residual(before, width, 4 * config.channels[0], clip)
            kinds = (False, True)[: (1 + clip) if depth else 0]
            self.attention = nn.ModuleList(
                spatial(width, heads, 1 if over_time else depth, config.text[1], over_time) for over_time in kinds
            )

        def forward(self, x: Any, time: Any, text: Any, frames: int) -> Any:
            x = self.residual(x, time, frames)
            for layer in self.attention:
                x = layer(x, text, frames)
            return x

    return Level


def _resample(torch: Any) -> Any:
    """A strided convolution, or one behind a nearest upsampling; takes what a level takes."""
    nn = torch.nn

    class Resample(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, width: int, up: bool) -> None:
            super().__init__()
            self.up, self.conv = up, nn.Conv2d(width, width, 3, stride=1 if up else 2, padding=1)

        def forward(self, x: Any, *_: Any) -> Any:
            return self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else x)

    return Resample


def _unet(torch: Any, config: UNet, level: Any) -> Any:
    """The UNet of a configuration: levels down, middle, levels up with the results of the way down joined in."""
    nn, resample, first = torch.nn, _resample(torch), config.channels[0]
    down, up, skips, before = [], [], [first], first
    levels = list(zip(config.channels, config.depths, strict=True))
    for i, (width, depth) in enumerate(levels):
        for source in (before, width):
            down.append(level(config, source, width, depth))
            skips.append(width)
        if i < len(levels) - 1:
            down.append(resample(width, up=False))
            skips.append(width)
        before = width
    middle = [level(config, before, before, max(config.depths)), level(config, before, before, 0)]
    for i, (width, depth) in reversed(list(enumerate(levels))):
        for source in (before, width, width):
            up.append(level(config, source + skips.pop(), width, depth))
        if i:
            up.append(resample(width, up=True))
        before = width
    return _net(torch, config, [nn.ModuleList(part) for part in (down, middle, up)])


def _net(torch: Any, config: UNet, parts: Sequence[Any]) -> Any:
    """The forward pass over the levels."""
    nn, F, frames, first = torch.nn, torch.nn.functional, config.frames, config.channels[0]

    class Net(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Sequential(nn.Linear(first, 4 * first), nn.SiLU(), nn.Linear(4 * first, 4 * first))
            self.enter, self.leave = nn.Conv2d(4, first, 3, padding=1), nn.Conv2d(first, 4, 3, padding=1)
            self.down, self.middle, self.up = parts
            self.norm = nn.GroupNorm(32, first)

        def time(self, step: Any, dtype: Any) -> Any:
            """Sinusoids of the step, half the channels sines, through two layers."""
            angle = step[:, None].float() * torch.exp(torch.arange(first // 2, device=step.device) * (-18.4 / first))
            return self.embed(torch.cat((angle.cos(), angle.sin()), -1).to(dtype)).repeat_interleave(frames, 0)

        def forward(self, x: Any, step: Any, text: Any) -> Any:
            text = text.repeat_interleave(frames, 0)
            x = x.transpose(1, 2).flatten(0, 1) if frames > 1 else x
            time = self.time(step, x.dtype)
            x = self.enter(x)
            kept = [x]
            for layer in self.down:
                x = layer(x, time, text, frames)
                kept.append(x)
            for layer in self.middle:
                x = layer(x, time, text, frames)
            for layer in self.up:
                joined = x if hasattr(layer, "conv") else torch.cat((x, kept.pop()), 1)  # a resampling joins nothing
                x = layer(joined, time, text, frames)
            x = self.leave(F.silu(self.norm(x)))
            return x.unflatten(0, (-1, frames)).transpose(1, 2) if frames > 1 else x

    return Net()


def _transformer(torch: Any, config: Transformer, attention: Any) -> Any:
    """A block of a video transformer: attention over all tokens, a feed-forward of four times the width."""
    nn, width = torch.nn, config.width

    class Clip(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attn = attention(width, config.heads)
            self.ff = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.norm1(x))
            return x + self.ff(self.norm2(x))

    return Clip()


def variants(kind: str) -> Sequence[tuple[str, str, str]]:
    """(network, code, attention) in the order of their worth: every network, SD 1.5 unfused too, diffusers where it is."""
    names = list(NETWORKS[kind])
    plain = [(name, "plain", "sdpa") for name in names]
    unfused = [(names[0], "plain", "unfused"), (names[1], "plain", "unfused")]
    library = [(name, "diffusers", "sdpa") for name in names if name in DIFFUSERS and has_diffusers()]
    return [plain[0], unfused[0], *plain[1:], unfused[1], *library]
