"""What a stage's capture depends on, known without torch: a key of all that is not a whole number, and the whole numbers.

Two stages of one key differ in sizes alone. The key names the function that builds the module with its arguments, and the
inputs by structure and dtype; numbers are the sizes of the inputs and whole arguments, in order of appearance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from workloads.model import Stage
from workloads.parts.meta import Sized, only_sizes


@dataclass(frozen=True)
class Signature:
    """`key` has '#' where a number of `numbers` stands; the first `built` numbers, with its first word, say what is built.

    The last `hints` numbers are the stage's `counts`: no sizes of its inputs. The key says how many.
    """

    key: str
    numbers: tuple[int, ...]
    built: int
    hints: int = 0

    @property
    def function(self) -> str:
        """That builds the module."""
        return self.key.partition("(")[0].partition(" ")[0]

    @property
    def module(self) -> tuple[str, tuple[int, ...]]:
        """The same for two stages of the same module."""
        return self.key.partition(" ")[0], self.numbers[: self.built]


class _OpaqueError(Exception):
    """A part of a stage that cannot be named."""


def signature(stage: Stage, frames: int | None) -> Signature | None:
    """The signature of a stage of a request with that many frames (None: it has none).

    None where its `build` is no function of a module, or a `functools.partial` of one, or an argument has no name.
    """
    numbers: list[int] = []
    try:
        function = _flat(stage.build, numbers)
        built = len(numbers)
        with only_sizes():
            inputs = _flat(stage.inputs(), numbers)
        temporal = bool(frames) and stage.frames != 0
        if temporal:
            numbers.append(stage.frames or frames or 0)
        assumed = _flat(dict(stage.assume), numbers)
    except _OpaqueError:
        return None
    counts = f" {len(stage.counts)}" if stage.counts else ""
    return Signature(
        f"{function} {inputs} {assumed} {temporal}{counts}", (*numbers, *stage.counts), built, len(stage.counts)
    )


def _flat(value: Any, numbers: list[int]) -> str:
    """A value as text, its whole numbers moved to `numbers`."""
    if isinstance(value, Sized):
        numbers.extend(value.shape)
        return value.dtype + "#" * len(value.shape)
    if value is None or isinstance(value, bool | str | float):
        return repr(value)
    if isinstance(value, int):
        numbers.append(value)
        return "#"
    if isinstance(value, list | tuple):
        return f"[{','.join(_flat(v, numbers) for v in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{k}:{_flat(v, numbers)}' for k, v in value.items())}}}"
    return _named(value, numbers)


def _named(value: Any, numbers: list[int]) -> str:
    """A function of a module, a partial of one, what `functools.cache` made of either, or an object and what it holds."""
    if isinstance(value, partial):
        arguments = [*(_flat(v, numbers) for v in value.args)]
        arguments += [f"{k}={_flat(v, numbers)}" for k, v in value.keywords.items()]
        return f"{_named(value.func, numbers)}({','.join(arguments)})"
    if hasattr(value, "__wrapped__"):
        return _named(value.__wrapped__, numbers)
    if callable(value):
        if "<" in getattr(value, "__qualname__", "<"):
            raise _OpaqueError
        return f"{value.__module__}.{value.__qualname__}"
    if type(value).__module__.startswith("workloads."):
        return f"{type(value).__qualname__}{_flat(vars(value), numbers)}"
    raise _OpaqueError
