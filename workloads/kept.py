"""What a capture keeps whole above the dispatcher, and what it answers where a tensor would have to have values.

`whole` keeps scaled_dot_product_attention and rms_norm as one operator each, which the dispatcher would decompose on the
meta device. `assumed` answers the operators that need a tensor's values; every answer is named by whoever asks for it.
torch is imported when called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

# recorder.add(name, args, kwargs, out, pointwise) of workloads.capture
Add: TypeAlias = Callable[[str, tuple[Any, ...], Mapping[str, Any], Any, bool], None]

ALL = "all"  # answer to aten.nonzero: every element is set
NONZERO, ITEM = "aten.nonzero", "aten._local_scalar_dense"


@contextmanager
def whole(add: Add) -> Iterator[None]:
    """scaled_dot_product_attention and rms_norm are recorded as one operator each.

    A function mode catches them wherever modules took them from; torch's own functions (multi_head_attention_forward) run
    with function modes off and look them up in torch.nn.functional.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    functional = torch.nn.functional
    originals = functional.scaled_dot_product_attention, functional.rms_norm
    attend, norm = _attention(add), _rms_norm(add)
    instead = {originals[0]: attend, originals[1]: norm, torch.rms_norm: norm}

    class Whole(TorchFunctionMode):  # type: ignore[misc]
        """Keeps the operators from the dispatcher."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return instead.get(func, func)(*args, **(kwargs or {}))

    functional.scaled_dot_product_attention = attend
    try:
        with Whole():
            yield
    finally:
        functional.scaled_dot_product_attention = originals[0]


def _attention(add: Add) -> Callable[..., Any]:
    def sdpa(query: Any, key: Any, value: Any, attn_mask: Any = None, *rest: Any, **options: Any) -> Any:
        """The result is laid out [..., length, heads, head_dim], as flash attention writes it."""
        causal = bool(rest[1] if len(rest) > 1 else options.get("is_causal", False))
        shape = (*query.shape[:-1], value.shape[-1])
        swapped = (*shape[:-3], shape[-2], shape[-3], shape[-1])
        out = query.new_empty(swapped).transpose(-2, -3) if len(shape) > 3 else query.new_empty(shape)
        add("aten.scaled_dot_product_attention", (query, key, value, attn_mask, 0.0, causal), {}, out, False)
        return out

    return sdpa


def _rms_norm(add: Add) -> Callable[..., Any]:
    def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
        """One kernel where input and weight have one dtype (aten/src/ATen/native/layer_norm.cpp), else torch's several."""
        import torch

        if weight is not None and weight.dtype != input.dtype:
            return torch.rms_norm(input, normalized_shape, weight, eps)
        out = torch.empty(input.shape, dtype=input.dtype, device=input.device)
        add("aten._fused_rms_norm", (input, tuple(normalized_shape), weight, eps), {}, out, False)
        return out

    return rms_norm


@contextmanager
def assumed(answers: Mapping[str, Any]) -> Iterator[list[str]]:
    """Answer operators that need a tensor's values: {NONZERO: ALL, ITEM: a number}. Yields the operators answered so far.

    Autocast regions on the meta device (which torch refuses) leave dtypes as they are. Raises ValueError for an operator
    that has no such answer.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    for name in answers:
        if name not in (NONZERO, ITEM):
            raise ValueError(f"assume: found {name!r}, expected {NONZERO} or {ITEM}")
    given: list[str] = []

    class Assumed(TorchDispatchMode):  # type: ignore[misc]
        """Answers on meta tensors only."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = str(func.overloadpacket)
            if name not in answers or args[0].device.type != "meta":
                return func(*args, **(kwargs or {}))
            given.append(name)
            if name == ITEM:
                return answers[name]
            return args[0].new_empty((args[0].numel(), args[0].dim()), dtype=torch.int64)

    original = torch.autocast
    torch.autocast = lambda device_type, *args, **kwargs: (  # only its calls are looked up, never its type
        nullcontext() if device_type == "meta" else original(device_type, *args, **kwargs)
    )
    try:
        with Assumed():
            yield given
    finally:
        torch.autocast = original
