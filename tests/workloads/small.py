"""A model of a few operators, whose templates are found in seconds.

Of one sample its operators are others: no copy is made. Tokens and text change places in runs of the shorter of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import pytest
from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity
from workloads import samples
from workloads.fields import Batch, Dtype, Guidance, passes
from workloads.model import Model, Stage, models
from workloads.parts.meta import meta, on_meta

WIDTH = 16
TEXT = 24  # tokens of a prompt
LAYERS = 6
TABLE = 64  # tokens of the default request


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of it."""

    length: Annotated[int, Quantity(ge=1, le=4096, doc="tokens")] = 64
    batch: Batch = 1
    guidance: Guidance = True
    dtype: Dtype = "fp16"


def stages(request: Request, build: Callable[[str], Any] | None = None) -> tuple[Stage, ...]:
    """One stage, of tokens that are mixed by position; or of what else builds it."""
    rows = passes(request.guidance).rows * request.batch

    def inputs() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (meta(request.dtype, rows, request.length, WIDTH),), {}

    return (Stage("net", "net", 1, partial(build or net, request.dtype), inputs, frames=0),)


def net(dtype: str) -> Any:
    """Layers of the text and the tokens together, and a transposition; on the meta device."""
    import torch

    class Net(torch.nn.Module):  # type: ignore[misc]
        """[rows, length, WIDTH] -> [length + TEXT, rows, WIDTH]."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))

        def forward(self, x: Any) -> Any:
            text = x.new_empty(x.shape[0], TEXT, WIDTH)
            for layer in self.layers:
                x = torch.nn.functional.silu(layer(x))
            y = torch.cat([text, x], 1)
            return torch.cat([y[:, TEXT:], y[:, :TEXT]], 1).transpose(0, 1).contiguous()

    return on_meta(Net, dtype)


def one_by_one(dtype: str) -> Any:
    """Layers that take a sample after the other, as Mochi's attention does; on the meta device."""
    import torch

    class Net(torch.nn.Module):  # type: ignore[misc]
        """[rows, length, WIDTH] -> the same."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                rows = layer(x).split(1)
                x = torch.cat([torch.nn.functional.silu(torch.cat([row, row], 1))[:, ::2] for row in rows])
            return x

    return on_meta(Net, dtype)


def tabled(dtype: str) -> Any:
    """Layers that add positions: a table at TABLE, made anew at any other size; on the meta device."""
    import torch

    class Net(torch.nn.Module):  # type: ignore[misc]
        """[rows, length, WIDTH] -> the same."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
            self.register_buffer("table", torch.empty(TABLE, WIDTH, device="meta"))

        def forward(self, x: Any) -> Any:
            made = self.table if x.shape[1] == TABLE else torch.sin(x.new_empty(x.shape[1], WIDTH))
            for layer in self.layers:
                x = layer(x + made)
            return x

    return on_meta(Net, dtype)


def moved(dtype: str) -> Any:
    """A layer and a transposition, which of one row is no copy; on the meta device."""
    import torch

    class Net(torch.nn.Module):  # type: ignore[misc]
        """[rows, length, WIDTH] -> [length, rows, WIDTH]."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            return self.layer(x).transpose(0, 1).contiguous()

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
TABLED = replace(MODEL, id="tabled", stages=partial(stages, build=tabled))
MOVED = replace(MODEL, id="moved", stages=partial(stages, build=moved))
ONE_BY_ONE = replace(MODEL, id="one-by-one", stages=partial(stages, build=one_by_one))


@contextmanager
def known() -> Iterator[None]:
    """Have the models among those of framecast meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models(), "small", MODEL)
        patch.setitem(models(), "tabled", TABLED)
        patch.setitem(models(), "moved", MOVED)
        yield
    samples.forget()
