"""Fields that the requests of several models share, with their units, bounds and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, PlainValidator, ValidationInfo
from pydantic.dataclasses import dataclass

from hwspecs.errors import nearest
from hwspecs.spec import CONFIG, WHEN_GIVEN, Doc, Quantity, RuleError

Batch: TypeAlias = Annotated[int, Quantity(ge=1, le=1024, doc="images at a time, each of a prompt of its own")]
Clips: TypeAlias = Annotated[int, Quantity(ge=1, le=1024, doc="clips at a time, each of a prompt of its own")]
Dtype: TypeAlias = Annotated[Literal["fp16", "bf16", "fp32"], Doc("of weights and activations")]
TextLen: TypeAlias = Annotated[int, Quantity(ge=1, le=4096, doc="tokens of a prompt, padding included")]

Way: TypeAlias = Literal[
    "batched", "sequential", "none"
]  # of guidance: both passes at a time, one after the other, one pass


def multiple_of(step: int, start: int = 0) -> Callable[[int], int]:
    """A check for `AfterValidator`: start, start + step, start + 2 step ... ; ValueError names the two nearest."""

    def check(value: int | None) -> Any:
        if value is not None and (value - start) % step:
            below = start + (value - start) // step * step
            text = f"a multiple of {step}" if not start else f"{start} plus a multiple of {step}"
            near = ", ".join(str(v) for v in (below, below + step) if v > 0)
            raise ValueError(f"found {value}, expected {text}; nearest: {near}")
        return value

    return check


def _guidance(own: Way, *others: Way) -> PlainValidator:
    """true, false and the names of ways; what is the same as true (the pipeline's own way) or false is read as that."""
    names = (own, *others, "none")

    def check(value: Any) -> bool | str:
        if isinstance(value, bool):
            return value
        if value not in names:
            allowed = ", ".join(("true", "false", *names))
            raise ValueError(f"found '{value}', expected one of {allowed}{nearest(str(value), names)}")
        return True if value == own else False if value == "none" else str(value)

    return PlainValidator(check, json_schema_input_type=Literal[(True, False, *names)])


Guidance: TypeAlias = Annotated[
    bool | Way,
    _guidance("batched", "sequential"),
    Doc("classifier-free: true or batched: on twice the batch; sequential: two runs a step; false or none"),
]
GuidanceInTurn: TypeAlias = Annotated[
    bool | Way,
    _guidance("sequential", "batched"),
    Doc("classifier-free: true or sequential: two runs a step; batched: on twice the batch; false or none"),
]
NegativePrompt: TypeAlias = Annotated[
    bool | Way,
    _guidance("sequential", "batched"),
    Doc("by a negative prompt, besides the distilled: true or sequential: two runs a step; batched; false or none"),
]
GuidanceTogether: TypeAlias = Annotated[
    bool,
    _guidance("batched"),
    Doc("classifier-free: true or batched: on twice the batch, as tokens are drawn from both; false or none"),
]


@dataclass(frozen=True, config=CONFIG)
class Passes:
    """What guidance makes of a step: samples beside each other for each of the batch, runs of the denoiser, prompts encoded."""

    rows: int
    runs: int

    @property
    def prompts(self) -> int:
        """Prompts that are encoded for each of the batch."""
        return self.rows * self.runs


def passes(guidance: bool | Way, own: Way = "batched") -> Passes:
    """The passes of a request's guidance; `own` is what true means to the pipeline."""
    way = guidance if isinstance(guidance, str) else own if guidance else "none"
    return {"none": Passes(1, 1), "batched": Passes(2, 1), "sequential": Passes(1, 2)}[way]


def _whole_batches(value: int | None, info: ValidationInfo) -> int | None:
    """Refuse a number of images that leaves the last batch short: it would be another computation."""
    batch = info.data.get("batch")
    if value is not None and batch and value % batch:
        below = value // batch * batch
        near = ", ".join(str(v) for v in (below, below + batch) if v)
        raise ValueError(f"found {value}, expected a multiple of the batch, {batch}; nearest: {near}")
    return value


Images: TypeAlias = Annotated[
    int | None,
    Quantity(ge=1, le=1_000_000, doc="images (or clips) in all, a batch of them at a time; none: one batch"),
    AfterValidator(_whole_batches),
    WHEN_GIVEN,
]
VaeTile: TypeAlias = Annotated[
    int | None,
    Quantity(ge=64, le=8192, doc="side of the tiles to decode in, in pixels, a multiple of 32; none: decode whole"),
    AfterValidator(multiple_of(32)),
    WHEN_GIVEN,
]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class FeatureCache:
    """Denoising steps that reuse what an earlier step computed."""

    every: Annotated[int, Quantity(ge=1, le=1000, doc="steps from one that runs in full to the next")]
    reuse: Annotated[
        tuple[str, ...],
        Doc("modules whose results the steps between take from it, by path, for example unet.down_blocks.1-3"),
    ]

    def __str__(self) -> str:
        """'every 5 steps, of unet.down_blocks.1-3 unet.mid_block'."""
        return f"every {self.every} steps, of {' '.join(self.reuse)}"

    def __post_init__(self) -> None:
        """Refuse what names no module."""
        if not self.reuse:
            raise RuleError([("reuse", "found [], expected paths of modules, for example [unet.mid_block]")])


Cached: TypeAlias = Annotated[FeatureCache | None, Doc("feature caching between denoising steps"), WHEN_GIVEN]


def images_of(request: Any) -> int:
    """Images (or clips) that one inference makes."""
    images = getattr(request, "images", None)
    return int(getattr(request, "batch", 1) if images is None else images)


def chunks(total: int, at_once: int) -> tuple[int, int]:
    """How many chunks of at most `at_once` a number makes, and what is left for the last."""
    count = -(-total // at_once)
    return count, total - at_once * (count - 1)
