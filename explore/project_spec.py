"""The `project:` section of a scenario."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass as spec_dataclass

from hwspecs.spec import CONFIG, Doc, Quantity, RuleError

Size = tuple[int, int]


def _pair(value: Any) -> Any:
    """One number is the side of a square."""
    if isinstance(value, list | tuple) and len(value) == 2:
        return tuple(value)
    if isinstance(value, list | tuple | dict | str):
        found = {str: f"'{value}'", dict: "fields"}.get(type(value), f"a list of {len(value)}")
        raise ValueError(f"found {found}, expected a side in pixels, or [height, width]")
    return (value, value)


@spec_dataclass(frozen=True, kw_only=True, config=CONFIG)
class Chunk:
    """Clips that overlap."""

    frames: Annotated[int, Quantity(ge=2), Doc("frames of a chunk")]
    overlap: Annotated[int, Quantity(ge=0), Doc("of them shared with the chunk before")] = 0

    def __post_init__(self) -> None:
        """A chunk adds something."""
        if self.overlap >= self.frames:
            raise RuleError([("overlap", f"found {self.overlap}, expected less than the chunk's {self.frames} frames")])


@spec_dataclass(frozen=True, kw_only=True, config=CONFIG)
class Axis:
    """One number of the device, at several times its value."""

    field: Annotated[str, Doc("path of a number of the device, such as hbm.bandwidth")]
    factors: Annotated[tuple[Annotated[float, Quantity(gt=0)], ...], Field(min_length=1), Doc("times its value")]


@spec_dataclass(frozen=True, kw_only=True, config=CONFIG)
class Project:
    """What is projected."""

    frames: Annotated[tuple[Annotated[int, Quantity(ge=1)], ...], Doc("frame counts; none: those of `seconds`")] = ()
    sizes: Annotated[
        tuple[Annotated[Size, BeforeValidator(_pair)], ...],
        Doc("image sizes in pixels, a side or [height, width]; none: the request's own"),
    ] = ()
    seconds: Annotated[
        tuple[Annotated[float, Quantity("s", gt=0)], ...],
        Doc("lengths of clips, with the frame counts or in their place"),
    ] = ()
    frames_per_second: Annotated[float, Quantity(gt=0), Doc("of a clip; 24 is the cinema's")] = 24.0
    devices: Annotated[tuple[str, ...], Doc("ids of devices to compare with the scenario's own")] = ()
    axis: Annotated[Axis | None, Doc("a number of the device to vary")] = None
    windows: Annotated[
        tuple[Annotated[int, Quantity(ge=1)], ...], Doc("frames that one attends to in windowed temporal attention")
    ] = ()
    strides: Annotated[
        tuple[Annotated[int, Quantity(ge=2)], ...], Doc("sparse temporal attention to every so many-th frame")
    ] = ()
    chunks: Annotated[tuple[Chunk, ...], Doc("clips made of chunks that overlap, one after the other")] = ()

    def __post_init__(self) -> None:
        """Some length, and nothing twice."""
        if not (self.frames or self.seconds):
            raise RuleError([("frames", "missing; expected frame counts, or lengths of clips under seconds")])
        twice = [("frames", str(n)) for n in dict.fromkeys(self.frames) if self.frames.count(n) > 1]
        twice += [("sizes", f"{h} x {w}") for h, w in dict.fromkeys(self.sizes) if self.sizes.count((h, w)) > 1]
        for name in ("seconds", "devices", "windows", "strides", "chunks"):
            values = getattr(self, name)
            twice += [(name, _named(v)) for v in dict.fromkeys(values) if values.count(v) > 1]
        if twice:
            raise RuleError((name, f"{value} is listed twice; leave one of them out") for name, value in twice)


def _named(value: Any) -> str:
    return f"{value.frames} frames with {value.overlap} shared" if isinstance(value, Chunk) else f"{value}"
