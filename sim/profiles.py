"""What a result looks like over time: HBM use and sequence length over one denoising step, memory over one inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.result import Result, call_class
from workloads.kind import Ints
from workloads.ops.attention import ROLES

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class StepProfile:
    """One run of what repeats: columns of shape (calls,), in program order, on the device alone (no host, no gaps).

    Attributes:
        name: what is shown, for a title. start, end: seconds. hbm_rate: B/s of each call.
        report_class: index into REPORT_CLASSES of each call.
        attention: calls that are attention; role, q_len, kv_len: of each of those.
    """

    name: str
    start: Floats
    end: Floats
    hbm_rate: Floats
    report_class: Ints
    attention: Ints
    role: Ints
    q_len: Ints
    kv_len: Ints

    @property
    def roles(self) -> list[str]:
        """Roles that occur."""
        return [ROLES[i] for i in np.unique(self.role)]


@dataclass(frozen=True)
class MemoryProfile:
    """One run of every component, one after the other: (calls,) columns, and (name, repeats, start, end) of each component."""

    start: Floats
    end: Floats
    used: Floats
    weights: float
    components: tuple[tuple[str, int, float, float], ...]


def step_profile(result: Result) -> StepProfile:
    """One denoising step, or one of its runs where it has two; without steps, one run of the component that takes longest."""
    trace = result.trace
    one_step = 0 < len(result.denoising) == len(set(result.denoising))
    shown = result.denoising or (_longest(result),)
    first, last = trace.segments[shown[0]], trace.segments[shown[-1]]
    calls = np.arange(first.start, last.stop)
    cost = result.priced.cost
    time, hbm = cost.per_call(cost.time)[calls], cost.per_call(cost.hbm_bytes)[calls]
    end = np.cumsum(time)
    attention = np.flatnonzero(trace.call_kind()[calls] == _attention_kind(result))
    dims = trace.dims("attention", trace.call_op[calls[attention]]) if len(attention) else None
    none = np.zeros(0, np.int64)
    return StepProfile(
        name="one denoising step" if one_step else f"one run of {first.name}",
        start=end - time,
        end=end,
        hbm_rate=np.divide(hbm, time, out=np.zeros_like(time), where=time > 0),
        report_class=call_class(trace)[calls],
        attention=attention,
        role=dims.role if dims else none,
        q_len=dims.q_len if dims else none,
        kv_len=dims.kv_len if dims else none,
    )


def memory_profile(result: Result) -> MemoryProfile:
    """Bytes in use during each call, one run of every component."""
    cost = result.priced.cost
    time = cost.per_call(cost.time)
    end = np.cumsum(time)
    start = end - time
    components = tuple(
        (s.name, s.repeats, float(start[s.start]), float(end[s.stop - 1]))
        for s in result.trace.segments
        if s.stop > s.start
    )
    return MemoryProfile(start, end, result.memory.profile, result.memory.weights, components)


def _longest(result: Result) -> int:
    return int(np.argmax([t.time for t in result.by_component().values()]))


def _attention_kind(result: Result) -> int:
    kinds = result.trace.kinds
    return kinds.index("attention") if "attention" in kinds else -1
