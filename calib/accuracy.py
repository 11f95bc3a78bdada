"""docs/accuracy.md: errors on rows held out by whole units, beside what was asked for. `make accuracy TABLES=dir`.

Every line is a fit of its own, by the recipe of `framecast calib fit`, without the rows that it is scored on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from calib import accuracy_intervals, accuracy_noise, accuracy_transfer, conv_alike, conv_unit, few_accuracy
from calib.families.base import Floats
from calib.fit import HELD_OUT, Rows, errors, held_units, parts_of, predicted, priced, trained, with_floor
from calib.make import rows_on
from calib.table import read
from sim.fitted import Part, base_terms

if TYPE_CHECKING:
    import pandas as pd

Mask: TypeAlias = NDArray[np.bool_]
Target: TypeAlias = tuple[float | None, float | None, float | None]  # median, MAPE, p90, in percent
HARDWARE = "a100"
FILES = (
    "gemm",
    "attention",
    "conv2d",
    "conv_kernelbench",
    "conv_fp16_a100",
    "norm",
    "softmax",
    "elementwise",
    "collective",
)
PAGE = Path("docs/accuracy.md")
LARGEST = {"m": 8192, "n": 51200, "k": 12288}  # from these on, extents are the largest of the tables
LEAST = 30  # held-out rows of a software from which it has a line


@dataclass(frozen=True)
class Case:
    """One way to hold rows of a part out, and the errors that were asked for (None: no figure)."""

    part: str
    title: str
    held: Callable[[Rows], Mask]
    target: Target
    blind: bool = False  # the software, or the algorithm, is not told
    least: float = 0.0  # seconds: shorter rows are not scored
    each: bool = False  # every software has to meet the target, not only all of them together
    crossed: bool = False  # constants of the family are fitted anew without a fifth of the problems, five times


@dataclass(frozen=True)
class Found:
    """Errors of a case: by software ("" is all), and of the levels below the calibrated one on the same rows."""

    case: int
    rows: int
    by_software: Mapping[str, Mapping[str, float]]
    levels: Mapping[str, Mapping[str, float]]


def units(rows: Rows) -> Mask:
    """A fifth of the units of the family: pairs of n and k, of batch and length, of channels."""
    return held_units(rows.unit, 0)


def everything(rows: Rows) -> Mask:
    """Every row, each by a fit of the other problems."""
    return np.ones(len(rows), dtype=bool)


def values(*names: str) -> Callable[[Rows], Mask]:
    """Rows with one of a fifth of the values of a column; of several, an equal share of each."""

    def held(rows: Rows) -> Mask:
        out = np.zeros(len(rows), dtype=bool)
        for i, name in enumerate(names):
            column = rows.frame[name].to_numpy()
            known = np.unique(column)
            count = max(1, round(HELD_OUT * len(known) / len(names)))
            out |= np.isin(column, np.random.default_rng(i).choice(known, count, replace=False))
        return out

    return held


def largest(rows: Rows) -> Mask:
    """The largest m, n and k of the tables."""
    columns = [rows.frame[name].to_numpy() >= least for name, least in LARGEST.items()]
    return np.asarray(np.any(columns, axis=0))


CASES = (
    Case("gemm/16-bit", "GEMM bf16/fp16, unseen pairs (n, k)", units, (3, 5, 10), each=True),
    Case("gemm/16-bit", "GEMM bf16/fp16, unseen values of n or k", values("n", "k"), (None, 6, None)),
    Case("gemm/16-bit", "GEMM bf16/fp16, largest m, n, k kept out", largest, (None, 8, None)),
    Case("gemm/fp32", "GEMM fp32 (launch included), unseen pairs", units, (6, 9, 20)),
    Case("attention/prefill", "attention prefill, unseen pairs (batch, length)", units, (3, 4, 12)),
    Case("attention/prefill", "attention prefill, unseen values", values("batch", "kv_len"), (None, 6, None)),
    Case("attention/decode", "attention decode, unseen pairs", units, (4, 6, 14)),
    Case("attention/decode", "attention decode, unseen values", values("batch", "kv_len"), (None, None, None)),
    Case("conv/fp32", "convolution fp32, algorithm given", units, (9, 14, 28)),
    Case("conv/fp32", "convolution fp32, algorithm predicted", units, (11, 18, 36), blind=True),
    Case("conv/fp32", "convolution fp32, algorithm given, 700 us and more", units, (None, None, None), least=700e-6),
    Case(
        "conv/tensor",
        "convolution TF32/fp16 above 200 us (launch included)",
        everything,
        (None, 20, None),
        least=conv_unit.LONG,
        crossed=True,
    ),
    Case("norm", "layer and RMS norm", units, (5, 8, 18)),
    Case("softmax", "softmax", units, (5, 8, 18)),
    Case("elementwise", "element-wise", units, (5, 8, 18)),
    Case("collective", "collectives", units, (3, 8, 20)),
)


def measured_cases(frame: pd.DataFrame, workers: int = 2) -> list[Found]:
    """Fit and score every case whose part has rows; cases that hold out the same rows share a fit."""
    together: dict[tuple[str, Callable[[Rows], Mask]], list[int]] = {}
    for i, case in enumerate(CASES):
        together.setdefault((case.part, case.held), []).append(i)
    order = sorted(together.values(), key=lambda own: not CASES[own[0]].part.startswith("gemm"))
    with ProcessPoolExecutor(max_workers=workers) as pool:
        found = pool.map(_scored, [(own, frame) for own in order])
        return sorted((f for some in found for f in some), key=lambda f: f.case)


def _scored(task: tuple[list[int], pd.DataFrame]) -> list[Found]:
    """Cases that hold out the same rows of one part."""
    from calib.network import Recipe

    (first, *_), frame = task
    rows = next((r for r in parts_of(frame) if r.name == CASES[first].part), None)
    if rows is None:
        return []
    held = CASES[first].held(rows)
    if CASES[first].crossed:
        guess, long = conv_unit.crossed(rows), rows.measured >= CASES[first].least
        return [_found(first, rows.take(long), guess[long], {})] if long.any() else []
    part = trained(rows.take(~held), Recipe())
    found = []
    for index in task[0]:
        case = CASES[index]
        out = rows.take(held & (rows.measured >= case.least))
        if case.blind:
            out = replace(out, condition=np.full(len(out), "", dtype=object))
        if len(out):
            levels = {name: errors(out.measured, time_) for name, time_ in _levels(out, part).items()}
            found.append(_found(index, out, predicted(out, part)[0], levels, part))
    return found


def _found(
    index: int, out: Rows, guess: Floats, levels: Mapping[str, Mapping[str, float]], part: Part | None = None
) -> Found:  # fmt: skip
    more = accuracy_intervals.inside(out, guess, part) | accuracy_intervals.nearer(out, guess, part)
    by = {"": errors(out.measured, guess) | more}
    for name in sorted(set(out.condition) - {""}):
        mask = out.condition == name
        if mask.sum() >= LEAST:
            own = out.take(mask)
            by[name] = (
                errors(own.measured, guess[mask])
                | accuracy_intervals.inside(own, guess[mask], part)
                | {"rows": float(mask.sum())}
            )
    print(f"{CASES[index].title}: {by['']}", file=sys.stderr, flush=True)
    return Found(index, len(out), by, levels)


def _levels(rows: Rows, part: Part) -> dict[str, Floats]:
    """Seconds of the levels below: shared physical terms with the fitted floors; the terms that were refitted."""
    refitted = with_floor(rows, part).time
    shared = priced(rows, base_terms()).time
    floors = np.array([part.floor(label) for label in rows.floor])
    return {"physical": shared + floors, "physical, refitted": refitted}


def page(found: Sequence[Found], frame: pd.DataFrame, files: Sequence[Path], more: Sequence[str]) -> str:
    """docs/accuracy.md; `more` are sections on convolutions and new devices."""
    heads = ("held out", "rows", "asked: median / MAPE / p90 %", "median %", "MAPE %", "p90 %", "met")
    softwares = ("held out", "software, algorithm", "rows", "median %", "MAPE %", "p90 %")
    steps = ("held out", "physical: MAPE %", "physical, refitted: MAPE %", "calibrated: MAPE %")
    devices = ", ".join(sorted(set(frame["device_id"])))
    missed = [f"{CASES[f.case].title}{_by_whom(f)}" for f in found if _met(f) == "no"]
    return "\n\n".join(
        [
            "# How far the models are from measurements (A100)",
            f"Made by `make accuracy TABLES=dir` from {', '.join(p.name for p in files)}: {len(frame)} rows of {devices}.\n"
            "Every line is a fit without the rows that it is scored on, by the recipe of `framecast calib fit` (seed 0).\n"
            "What is committed as `sim/calibrations/a100.yaml` is the same recipe on all rows: `make calibration TABLES=dir`.\n"
            "Errors are of single rows, in percent of the measured time; nothing is left out of the scores. Convolutions on the\n"
            "matrix unit are few, so each is scored by a fit without its problem, its own constants included. Forms were chosen\n"
            "with these rows in view: that Winograd's kernels take images by 16, paddings of convolutions, sizes and schedules\n"
            "of networks. Constants and weights were not fitted to them.",
            _table(heads, list(_lines(found))),
            f"Missed: {'; '.join(missed)}." if missed else "Every figure that was asked for is met.",
            "## By software\nThe software of a row selects the condition of the fit; a convolution's is its algorithm.",
            _table(softwares, list(_software_lines(found))),
            "## What each level adds\n`physical` are the terms that all devices share, with the fitted launch floors;\n"
            "`refitted` the same terms fitted on this device; `calibrated` the learned correction on top.",
            _table(steps, [_steps(f) for f in found if f.levels]),
            accuracy_intervals.section((CASES[f.case].title, f.by_software, f.rows) for f in found),
            *filter(None, more),
            _limits(),
        ]
    )


def _lines(found: Sequence[Found]) -> Iterator[list[str]]:
    for f in found:
        case, e = CASES[f.case], f.by_software[""]
        asked = " / ".join("–" if t is None else f"≤ {t:g}" for t in case.target)
        yield [case.title, str(f.rows), asked, *_three(e), _met(f)]


def _software_lines(found: Sequence[Found]) -> Iterator[list[str]]:
    for f in found:
        for name, e in f.by_software.items():
            if name and len(f.by_software) > 2:
                yield [CASES[f.case].title, name, f"{e['rows']:.0f}", *_three(e)]


def _steps(f: Found) -> list[str]:
    return [CASES[f.case].title, *(f"{f.levels[n]['mape']:.1f}" for n in f.levels), f"{f.by_software['']['mape']:.1f}"]


def _three(e: Mapping[str, float]) -> list[str]:
    return [f"{e[n]:.1f}" for n in ("median", "mape", "p90")]


def _met(f: Found) -> str:
    case = CASES[f.case]
    if all(t is None for t in case.target):
        return "–"
    return "no" if _misses(f) else "yes"


def _misses(f: Found) -> list[str]:
    """Softwares that miss the target, "" for all of them together."""
    case = CASES[f.case]

    def meets(e: Mapping[str, float]) -> bool:
        return all(t is None or e[n] <= t for t, n in zip(case.target, ("median", "mape", "p90"), strict=True))

    return [name for name, e in f.by_software.items() if (case.each or not name) and not meets(e)]


def _by_whom(f: Found) -> str:
    names = [name for name in _misses(f) if name]
    return f" ({', '.join(names)})" if names and "" not in _misses(f) else ""


def _limits() -> str:
    return """## What not to use it for
- The correction is for the devices named above, with none of their numbers changed. Everything else is priced by the physical
  terms, sweeps and searches always.
- It covers the shapes between the smallest and the largest of each extent in the tables; beyond, it is held constant, and rows
  are marked `in_range = False`.
- A run corrects 16-bit matrix products with shared weights only: the attention that was measured is
  causal, head_dim 128, inside a serving layer, and no table has 16-bit convolutions in number.
- The four serving libraries call the same matrix kernels and still differ by 1.11 (median) to 1.29 (90th percentile) at one
  shape; sglang 0.5.9 is the noisiest (5 to 95 %: 0.81 to 1.19 of the median of the others). No model can be closer.
- sglang 0.5.9 runs other kernels than the three others at one shape (they differ by 6 % in the median, the others by 1 to 4 %)
  and has a quarter of the rows of sglang 0.5.10; 'torch + vLLM kernels' has 35 pairs (n, k) in all, of a few language models.
- Of convolutions on the matrix unit, furthest off are a transposed one in three dimensions of 3 x 5 x 7 to 16 channels (four
  times slower than predicted, in both code paths; its like take twice the predicted time on an RTX A6000 and an A10, and what is
  predicted on an L40S), depthwise ones of three channels, and one kernel of a research compiler. No form was found that holds
  on all devices.
- Attention at unseen values is an interpolation over powers of two. The draw above leaves out kv_len 128 and 256 together. How
  the libraries cut the keys of a sequence is taken from their sources (`sim/attention_splits.py`): FlashAttention 3 changes its
  kernel between 448 and 449 keys of head_dim 128, and sglang's layer takes 22 us at 256 keys and 46 us at 512 (batch 8, 32 heads
  on 8). A rule that is not known there, or that a later version changes, is missed in the same way.
- Intervals tell apart rows of measured values, rows with a value between measured ones, and rows beyond the outermost, for 16-bit
  products and serving attention. The last two are made of few values: a region that differs from those is not held."""


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return str(tabulate(rows, heads, tablefmt="github", disable_numparse=True))


def main(arguments: Sequence[str]) -> None:
    """Read the tables of a folder, fit every case, write the page."""
    folder = Path(arguments[0])
    files = [
        path
        for name in FILES
        for path in sorted(folder.glob(f"{name}.*"))
        if path.suffix in (".csv", ".gz", ".parquet")
    ]
    everything = read(files).frame
    frame = rows_on(everything, HARDWARE)
    more = [
        accuracy_noise.section(frame),
        conv_alike.section(everything),
        few_accuracy.section(few_accuracy.measured_few(everything)),
    ]
    more.append(accuracy_transfer.section(everything, folder).rstrip())
    PAGE.write_text(page(measured_cases(frame), frame, files, more) + "\n", encoding="utf-8")
    print(f"{PAGE}: written", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
