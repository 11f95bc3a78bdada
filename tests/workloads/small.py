"""A model of a few operators, whose templates are found in seconds. Of one sample its operators are others: no copy is made."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads.fields import Batch, Dtype, Guidance, passes
from workloads.model import Model, Stage
from workloads.parts.meta import meta, on_meta

WIDTH = 16


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of it."""

    length: Annotated[int, Quantity(ge=1, le=4096, doc="tokens")] = 64
    batch: Batch = 1
    guidance: Guidance = True
    dtype: Dtype = "fp16"


def stages(request: Request) -> tuple[Stage, ...]:
    """One stage, of tokens that are mixed by position."""
    rows = passes(request.guidance).rows * request.batch

    def inputs() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (meta(request.dtype, rows, request.length, WIDTH),), {}

    return (Stage("net", "net", 1, partial(net, request.dtype), inputs, frames=0),)


def net(dtype: str) -> Any:
    """A layer before and after a transposition; on the meta device."""
    import torch

    class Net(torch.nn.Module):  # type: ignore[misc]
        """[rows, length, WIDTH] -> [length, rows, WIDTH]."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Linear(WIDTH, 2 * WIDTH), torch.nn.Linear(2 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            return self.last(torch.nn.functional.silu(self.first(x)).transpose(0, 1).contiguous())

    return on_meta(Net, dtype)


MODEL = Model(
    id="small",
    title="A small model",
    request=Request,
    stages=stages,
    repeat_fields=(),
    sources="",
    libraries=("torch",),
)
