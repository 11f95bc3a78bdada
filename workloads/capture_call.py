"""`framecast.capture`: a torch module that is in memory -> its trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from workloads.trace import Trace


def capture(
    module: Any,
    inputs: Any = None,
    *,
    name: str = "module",
    dims: Mapping[str, int] | None = None,
    repeats: int = 1,
    corrections: Mapping[str, str] | None = None,
    assume: Mapping[str, Any] | None = None,
    real: bool = False,
    by_hand: Literal["as-written", "fused"] = "as-written",
) -> Trace:
    """The trace of a torch module; it is not changed, and nothing is computed where that can be avoided.

    Args:
        module: an nn.Module, or a function of the dimensions that returns (module, inputs) or (module, args, kwargs).
        inputs: example inputs of an nn.Module: a tuple or list (positions), a mapping (keywords), or one tensor.
        name: goes before the module paths, and names the segment.
        dims: named dimensions; with `frames` among those of a function, temporal attention is found by its axis.
        repeats: runs in one inference.
        corrections: roles of attention by module path (* for any part of it): self, cross, temporal, spatial; none for what
            looks like attention written by hand and is not.
        assume: answers in place of values: {'aten.nonzero': 'all', 'aten._local_scalar_dense': a number}.
        real: run on the CPU, whatever the size, where a capture without values fails.
        by_hand: attention written by hand, as products and a softmax, stays the kernels that it is, or becomes an attention call.

    Raises:
        SpecError: a module that cannot be captured, in one line with the module path.
        TypeError, ValueError: wrong arguments.
    """
    from workloads.cache import quiet
    from workloads.capture import assemble
    from workloads.capture_roles import How, check, observed

    _check(dims, repeats, corrections or {}, assume or {})
    if by_hand not in ("as-written", "fused"):
        raise ValueError(f"by_hand: found {by_hand!r}, expected as-written or fused")
    known, roles = dict(dims or {}), dict(corrections or {})
    how = How(name, _builder(module, inputs), roles, dict(assume or {}), real, by_hand == "fused")
    with quiet():
        found = observed(how, known)
    check([found], roles)
    trace = assemble(name, known, [(name, name, repeats, found.passed)], found.notes)
    return replace(trace, by_hand=found.by_hand)


def _builder(module: Any, inputs: Any) -> Callable[[Mapping[str, int]], Any]:
    """Dimensions -> (module, (args, kwargs))."""
    import torch

    from workloads.capture_source import as_inputs, split

    if isinstance(module, torch.nn.Module):
        return lambda _: (module, as_inputs(() if inputs is None else inputs))
    if not callable(module):
        raise TypeError(f"module: found {type(module).__name__}, expected an nn.Module or a function that returns one")
    if inputs is not None:
        raise TypeError("inputs: a function returns its module's inputs itself")

    def build(dims: Mapping[str, int]) -> Any:
        made, own = split(module(**dims), getattr(module, "__name__", "the function"))
        return made, own or ((), {})

    return build


def _check(
    dims: Mapping[str, int] | None, repeats: int, corrections: Mapping[str, str], assume: Mapping[str, Any]
) -> None:
    from workloads.capture_file import assumption
    from workloads.capture_roles import GIVEN

    if type(repeats) is not int or repeats < 1:
        raise ValueError(f"repeats: found {repeats!r}, expected a whole number of at least 1")
    for dim, value in (dims or {}).items():
        if type(value) is not int or value < 1:
            raise ValueError(f"dims: {dim}: found {value!r}, expected a whole number of at least 1")
    for pattern, role in corrections.items():
        if role not in GIVEN:
            raise ValueError(f"corrections: {pattern}: found {role!r}, expected one of {', '.join(GIVEN)}")
    for name, answer in assume.items():
        if text := assumption(name, answer):
            raise ValueError(f"assume: {name}: {text}")
