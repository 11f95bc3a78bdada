"""Score predictions against a table of measurements: errors by operator, region and software, the worst rows, a parity plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate

from calib.predict import Predictions, Target, predict
from calib.table import Measurements

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["op", "dtype", "device", "software"]
WORST = 10  # rows that are shown
MOST_POINTS = 20_000  # of the parity plot


@dataclass(frozen=True)
class Score:
    """The rows of a table beside their predictions: `frame` has predicted_us, low_us, high_us, bound, in_range, level, why.

    `hardware` and `level` are what was asked for; `dropped` counts unusable rows of the files by reason.
    """

    frame: pd.DataFrame
    hardware: str
    level: str
    dropped: Mapping[str, int]

    @property
    def scored(self) -> pd.DataFrame:
        """The rows that have a prediction."""
        return self.frame[self.frame["predicted_us"].notna()]


def score(found: Measurements, on: Target, hardware: str, level: str = "calibrated") -> Score:
    """Predict every usable row of the tables."""
    frame = beside(found.frame, predict(found.frame, on, level))
    dropped: dict[str, int] = {}
    for p in found.provenance:
        for why, count in p.dropped.items():
            dropped[why] = dropped.get(why, 0) + count
    return Score(frame, hardware, level, dropped)


def beside(frame: pd.DataFrame, p: Predictions) -> pd.DataFrame:
    """A frame with the columns of its predictions, microseconds."""
    return frame.assign(
        predicted_us=1e6 * p.predicted, low_us=1e6 * p.low, high_us=1e6 * p.high, bound=p.bound, in_range=p.in_range,
        level=p.level, device=p.device, why=p.why,
    )  # fmt: skip


def summary(frame: pd.DataFrame) -> dict[str, Any]:
    """Rows, rows scored, and errors in percent of the measured time: mean absolute, median, 90th percentile, worst, mean signed
    (bias), and the share of rows inside the interval of 80 %."""
    scored = frame[frame["predicted_us"].notna()]
    out: dict[str, Any] = {"rows": len(frame), "scored": len(scored)}
    if not len(scored):
        return out | dict.fromkeys(("mape", "median", "p90", "worst", "bias", "coverage80"))
    measured = scored["latency_us"].to_numpy(dtype=np.float64)
    error = 100.0 * (scored["predicted_us"].to_numpy() / measured - 1.0)
    size = np.abs(error)
    inside = (scored["low_us"].to_numpy() <= measured) & (measured <= scored["high_us"].to_numpy())
    numbers = {
        "mape": size.mean(), "median": np.median(size), "p90": np.quantile(size, 0.9), "worst": size.max(), "bias": error.mean(),
        "coverage80": 100.0 * inside.mean(),
    }  # fmt: skip
    return out | {name: round(float(value), 3) for name, value in numbers.items()}


def by(frame: pd.DataFrame, keys: list[str]) -> Iterator[dict[str, Any]]:
    """One summary for each combination of columns, those with most rows first."""
    filled = frame.assign(**{key: frame[key].fillna("") if key in frame else "" for key in keys})
    groups = sorted(filled.groupby(keys, sort=True), key=lambda item: -len(item[1]))
    for values, part in groups:
        yield dict(zip(keys, values, strict=True)) | summary(part)


def regions(s: Score) -> list[dict[str, Any]]:
    """Summaries by what bounds the rows, and by whether their shapes are covered."""
    return [{"op": r["op"], **r} for r in by(s.scored, ["op", "bound", "in_range"])] if len(s.scored) else []


def worst(s: Score) -> pd.DataFrame:
    """The rows with the largest errors, either way as a factor."""
    scored = s.scored
    factor = np.abs(np.log(scored["predicted_us"] / scored["latency_us"]))
    return scored.assign(factor=np.exp(factor)).nlargest(WORST, "factor")


def to_json(s: Score) -> dict[str, Any]:
    """Plain data; percent and microseconds."""
    far = worst(s)
    columns = ["path", "line", *KEYS, "latency_us", "predicted_us", "bound", "in_range"]
    why = s.frame.loc[s.frame["why"] != "", "why"].value_counts()
    return {
        "schema_version": 1,
        "hardware": s.hardware,
        "level": s.level,
        "ops": list(by(s.frame, KEYS)),
        "overall": summary(s.frame),
        "regions": regions(s),
        "levels": {str(k): int(v) for k, v in s.scored["level"].value_counts().items()},
        "not_scored": {str(k): int(v) for k, v in why.items()},
        "dropped": dict(s.dropped),
        "worst": [
            {k: v.item() if hasattr(v, "item") else v for k, v in row.items()}
            for row in far[[c for c in columns if c in far]].to_dict("records")
        ],
    }


def text(s: Score) -> str:
    """Tables for people."""
    heads = ["rows", "scored", "median %", "MAPE %", "p90 %", "worst %", "bias %", "in 80 % interval"]
    parts = [_title(s)]
    parts.append(tabulate([_line(r, KEYS) for r in by(s.frame, KEYS)], [*KEYS, *heads], disable_numparse=True))
    parts.append(_total(s))
    if len(s.scored):
        keys = ["op", "bound", "in_range"]
        parts.append(
            tabulate(
                [_line(r, keys) for r in regions(s)],
                ["operator", "bound", "shape covered", *heads],
                disable_numparse=True,
            )
        )
        parts.append(f"The {min(WORST, len(s.scored))} worst rows\n{_worst_text(s)}")
    return "\n\n".join(parts)


def _title(s: Score) -> str:
    used = (
        ", ".join(f"{count} rows {level}" for level, count in s.scored["level"].value_counts().items())
        or "no row priced"
    )
    asked = s.hardware or "each row's own device"
    return f"{asked}, level {s.level}: {used}"


def _total(s: Score) -> str:
    all_ = summary(s.frame)
    lines = [
        f"not scored: {count} rows ({why})"
        for why, count in s.frame.loc[s.frame["why"] != "", "why"].value_counts().items()
    ]
    lines += [f"not used: {count} rows ({why})" for why, count in s.dropped.items()]
    if all_["scored"]:
        lines.insert(
            0,
            f"all: {all_['scored']} rows, median {all_['median']:.1f} %, MAPE {all_['mape']:.1f} %, p90 {all_['p90']:.1f} %",
        )
    return "\n".join(lines)


def _line(r: Mapping[str, Any], keys: list[str]) -> list[str]:
    numbers = ("median", "mape", "p90", "worst", "bias", "coverage80")
    shown = ["-" if r[n] is None else f"{r[n]:.1f}" for n in numbers]
    names = [{True: "yes", False: "no"}.get(r[k], r[k]) if isinstance(r[k], bool) else str(r[k]) for k in keys]
    return [*names, str(r["rows"]), str(r["scored"]), *shown]


def _worst_text(s: Score) -> str:
    far = worst(s)
    rows = [
        (f"{Path(str(r.path)).name}:{r.line}", r.op, r.dtype, getattr(r, "software", ""), f"{r.latency_us:.4g}",
         f"{r.predicted_us:.4g}", r.bound)
        for r in far.itertuples()
    ]  # fmt: skip
    return str(
        tabulate(
            rows, ["row", "op", "dtype", "software", "measured us", "predicted us", "bound"], disable_numparse=True
        )
    )


def parity(s: Score, path: Path) -> None:
    """Predicted over measured, both logarithmic, one colour for each operator; PNG or SVG by the name of the file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    scored = s.scored
    if len(scored) > MOST_POINTS:
        scored = scored.sample(MOST_POINTS, random_state=0)
    for op, part in scored.groupby("op"):
        axes.plot(part["latency_us"], part["predicted_us"], ".", markersize=2, alpha=0.4, label=f"{op} ({len(part)})")
    ends = [scored["latency_us"].min(), scored["latency_us"].max()]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="measured (us)", ylabel="predicted (us)")
    axes.set_title(f"{s.hardware or 'each row on its own device'}, level {s.level}", fontsize=10)
    axes.legend(fontsize=7, markerscale=4)
    figure.savefig(path, dpi=150)
