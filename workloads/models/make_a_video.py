"""Make-A-Video: CLIP text encoder and diffusion prior, UNet over frames of 64 x 64 with pseudo-3D convolutions and spatial and
temporal attention, frame interpolation, super-resolution to 256 over space and time and to 768 over each frame.

Singer et al., Make-A-Video: Text-to-Video Generation without Text-Video Data, 2022 (arXiv 2209.14792), sections 3.1 to 3.3. It
publishes no sizes of its networks. They extend those of unCLIP, whose sizes are published (Ramesh et al. 2022, arXiv
2204.06125, table 3), so those are taken: prior of 24 layers and width 2048; decoder of width 512, multipliers 1, 2, 3, 4, three
blocks a level, attention at 32, 16 and 8; upsamplers of width 320 (1, 2, 3, 4; three blocks) and 192 (1, 1, 2, 2, 4, 4; two
blocks) without attention. Without time layers we count 730 M and 282 M for the upsamplers (published: 700 M and 300 M, to
one digit), 1.2 B for the prior (1 B), and 2.3 B for the decoder; its published 3.5 B hold a text transformer of its own,
which Make-A-Video's decoder does not read. After every 3 x 3 convolution comes one over 3 frames, after every spatial
attention one over all frames. The interpolation is the decoder with 4 more input channels, over all frames in one pass.
The steps are unCLIP's too: 64 of the prior, 250 of the decoder and of the interpolation that is tuned from it, 27 and 15 of the
upsamplers. Unfused attention is that of openai/guided-diffusion, whose UNet ours extends, and the prior's that of our Muse
(`workloads.baselines`).
"""

from __future__ import annotations

from functools import cache, partial
from math import ceil
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.blocks import layer
from workloads.fields import Cached, Clips, Dtype, Guidance, Images, multiple_of, passes
from workloads.model import Model, Stage
from workloads.models.modelscope_t2v import TEXT_WIDTH, text_encoder
from workloads.models.stable_diffusion_1_5 import TEXT_LEN
from workloads.parts import text
from workloads.parts.meta import meta, on_meta
from workloads.transforms import transformed
from workloads.unets import unet

MULTIPLE = 96  # the decoder works at a twelfth of the size, and halves it three times
IMAGE_TOKENS = 4  # of the context that an image embedding becomes (unCLIP, section 2.1)

Height = Annotated[
    int, Quantity(ge=96, le=6144, doc="frame height in pixels, a multiple of 96"), AfterValidator(multiple_of(MULTIPLE))
]
Width = Annotated[
    int, Quantity(ge=96, le=6144, doc="frame width in pixels, a multiple of 96"), AfterValidator(multiple_of(MULTIPLE))
]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of the pipeline."""

    height: Height = 768
    width: Width = 768
    frames: Annotated[
        int, Quantity(ge=1, le=4096, doc="frames of the decoder, before interpolation; trained with 16")
    ] = 16
    interpolation: Annotated[
        int,
        Quantity(ge=1, le=64, doc="frames for each but the last of the decoder's: 5 makes 76 of 16; 1: none are added"),
    ] = 5
    batch: Clips = 1
    prior_steps: Annotated[int, Quantity(ge=1, le=1000, doc="denoising steps of the prior")] = 64
    steps: Annotated[int, Quantity(ge=1, le=1000, doc="denoising steps of the decoder")] = 250
    interpolation_steps: Annotated[int, Quantity(ge=1, le=1000, doc="denoising steps of the interpolation")] = 250
    upscale_steps_1: Annotated[int, Quantity(ge=1, le=1000, doc="denoising steps of the first super-resolution")] = 27
    upscale_steps_2: Annotated[int, Quantity(ge=1, le=1000, doc="denoising steps of the second super-resolution")] = 15
    upscale_frames: Annotated[
        int, Quantity(ge=1, le=64, doc="frames of each clip that the second super-resolution takes at a time")
    ] = 4
    guidance: Guidance = True
    dtype: Dtype = "fp16"
    images: Images = None
    cache: Cached = None

    @property
    def frames_between(self) -> int:
        """Frames of the clip for each but the last of `frames`."""
        return self.interpolation


@transformed()
def stages(request: Request) -> tuple[Stage, ...]:
    """Text encoder, prior, decoder, interpolation, the two super-resolutions; the last one `upscale_frames` at a time."""
    dtype, batch, guided = request.dtype, request.batch, passes(request.guidance)
    n = guided.rows * batch
    small, middle, large = (tuple(side // part for side in (request.height, request.width)) for part in (12, 3, 1))
    frames, shown = request.frames, (request.frames - 1) * request.frames_between + 1
    together = min(request.upscale_frames, shown)

    def clip(channels: int, count: int) -> Any:
        return (meta(dtype, n, channels, count, *small), meta("fp32", n), meta(dtype, n, TEXT_WIDTH)), {}

    interpolation = Stage(
        "interpolation", "interpolation", guided.runs * request.interpolation_steps, partial(decoder, dtype, 7),
        partial(clip, 7, shown), frames=shown, steps=request.interpolation_steps,
    )  # fmt: skip
    return (
        text.encoder("text_encoder", partial(text_encoder, dtype), batch, TEXT_LEN, guided.prompts),
        Stage(
            "prior", "prior", guided.runs * request.prior_steps, partial(prior, dtype),
            lambda: ((meta(dtype, n, TEXT_LEN, TEXT_WIDTH), meta(dtype, n, TEXT_WIDTH), meta(dtype, n, TEXT_WIDTH)), {}),
            frames=0, steps=request.prior_steps,
        ),
        Stage(
            "decoder", "decoder", guided.runs * request.steps, partial(decoder, dtype, 3), partial(clip, 3, frames),
            steps=request.steps,
        ),
        *((interpolation,) if request.interpolation > 1 else ()),
        Stage(
            "super_resolution_1", "super_resolution_1", request.upscale_steps_1, partial(super_resolution_1, dtype),
            lambda: ((meta(dtype, batch, 6, shown, *middle), meta("fp32", batch)), {}), frames=0,
            steps=request.upscale_steps_1,
        ),
        Stage(
            "super_resolution_2", "super_resolution_2", request.upscale_steps_2 * ceil(shown / together),
            partial(super_resolution_2, dtype),
            lambda: ((meta(dtype, batch * together, 6, *large), meta("fp32", batch * together)), {}), frames=0,
            steps=request.upscale_steps_2,
        ),
    )  # fmt: skip


def decoder(dtype: str, inputs: int, width: int = 512, context_width: int = 2048) -> Any:
    """The UNet over space and time, conditioned on an image embedding [n, TEXT_WIDTH]; on the meta device."""
    return on_meta(lambda: _decoder()(inputs, width, context_width), dtype)


def prior(dtype: str, width: int = 2048, layers: int = 24, heads: int = 32) -> Any:
    """The transformer that denoises an image embedding; on the meta device."""
    return on_meta(lambda: _prior()(width, layers, heads), dtype)


def super_resolution_1(dtype: str, width: int = 320) -> Any:
    """The UNet from 64 to 256 over space and time; on the meta device."""
    return on_meta(lambda: unet()(6, 3, width, (1, 2, 3, 4), 3, temporal=True), dtype)


def super_resolution_2(dtype: str, width: int = 192) -> Any:
    """The UNet from 256 to 768 over a frame; on the meta device."""
    return on_meta(lambda: unet()(6, 3, width, (1, 1, 2, 2, 4, 4), 2), dtype)


@cache
def _decoder() -> Any:
    from torch import nn

    UNet = unet()

    class Decoder(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, width: int, context_width: int) -> None:
            super().__init__()
            self.tokens = nn.Linear(TEXT_WIDTH, IMAGE_TOKENS * context_width)
            self.vector = nn.Linear(TEXT_WIDTH, 4 * width)
            self.unet = UNet(
                inputs, 3, width, (1, 2, 3, 4), 3, attend=(1, 2, 3), context_width=context_width, temporal=True
            )

        def forward(self, x: Any, steps: Any, image: Any) -> Any:
            """Noisy clips [n, inputs, frames, h, w], time steps [n], image embedding [n, TEXT_WIDTH] -> [n, 3, frames, h, w]."""
            return self.unet(x, steps, self.tokens(image).unflatten(1, (IMAGE_TOKENS, -1)), self.vector(image))

    return Decoder


@cache
def _prior() -> Any:
    import torch
    from torch import nn

    Layer = layer()

    class Prior(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int, layers: int, heads: int) -> None:
            super().__init__()
            self.text, self.noisy, self.time = (nn.Linear(TEXT_WIDTH, width) for _ in range(3))
            self.query = nn.Parameter(torch.zeros(1, 1, width))
            self.positions = nn.Parameter(torch.zeros(TEXT_LEN + 3, width))
            self.layers = nn.ModuleList(Layer(width, heads, 4 * width) for _ in range(layers))
            self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, TEXT_WIDTH)

        def forward(self, prompt: Any, noisy: Any, time: Any) -> Any:
            """Text [n, TEXT_LEN, TEXT_WIDTH], noisy embedding of an image and the time's [n, TEXT_WIDTH] -> the image's."""
            last = [self.time(time)[:, None], self.noisy(noisy)[:, None], self.query.expand(len(noisy), -1, -1)]
            x = torch.cat([self.text(prompt), *last], dim=1) + self.positions
            for part in self.layers:
                x = part(x, causal=True)
            return self.out(self.norm(x[:, -1]))

    return Prior


MODEL = Model(
    id="make-a-video",
    title="Make-A-Video",
    request=Request,
    stages=stages,
    repeat_fields=("prior_steps", "steps", "interpolation_steps", "upscale_steps_1", "upscale_steps_2"),
    sources="Singer et al., arXiv 2209.14792, section 3; sizes of Ramesh et al., arXiv 2204.06125, table 3",
    libraries=("torch", "transformers"),
)
