"""Operators of a timeline, run again on the meta device, so that the rules of a capture read their dimensions.

A timeline holds the shapes, strides and scalars of an operator's arguments, not its results: those come from running it
again without data. Which tensors it read: see `tensors`. Weights are the arguments at which torch's layers take them. torch is
imported when called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from workloads.capture import CapturedCall, Recorder, is_attention, launches
from workloads.formats.events import LISTS, Operator
from workloads.formats.tensors import DTYPES, Tensors
from workloads.kept import whole
from workloads.ops.attention import DIMS, ROLES

SCALAR_TYPES = (
    "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", None, None, None, "bool", None, None,
    None, "bfloat16", None, None, None, None, None, None, None, "float8_e5m2", "float8_e4m3fn",
)  # fmt: skip  # torch/headeronly/core/ScalarType.h, in the order of the enumeration; None: not in use here
MEMORY_FORMATS = (
    "contiguous_format",
    "preserve_format",
    "channels_last",
    "channels_last_3d",
)  # c10/core/MemoryFormat.h
COPY = "aten::copy_"  # what a kernel that takes contiguous inputs runs before
ATTENTION = "aten::scaled_dot_product_attention"
WEIGHTS = {
    "aten::linear": (1, 2), "aten::conv1d": (1, 2), "aten::conv2d": (1, 2), "aten::conv3d": (1, 2),
    "aten::convolution": (1, 2), "aten::group_norm": (2, 3), "aten::layer_norm": (2, 3), "aten::rms_norm": (2,),
    "aten::embedding": (0,), "aten::batch_norm": (1, 2, 3, 4),
    "aten::native_group_norm": (1, 2), "aten::native_layer_norm": (2, 3), "aten::_fused_rms_norm": (2,),
}  # fmt: skip  # operator -> positions of parameters (native_functions.yaml)


@dataclass(frozen=True)
class Replayed:
    """What the operators computed.

    Attributes:
        calls: as a capture records them. tensor_bytes, tensor_is_weight: of the tensor ids that they name.
        operator: index of the operator of each call. owner: of each operator, the call that its kernels belong to, or -1.
        parameters: elements of all weights.
        unknown: operators that could not be run again -> how often; they are priced as memory traffic.
    """

    calls: tuple[CapturedCall, ...]
    tensor_bytes: tuple[int, ...]
    tensor_is_weight: tuple[bool, ...]
    operator: tuple[int, ...]
    owner: tuple[int, ...]
    parameters: int
    unknown: Mapping[str, int]


def replay(operators: Sequence[Operator], launched: frozenset[int]) -> Replayed:
    """Run operators again in order; `launched`: indices of those that launched kernels themselves."""
    import torch

    recorder, tensors = Recorder(""), Tensors()
    owner, unknown, of_call = [-1] * len(operators), dict[str, int](), list[int]()
    copies: dict[int, int] = {}  # call -> the call that copies its input, which a capture records apart
    parents = {o.parent for o in operators}
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(whole(recorder.add))
        for i, operator in enumerate(operators):
            if operator.parent >= 0 and owner[operator.parent] != -1:
                around = owner[operator.parent]  # it is recorded, or passed over, as a whole
                owner[i] = copies.get(around, around) if operator.name == COPY else around
                continue
            if operator.parent < 0 or operators[operator.parent].name not in WEIGHTS:  # else that has named them
                for position in WEIGHTS.get(operator.name, ()):
                    tensors.weight(operator, position, recorder)
            if _is_container(operator, i in launched, i in parents):
                continue
            recorder.stack = [(operator.path, any(is_attention(m.rpartition("_")[0]) for m in operator.modules))]
            if not _run(operator, tensors, recorder) and (i in launched or i not in parents):
                unknown[operator.name] = unknown.get(operator.name, 0) + 1
            owner[i] = len(recorder.calls) - 1 if len(recorder.calls) > len(of_call) else _VIEW
            if len(recorder.calls) - len(of_call) == 2:
                copies[owner[i]] = owner[i] - 1
            of_call += [i] * (len(recorder.calls) - len(of_call))
    return Replayed(
        calls=tuple(recorder.calls if any(o.ids for o in operators) else map(_with_role, recorder.calls)),
        tensor_bytes=tuple(int(s.nbytes()) for s in recorder.storages),
        tensor_is_weight=tuple(s._cdata in recorder.weights for s in recorder.storages),
        operator=tuple(of_call),
        owner=tuple(max(o, -1) for o in owner),
        parameters=tensors.parameters,
        unknown=unknown,
    )


_VIEW = -2  # owner of an operator that launches nothing: what is inside it belongs to no call


def _is_container(operator: Operator, has_kernels: bool, has_parts: bool) -> bool:
    """Whether an operator is only the sum of the operators inside it, as the dispatcher would see it."""
    if operator.name == ATTENTION or has_kernels:
        return False
    overload = _overload(operator.name, operator.types)
    if overload is None:
        return has_parts
    import torch

    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(overload.name(), "CompositeImplicitAutograd"))


def _run(operator: Operator, tensors: Tensors, recorder: Recorder) -> bool:
    """Run one operator on the meta device and record it; False where that cannot be (then recorded as memory traffic)."""
    import torch

    overload = _overload(operator.name, operator.types)
    given = tensors.of(operator)
    if overload is not None:
        try:
            args, kwargs = _arguments(overload, operator, given)
            if operator.name == ATTENTION:
                tensors.remember(torch.nn.functional.scaled_dot_product_attention(*args, **kwargs), operator.results)
                return True
            out = overload(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
            pass  # needs data, or arguments that the timeline does not hold
        else:
            if launches(overload, args, kwargs, out):
                name = str(overload.overloadpacket)
                recorder.add(name, args, kwargs, out, torch.Tag.pointwise in overload.tags)
            tensors.remember(out, operator.results)
            return True
    read = [t for t in _flat(given) if t.dim()]
    if read:
        result = torch.empty_like(max(read, key=lambda t: t.numel()))
        recorder.add(operator.name.replace("::", "."), read, {}, result, False)
    return not read


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from value
        elif value is not None:
            yield value


@cache
def _overload(full_name: str, types: tuple[str, ...]) -> Any:
    """The torch operator of that name that takes arguments of these types, or None."""
    import torch

    namespace, _, name = full_name.partition("::")
    packet = getattr(getattr(torch.ops, namespace, None), name, None) if name.isidentifier() else None
    for overload in packet.overloads() if packet is not None and hasattr(packet, "overloads") else ():
        found = getattr(packet, overload)
        expected = found._schema.arguments
        if len(expected) == len(types) and all(
            _takes(str(argument.type), given) for argument, given in zip(expected, types, strict=True)
        ):
            return found
    return None


def _takes(expected: str, given: str) -> bool:
    """Whether an argument of a schema type can have been recorded as `given` ('' is nothing, or nothing that is recorded)."""
    if given in DTYPES:
        return expected in ("Tensor", "Optional[Tensor]")
    if given in LISTS:
        return expected.startswith(("List[Tensor", "List[Optional[Tensor", "Optional[List[Tensor"))
    if given == "ScalarList":
        return "List[" in expected and "Tensor" not in expected
    if given == "Scalar":
        return "List[" not in expected and "Tensor" not in expected
    return expected != "Tensor"


def _arguments(overload: Any, operator: Operator, given: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments: tensors as given, everything else from its text."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument, kind, text, tensor in zip(
        overload._schema.arguments, operator.types, operator.values, given, strict=True
    ):
        value = tensor if kind in DTYPES or kind in LISTS else _value(argument, kind, text)
        if argument.kwarg_only:
            kwargs[argument.name] = value
        else:
            args.append(value)
    if "device" in kwargs and not any(True for _ in _flat(given)):
        kwargs["device"] = "meta"
    return args, kwargs


def _value(argument: Any, kind: str, text: str) -> Any:
    """What the text of an argument that is no tensor says."""
    import torch

    if kind == "ScalarList":
        return [_number(part) for part in text.strip("[]").split(",") if part.strip()]
    if kind != "Scalar" or not text or argument.name in ("layout", "pin_memory"):
        return argument.default_value if argument.has_default_value() else None
    if argument.name == "dtype":
        return getattr(torch, SCALAR_TYPES[int(text)] or "")
    return getattr(torch, MEMORY_FORMATS[int(text)]) if argument.name == "memory_format" else _number(text)


def _number(text: str) -> bool | int | float:
    text = text.strip()
    if text in ("True", "False"):
        return text == "True"
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _with_role(call: CapturedCall) -> CapturedCall:
    """Attention is self-attention where there are as many keys as queries: dataflow, which a capture reads, is not recorded."""
    if call.kind != "attention":
        return call
    dims = dict(zip(DIMS, call.dims, strict=True))
    role = ROLES.index("self" if dims["q_len"] == dims["kv_len"] else "cross")
    return replace(call, dims=tuple((dims | {"role": role}).values()))
