"""The figures as slides, drawn from their tables alone."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from explore.paper.suite import DEVICE, GROUPS, PROJECTIONS, TITLE, UNFUSED, VIDEO, WAYS
from explore.paper.tables import FIGURES, PROFILED, Table
from hwspecs import device
from sim.slide import COLOURS, STYLE, legend, patch, save

# Okabe and Ito (2008), as everywhere.
ORANGE, BLUE, GREEN, BLACK, PINK, GREY, SKY = (
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#000000",
    "#CC79A7",
    "#999999",
    "#56B4E9",
)
OF_GROUP = dict(COLOURS) | {
    "attention, self": ORANGE,
    "attention, cross": "#F0A07A",
    "attention, temporal": "#7A2E00",
    f"{PROJECTIONS}self": "#F7C9A9",
    f"{PROJECTIONS}cross": "#FBE3D3",
    f"{PROJECTIONS}temporal": "#B98A6C",
}
# Bands of a bar, the attentions and their projections together.
STACKED = (
    *(g for g in GROUPS if g.startswith(("attention", PROJECTIONS))),
    *(g for g in GROUPS if not g.startswith(("attention", PROJECTIONS))),
)
OF_CALL = {"spatial": ORANGE, "temporal": BLACK, "joint": BLUE}
LINE = {"unfused": "--", "flash-2": "-"}
APART = 1.22  # times the height of a label on a logarithmic axis, at which the next one stands


def draw(name: str, tables: Sequence[Table], source: str, path: Path) -> None:
    """A figure to a .png or .svg file."""
    _DRAWN[name](FIGURES[name][0], tables, source, path)


@lru_cache(maxsize=len(FIGURES))
def svg(name: str, tables: tuple[Table, ...], source: str) -> str:
    """A figure as SVG text; drawn once for its file and for the page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.svg"
        draw(name, tables, source, path)
        return path.read_text(encoding="utf-8")


def _figure(width: float, height: float, rows: int, columns: int, **more: Any) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        return made, made.subplots(rows, columns, squeeze=False, **more)


def _roofline(title: str, tables: Sequence[Table], source: str, path: Path) -> None:
    made, axes = _figure(9.5, 5.4, 1, 1)
    panel, on = axes[0, 0], device.load(DEVICE)
    peak, bandwidth = on.matmul_rate("bf16"), on.hbm.bandwidth
    x = [0.5, peak / bandwidth, 5e7]
    panel.loglog(x, [min(v * bandwidth, peak) / 1e12 for v in x], color=BLACK, linewidth=1.6)
    found = tables[0].where(attention="flash-2")
    columns = {name: found.column(name) for name in found.columns}
    rates = [v / 1e12 for v in columns["flop_per_s"]]
    for rate, study, traffic in zip(
        rates, columns["study_flop_per_byte"], columns["traffic_flop_per_byte"], strict=True
    ):
        panel.plot([traffic, study], [rate, rate], color=GREY, linewidth=1, zorder=1)
        panel.plot(study, rate, "o", color=ORANGE, markersize=8)
        panel.plot(traffic, rate, "o", markerfacecolor="white", markeredgecolor=BLUE, markersize=8, markeredgewidth=1.8)
    for model, rate, at, study in zip(
        columns["model"], rates, _spread(rates), columns["study_flop_per_byte"], strict=True
    ):
        panel.annotate(
            model, (study, rate), (1.01, at), textcoords=panel.get_yaxis_transform(), fontsize=9, va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "linestyle": ":", "shrinkB": 5},
        )  # fmt: skip
    panel.set_xlim(0.5, 5e7)
    panel.set_xlabel("arithmetic intensity (FLOP/B)")
    panel.set_ylabel("TFLOP/s over one inference")
    panel.grid(color="#e4e4e4", linewidth=0.6)
    panel.annotate(
        f"ridge {peak / bandwidth:.0f} FLOP/B",
        (peak / bandwidth, peak / 1e12),
        (-4, 6),
        textcoords="offset points",
        ha="right",
        fontsize=9,
    )
    legend(
        made,
        title,
        [patch(ORANGE), patch(BLUE)],
        ["all FLOPs over the bytes of the model (the study's)", "FLOPs over the traffic of the kernels"],
    )
    save(made, source, path)


def _spread(values: Sequence[float]) -> list[float]:
    """Heights of labels for values, in their order and at least APART times from each other, near where they belong."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    placed: dict[int, float] = {}
    above = math.inf
    for i in order:
        placed[i] = above = min(values[i], above / APART)
    return [placed[i] for i in range(len(values))]


def _breakdown(title: str, tables: Sequence[Table], source: str, path: Path) -> None:
    made, axes = _figure(10.5, 5.6, 1, 1)
    panel, models = axes[0, 0], list(dict.fromkeys(tables[0].column("model")))
    shown = [g for g in STACKED if any(r[5] > 0.004 for r in tables[0].where(**{"class": g}).rows)]
    speed = {row[1]: row[2] for row in tables[1].rows}
    for i, model in enumerate(models):
        for j, way in enumerate(WAYS):
            bottom, mine = 0.0, tables[0].where(model=model, attention=way)
            parts = dict(zip(mine.column("class"), mine.column("of_unfused"), strict=True))
            for group in shown:
                panel.bar(i + 0.4 * j - 0.2, parts.get(group, 0), 0.36, bottom, color=OF_GROUP[group], linewidth=0)
                bottom += parts.get(group, 0)
            if way == "flash-2":
                panel.annotate(
                    f"{speed[model]:.2f}x",
                    (i + 0.2, bottom),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                )
    panel.set_xticks(range(len(models)), [m.replace(" ", "\n", 1) for m in models], fontsize=9)
    panel.set_ylabel("kernel time over the unfused")
    panel.set_ylim(0, 1.1)
    panel.set_xlabel("left: unfused, right: flash-2", fontsize=9)
    _legend(made, title, [OF_GROUP[g] for g in shown], shown, 6)
    save(made, source, path)


def _legend(made: Any, title: str, colours: Sequence[str], names: Sequence[str], most: int) -> None:
    look = {"frameon": False, "fontsize": 9, "title_fontsize": 12, "alignment": "left", "columnspacing": 1.2}
    made.legend([patch(c) for c in colours], names, title=title, loc="outside upper left", ncols=most, **look)


def _profile(title: str, tables: Sequence[Table], source: str, path: Path) -> None:
    made, axes = _figure(12, 6.6, 3, len(PROFILED), sharex="col")
    for column, model in enumerate(PROFILED):
        found = tables[0].where(model=TITLE[model], role="self")
        length = found.column("kv_len" if model == "parti" else "q_len")
        rows = (length, [v / 1e9 for v in found.column("hbm_bytes_per_s")], found.column("l2_miss_rate"))
        for row, (values, colour) in enumerate(zip(rows, (ORANGE, BLUE, GREEN), strict=True)):
            panel = axes[row, column]
            panel.step(range(len(values)), values, where="mid", color=colour, linewidth=1.4)
            panel.grid(axis="y", color="#e4e4e4", linewidth=0.6)
            if row == 0 and model != "parti":
                panel.set_yscale("log", base=2)
                panel.set_ylim(min(values) / 2, 2 * max(values))
            else:
                panel.set_ylim(bottom=0)
        axes[0, column].set_title(TITLE[model] + (", keys" if model == "parti" else ""), loc="left", fontsize=10)
        axes[2, column].set_xlabel("self-attention calls", fontsize=9.5)
    for row, name in enumerate(("sequence length", "HBM (GB/s)", "L2 miss rate")):
        axes[row, 0].set_ylabel(name)
    legend(made, title)
    save(made, source, path)


def _sequence(title: str, tables: Sequence[Table], source: str, path: Path) -> None:
    made, axes = _figure(11, 4.6, 1, 2)
    counts, memory = axes[0]
    sides = sorted(set(tables[0].column("side_px")))
    lengths = sorted(set(tables[0].column("q_len")))
    wide = 0.86 / len(sides)
    for i, (side, colour) in enumerate(zip(sides, (GREY, SKY, BLUE, GREEN, ORANGE, BLACK), strict=False)):
        found = tables[0].where(side_px=side)
        at = [lengths.index(n) + wide * (i - (len(sides) - 1) / 2) for n in found.column("q_len")]
        counts.bar(at, found.column("calls"), wide, color=colour, linewidth=0, label=f"{side} px")
    counts.set_xticks(range(len(lengths)), [f"{n:,}" for n in lengths], fontsize=8.5)
    counts.set_xlabel("sequence length (queries)")
    counts.set_ylabel("attention calls of one inference")
    counts.set_ylim(0, 640)
    counts.legend(frameon=False, fontsize=8.5, ncols=3)
    x = tables[1].column("side_px")
    for name, style, label in (
        ("traced_bytes", "o", "traced"),
        ("formula_bytes", "-", "formula"),
        ("l4_bytes", ":", "L⁴ of the least"),
    ):
        memory.loglog(
            x, [v / 1e9 for v in tables[1].column(name)], style, color=BLUE if style == "o" else BLACK, label=label
        )
    memory.set_xticks(x, [str(v) for v in x])
    memory.minorticks_off()
    memory.set_xlabel("image side (pixels)")
    memory.set_ylabel("similarity matrices of one pass (GB)")
    memory.legend(frameon=False, fontsize=9)
    legend(made, title)
    save(made, source, path)


def _growth(title: str, tables: Sequence[Table], source: str, path: Path) -> None:
    made, axes = _figure(9, 4.8, 1, 1)
    panel = axes[0, 0]
    for way in WAYS:
        found = tables[0].where(attention=way)
        attended = [a + p for a, p in zip(found.column("attention_s"), found.column("projections_s"), strict=True)]
        for name, values, colour in (
            ("attention", attended, ORANGE),
            ("convolution", found.column("convolution_s"), BLUE),
        ):
            panel.loglog(
                found.column("side_px"), values, LINE[way], color=colour, marker="o", label=f"{name}, {way}",
                markersize=4 + 3 * (way == UNFUSED), markerfacecolor="white" if way == UNFUSED else colour,
            )  # fmt: skip
    x = sorted(set(tables[0].column("side_px")))
    panel.set_xticks(x, [str(v) for v in x])
    panel.minorticks_off()
    panel.set_xlabel("image side (pixels)")
    panel.set_ylabel("kernel time of one inference (s)")
    panel.grid(color="#e4e4e4", linewidth=0.6)
    panel.legend(frameon=False, fontsize=9)
    legend(made, title + ", Stable Diffusion 1.5")
    save(made, source, path)


def _temporal(title: str, tables: Sequence[Table], source: str, path: Path) -> None:
    made, axes = _figure(11.5, 6.6, 2, 3)
    names = (
        ("time_s", 1, "kernel time (s; pale: projections)"), ("flops", 1e12, "TFLOP of the two products"),
        ("hbm_bytes", 1e12, "HBM traffic (TB)"), ("flop_per_s", 1e12, "TFLOP/s reached"),
    )  # fmt: skip
    networks = list(dict.fromkeys(tables[0].column("network")))
    for panel, (column, unit, label) in zip(axes.flat, names, strict=False):
        for i, network in enumerate(networks):
            for j, call in enumerate(OF_CALL):
                found = tables[0].where(network=network, attention_way="unfused", attention=call)
                if not found.rows:
                    continue
                at, value = i + 0.4 * j - 0.2, found.column(column)[0] / unit
                panel.bar(at, value, 0.36, color=OF_CALL[call], linewidth=0)
                if column == "time_s":
                    panel.bar(
                        at, found.column("projections_s")[0], 0.36, value, color=OF_CALL[call], alpha=0.35, linewidth=0
                    )
        panel.set_xticks(range(len(networks)), networks, fontsize=9)
        panel.set_title(label, loc="left", fontsize=10)
    base = tables[1].where(assumption="as assumed")
    kinds = list(dict.fromkeys(base.column("kernel")))
    counted = (
        ("misses_per_kilo_instruction", "L2 misses a 1000 instructions"),
        ("access_cycles", "mean memory access (cycles)"),
    )
    for panel, (column, label) in zip(axes.flat[len(names) :], counted, strict=True):
        for j, call in enumerate(("spatial", "temporal")):
            places = [i + 0.4 * j - 0.2 for i in range(len(kinds))]
            panel.bar(places, base.where(attention=call).column(column), 0.36, color=OF_CALL[call], linewidth=0)
        panel.set_xticks(range(len(kinds)), kinds, fontsize=9)
        panel.set_title(label, loc="left", fontsize=10)
    legend(made, f"{title}, unfused", [patch(ORANGE), patch(BLACK)], ["spatial", "temporal"])
    save(made, source, path)


def _overtaking(title: str, tables: Sequence[Table], source: str, path: Path) -> None:
    sides = sorted(set(tables[0].column("side_px")))
    made, axes = _figure(11.5, 6.8, 2, len(sides), sharex=True, sharey="row")
    for column, side in enumerate(sides):
        for call, colour in OF_CALL.items():
            found = tables[0].where(side_px=side, attention=call, attention_way="flash-2")
            axes[0, column].loglog(
                found.column("frames"), [v / 1e12 for v in found.column("flops")], color=colour, linewidth=2
            )
            axes[1, column].loglog(found.column("frames"), found.column("time_s"), color=colour, linewidth=2)
        crossed = tables[1].where(side_px=side, attention_way="flash-2")
        for row, name in enumerate(("flops_frames", "time_frames")):
            at = crossed.column(name)[0]
            if at and at <= max(tables[0].column("frames")):
                axes[row, column].axvline(at, color=GREY, linewidth=1, linestyle=":")
                axes[row, column].text(
                    at, axes[row, column].get_ylim()[0], f" {at:,.0f}", fontsize=9, va="bottom", ha="right"
                )
        axes[0, column].set_title(f"{side} × {side} at the network", loc="left", fontsize=10)
        axes[1, column].set_xlabel("frames")
        for row in (0, 1):
            axes[row, column].grid(color="#e4e4e4", linewidth=0.6)
    axes[0, 0].set_ylabel("TFLOP of one inference")
    axes[1, 0].set_ylabel("kernel time (s), flash-2")
    legend(made, f"{title}, {TITLE[VIDEO]}'s decoder", [patch(c) for c in OF_CALL.values()], list(OF_CALL))
    save(made, source, path)


_DRAWN: dict[str, Callable[[str, Sequence[Table], str, Path], None]] = {
    "fig1": _roofline, "fig2": _breakdown, "fig3": _profile, "fig4": _sequence, "fig5": _growth, "fig6": _temporal,
    "fig7": _overtaking,
}  # fmt: skip
