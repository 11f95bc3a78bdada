"""A result as text for people and as one row per operator for spreadsheets."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from hwspecs import units
from hwspecs.estimate import Estimate
from sim.cost import BOUNDS
from sim.memory import Memory
from sim.result import Correction, Result, Totals, call_class, memory_parts
from sim.spread import latency_interval, outside
from sim.tiles import describe
from sim.words import device_words, request_words, software_words, ways_words
from workloads.kind import REPORT_CLASSES, kinds

DIGITS = 3  # significant
PLAIN = (1e-6, 1e9)  # from where to where numbers are written without an exponent
QUANTITY = 6  # characters up to which the number of a quantity is exact
LONG = 100.0  # seconds from which a table of times is in s
WAITING = 0.02  # share of the latency that the device waits for the host, above which the run is called host-bound
NEGLIGIBLE = 5e-4  # a share that would be printed as 0.0 %


def text(result: Result) -> str:
    """How long, what dominates, what bounds it, unfused against flash-2, memory, what is not calibrated."""
    parts = (_title, _how_long, _classes, _components, _bounds, _attention, memory_line, energy_lines, calibration_line)
    return "\n\n".join(part(result) for part in parts)


def number(value: float) -> str:
    """Three significant digits, an exponent only where it would be long: 1234.5 -> '1230', 1.32e+12 -> '1.32e+12'."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    if not PLAIN[0] <= abs(value) < PLAIN[1]:
        return f"{value:.{DIGITS - 1}e}"
    places = DIGITS - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    places = DIGITS - 1 - math.floor(math.log10(abs(rounded)))  # 9.996 is 10.0 by now
    return f"{rounded:.{max(places, 0)}f}"


def seconds(value: float) -> str:
    """A time with the unit that leaves 1 to 999: '1.92 s', '38.1 ms', '7.5 us'."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{number(value * factor)} {unit}"
    return f"{number(value * 1e6)} us"


def time_unit(largest: float) -> tuple[float, str]:
    """Units a second, and the unit, of a column of times whose largest is so many seconds: ms, or s from LONG on."""
    return (1.0, "s") if largest >= LONG else (1e3, "ms")


def percent(share: float) -> str:
    """One decimal, without the sign: 0.12345 -> '12.3'."""
    return f"{100 * share:.1f}"


def quantity(value: float, unit: str) -> str:
    """With its unit, exact where that is short, else to four digits: '40 MiB', '3.247 TB/s', '108'."""
    if not unit:
        return f"{value:.4g}"
    exact = units.format(value, unit)
    return exact if len(exact.split()[0]) <= QUANTITY else units.format(float(f"{value:.4g}"), unit)


def size(value: float) -> str:
    """Bytes in GB, or in the smaller unit that leaves a number to read: '5.21 GB', '38.0 kB'."""
    factor, unit = _size_unit(value)
    return f"{number(value / factor)} {unit}"


def size_parts(parts: Mapping[str, float], whole: float) -> str:
    """'weights 2.06, activations 0.268', in the unit in which `size` gives the whole."""
    factor, _ = _size_unit(whole)
    return ", ".join(f"{name} {number(value / factor)}" for name, value in parts.items())


def _size_unit(value: float) -> tuple[float, str]:
    """GB where that is at least 0.1, else the largest unit that leaves 0.1 or more."""
    units_ = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return next(((factor, unit) for factor, unit in units_ if value >= 0.1 * factor), (1.0, "B"))


def gigabytes(value: float) -> str:
    """'5.21 GB'."""
    return f"{number(value / 1e9)} GB"


def ops_csv(result: Result) -> str:
    """One row per distinct operator of a component; sums are over its calls and their repeats."""
    rows = list(op_rows(result))
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["component"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _title(result: Result) -> str:
    s = result.scenario
    ways = ways_words(result.attention_ways(), s.software)
    return (
        f"{s.name}: {', '.join(filter(None, (s.model, request_words(s.request))))}\n"
        f"on {device_words(s)}, level {s.level}\n"
        f"with {software_words(s)}{ways}"
    )


def _how_long(result: Result) -> str:
    step = result.step_time()
    full = "full " if getattr(result.scenario.request, "cache", None) else ""
    steps = f", {seconds(step)} per {full}denoising step" if step else ""
    rate = f"{number(result.images / result.latency)} images/s"
    if result.frames:
        rate = f"{number(result.images * result.frames / result.latency)} frames/s"
    low, high = latency_interval(result)
    line = f"Latency {seconds(result.latency)} ({seconds(low)} to {seconds(high)} with 80 %), {rate}{steps}"
    shares = {"gaps between kernels": result.gap_time / result.latency, "waiting for the host": result.host_bound()}
    idle = "".join(f", {name} {percent(share)} %" for name, share in shares.items() if share >= NEGLIGIBLE)
    busy = f"GPU busy {percent(result.gpu_time / result.latency)} % of it"
    kernels = f"({seconds(result.gpu_time)} of kernels, which the shares below are of)"
    return "\n".join([line, f"{busy} {kernels}{idle}", *_host(result)])


def _host(result: Result) -> list[str]:
    """One line where the host sets the pace of some component, with what would change that; else nothing."""
    if not result.host_paced():
        return []
    way_out = "" if result.scenario.software.cuda_graphs else "; software.cuda_graphs=true removes it"
    where = ", ".join(result.host_paced())
    return [f"host-bound in {where}: a faster device changes little here: the host sets the pace{way_out}"]


def _classes(result: Result) -> str:
    rows = []
    for name, t in result.by_class().items():
        rows.append([name, *_sums(t, result.gpu_time)])
        rows += _roles(result) if name == "Attention" else []
    rows.append(["total", *_sums(result.total(), result.gpu_time)])
    return "What dominates, by operator class (FLOPs: of matrix products)\n" + _table(rows, _sum_heads("class", result))


def _roles(result: Result) -> list[list[str]]:
    """The class Attention taken apart, where there is more to tell than self and cross."""
    roles = result.by_role()
    names = {"self": "- spatial", "temporal": "- temporal", "cross": "- cross"}
    return [[names[n], *_sums(roles[n], result.gpu_time)] for n in names if n in roles] if "temporal" in roles else []


def _components(result: Result) -> str:
    repeats = {s.name: s.repeats for s in result.trace.segments}
    rows = [[f"{name} x {repeats[name]}", *_sums(t, result.gpu_time)] for name, t in result.by_component().items()]
    return "By component, over its repeats\n" + _table(rows, _sum_heads("component", result))


def _sum_heads(first: str, result: Result) -> tuple[str, ...]:
    _, unit = time_unit(result.gpu_time)
    return (first, "calls", f"time {unit}", "share %", "TFLOP", "HBM GB", "TFLOP/s", "HBM GB/s")


def _sums(t: Totals, whole: float) -> list[str]:
    factor, _ = time_unit(whole)
    tera, giga = t.flops / 1e12, t.hbm_bytes / 1e9
    rates = (tera / t.time, giga / t.time) if t.time else (0.0, 0.0)
    return [str(t.calls), number(factor * t.time), percent(t.time / whole), *map(number, (tera, giga, *rates))]


def _bounds(result: Result) -> str:
    whole = result.gpu_time
    return "What bounds it, share of kernel time: " + _shares({n: t / whole for n, t in result.by_bound().items()})


def _attention(result: Result) -> str:
    """Two columns a way, one row a class, and how much faster the second way is."""
    ways = list(result.attention)
    priced = [result.attention[way] for way in ways]
    tables = [result.by_class(p) for p in priced]
    wholes = [result.total(p).time for p in priced]
    latencies = [p.latency for p in priced]
    factor, unit = time_unit(max(*wholes, *latencies))
    rows = []
    for name in tables[0]:
        times = [table[name].time if name in table else 0.0 for table in tables]
        rows.append(_compared(name, times, wholes, factor))
    rows.append(_compared("kernel time", wholes, wholes, factor))
    rows.append(
        _compared("of it, attention calls alone", [result.attention_kernels(p) for p in priced], wholes, factor)
    )
    rows.append(_compared("latency", latencies, None, factor))
    heads = ("class", f"{ways[0]} {unit}", "share %", f"{ways[1]} {unit}", "share %", "speed-up")
    return f"Attention {ways[0]} against {ways[1]}, the rest the same\n" + _table(rows, heads)


def _compared(name: str, times: Sequence[float], wholes: Sequence[float] | None, factor: float) -> list[str]:
    row = [name]
    for i, time in enumerate(times):
        row += [number(factor * time), percent(time / wholes[i]) if wholes else ""]
    return [*row, f"{number(times[0] / times[1])}x" if times[1] else ""]


def memory_line(result: Result) -> str:
    """Peak memory, capacity, contributors, and where the peak is."""
    memory, capacity = result.memory, result.scenario.device.hbm.capacity
    parts = size_parts(contributors(memory), memory.peak)
    excess = "" if memory.peak <= capacity else ", DOES NOT FIT"
    return f"Peak memory {size(memory.peak)} of {size(capacity)}{excess} ({parts}), at {memory.at}"


def energy_lines(result: Result) -> str:
    """Joules, watts and dollars with their ranges, where the joules go, and what of the device no public die covers."""
    found = result.energy()
    if found is None:
        return f"Energy: unknown, since {result.scenario.device.name} does not say what it is made of (device.silicon)."
    what = "clip" if result.frames else "image"
    whole, running = sum(found.terms.values()), found.running
    money, energy, carbon = (e.times(1000 / result.images) for e in (running.total, running.energy, running.carbon))
    lines = [
        f"Energy {ranged(found.per_image, 'J')} per {what}, average power {ranged(found.average_power, 'W')}",
        f"by what takes it: {_ordered_shares(found.terms, whole)}",
        f"by class: {_ordered_shares({**found.classes, 'no kernel': found.waiting}, whole)}",
        f"by component: {_ordered_shares(found.components, whole)}",
        f"per 1000 {what}s: {ranged(money, 'USD')}, of it energy {number(float(energy.value))};"
        f" {ranged(carbon, 'kg')} of CO2 (docs/silicon.md)",
        *(f"outside the dies that are known: {line}" for line in found.outside),
    ]
    return "\n".join(lines)


def _ordered_shares(joules: Mapping[str, float], whole: float) -> str:
    return _shares({name: part / whole for name, part in sorted(joules.items(), key=lambda item: -item[1])})


def ranged(estimate: Estimate, unit: str) -> str:
    """'155 J (118 to 210)'."""
    low, value, high = (number(float(part)) for part in estimate.floats())
    return f"{value} {unit} ({low} to {high})"


def contributors(memory: Memory) -> dict[str, float]:
    """What the peak is made of, in bytes, the largest first, nothing that is zero."""
    names = {"scores": "attention scores"}
    parts = {names.get(n, n): b for n, b in memory_parts(memory).items() if b}
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def calibration_line(result: Result) -> str:
    """Which share of the time no measurement backs, by class; and the learned correction."""
    return f"{_backed(result)}\n{correction_line(result.correction)}"


def correction_line(correction: Correction) -> str:
    """Which learned correction is in the times, or why there is none."""
    if correction.fit:
        return f"Corrected: 16-bit matrix products with weights, by the fit {correction.fit}; --level physical leaves that out."
    return f"No learned correction: {correction.why_none}."


def _backed(result: Result) -> str:
    shares = result.not_calibrated()
    if not shares:
        return "Calibrated: a measurement backs every kernel."
    whole = sum(shares.values())
    level = "" if result.scenario.level != "roofline" else f" (level {result.scenario.level})"
    out = outside(result)
    if not level and out["hardware"] and not result.priced.cost.covered.any():
        own = [path for path in result.scenario.changed() if path.startswith("device.")]
        level = f" (no measurement covers {result.scenario.device.name}{' as it is changed' if own else ''})"
    apart = f"Outside the covered shapes {percent(out['shapes'])} %, outside the covered hardware {percent(out['hardware'])} %"
    return (
        f"Not calibrated: {percent(whole)} % of kernel time{level}: {_shares(shares)}.\n{apart}.\n"
        "There, constants come from data sheets and general measurements, not from this device and software."
    )


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {percent(share)} %" for name, share in shares.items() if share >= NEGLIGIBLE)


def table(rows: Iterable[Sequence[str]], heads: Sequence[str], align: str) -> str:
    """Aligned columns under their heads; `align` has an l or an r for each."""
    sides = [{"l": "left", "r": "right"}[side] for side in align]
    return tabulate(list(rows), heads, tablefmt="simple", colalign=sides, disable_numparse=True)


def _table(rows: Iterable[Sequence[str]], heads: Sequence[str]) -> str:
    return table(rows, heads, "l" + "r" * (len(heads) - 1))


def op_rows(result: Result) -> Iterator[dict[str, Any]]:
    """One mapping per distinct operator of a component, keys as the columns of ops.csv, in program order."""
    trace = result.trace
    pairs = np.column_stack([trace.call_segment(), trace.call_op])
    unique, first, which = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    repeats = trace.call_repeats()
    sums = {n: np.bincount(which.reshape(-1), column * repeats) for n, column in _call_columns(result).items()}
    calls = np.bincount(which.reshape(-1), repeats).astype(np.int64)
    classes, longest, flops = call_class(trace), _longest(result), trace.op_flops()
    for i in np.argsort(first):
        (segment, op), call = unique[i], int(first[i])
        kind = trace.kinds[int(trace.op_kind[op])]
        yield {
            "component": trace.segments[segment].name,
            "path": trace.paths[int(trace.call_path[call])],
            "kind": kind,
            "label": trace.labels[int(trace.op_label[op])],
            "class": REPORT_CLASSES[int(classes[call])],
            "dims": " ".join(f"{n}={int(v)}" for n, v in zip(kinds()[kind].dims, trace.op_dims[op], strict=False)),
            "dtype": trace.dtypes[int(trace.op_dtype[op])],
            "calls": int(calls[i]),
            **{name: _exact(name, float(column[i])) for name, column in sums.items()},
            "flops": int(flops[op]) * int(calls[i]),  # Python ints: no overflow
            **_kernel_columns(result, int(longest[call])),
        }


def _exact(name: str, value: float) -> float | int:
    """Counts and bytes as whole numbers."""
    return value if name.endswith("_s") else round(value)


def _call_columns(result: Result) -> dict[str, Any]:
    cost = result.priced.cost
    return {
        "time_s": cost.per_call(cost.time),
        "flops": result.trace.op_flops()[result.trace.call_op].astype(np.float64),
        "hbm_bytes": cost.per_call(cost.hbm_bytes),
        "l2_bytes": cost.per_call(cost.l2_bytes),
    }


def _longest(result: Result) -> Any:
    """Index of the longest chosen kernel of each call, int64 (calls,)."""
    cost = result.priced.cost
    order = np.lexsort((np.where(cost.chosen, cost.time, -1.0), cost.kernels.row))
    last = np.searchsorted(cost.kernels.row[order], np.arange(cost.kernels.rows), side="right") - 1
    return order[last][cost.kernels.call_row]


def _kernel_columns(result: Result, k: int) -> dict[str, Any]:
    """What is known of one kernel, the longest of its call."""
    cost = result.priced.cost
    is_tiled = cost.occupancy[k] > 0
    return {
        "bound": BOUNDS[int(cost.bound[k])],
        "way": cost.kernels.way[k],
        "kernel": cost.kernels.name[k],
        "tile": describe(int(cost.tile[k]), cost.kernels.flash[:, k]) if is_tiled else "",
        "waves": int(cost.waves[k]) if is_tiled else "",
        "occupancy": float(cost.occupancy[k]) if is_tiled else "",
        "covered": bool(cost.covered[k]),
    }
