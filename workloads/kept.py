"""What a capture keeps whole above the dispatcher, and what it answers where a tensor would have to have values.

`whole` keeps scaled_dot_product_attention and rms_norm as one operator each, which the dispatcher would decompose on the
meta device. `assumed` answers the operators that need a tensor's values; every answer is named by whoever asks for it.
torch is imported when called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

# recorder.add(name, args, kwargs, out, pointwise) of workloads.capture
Add: TypeAlias = Callable[[str, tuple[Any, ...], Mapping[str, Any], Any, bool], None]

ALL = "all"  # answer to aten.nonzero: every element is set, of a mask that picks elements (aten.index) too
NONZERO, ITEM, INDEX = "aten.nonzero", "aten._local_scalar_dense", "aten.index"


# a context in which nothing is recorded, for the values of an operator that is kept whole; None: there are no values
Unrecorded: TypeAlias = Callable[[], AbstractContextManager[Any]] | None


@contextmanager
def whole(add: Add, unrecorded: Unrecorded = None) -> Iterator[None]:
    """scaled_dot_product_attention and rms_norm are recorded as one operator each; `unrecorded`: and computed, inside it.

    A function mode catches them wherever modules took them from; torch's own functions (multi_head_attention_forward) run
    with function modes off and look them up in torch.nn.functional.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    functional = torch.nn.functional
    originals = functional.scaled_dot_product_attention, functional.rms_norm
    attend, norm = _attention(add, originals[0], unrecorded), _rms_norm(add, unrecorded)
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


def _attention(add: Add, original: Any, unrecorded: Unrecorded) -> Callable[..., Any]:
    import torch

    def sdpa(query: Any, key: Any, value: Any, attn_mask: Any = None, *rest: Any, **options: Any) -> Any:
        """The result is laid out [..., length, heads, head_dim], as flash attention writes it."""
        causal = bool(rest[1] if len(rest) > 1 else options.get("is_causal", False))
        shape = (*query.shape[:-1], value.shape[-1])
        if len(shape) > 3:
            out = query.new_empty((*shape[:-3], shape[-2], shape[-3], shape[-1])).transpose(-2, -3)
        else:
            out = query.new_empty(shape)
        add("aten.scaled_dot_product_attention", (query, key, value, attn_mask, 0.0, causal), {}, out, False)
        if unrecorded:
            with unrecorded(), torch._C.DisableTorchFunction():
                out.copy_(original(query, key, value, attn_mask, *rest, **options))
        return out

    return sdpa


def _rms_norm(add: Add, unrecorded: Unrecorded) -> Callable[..., Any]:
    def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
        """One kernel where input and weight have one dtype (aten/src/ATen/native/layer_norm.cpp), else torch's several."""
        import torch

        if weight is not None and weight.dtype != input.dtype:
            return torch.rms_norm(input, normalized_shape, weight, eps)
        out = torch.empty(input.shape, dtype=input.dtype, device=input.device)
        add("aten._fused_rms_norm", (input, tuple(normalized_shape), weight, eps), {}, out, False)
        if unrecorded:
            with unrecorded(), torch._C.DisableTorchFunction():
                out.copy_(torch.rms_norm(input, normalized_shape, weight, eps))
        return out

    return rms_norm


@contextmanager
def assumed(answers: Mapping[str, Any]) -> Iterator[list[str]]:
    """Answer operators that need a tensor's values: {NONZERO: ALL, ITEM: a number}. Yields the operators answered so far.

    Autocast regions on the meta device, all of which torch refuses, leave dtypes as they are where they are switched off or
    ask for fp32; any other raises torch's error. Raises ValueError for an operator that has no such answer.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.utils._python_dispatch import TorchDispatchMode

    for name in answers:
        if name not in (NONZERO, ITEM):
            raise ValueError(f"assume: found {name!r}, expected {NONZERO} or {ITEM}")
    given: list[str] = []

    class Assumed(TorchDispatchMode):  # type: ignore[misc]
        """Answers where tensors have no values: on the meta device, and for fake tensors."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = str(func.overloadpacket)
            asked = NONZERO if name == INDEX and _mask(args[1]) is not None else name
            if asked not in answers or not (args[0].is_meta or isinstance(args[0], FakeTensor)):
                return func(*args, **(kwargs or {}))
            given.append(asked)
            if name == ITEM:
                return answers[name]
            if name == INDEX:
                mask = _mask(args[1])
                return args[0].new_empty((mask.numel(), *args[0].shape[mask.dim() :]))
            return args[0].new_empty((args[0].numel(), args[0].dim()), dtype=torch.int64)

    original = torch.autocast

    def autocast(device_type: str, dtype: Any = None, enabled: bool = True, *rest: Any, **options: Any) -> Any:
        off = device_type == "meta" and (not enabled or dtype == torch.float32)
        return nullcontext() if off else original(device_type, dtype, enabled, *rest, **options)

    torch.autocast = autocast  # only its calls are looked up, never its type
    try:
        with Assumed():
            yield given
    finally:
        torch.autocast = original


def _mask(indices: Any) -> Any:
    """The mask of x[mask], None for any other indexing."""
    return indices[0] if len(indices) == 1 and str(getattr(indices[0], "dtype", "")) == "torch.bool" else None
