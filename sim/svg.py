"""Charts as inline SVG for the HTML report: plain strings, colours and inks from its style sheet, text never scaled down.

Every chart is drawn for a width in pixels; the report holds one for wide screens and paper and one for phones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from sim.profiles import MemoryProfile, StepProfile
from sim.report import gigabytes, number, percent, seconds, time_unit
from workloads.kind import REPORT_CLASSES
from workloads.ops.attention import ROLES

Scale = Callable[[float], float]
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 40  # pixels around the axes
LABELLED = 34  # pixels from which a percentage fits into a part of a bar
LETTER = 6.8  # pixels that a letter takes
NARROW = 500  # pixels up to which a chart is one for phones
BAND = 22  # pixels of the weights, from which their name fits
THIN = 0.3  # pixels that even the shortest operator is wide
NEAR = 1.6  # capacity over the peak, below which the capacity is on the axis


@dataclass(frozen=True)
class Roofs:
    """Rates that bound a roofline: B/s, FLOP/s, FLOP/s, and the dtype of the matrix roof."""

    bandwidth: float
    tensor: float
    vector: float
    dtype: str


def bars(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], width: int) -> str:
    """Stacked bars, each below its label: rows of (label, parts of (class, seconds)), to one scale."""
    longest = max((sum(v for _, v in parts) for _, parts in rows), default=0.0) or 1.0
    out = []
    for i, (label, parts) in enumerate(rows):
        whole, x, y = sum(v for _, v in parts), 0.0, 56 * i
        out += [_text(0, y + 16, label, "strong"), _text(width, y + 16, seconds(whole), "strong", "end")]
        for name, value in parts:
            w = value / longest * width
            title = _title(f"{name}: {seconds(value)}, {percent(value / whole)} %")
            out.append(_tag("rect", title, x=x, y=y + 24, width=w, height=22, style=_kind(name)))
            if w > LABELLED:
                out.append(_text(x + w / 2, y + 39, f"{100 * value / whole:.0f} %", f"on {_kind(name)}", "middle"))
            x += w
    return _svg(width, 56 * len(rows), out, "Kernel time by operator class")


def roofline(points: Iterable[tuple[float, float, float, int, str]], roofs: Roofs, width: int) -> str:
    """Points (FLOP/B, FLOP/s, share of time, class, name) under the HBM roof, the matrix roof and the vector roof."""
    some, height = sorted(points, key=lambda p: -p[2]), 420 if width > NARROW else 340
    low = 10.0 ** math.floor(math.log10(min([p[0] for p in some] + [0.5])))
    high = 10.0 ** math.ceil(math.log10(max([p[0] for p in some] + [4 * roofs.tensor / roofs.bandwidth])))
    up = (min([p[1] for p in some] + [roofs.vector]) / 2, 2.2 * roofs.tensor)
    x, y = _log(low, high, LEFT, width - RIGHT), _log(*up, height - BOTTOM, TOP)
    out = [
        _log_axis(x, y, (low, high), up, height, width),
        *_roofs(x, y, roofs, max(low, up[0] / roofs.bandwidth), high),
    ]
    largest, radius = max((p[2] for p in some), default=1.0), 11 if width > NARROW else 7
    for intensity, rate, share, index, name in some:
        r, style = 3 + radius * math.sqrt(share / largest), f"dot {_kind(REPORT_CLASSES[index])}"
        about = f"{number(intensity)} FLOP/B, {number(rate / 1e12)} TFLOP/s, {percent(share)} % of kernel time"
        out.append(_tag("circle", _title(f"{name}: {about}"), cx=x(intensity), cy=y(rate), r=r, style=style))
    out += _roof_labels(x, y, roofs, width, height)
    out.append(_along(x, y, roofs, low * 1.4, f"HBM {number(roofs.bandwidth / 1e9)} GB/s"))
    out.append(_text(width / 2, height - 6, "arithmetic intensity, FLOP per byte of HBM traffic", "quiet", "middle"))
    out.append(_text(0, 12, "achieved TFLOP/s", "quiet"))
    return _svg(width, height, out, "Operators under the roofs")


def _roofs(x: Scale, y: Scale, roofs: Roofs, low: float, high: float) -> list[str]:
    """The slope of the HBM up to each of the flat roofs."""
    lines = []
    for rate, style in ((roofs.tensor, "roof"), (roofs.vector, "roof dashed")):
        corners = [(low, low * roofs.bandwidth), (rate / roofs.bandwidth, rate), (high, rate)]
        lines.append(_tag("path", d="M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in corners), style=style))
    return lines


def _roof_labels(x: Scale, y: Scale, roofs: Roofs, width: int, height: int) -> list[str]:
    right, ridge = width - RIGHT, roofs.tensor / roofs.bandwidth
    return [
        _text(right, y(roofs.tensor) - 6, f"matrix {roofs.dtype} {number(roofs.tensor / 1e12)} TFLOP/s", "", "end"),
        _text(right, y(roofs.vector) - 6, f"vector fp32 {number(roofs.vector / 1e12)} TFLOP/s", "", "end"),
        _tag("path", d=f"M{x(ridge):.1f} {y(roofs.tensor):.1f}V{height - BOTTOM}", style="thin"),
        _text(x(ridge) + 4, height - BOTTOM - 6, f"ridge {number(ridge)} FLOP/B", "quiet"),
    ]


def _along(x: Scale, y: Scale, roofs: Roofs, at: float, text: str) -> str:
    """A label that stands on the slope of the HBM roof."""
    (x0, y0), (x1, y1) = ((x(v), y(v * roofs.bandwidth)) for v in (at, 2 * at))
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    return f'<g transform="translate({x0:.1f} {y0:.1f}) rotate({angle:.2f})">{_text(0, -6, text)}</g>'


def step(profile: StepProfile, peak: float, width: int) -> str:
    """HBM rate of every operator over one step; below it, where there is attention, the queries of each of its calls."""
    upper, end = 240, float(profile.end[-1])
    height = upper + (170 if len(profile.attention) else 0)
    x = _linear(0, end, LEFT, width - RIGHT)
    y = _linear(0, 1.1 * max(peak, float(profile.hbm_rate.max())), upper - BOTTOM, TOP)
    out = [_text(0, 12, "HBM GB/s", "quiet"), _grid(y, _ticks(peak, 4), 1e9, width)]
    for c in sorted({int(c) for c in profile.report_class}):
        mine, name = profile.report_class == c, REPORT_CLASSES[c]
        boxes = zip(profile.start[mine], profile.end[mine], profile.hbm_rate[mine], strict=True)
        d = "".join(f"M{x(a):.1f} {y(0):.0f}V{y(r):.1f}H{max(x(b), x(a) + THIN):.1f}V{y(0):.0f}" for a, b, r in boxes)
        out.append(_tag("path", _title(name), d=d, style=_kind(name)))
    out.append(_tag("path", d=f"M{LEFT} {y(peak):.1f}H{width - RIGHT}", style="roof"))
    out.append(_text(width - RIGHT, y(peak) - 5, f"peak {number(peak / 1e9)} GB/s", "", "end"))
    out.append(_time_axis(x, end, upper - BOTTOM))
    if len(profile.attention):
        out += _sequence(profile, x, upper, height, width)
    out.append(_text(width / 2, height - 6, f"kernel time of {profile.name}, {time_unit(end)[1]}", "quiet", "middle"))
    return _svg(width, height, out, "HBM use and sequence length over one denoising step")


def _sequence(profile: StepProfile, x: Scale, top: int, height: int, width: int) -> list[str]:
    """The lower axes, and a legend of the roles in its upper right corner."""
    first, last = (
        round_(math.log2(q)) for round_, q in ((math.floor, profile.q_len.min()), (math.ceil, profile.q_len.max()))
    )
    y = _log(2.0 ** (first - 0.5), 2.0 ** (last + 0.5), height - BOTTOM, top + 22)
    ticks = [2.0**p for p in range(first, last + 1, max(1, (last - first + 1) // 4))]
    out = [_text(0, top + 8, "sequence length (queries)", "quiet"), _grid(y, ticks, 1.0, width)]
    at = float(width - RIGHT)
    for role in reversed(profile.roles):
        out += _attention(profile, role, x, y)
        out.append(_text(at, top + 8, role, "", "end"))
        at -= LETTER * len(role) + 14
        out.append(_tag("circle", cx=at + 6, cy=top + 4, r=4, style=f"mark {role}"))
        at -= 14
    return [*out, _time_axis(x, float(profile.end[-1]), height - BOTTOM)]


def _attention(profile: StepProfile, role: str, x: Scale, y: Scale) -> list[str]:
    """The attention calls of one role: a thread through them, and a mark each."""
    mine = profile.role == ROLES.index(role)
    calls, queries, keys = profile.attention[mine], profile.q_len[mine], profile.kv_len[mine]
    places = [
        (x(float(t)), y(float(q)))
        for t, q in zip((profile.start[calls] + profile.end[calls]) / 2, queries, strict=True)
    ]
    marks = [
        _tag("circle", _title(f"{role} attention: {q} queries, {k} keys"), cx=a, cy=b, r=4, style=f"mark {role}")
        for (a, b), q, k in zip(places, queries, keys, strict=True)
    ]
    return [_tag("path", d="M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places), style=f"thread {role}"), *marks]


def memory(profile: MemoryProfile, capacity: float, width: int) -> str:
    """Memory in use during one run of every component, the weights below."""
    height, end, most = 240, float(profile.end[-1]), float(profile.used.max())
    near = capacity < NEAR * most
    x = _linear(0, end, LEFT, width - RIGHT)
    y = _linear(0, 1.25 * (max(capacity, most) if near else most), height - BOTTOM, TOP)
    d = f"M{x(0):.1f} {y(0):.1f}"
    d += "".join(f"H{x(a):.1f}V{y(used):.1f}" for a, used in zip(profile.start, profile.used, strict=True))
    top = y(profile.weights)
    out = [
        _text(0, 12, "memory in use, GB", "quiet"),
        _grid(y, _ticks(most, 4), 1e9, width),
        _tag("path", d=f"{d}H{x(end):.1f}V{y(0):.1f}Z", style="c-Convolution"),
        _tag("rect", x=LEFT, y=top, width=x(end) - LEFT, height=y(0) - top, style="weights"),
    ]
    if y(0) - top > BAND:
        out.append(_text(LEFT + 8, top + 16, f"weights {gigabytes(profile.weights)}", "on dark"))
    for name, repeats, start, stop in profile.components:
        out.append(_tag("path", d=f"M{x(start):.1f} {TOP}V{height - BOTTOM}", style="thin"))
        label = f"{name}, one of {repeats} runs" if repeats > 1 else name
        if x(stop) - x(start) > LETTER * len(label):
            out.append(_text((x(start) + x(stop)) / 2, TOP + 10, label, "", "middle"))
    if near:
        out.append(_tag("path", d=f"M{LEFT} {y(capacity):.1f}H{width - RIGHT}", style="roof"))
    have = f"capacity {gigabytes(capacity)}{'' if near else ', above'}"
    out += [_text(width - RIGHT, y(capacity) - 5 if near else 12, have, "", "end"), _time_axis(x, end, height - BOTTOM)]
    out.append(
        _text(
            width / 2, height - 6, f"kernel time of one run of every component, {time_unit(end)[1]}", "quiet", "middle"
        )
    )
    return _svg(width, height, out, "Memory over one inference")


def _svg(width: int, height: int, inside: Iterable[str], label: str) -> str:
    size = "wide" if width > NARROW else "narrow"
    head = f'<svg class="{size}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(inside)}</svg>"


def _tag(name: str, inside: str = "", style: str = "", **attributes: float | str) -> str:
    """An element; numbers to a tenth of a pixel."""
    shown = {k: v if isinstance(v, str) else f"{v:.1f}" for k, v in attributes.items()} | (
        {"class": style} if style else {}
    )
    written = "".join(f' {key}="{value}"' for key, value in shown.items())
    return f"<{name}{written}>{inside}</{name}>"


def _kind(name: str) -> str:
    """Style class of an operator class or a bound."""
    return f"c-{name}"


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return _tag("text", escape(text), style, x=x, y=y, **{"text-anchor": anchor})


def _linear(low: float, high: float, a: float, b: float) -> Scale:
    """low..high -> a..b pixels."""
    return lambda v: a + (b - a) * (v - low) / ((high - low) or 1.0)


def _log(low: float, high: float, a: float, b: float) -> Scale:
    """low..high -> a..b pixels, by the logarithm."""
    return lambda v: a + (b - a) * math.log(v / low) / math.log(high / low)


def _ticks(high: float, count: int) -> list[float]:
    """0 and round steps up to `high`."""
    raw = (high or 1.0) / count
    power = 10.0 ** math.floor(math.log10(raw))
    size = next(s for s in (1, 2, 2.5, 5, 10) if s * power >= raw) * power
    return [i * size for i in range(int(high / size + 1e-9) + 1)]


def _grid(y: Scale, values: Iterable[float], unit: float, width: int) -> str:
    """A line across for each value, and the value in `unit` left of it."""
    out = []
    for value in values:
        out.append(_tag("path", d=f"M{LEFT} {y(value):.1f}H{width - RIGHT}", style="grid"))
        out.append(_text(LEFT - 6, y(value) + 4, f"{value / unit:.4g}", "quiet", "end"))
    return "".join(out)


def _time_axis(x: Scale, end: float, y: float) -> str:
    """Times up to the end, in ms or s by `sim.report.time_unit`."""
    units, _ = time_unit(end)
    line = _tag("path", d=f"M{x(0):.1f} {y}H{x(end):.1f}", style="axis")
    return line + "".join(_text(x(t), y + 16, f"{units * t:.4g}", "quiet", "middle") for t in _ticks(end, 6))


def _log_axis(x: Scale, y: Scale, across: tuple[float, float], up: tuple[float, float], height: int, width: int) -> str:
    """A grid of powers of ten."""
    out = []
    for value in _decades(*across):
        out.append(_tag("path", d=f"M{x(value):.1f} {TOP}V{height - BOTTOM}", style="grid"))
        out.append(_text(x(value), height - BOTTOM + 16, f"{value:g}", "quiet", "middle"))
    return "".join(out) + _grid(y, _decades(*up), 1e12, width)


def _decades(low: float, high: float) -> list[float]:
    return [10.0**p for p in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
