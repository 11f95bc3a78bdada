"""What sort of attention a call of a user's model is: by its axis, and as the user corrects it.

self and cross come from the dataflow (`workloads.ops.attention`), temporal from a second capture at another number of frames
(`workloads.temporal`). A module's name decides nothing: where it hints at something else, that is a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from hwspecs.errors import FramecastError, SpecError, nearest
from workloads.capture import CapturedCall, CapturedPass
from workloads.capture_run import Example, run
from workloads.ops.attention import DIMS, ROLES
from workloads.temporal import with_temporal

FRAMES = "frames"  # the dimension that temporal attention follows
GIVEN = ("self", "cross", "temporal", "spatial")  # what a user may correct a role to
SAME = {"spatial": "self"}  # attention inside each frame is self-attention whose batch counts frames
_HINT = re.compile(r"(?i)tempor|motion|(^|[._])time_?attn")
_AT = DIMS.index("role")


@dataclass(frozen=True)
class How:
    """A module to capture at any dimensions: `build(dims)` as `Example.build`; the rest as in a capture file."""

    name: str
    build: Callable[[Mapping[str, int]], Any]
    corrections: Mapping[str, str]
    assume: Mapping[str, Any]
    real: bool

    def at(self, dims: Mapping[str, int]) -> CapturedPass:
        """The pass at some dimensions, temporal attention not looked for. SpecError as `run`."""
        return run(Example(self.name, lambda: self.build(dims), self.assume, self.real))


def observed(how: How, dims: Mapping[str, int]) -> tuple[CapturedPass, list[str]]:
    """The pass with the roles of its attention, and what there is to say of it. SpecError as `run`."""
    found = how.at(dims)
    notes, searched = list(found.assumed), False
    if FRAMES in dims and any(c.kind == "attention" for c in found.calls):
        other = dims[FRAMES] - 1 if dims[FRAMES] > 1 else dims[FRAMES] + 1
        try:
            found = with_temporal(found, how.at({**dims, FRAMES: other}), dims[FRAMES])
            searched = True
        except (FramecastError, ValueError) as error:
            why = (
                "; ".join(error.problems) if isinstance(error, FramecastError) else "it attends another number of times"
            )
            notes.append(f"{how.name}: temporal attention was not looked for, since at {other} frames {why}")
    found = corrected(found, how.corrections)
    return found, [*notes, *hints(found, how.corrections, searched)]


def role(call: CapturedCall) -> str:
    """'self', 'cross' or 'temporal' of an attention call."""
    return ROLES[call.dims[_AT]]


def attention_paths(passes: Sequence[CapturedPass]) -> list[str]:
    """Paths of the modules that attend, each once, in call order."""
    return list(dict.fromkeys(c.path for p in passes for c in p.calls if c.kind == "attention"))


def corrected(found: CapturedPass, corrections: Mapping[str, str]) -> CapturedPass:
    """The pass with the roles that a user gives by module path (* for any part of it); the last that matches counts."""
    return replace(found, calls=tuple(_corrected(call, corrections) for call in found.calls))


def _corrected(call: CapturedCall, corrections: Mapping[str, str]) -> CapturedCall:
    if call.kind != "attention":
        return call
    roles = [value for pattern, value in corrections.items() if fnmatchcase(call.path, pattern)]
    if not roles:
        return call
    value = ROLES.index(SAME.get(roles[-1], roles[-1]))
    return replace(call, dims=(*call.dims[:_AT], value, *call.dims[_AT + 1 :]))


def check(passes: Sequence[CapturedPass], corrections: Mapping[str, str]) -> None:
    """SpecError for a correction that matches no attention, with the nearest path or those that there are."""
    paths = attention_paths(passes)
    problems = []
    for pattern in corrections:
        if any(fnmatchcase(path, pattern) for path in paths):
            continue
        some = f" (attention: {', '.join(paths[:3])}{' ...' if len(paths) > 3 else ''})" if paths else "; there is none"
        problems.append(f"corrections.{pattern}: no attention is at this module path{nearest(pattern, paths)}{some}")
    if problems:
        raise SpecError(problems)


def hints(found: CapturedPass, corrections: Mapping[str, str], searched: bool) -> Iterator[str]:
    """A note for attention whose name speaks of time while nothing else does. `searched`: temporal attention was looked for."""
    paths = dict.fromkeys(
        c.path
        for c in found.calls
        if c.kind == "attention" and role(c) == "self" and _HINT.search(c.path)
        and not any(fnmatchcase(c.path, pattern) for pattern in corrections)
    )  # fmt: skip
    if paths:
        why = "its length does not follow the frames" if searched else f"no dimension is named {FRAMES}"
        first, more = next(iter(paths)), len(paths) - 1
        others = f" and {more} more" if more else ""
        yield f"{first}{others}: sounds temporal, taken as self-attention ({why}); `corrections:` says otherwise"
