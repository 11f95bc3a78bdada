"""One pass of a user's module: on the meta device; else with fake tensors; else, small or asked for, for real on the CPU.

Whatever way was taken beside the first, and whatever was answered in place of a tensor's values, is named in the pass.
torch is imported when called.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import prod
from typing import Any

from hwspecs.errors import INSTALL, SpecError
from workloads.capture import CapturedPass, NeedsValuesError, capture
from workloads.capture_inputs import TensorSpec
from workloads.capture_source import BuildError, Inputs, said
from workloads.dtypes import torch_dtype
from workloads.kept import ALL, INDEX, ITEM, NONZERO
from workloads.kind import ITEMSIZE

SMALL = 64 * 2**20  # bytes of weights and inputs up to which a real run needs no asking: well under a second
SHARE = 0.5  # of the memory that is free, for all tensors of a real run; the rest is torch's and the system's own
FAKE_NOTE = "captured with fake tensors, since on the meta device {why}"
REAL_NOTE = "captured in a real run on the CPU (inputs: random normal numbers, integers 0, booleans true), since {why}"


class CopyError(BuildError):
    """A module cannot be copied with other tensors in the place of its own."""


@dataclass(frozen=True)
class Example:
    """A module to run: `build` makes it and its inputs (tensors, or TensorSpecs) on torch's default device.

    Attributes:
        name: goes before the module paths.
        build: raises SpecError for what no other device would change, BuildError for anything else.
        assume: see `workloads.kept.assumed`.
        real: whether a real run may be as large as memory allows.
    """

    name: str
    build: Callable[[], tuple[Any, Inputs]]
    assume: Mapping[str, Any]
    real: bool = False


def run(example: Example) -> CapturedPass:
    """The pass. SpecError says in one line where a module cannot be captured, and what to do."""
    if find_spec("torch") is None:
        raise SpecError(f"{example.name}: to capture it needs torch: {INSTALL}")
    sizes: list[int] = []
    first = _tried(example, "meta", sizes)
    if isinstance(first, CapturedPass):
        return first
    second = _tried(example, "fake", sizes)
    if isinstance(second, CapturedPass):
        return _noted(second, example, FAKE_NOTE.format(why=_short(first, example)))
    if _same(first, second):
        raise SpecError(_where(first, example))
    size, most = max(sizes, default=None), _free()
    cause = first if isinstance(first, NeedsValuesError) else second
    if (size is None and not example.real) or (size or 0) > (most if example.real else SMALL):
        raise SpecError(_refused(cause, example, size, most))
    third = _tried(example, "real", sizes, int(most))
    if isinstance(third, CapturedPass):
        return _noted(third, example, REAL_NOTE.format(why=_short(cause, example)))
    raise SpecError(_where(third, example))


def _tried(example: Example, way: str, sizes: list[int], limit: int | None = None) -> CapturedPass | BaseException:
    """The pass that one way gives, or why there is none; the bytes of weights and inputs are added to `sizes`."""
    try:
        with _setting(way) as convert:
            made = example.build()
            sizes.append(_bytes(*made))
            module, (args, kwargs) = _moved(made, convert)
            with _as_it_was(module):
                return capture(module, args, kwargs, path=example.name, assume=example.assume, limit=limit)
    except (NeedsValuesError, BuildError) as error:
        return error
    except SpecError as error:
        if all(problem.startswith("stages.") for problem in error.problems):
            raise
        raise SpecError(_where(error, example)) from None
    except (Exception, SystemExit) as error:  # whatever a user's forward does
        return error


@contextmanager
def _setting(way: str) -> Iterator[Callable[[Any], Any]]:
    """torch set up for one way; yields what turns a tensor or a TensorSpec into one of that way."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        if way == "meta":
            stack.enter_context(torch.device("meta"))
        elif way == "fake":
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        else:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(0)

        def convert(x: Any) -> Any:
            if isinstance(x, TensorSpec):
                x = torch.empty(x.shape, dtype=torch_dtype(x.dtype), device="meta")
            if way == "meta":
                return x if x.is_meta else x.to("meta")
            if way == "fake":
                known = isinstance(x, FakeTensor) and not x.is_meta
                return x if known else torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cpu")
            return _values(x) if x.is_meta else x

        stack.enter_context(_autocast(way))
        torch.backends.mha.set_fastpath_enabled(False)  # one operator for a whole layer, which only some devices have
        try:
            yield convert
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _autocast(way: str) -> Iterator[None]:
    """Mixed precision by the CPU's lists of operators, for `cuda` too; the meta device has none, so it is refused there.

    Where torch has no CUDA, its own autocast for CUDA would switch itself off and leave every product in fp32.
    """
    import torch

    cls = torch.amp.autocast_mode.autocast
    original = cls.__init__

    def init(self: Any, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> None:
        if enabled and way == "meta":
            raise RuntimeError("torch.autocast has no effect on the meta device")
        if device_type == "cuda":
            device_type, dtype = "cpu", dtype or torch.get_autocast_dtype("cuda")
        original(self, device_type, dtype, enabled, cache_enabled)

    cls.__init__ = init
    try:
        yield
    finally:
        cls.__init__ = original


def _values(x: Any) -> Any:
    """A tensor on the CPU as REAL_NOTE says, of the shape, strides and dtype of another."""
    import torch

    made = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cpu")
    if x.dtype.is_floating_point:
        return made.normal_() if made.element_size() > 1 else made.copy_(torch.randn(x.shape))
    return made.fill_(x.dtype == torch.bool)


def _moved(made: tuple[Any, Inputs], convert: Callable[[Any], Any]) -> tuple[Any, Inputs]:
    """A module and its inputs with every tensor converted; the module itself is left as it is and copied where need be."""
    import torch
    from torch.utils._pytree import tree_map

    module, inputs = made
    args, kwargs = tree_map(lambda x: convert(x) if isinstance(x, torch.Tensor | TensorSpec) else x, inputs)
    if isinstance(module, torch.jit.ScriptModule):
        raise SpecError("a TorchScript module hides its operators; capture the nn.Module that it was made of")
    if not isinstance(module, torch.nn.Module):
        return module, (args, kwargs)
    memo: dict[int, Any] = {}
    changed = False
    for tensor in _held(module):
        with torch.no_grad():
            new = convert(tensor.detach())
        if new is not tensor and new.untyped_storage()._cdata != tensor.untyped_storage()._cdata:
            changed = True
        else:
            new = tensor
        same = not isinstance(tensor, torch.nn.Parameter) or isinstance(new, torch.nn.Parameter)
        memo[id(tensor)] = new if same else torch.nn.Parameter(new, requires_grad=False)
    try:
        return (copy.deepcopy(module, memo) if changed else module), (args, kwargs)
    except Exception as error:  # a lock, an open file
        way_out = "capture a function that builds it instead"
        raise CopyError(f"the module cannot be copied without its values ({said(error)}); {way_out}") from None


def _held(module: Any) -> Iterator[Any]:
    """Every tensor that a module holds: parameters, buffers, and those that are plain attributes."""
    import torch

    yield from module.parameters()
    yield from module.buffers()
    for child in module.modules():
        yield from (value for value in vars(child).values() if isinstance(value, torch.Tensor))


@contextmanager
def _as_it_was(module: Any) -> Iterator[None]:
    """Whether each part of a module trains is put back at the end."""
    import torch

    parts = {part: part.training for part in module.modules()} if isinstance(module, torch.nn.Module) else {}
    try:
        yield
    finally:
        for part, training in parts.items():
            part.training = training


def _bytes(module: Any, inputs: Any) -> int:
    """Of weights and inputs."""
    import torch
    from torch.nn.parameter import is_lazy
    from torch.utils._pytree import tree_leaves

    leaves = tree_leaves(inputs)
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    if isinstance(module, torch.nn.Module):
        tensors += [t for t in (*module.parameters(), *module.buffers()) if not is_lazy(t)]
    typed = sum(prod(x.shape) * ITEMSIZE[x.dtype] for x in leaves if isinstance(x, TensorSpec))
    return typed + sum(int(t.numel() * t.element_size()) for t in tensors)


def _free() -> float:
    """Bytes that all tensors of a real run may have together."""
    try:
        return SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # macOS does not count free pages
        return SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _where(error: BaseException, example: Example) -> str:
    """An error of a module in one line, with the path of the innermost module that raised it, and what to do."""
    if isinstance(error, NeedsValuesError):
        return said(error) + _answer(error.operator)
    if isinstance(error, SpecError):
        return said(error) if said(error).startswith("stages.") else f"{example.name}: {said(error)}"
    place = next(iter(getattr(error, "__notes__", ())), example.name)
    return f"{place}: the module raises {said(error)}"


def _answer(operator: str) -> str:
    answers = {NONZERO: f"{NONZERO}: {ALL}", INDEX: f"{NONZERO}: {ALL}", ITEM: f"{ITEM}: a number, true or false"}
    return f"; or answer it (assume: {{{answers[operator]}}})" if operator in answers else ""


def _short(error: BaseException, example: Example) -> str:
    """Why a way failed, for a note."""
    if isinstance(error, NeedsValuesError):
        return f"{error.path}: {error.operator} asks for a tensor's values or has no kernel"
    return _where(error, example)


def _same(one: BaseException, other: BaseException) -> bool:
    """The module's own error, which no other way to run it would change."""
    return not isinstance(one, NeedsValuesError | CopyError) and said(one) == said(other)


def _refused(cause: BaseException, example: Example, size: int | None, most: float) -> str:
    """Why there was no real run; size None: not known, since the module was never made."""
    held = "of unknown size" if size is None else f"{size / 1e6:,.3g} MB of weights and inputs"
    if example.real:
        why = f"a real run is refused: {held}, of {most / 1e6:,.3g} MB that it may have"
        return f"{_where(cause, example)}; {why}; make the config or the dimensions smaller"
    why = f"a real run on the CPU ({held}) was not tried; ask for it with --real or `real: true`"
    return f"{_where(cause, example)}; {why}"


def _noted(found: CapturedPass, example: Example, note: str) -> CapturedPass:
    return replace(found, assumed=(f"{example.name}: {note}", *found.assumed))
