"""report.html: a result as one page that needs nothing else: style, charts, data and script are inside it.

Every figure that is also in result.json stands in an element with `data-key` (its place there) and `data-value`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from sim import svg
from sim.feasible import problem
from sim.plots import points
from sim.profiles import memory_profile, step_profile
from sim.report import calibration_line, gigabytes, number, op_rows, percent, seconds, time_unit
from sim.result import Result, Totals
from sim.words import request_words
from workloads.kind import REPORT_CLASSES

STATIC = Path(__file__).parent / "static"
RANGES = {  # of the figures on top, the keys of what they likely lie in
    "latency_s": "latency_interval_s",
    "energy_per_image_j": "energy_per_image_j_interval",
    "average_power_w": "average_power_w_interval",
}
WIDE, NARROW = 1060, 360  # pixels for which charts are drawn
PRINTED = 40  # operators that paper shows; as in report.css
LISTED = 2e-3  # share of kernel time above which a class is in a legend


@dataclass(frozen=True)
class Column:
    """One column of the table of operators: its head, whether it sorts as a number, text and value of a row."""

    head: str
    is_number: bool
    text: Callable[[Mapping[str, Any], float], str]
    value: Callable[[Mapping[str, Any]], Any] | None = None


def page(result: Result) -> str:
    """The whole page of a result."""
    data = result.to_json()
    s = result.scenario
    parts = {
        "version": version("framecast"),
        "title": escape(f"{s.name}: {s.model} on {s.device.title}"),
        "style": _static("report.css"),
        "script": _static("report.js"),
        "name": escape(s.name),
        "what": escape(": ".join(filter(None, (s.model, request_words(s.request))))),
        "setting": escape(
            f"{s.device.title} ({s.device.name}), {s.software.name}, attention {s.software.attention}, level {s.level}"
        ),
        "warnings": "\n".join(f'<p class="warning">{escape(text)}</p>' for text in _warnings(result)),
        "figures": "\n".join(_figures(data)),
        "classes": _classes(result),
        "components": _components(result),
        "bounds": _bounds(result, data),
        "roofline": _roofline(result),
        "step_name": escape(step_profile(result).name),
        "step": _step(result),
        "memory": _memory(result, data),
        "operators": _operators(result),
        "scenario": _provenance(result, data),
        "data": json.dumps(data).replace("<", "\\u003c"),
    }
    return Template(_static("report.html")).substitute(parts)


def summary(result: Result) -> str:
    """A few lines and the table of operator classes, for a notebook; without the page's style."""
    s = result.scenario
    step = result.step_time()
    steps = f", {seconds(step)} per denoising step" if step else ""
    head = f"<b>{escape(s.name)}</b>: {escape(s.model)} on {escape(s.device.title)}, {escape(s.software.name)}, level {s.level}"
    line = f"latency <b>{seconds(result.latency)}</b>{steps}; peak memory {gigabytes(result.memory.peak)}"
    rows = [(name, totals) for name, totals in result.by_class().items()]
    return f"<p>{head}<br>{line}</p>{_totals('class', rows, result.gpu_time)}"


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _warnings(result: Result) -> Iterator[str]:
    s = result.scenario
    if s.device.imaginary:
        yield f"{s.device.title} is not a product; all of its values are assumptions."
    if s.changed():
        yield f"Changed from {s.device.name} and {s.software.name}: {', '.join(s.changed())}."
    if line := problem(result):
        yield line.removeprefix(f"{s.path}: ") + "; the times are those of a device with enough memory."


def _figures(data: Mapping[str, Any]) -> Iterator[str]:
    """The figures on top, each with its place in result.json."""
    what = "image" if data["frames_per_s"] is None else "clip"
    rows: list[tuple[str, str, Callable[[float], str]]] = [
        ("latency", "latency_s", seconds),
        (f"{what}s per second", "images_per_s", number),
        ("frames per second", "frames_per_s", number),
        ("one denoising step", "step_time_s", seconds),
        ("GPU kernel time", "gpu_time_s", seconds),
        ("waiting for the host", "host_bound_share", lambda share: f"{percent(share)} %"),
        ("matrix FLOPs", "flops", lambda flops: f"{number(flops / 1e12)} TFLOP"),
        ("HBM traffic", "hbm_bytes", gigabytes),
        ("peak memory", "peak_memory_bytes", gigabytes),
        (f"energy per {what}", "energy_per_image_j", lambda joules: f"{number(joules)} J"),
        ("average power", "average_power_w", lambda watts: f"{number(watts)} W"),
    ]
    for label, key, shown in rows:
        if data.get(key) is not None:
            span = data.get(RANGES.get(key, ""))
            likely = f'<dd class="range">{escape(f"{shown(span[0])} to {shown(span[1])}")}</dd>' if span else ""
            yield f"<div><dt>{label}</dt>{_tagged('dd', key, data[key], shown(data[key]))}{likely}</div>"


def _tagged(tag: str, key: str, value: Any, text: str) -> str:
    """An element that shows a figure of result.json and says which."""
    return f'<{tag} data-key="{escape(key)}" data-value="{value!r}">{escape(text)}</{tag}>'


def _quiet(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def _charts(draw: Callable[[int], str]) -> str:
    return draw(WIDE) + draw(NARROW)


def _legend(names: Iterable[str]) -> str:
    items = "".join(f'<li><i class="c-{escape(n)}"></i>{escape(n)}</li>' for n in names)
    return f'<ul class="legend">{items}</ul>'


def _classes(result: Result) -> str:
    """Bars of the compared ways to run attention, then the table of the scenario's own run."""
    tables = {f"attention {way}": result.by_class(priced) for way, priced in result.attention.items()}
    names = list(dict.fromkeys(n for table in tables.values() for n in table))
    listed = [
        n
        for n in names
        if any(n in t and t[n].time > LISTED * sum(x.time for x in t.values()) for t in tables.values())
    ]
    rows = [(way, [(n, table[n].time) for n in names if n in table]) for way, table in tables.items()]
    sums = [(name, totals) for name, totals in result.by_class().items()]
    chart = _charts(lambda width: svg.bars(rows, width))
    way = result.scenario.software.attention
    return (
        _quiet(f"This scenario runs attention {way}; the bars hold both ways against each other.")
        + _legend(listed)
        + chart
        + _totals("class", [*sums, ("total", result.total())], result.gpu_time)
    )


def _components(result: Result) -> str:
    repeats = {s.name: s.repeats for s in result.trace.segments}
    keys = {f"{name} x {repeats[name]}": i for i, name in enumerate(result.by_component())}
    rows = [(f"{name} x {repeats[name]}", totals) for name, totals in result.by_component().items()]
    return _totals("component", rows, result.gpu_time, {name: f"components[{i}]." for name, i in keys.items()})


def _totals(head: str, rows: Sequence[tuple[str, Totals]], whole: float, keys: Mapping[str, str] | None = None) -> str:
    """A table of sums; `keys` is where each row stands in result.json."""
    units, unit = time_unit(whole)
    heads = (head, "calls", f"time, {unit}", "share, %", "TFLOP", "HBM, GB", "TFLOP/s", "HBM, GB/s")
    lines = []
    for name, t in rows:
        at = (keys or {}).get(name)
        tera, giga = t.flops / 1e12, t.hbm_bytes / 1e9
        shown = number(units * t.time)
        time = _tagged("td", f"{at}time_s", t.time, shown) if at else f"<td>{shown}</td>"
        flops = _tagged("td", f"{at}flops", int(t.flops), number(tera)) if at else f"<td>{number(tera)}</td>"
        rates = [number(v / t.time) if t.time else "" for v in (tera, giga)]
        rest = f"<td>{percent(t.time / whole)}</td>{flops}<td>{number(giga)}</td><td>{rates[0]}</td><td>{rates[1]}</td>"
        style = ' class="total"' if name == "total" else ""
        lines.append(f"<tr{style}><td>{escape(name)}</td><td>{t.calls}</td>{time}{rest}</tr>")
    return _table("small", [f"<th>{h}</th>" for h in heads], lines)


def _table(style: str, heads: Iterable[str], lines: Iterable[str]) -> str:
    head, body = "".join(heads), "\n".join(lines)
    return f'<div class="scroll"><table class="{style}"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>\n'


def _bounds(result: Result, data: Mapping[str, Any]) -> str:
    bounds, (units, unit) = result.by_bound(), time_unit(result.gpu_time)
    chart = _charts(lambda width: svg.bars([("kernel time", list(bounds.items()))], width))
    lines = [
        f"<tr><td>{n}</td>{_tagged('td', f'bounds.{n}', t, number(units * t))}<td>{percent(t / result.gpu_time)}</td></tr>"
        for n, t in bounds.items()
    ]
    share = _tagged(
        "span", "not_calibrated.share", data["not_calibrated"]["share"], f"{percent(data['not_calibrated']['share'])} %"
    )
    trust = f"<p>Without a measurement behind it: {share} of kernel time.</p>{_quiet(calibration_line(result))}"
    heads = ["<th>bound</th>", f"<th>time, {unit}</th>", "<th>share, %</th>"]
    return _legend(bounds) + chart + _table("small tiny", heads, lines) + trust


def _roofline(result: Result) -> str:
    device, trace = result.scenario.device, result.trace
    dtype = str(getattr(result.scenario.request, "dtype", "fp32"))
    roofs = svg.Roofs(device.hbm.bandwidth, device.matmul_rate(dtype), device.flop_rate("vector", "fp32"), dtype)
    found = points(result)
    names = [trace.paths[int(trace.call_path[call])] for call in found.call]
    some = list(zip(found.intensity, found.rate, found.share, found.report_class, names, strict=True))
    about = _quiet("Each point is an operator; its area is its share of kernel time.")
    kept = {int(c) for c in found.report_class}
    legend = _legend(name for name in result.by_class() if REPORT_CLASSES.index(name) in kept)
    return about + legend + _charts(lambda width: svg.roofline(some, roofs, width))


def _step(result: Result) -> str:
    profile = step_profile(result)
    shown = [n for n, t in result.by_class().items() if t.time > LISTED * result.gpu_time]
    return _legend(shown) + _charts(lambda width: svg.step(profile, result.scenario.device.hbm.bandwidth, width))


def _memory(result: Result, data: Mapping[str, Any]) -> str:
    profile, memory = memory_profile(result), data["memory"]
    parts = [key for key in memory if key.endswith("_bytes")]
    lines = [
        f"<tr><td>{key.removesuffix('_bytes')}</td>{_tagged('td', f'memory.{key}', memory[key], gigabytes(memory[key]))}</tr>"
        for key in parts
    ]
    peak, have = data["peak_memory_bytes"], data["memory_capacity_bytes"]
    lines.append(f'<tr class="total"><td>peak</td>{_tagged("td", "peak_memory_bytes", peak, gigabytes(peak))}</tr>')
    lines.append(f"<tr><td>device</td>{_tagged('td', 'memory_capacity_bytes', have, gigabytes(have))}</tr>")
    at = _quiet(f"The peak is at {memory['at']}.")
    chart = _charts(lambda width: svg.memory(profile, result.scenario.device.hbm.capacity, width))
    return chart + _table("small tiny", ["<th>part of the peak</th>", "<th></th>"], lines) + at


def _columns(whole: float) -> tuple[Column, ...]:
    """whole: kernel time of all operators, which says in what unit times are."""
    units, unit = time_unit(whole)
    return (
        Column("module", False, lambda r, _: r["path"]),
        Column(f"time, {unit}", True, lambda r, _: number(units * r["time_s"]), lambda r: r["time_s"]),
        Column("share, %", True, lambda r, whole: percent(r["time_s"] / whole), lambda r: r["time_s"]),
        Column("bound", False, lambda r, _: r["bound"]),
        Column("operator", False, lambda r, _: r["label"].removeprefix("aten.")),
        Column("class", False, lambda r, _: r["class"]),
        Column("calls", True, lambda r, _: str(r["calls"]), lambda r: r["calls"]),
        Column("TFLOP/s", True, lambda r, _: number(_rate(r, "flops") / 1e12), lambda r: _rate(r, "flops")),
        Column("HBM, GB/s", True, lambda r, _: number(_rate(r, "hbm_bytes") / 1e9), lambda r: _rate(r, "hbm_bytes")),
        Column("kernel", False, lambda r, _: r["kernel"]),
        Column("tile", False, lambda r, _: r["tile"]),
        Column("shape", False, lambda r, _: r["dims"]),
    )


def _rate(row: Mapping[str, Any], key: str) -> float:
    return float(row[key]) / row["time_s"] if row["time_s"] else 0.0


def _operators(result: Result) -> str:
    """Distinct operators, the longest first."""
    columns = _columns(result.gpu_time)
    heads = [
        f'<th {"data-type=number" if c.is_number else "class=left"}{_sorted(c)}><button type="button">{c.head}</button></th>'
        for c in columns
    ]
    rows = sorted(op_rows(result), key=lambda r: -r["time_s"])
    lines = ["<tr>" + "".join(_cell(c, r, result.gpu_time) for c in columns) + "</tr>" for r in rows]
    about = _quiet(
        f"{len(rows)} distinct operators over all their calls and repeats; one row stands for the same operator at other "
        "places too. Press a head to sort."
    )
    more = f'<p class="more quiet">Paper shows {PRINTED} of {len(rows)} operators; ops.csv has all.</p>'
    return about + _table("sortable", heads, lines) + more


def _sorted(column: Column) -> str:
    return ' aria-sort="descending"' if column.head.startswith("time, ") else ""


def _cell(column: Column, row: Mapping[str, Any], whole: float) -> str:
    text = escape(str(column.text(row, whole)))
    styles = {"module": "left path", "shape": "left shape"}
    style = "" if column.is_number else f' class="{styles.get(column.head, "left")}"'
    value = f' data-value="{column.value(row)!r}"' if column.value else ""
    return f"<td{style}{value}>{text}</td>"


def _provenance(result: Result, data: Mapping[str, Any]) -> str:
    s = result.scenario
    command = f'<p>The command:</p><pre class="command">{escape(result.command)}</pre>' if result.command else ""
    made = f"framecast {data['framecast_version']}, scenario {s.hash}"
    facts = f"{made}, cost model {s.level}, JSON schema {data['schema_version']}."
    again = (
        "The complete scenario, every default and reference resolved: saved as a file, it gives these figures again."
    )
    return f"{command}<p>{escape(facts)}</p><p>{escape(again)}</p><pre>{escape(s.resolved())}</pre>"
