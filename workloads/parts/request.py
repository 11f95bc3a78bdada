"""Requests of the pipelines whose modules a library carries: fields that they share beyond `workloads.fields`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Doc, Quantity
from workloads.fields import Batch, Cached, Clips, Dtype, Guidance, Images, VaeTile, multiple_of

Side8: TypeAlias = Annotated[
    int, Quantity(ge=8, le=8192, doc="in pixels, a multiple of 8"), AfterValidator(multiple_of(8))
]
Side16: TypeAlias = Annotated[
    int, Quantity(ge=16, le=8192, doc="in pixels, a multiple of 16"), AfterValidator(multiple_of(16))
]
Side32: TypeAlias = Annotated[
    int, Quantity(ge=32, le=8192, doc="in pixels, a multiple of 32"), AfterValidator(multiple_of(32))
]
Frames: TypeAlias = Annotated[int, Quantity(ge=1, le=65536, doc="frames of a clip")]
Frames4: TypeAlias = Annotated[
    int,
    Quantity(ge=1, le=65537, doc="frames of a clip: the first, and groups of 4"),
    AfterValidator(multiple_of(4, 1)),
]
Steps: TypeAlias = Annotated[int, Quantity(ge=1, le=1000, doc="denoising steps")]
Slicing: TypeAlias = Annotated[bool, Doc("decode one frame at a time, not all at once")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ImageRequest:
    """What is asked of an image pipeline."""

    height: Side8 = 512
    width: Side8 = 512
    batch: Batch = 1
    steps: Steps = 50
    guidance: Guidance = True
    dtype: Dtype = "fp16"
    images: Images = None
    vae_tile: VaeTile = None
    cache: Cached = None


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class VideoRequest:
    """What is asked of a video pipeline."""

    height: Side16 = 480
    width: Side16 = 720
    frames: Frames = 16
    batch: Clips = 1
    steps: Steps = 50
    guidance: Guidance = True
    dtype: Dtype = "bf16"
    images: Images = None
    vae_tile: VaeTile = None
    cache: Cached = None
