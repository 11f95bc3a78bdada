"""The tensors of operators that are run again: which one an operator reads.

Where the file names tensors by id, that one. A profiler's timeline does not: there, tensors are told apart by dtype, shape
and strides, and an operator reads the latest that fits. torch is imported when called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from workloads.capture import Recorder
from workloads.formats.events import LISTS, Operator

Form: TypeAlias = tuple[Any, tuple[int, ...], tuple[int, ...]]  # dtype (None: unknown), shape, strides
LATEST = 64  # tensors of one form that are remembered
DTYPES = {
    "float": "float32", "double": "float64", "c10::Half": "float16", "c10::BFloat16": "bfloat16", "long int": "int64",
    "long": "int64", "int": "int32", "short int": "int16", "short": "int16", "signed char": "int8",
    "unsigned char": "uint8", "bool": "bool", "c10::Float8_e4m3fn": "float8_e4m3fn", "c10::Float8_e5m2": "float8_e5m2",
}  # fmt: skip
# names of C++ types in 'Input type' (c10/util/typeid.h) -> torch's


class Tensors:
    """The tensors that there are, on the meta device (scalars, which are arguments and no reads, on the CPU).

    `parameters`: elements of the weights.
    """

    def __init__(self) -> None:
        self._named: dict[int, Any] = {}  # id in the file -> tensor
        self._exact: dict[Any, list[Any]] = {}  # (dtype, shape, strides) -> latest last
        self._sized: dict[Any, Any] = {}  # (dtype, elements) -> latest
        self._weights: dict[Any, Any] = {}
        self.parameters = 0

    def remember(self, result: Any, ids: Sequence[int] = ()) -> None:
        """The results of an operator are the latest of their form; `ids`: theirs, where the file has some."""
        import torch

        if ids:
            made = [
                t for t in (result if isinstance(result, list | tuple) else (result,)) if isinstance(t, torch.Tensor)
            ]
            self._named.update(zip(ids, made, strict=False))
        for tensor in (
            (result,) if isinstance(result, torch.Tensor) else result if isinstance(result, list | tuple) else ()
        ):
            if isinstance(tensor, torch.Tensor):
                key = (tensor.dtype, tuple(tensor.shape), tensor.stride())
                self._exact[key] = [*self._exact.get(key, [])[1 - LATEST :], tensor]
                self._sized[tensor.dtype, tensor.numel()] = tensor

    def weight(self, operator: Operator, position: int, recorder: Recorder) -> None:
        """Make the argument at a position a weight: the one of that module where modules are known, else one of its own."""
        if position >= len(operator.types) or operator.types[position] not in DTYPES:
            return
        form = self._form(operator, position)
        if operator.ids:
            self._named_weight(operator.ids[position], form, recorder)
            return
        key = (operator.path, operator.name, position, form) if operator.modules else object()
        if key not in self._weights:
            self._weights[key] = _empty(*form)
            self.parameters += self._weights[key].numel()
        recorder.weights.add(self._weights[key].untyped_storage()._cdata)
        self.remember(self._weights[key])

    def _named_weight(self, name: Any, form: Form, recorder: Recorder) -> None:
        storage = self._by_id(name, form).untyped_storage()
        if storage._cdata not in recorder.weights:
            recorder.weights.add(storage._cdata)
            self.parameters += storage.nbytes() // form[0].itemsize

    def of(self, operator: Operator) -> list[Any]:
        """Tensor, list of tensors, or None, for each argument; several of one form are as many, in the order they were made."""
        if operator.ids:
            return [self._given(operator, position) for position in range(len(operator.types))]
        taken: set[int] = set()
        found: list[Any] = []
        for position in reversed(range(len(operator.types))):
            kind = operator.types[position]
            if kind in LISTS:
                dims, strides = operator.dims[position], operator.strides[position]
                pairs = zip(dims, strides, strict=True) if len(strides) == len(dims) else ((d, _dense(d)) for d in dims)
                parts = [self._listed(tuple(d), tuple(s), taken) for d, s in reversed(list(pairs))]
                found.append(parts[::-1])
            else:
                found.append(self._latest(self._form(operator, position), taken) if kind in DTYPES else None)
        return found[::-1]

    def _form(self, operator: Operator, position: int) -> Form:
        import torch

        shape, strides = tuple(operator.dims[position]), tuple(operator.strides[position])
        dtype = getattr(torch, DTYPES[operator.types[position]])
        return dtype, shape, strides if len(strides) == len(shape) else _dense(shape)

    def _given(self, operator: Operator, position: int) -> Any:
        """An argument whose id is in the file."""
        kind, name, dims = operator.types[position], operator.ids[position], operator.dims[position]
        if kind in LISTS:
            return [self._by_id(n, (None, tuple(d), _dense(d))) for n, d in zip(name, dims, strict=True)]
        return self._by_id(name, self._form(operator, position)) if kind in DTYPES else None

    def _by_id(self, name: Any, form: Form) -> Any:
        """The tensor of an id; a new one where the id was not there before, or is now that of another form."""
        import torch

        dtype, shape, strides = form
        there = self._named.get(name)
        if not shape:
            return torch.zeros((), dtype=dtype)
        if there is None or tuple(there.shape) != shape or (dtype is not None and there.dtype != dtype):
            there = self._named[name] = _empty(dtype or torch.float32, shape, strides)
        return there

    def _listed(self, shape: tuple[int, ...], strides: tuple[int, ...], taken: set[int]) -> Any:
        """One of a list, whose dtype is not recorded: that of the latest tensor of its form, else 32-bit floats."""
        import torch

        made = [key for key in self._exact if key[1:] == (shape, strides)]
        return self._latest(made[-1] if made else (torch.float32, shape, strides), taken)

    def _latest(self, form: Form, taken: set[int]) -> Any:
        dtype, shape, _ = form
        if not shape:
            import torch

            return torch.zeros((), dtype=dtype)
        there = self._exact.get(form, [])
        tensor = next((t for t in reversed(there) if id(t) not in taken), there[-1] if there else None)
        if tensor is None:
            tensor = self._reshaped(form)
            self.remember(tensor)
        taken.add(id(tensor))
        return tensor

    def _reshaped(self, form: Form) -> Any:
        """A view of the latest tensor with as many elements, which torch's kernel laid out in another way; else a new one."""
        dtype, shape, strides = form
        made = _empty(*form)
        base = self._sized.get((dtype, made.numel()))
        if base is None or made.untyped_storage().nbytes() != base.untyped_storage().nbytes():
            return made
        return base.as_strided(shape, strides, 0)


def _empty(dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    import torch

    return torch.empty_strided(shape, strides, dtype=dtype, device="meta")


def _dense(shape: Sequence[int]) -> tuple[int, ...]:
    strides = [1]
    for extent in reversed(shape[1:]):
        strides.append(strides[-1] * max(extent, 1))
    return tuple(reversed(strides)) if shape else ()
