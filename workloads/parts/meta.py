"""Modules and tensors on the meta device. torch is imported when called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workloads.dtypes import torch_dtype


def meta(dtype: str, *shape: int) -> Any:
    """A tensor without values; of no shape, a scalar."""
    import torch

    return torch.empty(shape, dtype=torch_dtype(dtype), device="meta")


def on_meta(build: Callable[[], Any], dtype: str) -> Any:
    """What `build` returns, made on the meta device and of the dtype. Constants that a library puts on the CPU move too."""
    import torch

    with torch.device("meta"):
        return build().to(torch_dtype(dtype)).to("meta")
