"""What the capture rules of the operator kinds see: a torch operator as it ran on the meta device. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias


@dataclass(frozen=True)
class AtenCall:
    """One operator as it ran.

    Attributes:
        name: 'aten.addmm'; overloads share a name.
        args, kwargs, out: as torch passed and returned them.
        is_weight: whether a tensor is (a view of) a parameter or buffer.
        origin: ids of the tensors that the projections (gemm, conv) behind a tensor read; its own where there is none.
    """

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    out: Any
    is_weight: Callable[[Any], bool]
    origin: Callable[[Any], frozenset[int]]

    def arg(self, index: int, name: str = "", default: Any = None) -> Any:
        """A positional argument, or the keyword `name`, or the default."""
        return self.args[index] if index < len(self.args) else self.kwargs.get(name, default)

    @property
    def operands(self) -> tuple[Any, ...]:
        """The tensors that it reads, each view once: activations in argument order, then weights."""
        return self.in_order([*tensors(self.args), *tensors(self.kwargs.values())])

    def in_order(self, found: Iterable[Any]) -> tuple[Any, ...]:
        """Tensors without repeats, activations before weights; a scalar on the host is an argument, not a read."""
        distinct = {_view(t): t for t in found if not (t.dim() == 0 and t.device.type == "cpu")}
        return tuple(sorted(distinct.values(), key=self.is_weight))

    @property
    def results(self) -> tuple[Any, ...]:
        """The tensors that it returns."""
        return tuple(tensors([self.out]))


# (dims of the kind, tensors read in the order of Work's input0, input1, ...), or None: not an operator of this kind.
Rule: TypeAlias = Callable[[AtenCall], tuple[Mapping[str, int], tuple[Any, ...]] | None]

POINTWISE = "pointwise"  # key of the rule for every operator that torch tags as pointwise and no rule names
ANYTHING = "*"  # key of the rule for every operator that no other rule takes


def tensors(values: Iterable[Any]) -> Iterator[Any]:
    """The tensors among values, lists of them included."""
    for value in values:
        if hasattr(value, "untyped_storage"):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


def size(tensor: Any) -> int:
    """Bytes of the distinct elements of a tensor: an expanded axis (stride 0) counts once."""
    extents = (n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0 or n == 0)
    return int(prod(extents)) * int(tensor.element_size())


def reads(operands: Sequence[Any]) -> dict[str, int]:
    """Bytes of the operands as read0, read1, read2; a 4th and further operand adds to read2."""
    sizes = [size(t) for t in operands]
    first, second = (*sizes, 0, 0)[:2]
    return {"read0": first, "read1": second, "read2": sum(sizes[2:])}


def run_bytes(source: Any, result: Any) -> int:
    """Bytes of the contiguous runs of `source` in the order in which `result` is written; 0 where it is one run."""
    if source.dim() != result.dim():
        return 0
    axes = [i for i in range(source.dim()) if source.shape[i] > 1]
    run = 1
    for i in sorted(axes, key=result.stride):
        if source.stride(i) != run:
            break
        run *= source.shape[i]
    return 0 if run == prod(source.shape) else run * int(source.element_size())


def _view(tensor: Any) -> tuple[Any, ...]:
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype
