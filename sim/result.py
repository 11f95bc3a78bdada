"""Result: what a run found, its breakdowns, and the JSON that other programs read (keys: docs/json.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim import energy as energies
from sim.cost import BOUNDS, Cost
from sim.memory import Memory
from sim.scenario import Scenario
from sim.timeline import Timeline
from workloads.by_hand import attention_calls
from workloads.fields import images_of
from workloads.kind import REPORT_CLASSES, Ints, kinds
from workloads.model import shown_frames
from workloads.ops.attention import DIMS, ROLES
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
WORTH_NAMING = 0.01  # share of the latency from which a component that the host paces is named
SCHEMA_VERSION = 1  # of the JSON; raised when a key changes its meaning or goes away


@dataclass(frozen=True)
class Priced:
    """A trace under one software on one device: what each kernel costs, and how long the whole takes.

    host: (calls,) seconds of the host to issue one run of each call. makespan: () seconds of one inference.
    On a stack of designs both have the designs axis first; a Result holds one device.
    """

    cost: Cost
    host: Floats
    makespan: Floats

    @property
    def latency(self) -> float:
        """Seconds of one inference on one device."""
        return float(self.makespan)

    def runs(self, call_repeats: Ints) -> Floats:
        """How often each kernel row runs in one inference, (kernels,); 0 for ways that were not chosen."""
        kernels = self.cost.kernels
        per_row = np.bincount(kernels.call_row, call_repeats, kernels.rows)
        return np.asarray(per_row[kernels.row] * self.cost.chosen)


@dataclass(frozen=True)
class Totals:
    """Sums over calls and their repeats: counts, seconds of GPU kernel time, matrix FLOPs, bytes."""

    calls: int
    time: float
    flops: int
    hbm_bytes: float


@dataclass(frozen=True)
class Correction:
    """Name of the fit whose learned correction is in the times, or why there is none; one of both is ''."""

    fit: str
    why_none: str


@dataclass(frozen=True)
class Result:
    """One scenario, replayed.

    Attributes:
        priced: the trace under the scenario's own software.
        attention: the same with attention unfused, and with flash-2.
        denoising: indices of the segments that make one denoising step, as often as they run; () for a model without steps.
        command: what was typed, '' in a program.
        correction: the learned one, of the calibrated level.
    """

    scenario: Scenario
    trace: Trace
    priced: Priced
    attention: Mapping[str, Priced]
    timeline: Timeline
    memory: Memory
    denoising: tuple[int, ...] = ()
    command: str = ""
    correction: Correction = Correction("", "")

    @property
    def latency(self) -> float:
        """Seconds of one inference, host included."""
        return self.priced.latency

    @property
    def gpu_time(self) -> float:
        """Seconds of GPU kernel time of one inference; what classes and components are shares of."""
        return self.total().time

    @property
    def gap_time(self) -> float:
        """Seconds that the device idles between dependent kernels of one inference."""
        return float(self.trace.call_repeats() @ self.priced.cost.per_call(self.priced.cost.gap))

    def host_bound(self) -> float:
        """Share of the latency in which the device waits for the host."""
        return max(0.0, 1 - (self.gpu_time + self.gap_time) / self.latency)

    def host_paced(self) -> tuple[str, ...]:
        """Components in which the host needs longer to launch the calls than the device to run them, in program order; those that
        take WORTH_NAMING of the latency and more."""
        device = self.priced.cost.per_call(self.priced.cost.time + self.priced.cost.gap)
        spans = [(s.name, slice(s.start, s.stop)) for s in self.trace.segments]
        host, least = self.priced.host * self.trace.call_repeats(), WORTH_NAMING * self.latency
        paced = (
            n for n, span in spans if self.priced.host[span].sum() > device[span].sum() and host[span].sum() >= least
        )
        return tuple(paced)

    def attention_ways(self) -> dict[str, int]:
        """How many attention calls of one inference run in each way, in descending order; {} where there are none."""
        kernels, kinds_ = self.priced.cost.kernels, self.trace.kinds
        if "attention" not in kinds_:
            return {}
        way_of = {int(kernels.row[k]): kernels.way[k] for k in np.flatnonzero(self.priced.cost.chosen)}
        counts: dict[str, int] = {}
        for call in np.flatnonzero(self.trace.call_kind() == kinds_.index("attention")):
            way = way_of[int(kernels.call_row[call])]
            counts[way] = counts.get(way, 0) + int(self.trace.call_repeats()[call])
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def fits(self) -> bool:
        """The peak is within the capacity of the device's memory."""
        return self.memory.peak <= self.scenario.device.hbm.capacity

    @property
    def images(self) -> int:
        """Images (or clips) that one inference makes."""
        return images_of(self.scenario.request)

    def step_time(self) -> float | None:
        """Seconds of the last denoising step, from the end of what ran before it, host included; None without such steps.

        Where steps reuse features, of the last one that runs in full.
        """
        if not self.denoising:
            return None
        run = [self.trace.segments[i] for i in self.denoising]
        end = int(np.flatnonzero(self.timeline.call == run[-1].stop - 1)[-1])
        before = end - sum(s.stop - s.start for s in run)
        return float(self.timeline.end[end] - (self.timeline.end[before] if before >= 0 else 0.0))

    def total(self, priced: Priced | None = None) -> Totals:
        """Over all calls."""
        return self._totals(np.ones(self.trace.calls, dtype=bool), priced or self.priced)

    def by_class(self, priced: Priced | None = None, segment: int | None = None) -> dict[str, Totals]:
        """Totals of every report class that occurs, in descending time."""
        index = call_class(self.trace)
        here = np.ones(self.trace.calls, dtype=bool) if segment is None else self.trace.call_segment() == segment
        totals = {
            REPORT_CLASSES[c]: self._totals(here & (index == c), priced or self.priced) for c in np.unique(index[here])
        }
        return dict(sorted(totals.items(), key=lambda item: -item[1].time))

    def by_role(self) -> dict[str, Totals]:
        """Totals of the class Attention by role (self, cross, temporal), those that occur; they add up to the class."""
        role = call_role(self.trace)
        return {name: self._totals(role == i, self.priced) for i, name in enumerate(ROLES) if np.any(role == i)}

    @property
    def frames(self) -> int | None:
        """Frames of each clip, with those that the model puts between its own; None for a model of images."""
        return shown_frames(self.scenario.request)

    def by_component(self) -> dict[str, Totals]:
        """Totals of every segment, in program order, over its repeats."""
        segment = self.trace.call_segment()
        return {s.name: self._totals(segment == i, self.priced) for i, s in enumerate(self.trace.segments)}

    def by_bound(self) -> dict[str, float]:
        """Seconds of GPU kernel time by what bounds the kernel, in descending order."""
        time = self.priced.runs(self.trace.call_repeats()) * self.priced.cost.time
        seconds = np.bincount(self.priced.cost.bound, time, len(BOUNDS))
        return {BOUNDS[i]: float(seconds[i]) for i in np.argsort(-seconds, kind="stable") if seconds[i] > 0}

    def not_calibrated(self) -> dict[str, float]:
        """Share of GPU kernel time without a measurement behind it, by class, in descending order; classes that have some."""
        cost = self.priced.cost
        time = cost.per_call(np.where(cost.covered, 0.0, cost.time)) * self.trace.call_repeats()
        seconds = np.bincount(call_class(self.trace), time, len(REPORT_CLASSES)) / self.gpu_time
        return {REPORT_CLASSES[i]: float(seconds[i]) for i in np.argsort(-seconds, kind="stable") if seconds[i] > 0}

    def attention_kernels(self, priced: Priced) -> float:
        """Seconds of the attention calls alone (the class also holds what else runs under attention modules)."""
        alone = self.trace.call_kind() == (
            self.trace.kinds.index("attention") if "attention" in self.trace.kinds else -1
        )
        return self._totals(alone, priced).time

    def energy(self) -> energies.Energy | None:
        """Joules, watts, dollars and CO2 of one inference; None where the device does not say what it is made of."""
        return self._energy

    @cached_property
    def _energy(self) -> energies.Energy | None:
        return energies.of_result(self)

    def __repr__(self) -> str:
        s = self.scenario
        return f"<Result {s.name}: {s.model} on {s.device.name}, latency {self.latency:.4g} s, level {s.level}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from sim.html import summary

        return summary(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data; every key is described in docs/json.md."""
        from importlib.metadata import version

        from sim.spread import latency_interval, outside

        total, memory = self.total(), self.memory
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.scenario.name,
            "scenario_hash": self.scenario.hash,
            "model": self.scenario.model,
            "device": self.scenario.device.name,
            "software": self.scenario.software.name,
            "attention": self.scenario.software.attention,
            "attention_ways": self.attention_ways(),
            "level": self.scenario.level,
            "correction": {"fit": self.correction.fit or None, "why_none": self.correction.why_none},
            "changed": list(self.scenario.changed()),
            "latency_s": self.latency,
            "latency_interval_s": list(latency_interval(self)),
            "outside_coverage": outside(self),
            "images_per_s": self.images / self.latency,
            "frames_per_s": self.images * self.frames / self.latency if self.frames else None,
            "step_time_s": self.step_time(),
            "gpu_time_s": total.time,
            "launch_gap_s": self.gap_time,
            "host_bound_share": self.host_bound(),
            "host_bound_components": list(self.host_paced()),
            "flops": total.flops,
            "hbm_bytes": total.hbm_bytes,
            "peak_memory_bytes": int(memory.peak),
            "memory": {**{f"{n}_bytes": int(b) for n, b in memory_parts(memory).items()}, "at": memory.at},
            "memory_capacity_bytes": int(self.scenario.device.hbm.capacity),
            "fits_memory": self.fits,
            "bounds": self.by_bound(),
            "components": list(self._components()),
            "attention_roles": {
                name: {"time_s": t.time, "flops": t.flops, "hbm_bytes": t.hbm_bytes, "calls": t.calls}
                for name, t in self.by_role().items()
            },
            "attention_comparison": {name: self._compared(priced) for name, priced in self.attention.items()},
            "not_calibrated": {"share": sum(self.not_calibrated().values()), "classes": self.not_calibrated()},
            **energies.to_json(self.energy(), self.images),
            "command": self.command,
            "framecast_version": version("framecast"),
        }

    def _components(self) -> Iterator[dict[str, Any]]:
        for i, (segment, totals) in enumerate(zip(self.trace.segments, self.by_component().values(), strict=True)):
            yield {
                "name": segment.name,
                "repeats": segment.repeats,
                "time_s": totals.time,
                "flops": totals.flops,
                "hbm_bytes": totals.hbm_bytes,
                "parameters": segment.parameters,
                "classes": {
                    name: {"time_s": t.time, "flops": t.flops, "calls": t.calls}
                    for name, t in self.by_class(segment=i).items()
                },
            }

    def _compared(self, priced: Priced) -> dict[str, Any]:
        return {
            "latency_s": priced.latency,
            "gpu_time_s": self.total(priced).time,
            "attention_kernels_s": self.attention_kernels(priced),
            "classes": {name: t.time for name, t in self.by_class(priced).items()},
        }

    def _totals(self, mask: NDArray[np.bool_], priced: Priced) -> Totals:
        repeats = np.where(mask, self.trace.call_repeats(), 0)
        flops = exact_dot(repeats, self.trace.op_flops()[self.trace.call_op])
        time, hbm = priced.cost.per_call(priced.cost.time), priced.cost.per_call(priced.cost.hbm_bytes)
        assert flops >= 0, "a count of FLOPs has overflowed"
        return Totals(int(repeats.sum()), float(repeats @ time), flops, float(repeats @ hbm))


def exact_dot(repeats: Ints, counts: Ints) -> int:
    """Sum of repeats x counts, both not negative, as a Python int: 64 bits hold a count, not the sum of a large run."""
    high, low = np.divmod(counts, 1 << 31)
    return (int(repeats @ high) << 31) + int(repeats @ low)


def call_class(trace: Trace) -> Ints:
    """Index into REPORT_CLASSES of each call, (calls,): everything under an attention module that is no linear layer is
    Attention, as in the reference study (a product of two activations is no linear layer); else the class of the kind."""
    of_kind = np.array([REPORT_CLASSES.index(kinds()[k].report_class) for k in trace.kinds], dtype=np.int64)
    gemms, linear = trace.ops_of("gemm"), np.zeros(len(trace.op_kind), dtype=bool)
    if len(gemms):
        linear[gemms] = trace.dims("gemm", gemms).weight == 1
    kind = trace.call_kind()
    return np.where(trace.call_in_attention & ~linear[trace.call_op], REPORT_CLASSES.index("Attention"), of_kind[kind])


def call_role(trace: Trace) -> Ints:
    """Index into ROLES of each call of the class Attention, -1 for all others, (calls,).

    What is no attention call itself has the role of the attention call in the nearest module around it; self where there is none.
    """
    calls, dims = attention_calls(trace)
    roles = np.full(trace.calls, -1)
    roles[calls] = dims[:, DIMS.index("role")]
    of_path = {trace.paths[int(trace.call_path[call])]: int(roles[call]) for call in calls}
    inherited = np.array([_nearest_role(path, of_path) for path in trace.paths])[trace.call_path]
    attention = call_class(trace) == REPORT_CLASSES.index("Attention")
    return np.where(attention & (roles < 0), inherited, roles)


def _nearest_role(path: str, of_path: Mapping[str, int]) -> int:
    while path and path not in of_path:
        path = path.rpartition(".")[0]
    return of_path.get(path, 0)


def memory_parts(memory: Memory) -> dict[str, float]:
    """What the peak is made of, in bytes; adds up to `memory.peak`."""
    return {name: getattr(memory, name) for name in ("weights", "activations", "scores", "workspace")}
