"""Requests that users of a model make: sizes and lengths of its model card or paper, small batches, with and without guidance.

What `benchmarks.traces` counts as usual. Sizes are (height, width). Where a card names one size and length alone, those of the
same family, or of pipelines built on it, stand beside it; each line says where its sizes are from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any

from workloads.model import Model
from workloads.samples import DTYPES

BATCHES = (1, 2, 4)


@dataclass(frozen=True)
class Usual:
    """Sizes, frame counts, and further fields with their values; all are combined with each other."""

    sizes: tuple[tuple[int, int], ...] = ()
    frames: tuple[int, ...] = ()
    more: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


# Of a megapixel (Podell et al., arXiv 2307.01952, appendix I), and half and three quarters of a side.
_MEGAPIXEL = ((1024, 1024), (832, 1216), (1216, 832), (768, 1344), (512, 512), (768, 768))
# THUDM/CogVideoX-2b and -5b: 480 x 720 and 49 frames; 480 x 832 and 720 x 1280 are other models' sizes.
_COGVIDEOX = Usual(((480, 720), (480, 832), (720, 1280)), (9, 25, 49, 81))
_LLAMA = Usual(more={"prompt_len": (128, 512, 2048), "output_len": (32, 128)})  # within its 4096 positions
# Wan-AI/Wan2.1: 480p and 720p, 81 frames; shorter ones are of its examples on small devices.
_WAN = Usual(((480, 832), (832, 480), (720, 1280)), (17, 33, 49, 81))

USUAL: Mapping[str, Usual] = MappingProxyType(
    {
        "animatediff": Usual(
            ((256, 256), (512, 512), (512, 768)), (8, 16, 24, 32)
        ),  # trained at 256 x 256 and 16; 32 at most
        "cogvideox-2b": _COGVIDEOX,
        "cogvideox-5b": _COGVIDEOX,
        "dit-xl-2": Usual(((256, 256), (512, 512))),  # arXiv 2212.09748
        "flux.1-dev": Usual((*_MEGAPIXEL, (768, 1360), (1360, 768))),  # 768 x 1360: black-forest-labs' example
        # tencent/HunyuanVideo, its table of sizes, of 129 frames; 61 and 85 are shorter clips of it
        "hunyuanvideo": Usual(
            ((720, 1280), (1280, 720), (960, 960), (544, 960), (960, 544), (720, 720)), (61, 85, 129)
        ),
        "imagen": Usual(((1024, 1024),), (), {"middle": ("256", "768")}),  # arXiv 2205.11487
        "latte": Usual(((256, 256), (512, 512)), (16,)),  # arXiv 2401.03048
        "llama-2-13b": _LLAMA,
        "llama-2-70b": _LLAMA,
        "llama-2-7b": _LLAMA,
        "ltx-video": Usual(
            ((480, 704), (512, 704), (512, 768), (704, 1216)), (97, 121, 161, 257)
        ),  # Lightricks/LTX-Video
        "make-a-video": Usual(((768, 768),), (16,)),  # arXiv 2209.14792
        "mochi": Usual(((480, 848),), (19, 31, 61, 85, 163)),  # genmo/mochi-1-preview; 19 and 85 of diffusers' examples
        "modelscope-t2v": Usual(
            ((256, 256), (320, 576), (576, 1024)), (16, 24, 32)
        ),  # zeroscope_v2 576w and XL beside it
        "muse": Usual(((256, 256), (512, 512)), (), {"super_resolution": (True, False)}),  # arXiv 2301.00704
        "parti": Usual(((256, 256),)),  # arXiv 2206.10789
        "phenaki": Usual(((128, 128),), (11,)),  # arXiv 2210.02399
        # diffusers' PixArtAlphaPipeline: its bins of aspect ratio at 1024 and 512
        "pixart-alpha": Usual(
            ((1024, 1024), (768, 1344), (1344, 768), (896, 1152), (640, 1536), (512, 512), (768, 768))
        ),
        "production-latent": Usual(((512, 512), (1024, 1024))),
        "sd3-medium": Usual(_MEGAPIXEL),
        "sdxl": Usual((*_MEGAPIXEL, (896, 1152)), (), {"refiner_steps": (0, 10)}),
        "stable-diffusion-1.5": Usual(((512, 512), (512, 768), (768, 512), (768, 768))),
        "stable-diffusion-2.1": Usual(((512, 512), (768, 768), (768, 1024))),
        "svd-xt": Usual(((576, 1024), (1024, 576)), (14, 25)),  # arXiv 2311.15127: 14 frames of SVD, 25 of XT
        "wan2.1-1.3b": _WAN,
        "wan2.1-14b": _WAN,
    }
)


def usual(model: Model) -> Iterator[Any]:
    """The usual requests of a built-in model, in every dtype."""
    asked = USUAL[model.id]
    sizes = [{"height": height, "width": width} for height, width in asked.sizes] or [{}]
    frames = [{"frames": count} for count in asked.frames] or [{}]
    axes: dict[str, tuple[Any, ...]] = {"batch": BATCHES, "dtype": DTYPES, **asked.more}
    if hasattr(model.request(), "guidance"):
        axes["guidance"] = (True, False)
    for size, length, values in product(sizes, frames, product(*axes.values())):
        yield model.request(**size, **length, **dict(zip(axes, values, strict=True)))
