"""A torch module, run once on the meta device -> the operators that would launch kernels. torch is imported when called.

A dispatch mode sees every operator; a function mode above it keeps attention and RMS norm as one operator each, which
the dispatcher would decompose; hooks on the modules tell the path. Views launch nothing and are left out.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from hwspecs.errors import SpecError
from workloads.aten import ANYTHING, POINTWISE, AtenCall, Rule
from workloads.dtypes import dtype_name
from workloads.kept import assumed, whole
from workloads.kind import kinds
from workloads.trace import Segment, Trace

# Operators whose CUDA kernels take contiguous inputs: torch copies any other first (`expect_contiguous`), unseen on meta.
CONTIGUOUS = ("aten.native_layer_norm", "aten._fused_rms_norm", "aten.native_group_norm", "aten._softmax")
UNPRICED = "traffic"  # the kind of every operator that no cost model knows
PROJECTIONS = ("gemm", "conv")  # kinds at which the walk back from an attention's q and k ends
UNSUPPORTED = ("UnsupportedOperatorException", "DynamicOutputShapeException")  # of torch's fake tensors
_CONTAINER = re.compile("Transformer|Processor|Layer|Encoder|Decoder|UNet|(Down|Up|Mid)Block")


class NeedsValuesError(SpecError):
    """An operator asks for what a tensor without values does not have: `path` of the module, `operator`."""

    def __init__(self, path: str, operator: str, kernel: bool = False) -> None:
        self.path, self.operator = path, operator
        place = f"{path}: " if path else ""
        what = (
            "has no kernel for tensors without values; register one (torch.library.register_fake), or replace that module"
            if kernel
            else "needs the values of a tensor, which a capture on the meta device does not have; "
            "pass an argument that avoids it (for a mask: None), or replace that module"
        )
        super().__init__(f"{place}the operator {operator} {what}")


@dataclass(frozen=True)
class CapturedCall:
    """One operator: its kind, dtype and dims (in the order of OpKind.dims), where it ran, and the tensor ids it touches."""

    kind: str
    dtype: str
    dims: tuple[int, ...]
    label: str
    path: str
    in_attention: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class CapturedPass:
    """One run of a module. Tensor ids index `tensor_bytes` (of the storage) and `tensor_is_weight` (parameter or buffer).

    `module_inputs` are the ids that the caller passed in. `parameters` and `weight_bytes` count shared parameters once and
    leave buffers out. `assumed` says, a line each, what was answered in place of a tensor's values.
    `unpriced_flops`: of operators without a cost model (kind `traffic`), by name, where torch has a formula for them.
    """

    calls: tuple[CapturedCall, ...]
    tensor_bytes: tuple[int, ...]
    tensor_is_weight: tuple[bool, ...]
    module_inputs: tuple[int, ...]
    parameters: int
    weight_bytes: int
    assumed: tuple[str, ...] = ()
    unpriced_flops: Mapping[str, int] = field(default_factory=dict)


def capture(
    module: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    path: str = "",
    assume: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> CapturedPass:
    """Run a module (or any callable) on tensors without values (or, with a limit, with them) and record its operators.

    Args:
        module: an nn.Module whose parameters are on the meta device; it is put into eval mode.
        args, kwargs: what it is called with; tensors on the meta device.
        path: goes before the module paths: 'unet' gives 'unet.down_blocks.0.resnets.0.conv1'.
        assume: answers to operators that need a tensor's values; see `workloads.kept.assumed`.
        limit: bytes that all tensors of a run with real values may have together; None: there are no values.

    Raises:
        NeedsValuesError: an operator needs the values of a tensor, or cannot run on the meta device.
        SpecError: the limit is passed.

    Any other error of the module has a note (`__notes__`) with the path of the innermost module that raised it.
    """
    import torch

    recorder = Recorder(path, limit)
    is_module = isinstance(module, torch.nn.Module)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if is_module:
            stack.enter_context(_paths(module.eval(), path, recorder))  # type: ignore[attr-defined]
            for tensor in (*module.parameters(), *module.buffers()):  # type: ignore[attr-defined]
                recorder.weights.add(_key(tensor))
        inputs = tuple(recorder.id_of(t) for t in _tensors((args, kwargs or {})))
        stack.enter_context(whole(recorder.add, recorder.paused if limit is not None else None))
        answered = stack.enter_context(assumed(assume or {}))
        stack.enter_context(_dispatch_mode(recorder))
        module(*args, **(kwargs or {}))
    parameters = list(module.parameters()) if is_module else []  # type: ignore[attr-defined]
    return CapturedPass(
        calls=tuple(recorder.calls),
        tensor_bytes=tuple(int(s.nbytes()) for s in recorder.storages),
        tensor_is_weight=tuple(s._cdata in recorder.weights for s in recorder.storages),
        module_inputs=inputs,
        parameters=sum(p.numel() for p in parameters),
        weight_bytes=sum(p.numel() * p.element_size() for p in parameters),
        assumed=tuple(
            f"{path}: {name} taken as {(assume or {})[name]}, {n} times" for name, n in Counter(answered).items()
        ),
        unpriced_flops=dict(recorder.unpriced),
    )


def assemble(
    model: str,
    request: Mapping[str, Any],
    passes: Sequence[tuple[str, str, int, CapturedPass]],
    notes: Sequence[str] = (),
) -> Trace:
    """Passes (segment name, name of the module that owns the weights, repeats, what was captured) -> a Trace.

    Operators that agree in kind, dtype, dims and label share a row. Tensor ids of different passes are distinct.
    """
    calls = [call for *_, p in passes for call in p.calls]
    names = {
        "kinds": _index(c.kind for c in calls), "dtypes": _index(c.dtype for c in calls),
        "labels": _index(c.label for c in calls), "paths": _index(c.path for c in calls),
    }  # fmt: skip
    ops = _index((c.kind, c.dtype, c.dims, c.label) for c in calls)
    widest = max((len(dims) for _, _, dims, _ in ops), default=0)
    starts = np.cumsum([0, *(len(p.calls) for *_, p in passes)])
    shifts = np.repeat(np.cumsum([0, *(len(p.tensor_bytes) for *_, p in passes)])[:-1], np.diff(starts))
    inputs, input_offsets = _csr([c.inputs for c in calls], shifts)
    outputs, output_offsets = _csr([c.outputs for c in calls], shifts)
    return Trace(
        model=model,
        request=request,
        **{name: tuple(values) for name, values in names.items()},
        op_kind=_ints(names["kinds"][kind] for kind, *_ in ops),
        op_dtype=_ints(names["dtypes"][dtype] for _, dtype, *_ in ops),
        op_dims=np.array([dims + (0,) * (widest - len(dims)) for _, _, dims, _ in ops], np.int64).reshape(
            len(ops), widest
        ),
        op_label=_ints(names["labels"][label] for *_, label in ops),
        call_op=_ints(ops[c.kind, c.dtype, c.dims, c.label] for c in calls),
        call_path=_ints(names["paths"][c.path] for c in calls),
        call_in_attention=np.array([c.in_attention for c in calls], dtype=np.bool_),
        input_offsets=input_offsets,
        input_ids=inputs,
        output_offsets=output_offsets,
        output_ids=outputs,
        tensor_bytes=_ints(b for *_, p in passes for b in p.tensor_bytes),
        tensor_is_weight=np.array([w for *_, p in passes for w in p.tensor_is_weight], dtype=np.bool_),
        segments=tuple(
            Segment(name, module, int(start), int(stop), repeats, p.parameters, p.weight_bytes)
            for (name, module, repeats, p), start, stop in zip(passes, starts, starts[1:], strict=False)
        ),
        notes=tuple(notes),
        unpriced_flops=tuple(
            (name, label, flops) for name, *_, p in passes for label, flops in p.unpriced_flops.items()
        ),
    )


def _index(values: Iterator[Any]) -> dict[Any, int]:
    """Distinct values in order of appearance -> position."""
    return {value: i for i, value in enumerate(dict.fromkeys(values))}


def _ints(values: Iterator[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.fromiter(values, dtype=np.int64)


def _csr(rows: list[tuple[int, ...]], shifts: Any) -> tuple[Any, Any]:
    """Lists of ids, each shifted, as (ids, offsets)."""
    ids = _ints(i + int(shift) for row, shift in zip(rows, shifts, strict=True) for i in row)
    return ids, np.cumsum([0, *map(len, rows)], dtype=np.int64)


@cache
def _rules() -> dict[str, tuple[tuple[str, Rule], ...]]:
    """aten name -> the (kind, rule) that may take it, in the order of the kinds."""
    found: dict[str, tuple[tuple[str, Rule], ...]] = {}
    for kind in kinds().values():
        for name, rule in kind.capture.items():
            found[name] = (*found.get(name, ()), (kind.name, rule))
    return found


def _match(call: AtenCall, pointwise: bool) -> tuple[str, Mapping[str, int], tuple[Any, ...]]:
    """(kind, dims, tensors read) by the first rule that takes the operator."""
    rules = _rules()
    for kind, rule in (*rules.get(call.name, ()), *(rules[POINTWISE] if pointwise else ()), *rules[ANYTHING]):
        taken = rule(call)
        if taken is not None:
            return kind, *taken
    raise AssertionError(f"no rule for {call.name}")


def _key(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> Iterator[Any]:
    """Tensors in nested lists, tuples and mappings."""
    if hasattr(value, "untyped_storage"):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


class Recorder:
    """What has been recorded so far. A tensor's id is that of its storage; storages are kept, so that none is reused."""

    def __init__(self, path: str, limit: int | None = None) -> None:
        self.limit, self.bytes, self.recording = limit, 0, True
        self.calls: list[CapturedCall] = []
        self.unpriced: Counter[str] = Counter()  # FLOPs by name
        self.storages: list[Any] = []
        self.weights: set[int] = set()
        self.stack: list[tuple[str, bool]] = [(path, False)]
        self._ids: dict[int, int] = {}
        self._writer: dict[int, int] = {}  # tensor id -> latest call that wrote it
        self._sources: list[list[tuple[int, int]]] = []  # call -> its activation inputs (id, call that wrote it or -1)

    def id_of(self, tensor: Any) -> int:
        """The id of a tensor's storage."""
        key = _key(tensor)
        if key not in self._ids:
            self._ids[key] = len(self.storages)
            self.storages.append(tensor.untyped_storage())
            self.bytes += int(tensor.untyped_storage().nbytes())
            if self.limit is not None and self.bytes > self.limit:
                raise SpecError(f"its tensors pass {self.limit / 1e6:,.3g} MB; ask for smaller dimensions")
        return self._ids[key]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is recorded inside."""
        before, self.recording = self.recording, False
        try:
            yield
        finally:
            self.recording = before

    def is_weight(self, tensor: Any) -> bool:
        """A view of a parameter or buffer."""
        return _key(tensor) in self.weights

    def origin(self, tensor: Any) -> frozenset[int]:
        """Activation inputs of the projections behind a tensor; the tensor itself where it comes from none."""
        start = self.id_of(tensor)
        found: set[int] = set()
        todo, seen = [self._writer.get(start, -1)], set()
        while todo:
            call = todo.pop()
            if call < 0 or call in seen:
                continue
            seen.add(call)
            if self.calls[call].kind in PROJECTIONS:
                found.update(self._uncopied(*source) for source in self._sources[call])
            else:
                todo.extend(writer for _, writer in self._sources[call])
        return frozenset(found or {start})

    def _uncopied(self, tensor: int, writer: int) -> int:
        """What a tensor is a copy of (each of several projections copies an input that is not contiguous), or itself."""
        while writer >= 0 and self.calls[writer].kind == "permute" and len(self._sources[writer]) == 1:
            ((tensor, writer),) = self._sources[writer]
        return tensor

    def add(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any, pointwise: bool) -> None:
        """Append an operator, after the copy that its kernel needs of an input that is not contiguous."""
        if name in CONTIGUOUS and not args[0].is_contiguous():
            copy = args[0].new_empty(args[0].shape)
            self.add("aten.clone", (args[0],), {}, copy, pointwise=False)
            args = (copy, *args[1:])
        call = AtenCall(name, args, kwargs, out, self.is_weight, self.origin)
        kind, dims, read = _match(call, pointwise)
        read = tuple(sorted(read, key=self.is_weight))
        path, _ = self.stack[-1]
        inputs = tuple(self.id_of(t) for t in read)
        outputs = tuple(dict.fromkeys(self.id_of(t) for t in call.results))
        self._sources.append(
            [(i, self._writer.get(i, -1)) for i, t in zip(inputs, read, strict=True) if not self.is_weight(t)]
        )
        self._writer.update(dict.fromkeys(outputs, len(self.calls)))
        floating = [t.dtype for t in (*read, *call.results) if t.dtype.is_floating_point]
        dtype = dtype_name(floating[0] if floating else call.results[0].dtype)
        values = tuple(int(dims[d]) for d in kinds()[kind].dims)
        in_attention = any(attention for _, attention in self.stack)
        self.calls.append(CapturedCall(kind, dtype, values, name, path, in_attention, inputs, outputs))


def launches(func: Any, args: Any, kwargs: Any, out: Any) -> bool:
    """Whether an operator writes memory: not a view, an allocation, or a question about a tensor."""
    results = [t for t in _tensors([out]) if t.numel()]
    if not results or re.match(r"aten\.(new_)?empty", str(func)):
        return False
    seen = {_key(t) for t in _tensors((args, kwargs))}
    return func._schema.is_mutable or any(_key(t) not in seen for t in results)


def is_attention(name: str) -> bool:
    """Whether a module of this class is attention itself, and not a container of it."""
    return "Attention" in name and not _CONTAINER.search(name)


def _enter(stack: list[tuple[str, bool]], entry: tuple[str, bool], *_: Any) -> None:
    stack.append(entry)


@contextmanager
def _paths(module: Any, path: str, recorder: Recorder) -> Iterator[None]:
    """Keep recorder.stack at the module that runs."""

    def leave(*_: Any) -> None:
        here, _attention = recorder.stack.pop()
        error = sys.exc_info()[1]
        if error is not None and not getattr(error, "__notes__", None):
            error.add_note(here)

    handles = []
    for name, child in module.named_modules():
        entry = (".".join(p for p in (path, name) if p), is_attention(type(child).__name__))
        enter = partial(_enter, recorder.stack, entry)
        handles.append(child.register_forward_pre_hook(enter))
        handles.append(child.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _dispatch_mode(recorder: Recorder) -> Any:
    """The mode that feeds a recorder every operator that reaches the dispatcher."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    value_dependent = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)

    class Dispatch(TorchDispatchMode):  # type: ignore[misc]
        """Records every operator that writes memory."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if not recorder.recording:
                return func(*args, **kwargs)
            for tensor in _tensors((args, kwargs)):
                if isinstance(tensor, torch.nn.Parameter):
                    recorder.weights.add(_key(tensor))
            name = str(func.overloadpacket)
            try:
                out = func(*args, **kwargs)
            except (RuntimeError, NotImplementedError) as error:
                if any(tag in func.tags for tag in value_dependent) or "no data" in str(error):
                    raise NeedsValuesError(recorder.stack[-1][0], name) from None
                if isinstance(error, NotImplementedError) or type(error).__name__ in UNSUPPORTED:
                    raise NeedsValuesError(recorder.stack[-1][0], name, kernel=True) from None
                raise
            if launches(func, args, kwargs, out):
                recorder.add(name, args, kwargs, out, torch.Tag.pointwise in func.tags)
                if recorder.calls[-1].kind == UNPRICED and func.overloadpacket in flop_registry:
                    recorder.unpriced[name] += int(flop_registry[func.overloadpacket](*args, **kwargs, out_val=out))
            return out

    return Dispatch()
