"""Modules and tensors on the meta device, or only their sizes. torch is imported when called, and for sizes not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from workloads.dtypes import torch_dtype

_SIZES = ContextVar("only_sizes", default=False)


@dataclass(frozen=True)
class Sized:
    """What `meta` and `resting` give within `only_sizes`: dtype and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    def new_empty(self, shape: tuple[int, ...]) -> Sized:
        """One of another shape, as a tensor's method of the name."""
        return Sized(self.dtype, shape)


@contextmanager
def only_sizes() -> Iterator[None]:
    """Within it, `meta` and `resting` give a Sized, so that a stage's inputs are known without torch."""
    token = _SIZES.set(True)
    try:
        yield
    finally:
        _SIZES.reset(token)


def meta(dtype: str, *shape: int) -> Any:
    """A tensor without values; of no shape, a scalar."""
    if _SIZES.get():
        return Sized(dtype, shape)
    import torch

    return torch.empty(shape, dtype=torch_dtype(dtype), device="meta")


def resting(dtype: str, *shape: int) -> Any:
    """A tensor without values that is a parameter: data that rests in HBM from pass to pass, as weights do."""
    tensor = meta(dtype, *shape)
    if isinstance(tensor, Sized):
        return tensor
    from torch import nn

    return nn.Parameter(tensor, requires_grad=False)


def on_meta(build: Callable[[], Any], dtype: str) -> Any:
    """What `build` returns, made on the meta device and of the dtype. Constants that a library puts on the CPU move too."""
    import torch

    with torch.device("meta"):
        return build().to(torch_dtype(dtype)).to("meta")
