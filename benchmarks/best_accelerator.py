"""The worked example of docs/best-accelerator.md: `python -m benchmarks.best_accelerator` searches and rewrites it.

What was found is kept in benchmarks/results/best_accelerator.json, its plots in docs/img; a test holds the page to it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explore import answer_plots
from explore.answer import Answer, answer
from explore.answer_report import around_rows, bound_rows, front_rows, odds, sure_rows
from explore.objectives import read, repeated
from explore.space import origin, show
from explore.storage import Location
from explore.study import run
from sim.report import number

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples/hardware-search-mix.yaml"
PAGE, RESULTS = ROOT / "docs/best-accelerator.md", ROOT / "benchmarks/results/best_accelerator.json"
PLOTS = ("front", "tornado")
REPEATS = 3
BESIDE = ("images_per_s", "energy_per_image_j", "area_mm2", "full_power_w", "price_usd", "usd_per_1000_images")
CERTAIN = 0.999  # probability from which on it is said so: the errors are not known to be normal so far out
BEGIN, END = "<!-- found: begin -->\n", "<!-- found: end -->\n"


def play() -> tuple[Answer, dict[str, Any]]:
    """Search with every seed; what the page needs of it, as plain data."""
    search = read(origin(str(EXAMPLE)))
    with tempfile.TemporaryDirectory() as folder:
        where = Location(f"{folder}/study.journal")
        found = answer(search, [run(one, where) for one in repeated(search, REPEATS)], where)
    return found, told(found)


def told(found: Answer) -> dict[str, Any]:
    """Of a finished search: its tables, the fields of the fastest design, its trade-offs, the spread over the seeds."""
    search, best = found.search, found.best("latency_s")
    assert best is not None
    design, shown = found.design(best), found.shown()
    place = 1 + shown.index(best)
    outputs = {n: float(found.trials.outputs[n][best]) for n in BESIDE}
    return {
        "trials": len(found.trials),
        "feasible": int(found.trials.feasible.sum()),
        "infeasible": found.infeasible(),
        "designs": [
            [a.path, *(show(of[a.path], a.field.unit) for of in (search.baseline, design))] for a in search.axes
        ],
        "differences": search.differences(design),
        "outputs": {name: [found.own[name], value] for name, value in outputs.items()},
        "workloads": {
            p.name: [found.own[f"{p.name}.latency_s"], float(found.trials.outputs[f"{p.name}.latency_s"][best])]
            for p in search.mix.parts
        },
        "speed": list(found.ranking.speed(place)),
        "faster_than_baseline": found.ranking.faster(place, 0),
        "meets": {c.text: found.sure.meets(c, place) for c in search.constraints},
        "sure": list(sure_rows(found)),
        "front": list(front_rows(found)),
        "bounds": list(bound_rows(found)),
        "around": list(around_rows(found)),
        "bounds_hit": found.bounds_hit().get("latency_s", []),
        "idle": found.around.idle("latency_s"),
        "spread": found.spread(),
    }  # fmt: skip


def tables(data: dict[str, Any]) -> str:
    """Markdown."""
    ratio, low, high = data["speed"]
    missed = "; ".join(f"{count:,} miss `{name}`" for name, count in data["infeasible"].items())
    parts = [
        f"Of {data['trials']:,} designs ({REPEATS} seeds) {data['feasible']:,} are feasible; {missed}.",
        f"**The fastest: {data['differences']}.** It is {ratio:.2f} times as fast as the A100 on the mean request, with 80 %"
        f" between {low:.2f} and {high:.2f}; that it is faster at all has a probability of"
        f" {100 * min(data['faster_than_baseline'], CERTAIN):.1f} %{' or more' * (data['faster_than_baseline'] > CERTAIN)}.",
        "As far as the errors of times, areas and power are known, it keeps to its limits with a probability of "
        + ", ".join(f"{odds(p)} (`{name}`)" for name, p in data["meets"].items()) + ".",
        _markdown(["field", "A100", "the fastest"], data["designs"]),
        "What it trades:",
        _markdown(["", "A100", "the fastest", "ratio"], [
            *([f"latency of `{n}`, s", *map(number, pair), f"{pair[1] / pair[0]:.2f}"] for n, pair in data["workloads"].items()),
            *([f"`{n}`", *map(number, pair), f"{pair[1] / pair[0]:.2f}"] for n, pair in data["outputs"].items()),
        ]),
        "Where each workload is bound, before and after:",
        _markdown(*data["bounds"]),
        "What moves the best designs:",
        _markdown(*data["around"]),
        f"Did not matter for the latency (10 % less or more changes it by 0.5 % at most): {_listed(data['idle'])}.",
        f"Bounds that the fastest stands at: {_listed(data['bounds_hit'])}.",
        "The front; how sure its order is, is the last column:",
        _markdown(*data["front"]),
        "The same designs over the A100, with 80 %; of a limit, the probability that it is met:",
        _markdown(*data["sure"]),
        "Over the seeds:",
        _markdown(["", "least", "greatest", "apart"], [
            [f"best {n}" if n != "hypervolume" else "hypervolume, share of all together", number(min(v)), number(max(v)),
             f"{100 * (max(v) - min(v)) / max(v):.1f} %"] for n, v in data["spread"].items()
        ]),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(text: str, data: dict[str, Any]) -> str:
    """The page with the tables between its marks."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + tables(data) + END + rest.partition(END)[2]


def main() -> None:
    """Search; rewrite the results, the page and its plots."""
    found, data = play()
    RESULTS.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), data), encoding="utf-8")
    for name in PLOTS:
        answer_plots.plots(found)[name](found, ROOT / f"docs/img/best-accelerator-{name}.png")


if __name__ == "__main__":
    main()
