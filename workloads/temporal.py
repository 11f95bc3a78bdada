"""Temporal attention, recognised by its axis: its sequence follows the number of frames, while its batch does not.

No name is looked at. A pass is captured at the frames asked for and at another number; the two hold the same attention
calls in the same order. An axis that merely is as long as there are frames stays the same, and is not taken for them.
"""

from __future__ import annotations

from dataclasses import replace

from workloads.capture import CapturedPass
from workloads.ops.attention import DIMS, ROLES


def with_temporal(found: CapturedPass, other: CapturedPass, frames: int) -> CapturedPass:
    """`found`, captured at `frames`, with its temporal attention so marked; `other` is the same pass at other frames.

    Attention over space and time jointly, longer than there are frames, stays self-attention. Raises ValueError where
    the passes do not hold as many attention calls.
    """
    pairs = zip(_attention(found), _attention(other), strict=True)
    temporal = {i for (i, here), (_, there) in pairs if _follows(here, there, frames)}
    role, value = DIMS.index("role"), ROLES.index("temporal")
    calls = (
        replace(c, dims=(*c.dims[:role], value, *c.dims[role + 1 :])) if i in temporal else c
        for i, c in enumerate(found.calls)
    )
    return replace(found, calls=tuple(calls))


def _attention(found: CapturedPass) -> list[tuple[int, dict[str, int]]]:
    """Position and dims of every attention call, in call order."""
    return [(i, dict(zip(DIMS, c.dims, strict=True))) for i, c in enumerate(found.calls) if c.kind == "attention"]


def _follows(here: dict[str, int], there: dict[str, int], frames: int) -> bool:
    moved = here["q_len"] != there["q_len"] and here["kv_len"] != there["kv_len"]
    return moved and here["batch"] == there["batch"] and here["q_len"] <= frames
