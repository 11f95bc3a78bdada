"""What sort of attention a call of a user's model is: by its axis, and as the user corrects it.

self and cross come from the dataflow (`workloads.ops.attention`), temporal from a second capture at another number of frames
(`workloads.temporal`); attention written by hand is found by `workloads.by_hand`. A module's name decides nothing: where it
hints at something else, that is a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from hwspecs.errors import FramecastError, SpecError, nearest
from workloads import by_hand
from workloads.capture import CapturedCall, CapturedPass
from workloads.capture_run import Example, run
from workloads.ops.attention import DIMS, ROLES
from workloads.temporal import with_temporal

FRAMES = "frames"  # the dimension that temporal attention follows
NO_ATTENTION = "none"  # of what looks like attention written by hand
GIVEN = ("self", "cross", "temporal", "spatial", NO_ATTENTION)  # what a user may correct a role to
SAME = {"spatial": "self"}  # attention inside each frame is self-attention whose batch counts frames
_HINT = re.compile(r"(?i)tempor|motion|(^|[._])time_?attn")
_AT = DIMS.index("role")


@dataclass(frozen=True)
class How:
    """A module to capture at any dimensions: `build(dims)` as `Example.build`; the rest as in a capture file.

    fuse: attention written by hand becomes one attention call.
    """

    name: str
    build: Callable[[Mapping[str, int]], Any]
    corrections: Mapping[str, str]
    assume: Mapping[str, Any]
    real: bool
    fuse: bool = False

    def at(self, dims: Mapping[str, int]) -> CapturedPass:
        """The pass at some dimensions, temporal attention not looked for. SpecError as `run`."""
        return run(Example(self.name, lambda: self.build(dims), self.assume, self.real))


@dataclass(frozen=True)
class Observed:
    """A pass with the roles of its attention, and what there is to say of it.

    paths: of the modules that attend, each once, in call order. by_hand: (path, role) of attention that stays as it is written.
    """

    passed: CapturedPass
    notes: tuple[str, ...]
    paths: tuple[str, ...]
    by_hand: tuple[tuple[str, str], ...] = ()


def observed(how: How, dims: Mapping[str, int]) -> Observed:
    """The pass with the roles of its attention, that written by hand too. SpecError as `run`."""
    plain = how.at(dims)
    every = by_hand.found(plain.calls)
    written = [a for a in every if _given(_path(plain, a), how.corrections) != NO_ATTENTION]
    found = by_hand.fused(plain, written)
    notes, searched = list(plain.assumed), False
    if FRAMES in dims and any(c.kind == "attention" for c in found.calls):
        other = dims[FRAMES] - 1 if dims[FRAMES] > 1 else dims[FRAMES] + 1
        try:
            found = with_temporal(found, _fused(how, {**dims, FRAMES: other}), dims[FRAMES])
            searched = True
        except (FramecastError, ValueError) as error:
            why = (
                "; ".join(error.problems) if isinstance(error, FramecastError) else "it attends another number of times"
            )
            notes.append(f"{how.name}: temporal attention was not looked for, since at {other} frames {why}")
    found = corrected(found, how.corrections)
    notes += [*hints(found, how.corrections, searched), *by_hand.said(plain, written, how.fuse)]
    paths = [c.path for c in found.calls if c.kind == "attention"] + [_path(plain, a) for a in every]
    distinct = tuple(dict.fromkeys(paths))
    if how.fuse or not written:
        return Observed(found, tuple(notes), distinct)
    roles = tuple(dict.fromkeys((c.path, role(c)) for c in found.calls if c.label == by_hand.LABEL))
    return Observed(_as_written(plain, found, written), tuple(notes), distinct, roles)


def _fused(how: How, dims: Mapping[str, int]) -> CapturedPass:
    """The pass at some dimensions with its attention written by hand as calls, but for what a correction says is none."""
    plain = how.at(dims)
    written = by_hand.found(plain.calls)
    return by_hand.fused(plain, [a for a in written if _given(_path(plain, a), how.corrections) != NO_ATTENTION])


def _path(passed: CapturedPass, attention: by_hand.ByHand) -> str:
    return passed.calls[attention.calls[-1]].path


def _as_written(plain: CapturedPass, found: CapturedPass, written: Sequence[by_hand.ByHand]) -> CapturedPass:
    """The pass as it is written, its own attention calls with the roles that they have in `found`."""
    roles = iter([c for c in found.calls if c.kind == "attention" and c.label != by_hand.LABEL])
    calls = tuple(next(roles) if c.kind == "attention" else c for c in plain.calls)
    return by_hand.marked(replace(plain, calls=calls), written)


def role(call: CapturedCall) -> str:
    """'self', 'cross' or 'temporal' of an attention call."""
    return ROLES[call.dims[_AT]]


def corrected(found: CapturedPass, corrections: Mapping[str, str]) -> CapturedPass:
    """The pass with the roles that a user gives by module path (* for any part of it); the last that matches counts."""
    return replace(found, calls=tuple(_corrected(call, corrections) for call in found.calls))


def _corrected(call: CapturedCall, corrections: Mapping[str, str]) -> CapturedCall:
    given = _given(call.path, corrections) if call.kind == "attention" else None
    if given is None or given == NO_ATTENTION:
        return call
    value = ROLES.index(SAME.get(given, given))
    return replace(call, dims=(*call.dims[:_AT], value, *call.dims[_AT + 1 :]))


def _given(path: str, corrections: Mapping[str, str]) -> str | None:
    """What the corrections say of a module path, None where nothing; the last that matches counts."""
    return next((value for pattern, value in reversed(list(corrections.items())) if fnmatchcase(path, pattern)), None)


def check(stages: Sequence[Observed], corrections: Mapping[str, str]) -> None:
    """SpecError for a correction that matches no attention, with the nearest path or those that there are.

    Also for one that says of a call of torch's own attention that it is none.
    """
    paths = list(dict.fromkeys(path for stage in stages for path in stage.paths))
    own = {c.path for stage in stages for c in stage.passed.calls if c.kind == "attention" and c.label != by_hand.LABEL}
    problems = []
    for pattern, value in corrections.items():
        mine = [path for path in paths if fnmatchcase(path, pattern)]
        if mine:
            if value == NO_ATTENTION and own & set(mine):
                text = f"{sorted(own & set(mine))[0]} calls torch's attention; only what is written by hand can be none"
                problems.append(f"corrections.{pattern}: {text}")
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
