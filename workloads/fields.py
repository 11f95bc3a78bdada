"""Fields that the requests of several models share, with their units, bounds and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from hwspecs.spec import Doc, Quantity

Batch: TypeAlias = Annotated[int, Quantity(ge=1, le=1024, doc="images at a time, each of a prompt of its own")]
Clips: TypeAlias = Annotated[int, Quantity(ge=1, le=1024, doc="clips at a time, each of a prompt of its own")]
Guidance: TypeAlias = Annotated[bool, Doc("classifier-free guidance: the denoiser runs on twice the batch")]
Dtype: TypeAlias = Annotated[Literal["fp16", "bf16", "fp32"], Doc("of weights and activations")]
TextLen: TypeAlias = Annotated[int, Quantity(ge=1, le=4096, doc="tokens of a prompt, padding included")]


def multiple_of(step: int, start: int = 0) -> Callable[[int], int]:
    """A check for `AfterValidator`: start, start + step, start + 2 step ... ; ValueError names the two nearest."""

    def check(value: int) -> int:
        if (value - start) % step:
            below = start + (value - start) // step * step
            text = f"a multiple of {step}" if not start else f"{start} plus a multiple of {step}"
            nearest = ", ".join(str(v) for v in (below, below + step) if v > 0)
            raise ValueError(f"found {value}, expected {text}; nearest: {nearest}")
        return value

    return check
