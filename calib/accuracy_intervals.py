"""A section of docs/accuracy.md: how many rows of units that no fit saw lie in their intervals of 80 %, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from tabulate import tabulate

from calib.families.base import Floats
from calib.fit import NEARER, Rows, judged, predicted
from calib.held_values import LEAST_END, columns_of
from sim.fitted import Part

ASKED, MANY = (
    (78.0, 82.0),
    1000,
)  # percent inside, in cells of so many rows; of fewer, the binomial band of 19 in 20 draws
END = NormalDist().inv_cdf(0.9)  # standard deviations beyond which a tenth of normal errors lie
SIZES = np.array(
    [NormalDist().inv_cdf(0.5 + i / 200.0 + 0.0025) for i in range(100)]
)  # of normal errors, all as likely
FIFTHS = 5  # of the rows of a cell by the width of their intervals
HEADS = (
    "held out",
    "software, algorithm",
    "rows",
    "units",
    "inside %",
    "asked",
    "band of units ±",
    "half-width %",
    "median error %",
    "80 % over median",
    "ratio",
    "ratio of normal errors",
    "inside by fifths of the width %",
    "met",
)


def inside(rows: Rows, guess: Floats, part: Part | None) -> dict[str, float]:
    """Percent of rows (rows,) inside, also by fifths of the width; half of the median width of the intervals; units, and how far
    a share of rows that come in whole units strays from a true 80 % in 19 of 20 draws; and what 80 % of errors lie within over
    their median, each in units of the row's own interval; and half the median width over the median error, were intervals
    exactly right (`normal`). {} for a fit without intervals."""
    if part is None or not part.intervals:
        return {}
    low, high = part.ends(rows.condition, guess, columns_of(rows.frame, part), judged(rows, part)[2])
    away = np.log(rows.measured / guess)
    within = (low <= away) & (away <= high)
    unit = np.unique(rows.unit, return_inverse=True)[1]
    off = np.bincount(unit, within - within.mean())
    ends = np.abs(away) / np.maximum(np.where(away > 0.0, high, -low), LEAST_END)
    fifth = np.argsort(np.argsort(high - low, kind="stable"), kind="stable") * FIFTHS // len(away)
    rows_of = [within[fifth == i] for i in range(FIFTHS) if (fifth == i).any()]
    return {f"fifth {i}": 100.0 * float(own.mean()) for i, own in enumerate(rows_of)} | {
        "inside": 100.0 * float(within.mean()), "width": 50.0 * float(np.median(high - low)), "units": float(unit.max() + 1),
        "band": 196.0 * float(np.sqrt(np.sum(off**2))) / len(rows),
        "alike": float(np.quantile(ends, 0.8) / np.median(ends)), "normal": normal(low, high),
    }  # fmt: skip


def normal(low: Floats, high: Floats) -> float:
    """Half the median width of intervals (rows,) over the median size of errors that each of them fits exactly: normal on either
    side, a tenth of them beyond each end."""
    errors = np.outer(np.concatenate([-low, high]) / END, SIZES)
    return float(np.median(high - low) / 2.0 / np.median(errors))


def nearer(rows: Rows, guess: Floats, part: Part | None) -> dict[str, float]:
    """Error of the mean of the networks over that of so many as are blind to a fold, in the mean over folds, of rows that none
    saw."""
    if part is None or part.residual is None or len(part.residual.layers) < 2:
        return {}
    layers, each = part.residual.layers, len(part.doubt.networks) if part.doubt else 1
    some = [tuple(layers[(i + j) % len(layers)] for j in range(each)) for i in range(len(layers))]
    by = [predicted(rows, replace(part, residual=replace(part.residual, layers=own), doubt=None))[0] for own in some]
    few, all_ = (np.mean([np.abs(np.log(g / rows.measured)).mean() for g in guesses]) for guesses in (by, [guess]))
    return {"nearer": float(all_ / few)}


def section(found: Iterable[tuple[str, Mapping[str, Mapping[str, float]], int]]) -> str:
    """Of (title, numbers by software with "" for all of them, rows)."""
    lines, ratios = [], []
    for title, by, count in found:
        ratios += [f"{by['']['nearer']:.2f}"] if "nearer" in by[""] else []
        names = [name for name in by if name] if len(by) > 2 else [""]
        lines += [_line(title, name, by[name], count) for name in names if "inside" in by[name]]
    return "\n\n".join(
        [
            "## Intervals on units that no fit saw\n"
            "Each network of a fit is trained without two folds of the units, so that two are blind to every row. An\n"
            "interval is a pair of quantiles of errors of such rows, by software and size of the time, times how unsure\n"
            "the fit is of the row: how much the two differ about it (their standard deviation, and a floor), and what a\n"
            "forest of regression trees makes of its features, predicted time, software and that difference: two\n"
            "quantiles of what is left of the errors of rows like it, below and above. Its trees are grown without each\n"
            "fourth of the units, and intervals made of what they say of that. A new row is judged by two networks that\n"
            "spared one fold and the trees that spared one fourth: more would differ less by chance, and be no measure of\n"
            "the same. Here intervals are held against rows that had no part in that: those that the fits above are\n"
            f"scored on. It is for the mean of all networks, errors are of the mean of two, and are taken to be {NEARER:g}\n"
            f"as large; on these rows that ratio is {', '.join(ratios)}.\n"
            "'Band of units': rows come in whole units, and few; in 19 of 20 draws of as many units the share would be so\n"
            "near.\n"
            "Where tables are grids (16-bit products, serving attention), the interval of a row with a value between\n"
            "measured ones, below the smallest or above the largest is wider, by what errors of pairs of networks that\n"
            "never saw some values of that column have on top of it, over what the same pair misses known values by.\n"
            "Errors add by their squares; so much is added that each value is held by what the others say. All softwares\n"
            "are taken alike. Those values are few: a region that differs from all is not held, nor a software that errs\n"
            "more there than the others.\n"
            "An interval holds 80 % in all. Of 1,000 held-out rows and more its two tails need not be alike: errors are skewed,\n"
            "and of some pairs of tails that leave out a fifth of the rows the one with the shortest interval is taken.\n"
            "Where the share is as asked and the width is not: '80 % over median' counts errors in units of their own\n"
            "row's interval; so many medians hold 80 % of them even among rows of which the fit is as sure. Normal errors\n"
            "have 1.9. 'Ratio' is the half-width over the median error, of which at most 2 was asked. 'Ratio of normal\n"
            "errors' is what it would be were every interval of the cell exactly right: errors normal on either side of the\n"
            "prediction, a tenth of them beyond each end. Rows differ in how sure the fit is of them, and the median of\n"
            "errors of many sizes is less than that of the median size: 2.1 where the scale differs by e^0.7 (standard\n"
            "deviation), 2.4 where it differs without limit. Where that ratio is above 2, the half-width is below twice the\n"
            "median error where errors have shorter tails than normal ones, or some fifth of the rows too few inside,\n"
            "which the fifths of the width would show. Where it is below 2 and the ratio above, tails are longer: kernels\n"
            "change from one shape to the next. With few units both follow the draw.\n"
            "Tried on 16-bit products and attention, not in use and no part of this page's command: trees grown by boosting\n"
            "for quantiles of the same features; tails chosen row by row from the forest (widths within 4 % of those of tails\n"
            "by group); moving predictions by the median error of rows like them (it lowered mean errors at unseen pairs of\n"
            "attention by 1 to 2 % of themselves, those of products not at all, and raised those of decoding at unseen\n"
            "values). And other units drawn: the share inside went from 86 to 79 % for decoding at unseen pairs, from 72 to\n"
            "83 % at unseen values, and from 85 to 78 % for prefill at unseen values: one draw of few units says little.",
            str(tabulate(lines, HEADS, tablefmt="github", disable_numparse=True)),
        ]
    )  # fmt: skip


def _line(title: str, name: str, e: Mapping[str, float], count: int) -> list[str]:
    rows = e.get("rows", float(count))
    band = 196.0 * np.sqrt(0.8 * 0.2 / rows)
    low, high = ASKED if rows >= MANY else (80.0 - band, 80.0 + band)
    is_met = low <= e["inside"] <= high and e["width"] <= 2.0 * e["median"]
    return [
        title, name, f"{rows:.0f}", f"{e['units']:.0f}", f"{e['inside']:.1f}", f"{low:.0f}–{high:.0f}", f"{e['band']:.1f}",
        f"{e['width']:.1f}", f"{e['median']:.1f}", f"{e['alike']:.1f}", f"{e['width'] / e['median']:.2f}", f"{e['normal']:.2f}",
        " ".join(f"{e[f'fifth {i}']:.0f}" for i in range(FIFTHS) if f"fifth {i}" in e), "yes" if is_met else "no",
    ]  # fmt: skip
