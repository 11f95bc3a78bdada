"""Attention written by hand: two matrix products of activations with a softmax between them, recognised by the dataflow.

A heuristic. From every softmax the scores are followed back, through arithmetic and copies of the same number of elements, to
the product that made them, and the probabilities forward to the product that takes them to the values. Other things look the
same (attention over channels, a correlation that is used as weights): `corrections:` says so by module path. A block that only
weights positions by a softmax (global context) has one such product, and is not taken for it; nor is a product with a weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from workloads.capture import PROJECTIONS, CapturedCall, CapturedPass
from workloads.kind import ITEMSIZE, Ints, kinds
from workloads.ops.attention import DIMS, ROLES
from workloads.trace import Trace

LABEL = "attention written by hand"  # operator of a call that stands for one
BETWEEN = ("elementwise", "permute")  # scale, mask, cast, dropout; copies
STEPS = 12  # of those on either side of the softmax, at most


@dataclass(frozen=True)
class ByHand:
    """One attention. `calls`: what it is written in, ascending; the last is the product with the values.

    dims: as DIMS of `workloads.ops.attention`. inputs: the tensors q, k, v, and masks.
    """

    calls: tuple[int, ...]
    dims: tuple[int, ...]
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class _Graph:
    """Who made what each call reads, and who reads what it makes; -1: no call of the pass."""

    calls: Sequence[CapturedCall]
    makers: Sequence[tuple[int, ...]]
    readers: Mapping[int, tuple[int, ...]]

    def dims(self, call: int) -> dict[str, int]:
        """By name."""
        found = self.calls[call]
        return dict(zip(kinds()[found.kind].dims, found.dims, strict=True))

    def is_product(self, call: int) -> bool:
        """Of two activations."""
        return call >= 0 and self.calls[call].kind == "gemm" and not self.dims(call)["weight"]

    def elements(self, call: int) -> int:
        """That a pointwise call or a copy writes."""
        d = self.dims(call)
        return d["elements"] if "elements" in d else d["write"] // ITEMSIZE[self.calls[call].dtype]


def found(calls: Sequence[CapturedCall]) -> list[ByHand]:
    """Every attention written by hand, in the order of their softmaxes."""
    softmaxes = [i for i, call in enumerate(calls) if call.kind == "softmax"]
    if not softmaxes:
        return []
    graph = _graph(calls)
    every = (_attention(graph, softmax) for softmax in softmaxes)
    return [attention for attention in every if attention is not None]


def in_trace(trace: Trace) -> list[tuple[int, ByHand]]:
    """The attention that a trace says to be written by hand, each with its segment's index; calls and tensors of the trace."""
    from workloads.formats.rows import calls_of

    roles = dict(trace.by_hand)
    if not roles:
        return []
    calls = calls_of(trace)
    rows = []
    for i, segment in enumerate(trace.segments):
        for attention in found(calls[segment.start : segment.stop]):
            role = roles.get(calls[segment.start + attention.calls[-1]].path)
            if role is not None:
                shifted = tuple(c + segment.start for c in attention.calls)
                rows.append((i, with_role(replace(attention, calls=shifted), role)))
    return rows


def with_role(attention: ByHand, role: str) -> ByHand:
    """The attention with another role of ROLES."""
    at = DIMS.index("role")
    return replace(attention, dims=(*attention.dims[:at], ROLES.index(role), *attention.dims[at + 1 :]))


def fused(passed: CapturedPass, attentions: Sequence[ByHand]) -> CapturedPass:
    """The pass with one attention call in place of what each is written in, where its product with the values was."""
    last = {a.calls[-1]: a for a in attentions}
    inside = {call for a in attentions for call in a.calls}
    kept = [
        _as_attention(call, last[i]) if i in last else call
        for i, call in enumerate(passed.calls)
        if i in last or i not in inside
    ]
    return replace(passed, calls=tuple(kept))


def marked(passed: CapturedPass, attentions: Sequence[ByHand]) -> CapturedPass:
    """The pass with the calls of these attentions counted under attention."""
    inside = {call for a in attentions for call in a.calls}
    return replace(
        passed,
        calls=tuple(replace(c, in_attention=True) if i in inside else c for i, c in enumerate(passed.calls)),
    )


def _as_attention(call: CapturedCall, attention: ByHand) -> CapturedCall:
    return replace(call, kind="attention", label=LABEL, dims=attention.dims, inputs=attention.inputs, in_attention=True)


def _graph(calls: Sequence[CapturedCall]) -> _Graph:
    writer: dict[int, int] = {}
    makers: list[tuple[int, ...]] = []
    readers: dict[int, list[int]] = {}
    for i, call in enumerate(calls):
        mine = tuple(writer.get(tensor, -1) for tensor in call.inputs)
        for maker in mine:
            readers.setdefault(maker, []).append(i)
        makers.append(mine)
        writer.update(dict.fromkeys(call.outputs, i))
    return _Graph(calls, makers, {maker: tuple(dict.fromkeys(mine)) for maker, mine in readers.items()})


def _attention(graph: _Graph, softmax: int) -> ByHand | None:
    """The attention around a softmax, None where there is none."""
    d = graph.dims(softmax)
    scores = d["rows"] * d["cols"]
    before, after = _back(graph, softmax, scores), _forward(graph, softmax, scores)
    if d["cols"] < 2 or before is None or after is None:
        return None
    qk, pv = before[0], after[-1]
    one, two = graph.dims(qk), graph.dims(pv)
    sides = _sides(graph, softmax, pv, one, two, d["cols"])
    if sides is None:
        return None
    q_len, head_dim, values = sides
    q, k = graph.calls[qk].inputs[:2] if one["n"] == d["cols"] else graph.calls[qk].inputs[1::-1]
    inputs = (q, k, graph.calls[pv].inputs[values])
    masks = _masks(graph, (*before, softmax, *after[:-1]), qk)
    heads = _heads(graph, pv, one["batch"], head_dim)
    cross = not (_origin(graph, qk, q) & _origin(graph, qk, k))
    dims = {
        "batch": one["batch"] // heads, "heads": heads, "kv_heads": heads, "q_len": q_len, "kv_len": d["cols"],
        "head_dim": head_dim, "causal": 0, "role": int(cross), "interleaved": 0, "mask": sum(masks.values()),
    }  # fmt: skip
    return ByHand(tuple(sorted({*before, softmax, *after})), tuple(dims[name] for name in DIMS), (*inputs, *masks))


def _back(graph: _Graph, softmax: int, scores: int) -> tuple[int, ...] | None:
    """The product that the scores come from and what is between it and the softmax, in order."""
    at = softmax
    between: list[int] = []
    for _ in range(STEPS):
        products = [m for m in graph.makers[at] if graph.is_product(m) and _size(graph, m) == scores]
        if products:
            return (products[0], *reversed(between))
        steps = [m for m in graph.makers[at] if m >= 0 and _is_step(graph, m, scores)]
        if not steps:
            return None
        at = steps[0]
        between.append(at)
    return None


def _forward(graph: _Graph, softmax: int, scores: int) -> tuple[int, ...] | None:
    """What is between the softmax and the product that takes the probabilities to the values, and that product."""
    at = softmax
    between: list[int] = []
    for _ in range(STEPS):
        readers = graph.readers.get(at, ())
        products = [r for r in readers if graph.is_product(r)]
        if products:
            return (*between, products[0])
        steps = [r for r in readers if _is_step(graph, r, scores)]
        if not steps:
            return None
        at = steps[0]
        between.append(at)
    return None


def _is_step(graph: _Graph, call: int, scores: int) -> bool:
    return graph.calls[call].kind in BETWEEN and graph.elements(call) == scores


def _size(graph: _Graph, product: int) -> int:
    d = graph.dims(product)
    return d["batch"] * d["m"] * d["n"]


def _sides(
    graph: _Graph, softmax: int, pv: int, one: Mapping[str, int], two: Mapping[str, int], cols: int
) -> tuple[int, int, int] | None:
    """(q_len, head_dim, which operand of the second product the values are); None where the products do not fit together.

    Both may be written transposed: the scores as k q^T, the output as v^T p^T.
    """
    if cols not in (one["n"], one["m"]) or two["k"] != cols or two["batch"] != one["batch"]:
        return None
    q_len = one["m"] if one["n"] == cols else one["n"]
    if len(graph.calls[pv].inputs) < 2:
        return None
    probabilities_first = _leads(graph, softmax, graph.makers[pv][0])
    rows, head_dim = (two["m"], two["n"]) if probabilities_first else (two["n"], two["m"])
    return (q_len, head_dim, int(probabilities_first)) if rows == q_len and head_dim == one["k"] else None


def _leads(graph: _Graph, softmax: int, call: int) -> bool:
    """Whether a call is the softmax, or what was made from its probabilities step by step."""
    for _ in range(STEPS):
        if call == softmax:
            return True
        if call < 0 or graph.calls[call].kind not in BETWEEN:
            return False
        call = max(graph.makers[call], default=-1)
    return False


def _masks(graph: _Graph, calls: Sequence[int], qk: int) -> dict[int, int]:
    """Tensors beside the scores that the arithmetic between the products reads, with their bytes (each once)."""
    found: dict[int, int] = {}
    for call in calls:
        captured = graph.calls[call]
        if call == qk and graph.dims(qk)["bias"] and len(captured.inputs) > 2:
            found[captured.inputs[2]] = ITEMSIZE[captured.dtype] * graph.dims(qk)["n"]
        if captured.kind != "elementwise":
            continue
        d = graph.dims(call)
        sizes = (d["read0"], d["read1"], d["read2"])
        for tensor, maker, size in zip(captured.inputs, graph.makers[call], sizes, strict=False):
            if maker not in calls and size > ITEMSIZE["int64"]:
                found[tensor] = size
    return found


def _heads(graph: _Graph, pv: int, batch: int, head_dim: int) -> int:
    """Heads, from the width of the layer that the output goes to; 1 where it goes to none."""
    at, size = pv, _size(graph, pv)
    for _ in range(STEPS):
        readers = graph.readers.get(at, ())
        for reader in readers:
            if graph.calls[reader].kind == "gemm" and graph.dims(reader)["weight"]:
                heads, rest = divmod(graph.dims(reader)["k"], head_dim)
                return heads if not rest and heads and batch % heads == 0 else 1
        steps = [r for r in readers if _is_step(graph, r, size)]
        if not steps:
            return 1
        at = steps[0]
    return 1


def _origin(graph: _Graph, call: int, tensor: int) -> frozenset[tuple[int, int]]:
    """Activation inputs (tensor, maker) of the projections behind a tensor that a call reads; itself where there are none."""
    start = graph.makers[call][graph.calls[call].inputs.index(tensor)]
    found: set[tuple[int, int]] = set()
    todo, seen = [start], set()
    while todo:
        at = todo.pop()
        if at < 0 or at in seen:
            continue
        seen.add(at)
        maker = graph.calls[at]
        if maker.kind in PROJECTIONS:
            found.add((maker.inputs[0], graph.makers[at][0]))
        else:
            todo.extend(graph.makers[at])
    return frozenset(found or {(tensor, start)})


def attention_calls(trace: Trace) -> tuple[Ints, Ints]:
    """Every attention of a trace: its call (of one written by hand the last), ascending, and its dims (attentions, DIMS)."""
    ops = trace.ops_of("attention")
    calls = np.flatnonzero(np.isin(trace.call_op, ops))
    dims = trace.op_dims[trace.call_op[calls]][:, : len(DIMS)] if len(calls) else np.zeros((0, len(DIMS)), np.int64)
    hand = [attention for _, attention in in_trace(trace)]
    if not hand:
        return calls, dims
    calls = np.concatenate([calls, [a.calls[-1] for a in hand]])
    order = np.argsort(calls)
    return calls[order], np.concatenate([dims, [a.dims for a in hand]])[order]


def said(passed: CapturedPass, attentions: Sequence[ByHand], as_one: bool) -> Iterator[str]:
    """What there is to say of them, a line or none."""
    paths = list(dict.fromkeys(passed.calls[a.calls[-1]].path for a in attentions))
    if not paths:
        return
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    at = [DIMS.index(name) for name in ("q_len", "kv_len")]
    q_len, kv_len = max(((a.dims[at[0]], a.dims[at[1]]) for a in attentions), key=prod)
    how = "priced as attention calls" if as_one else "priced as the kernels that it is written in"
    other = "" if as_one else "by_hand: fused prices attention calls, and "
    yield (
        f"{paths[0]}{more}: attention written by hand, by its dataflow ({len(attentions)} a pass, up to {q_len} x {kv_len} "
        f"scores); {how}; {other}a correction to none says that it is no attention"
    )
