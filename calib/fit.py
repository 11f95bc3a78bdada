"""fit(frame) -> Fitted: for each part of each family, physical terms by least squares, then a learned correction.

Rows are held out by whole units (pairs of n and k, channels, batch and length), never one by one: each of the networks of a
correction is trained without two folds of the units, so that every row has predictions by two that did not see its unit.
Those give the reported errors and the intervals; the mean of the networks is what is kept. The handful of physical parameters is
fitted on all rows, but where rows are few: there it is fitted without the fold as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib import blind, held_values, outliers
from calib.families.base import RATES, Family, Floats, Physical, families, family_of
from calib.few import FEW, FOLDS, LEAST_SPREAD, MANY_ROWS, SOME, can_learn, carried, said, telling
from calib.intervals import conformal
from calib.physics import Start, least_squares
from hwspecs import device
from hwspecs.rates import Rates, rates
from sim.calibration import SHARES, Parameter, Terms
from sim.calibration import load as load_physical
from sim.fitted import Fitted, Part, base_terms
from sim.residual import Residual, averaged

if TYPE_CHECKING:
    import pandas as pd

    from calib.network import Network, Recipe, Task

Mask: TypeAlias = NDArray[np.bool_]
HELD_OUT = 0.2  # share of the units that are held out
PHYSICAL_ROWS = 6000  # rows, drawn at random, that the physical stage looks at
TIGHT = {
    "tensor_sustained": 0.2
}  # twice what the law of power misses chips by that it was not fitted to (docs/accuracy.md)
CHANGE = 0.9  # of a parameter, to see which rows follow it
SPREAD = 0.5  # prior: how far a parameter may be from where it starts, standard deviation of the logarithm
LOOSE = {"loop_latency": 2.0, "split_reduction": 2.0}  # which differ between vector lanes and matrix units
FLOOR_SPREAD = 0.1
NEARER = 0.97  # error of the mean of the networks over that of those blind to a fold, on units that none saw (docs/accuracy.md)
FLOOR_QUANTILE = 0.02  # of the latencies of a label: where its floor starts
MOST = {"tensor_sustained": 1.0} | dict.fromkeys(SHARES, 1.0)
UNITS = {"tensor_sustained": "ratio", "launch_gap": "s", "hbm_bandwidth": "B/s"}


@dataclass(frozen=True)
class Rows:
    """Rows of one part: the frame, seconds measured, labels, and unit numbers, all (rows,)."""

    family: Family
    part: str
    frame: pd.DataFrame
    measured: Floats
    floor: NDArray[np.object_]
    condition: NDArray[np.object_]
    unit: NDArray[np.int64]

    @property
    def name(self) -> str:
        """'gemm/fp32'; the family alone where it has one part."""
        return f"{self.family.name}/{self.part}" if self.part else self.family.name

    def take(self, mask: Any) -> Rows:
        """The rows of a mask or with these numbers."""
        columns = (self.measured, self.floor, self.condition, self.unit)
        return Rows(self.family, self.part, self.frame.iloc[_index(mask)], *(c[mask] for c in columns))

    def __len__(self) -> int:
        return len(self.measured)


def _index(mask: Any) -> NDArray[np.int64]:
    mask = np.asarray(mask)
    return np.flatnonzero(mask) if mask.dtype == bool else mask


def parts_of(frame: pd.DataFrame) -> list[Rows]:
    """The rows of a frame by family and part, in alphabetical order. Rows that no family prices are left out."""
    import pandas as pd

    known, out = family_of(frame["op"]), []
    for name, family in families().items():
        own = frame[known == name]
        labels = family.part(own) if len(own) else pd.Series(dtype=object)
        for part in sorted(set(labels)):
            rows = own[(labels == part).to_numpy()].reset_index(drop=True)
            unit = pd.factorize(family.groups(rows))[0]
            out.append(
                Rows(
                    family, str(part), rows, rows["latency_us"].to_numpy(dtype=np.float64) * 1e-6,
                    family.floor(rows).fillna("").to_numpy(dtype=object),
                    family.condition(rows).fillna("").to_numpy(dtype=object), unit.astype(np.int64),
                )
            )  # fmt: skip
    return out


def priced(
    rows: Rows, terms: Terms, change: Callable[[Rates], Rates] = lambda r: r, is_abroad: bool = False
) -> Physical:
    """The physical model of every row, each on its own device (`device_id`), with its rates changed."""
    model = (rows.family.abroad if is_abroad else None) or rows.family.physical
    ids = rows.frame["device_id"].to_numpy()
    out: dict[str, Any] = {}
    terms_out: dict[str, Any] = {}
    for id_ in sorted(set(ids)):
        mask = ids == id_
        one = model(rows.frame[mask], change(rates(device.load(id_))), terms)
        for name in ("time", "bound", "lower"):
            values = getattr(one, name)
            out.setdefault(name, np.zeros(len(rows), dtype=values.dtype))[mask] = values
        for name, values in one.terms.items():
            terms_out.setdefault(name, np.zeros(len(rows), dtype=values.dtype))[mask] = values
    return Physical(out["time"], terms_out, out["bound"], out["lower"])


def seen(rows: Rows, physical: Physical) -> dict[str, Floats]:
    """The features of every row, each on its own device. `physical` has the floor inside."""
    ids = rows.frame["device_id"].to_numpy()
    out: dict[str, Any] = {}
    for id_ in sorted(set(ids)):
        mask = ids == id_
        found = rows.family.features(rows.frame[mask], physical.take(mask), rates(device.load(id_)))
        for name, values in found.items():
            out.setdefault(name, np.zeros(len(rows)))[mask] = values
    return out


def with_floor(rows: Rows, part: Part) -> Physical:
    """The physical stage of a part for every row: refitted terms, and the floor of the row in the time."""
    p = priced(rows, part.terms(base_terms()), part.rates)
    known = {label: part.floor(label) for label in set(rows.floor)}
    return replace(p, time=p.time + np.array([known[label] for label in rows.floor]))


def predicted(rows: Rows, part: Part) -> tuple[Floats, Physical]:
    """Seconds of every row at the calibrated level, and the physical stage that they stand on."""
    return judged(rows, part)[:2]


def judged(rows: Rows, part: Part) -> tuple[Floats, Physical, Floats]:
    """The same, and how much further than that of a typical row the interval of each reaches below and above, (rows, 2)."""
    p, scale = with_floor(rows, part), np.ones((len(rows), 2))
    if part.residual is None:
        return np.maximum(p.time, p.lower), p, scale
    inputs = part.residual.inputs(seen(rows, p))
    each = part.residual.each(inputs, rows.condition)
    seconds = p.corrected(averaged(each))
    if part.doubt:
        scale = part.doubt.scale(each, inputs, part.residual.columns(rows.condition), seconds)
    return seconds, p, scale


def fit_part(rows: Rows, recipe: Recipe) -> Part:
    """The fit of one part, with the names of the rows that it does not explain."""
    return _with_outliers(rows, trained(rows, recipe))


def trained(rows: Rows, recipe: Recipe, known: Mapping[str, float] | None = None, scored: bool = True) -> Part:
    """Both stages; `known` are parameters to start from (and to keep, where few rows carry no more). Held-out errors and
    intervals are of rows whose unit no network and, of few rows, no parameter saw; without `scored`, few rows have none."""
    from calib.network import train

    physical = physical_stage(rows, recipe.seed, known)
    plan = planned(rows, physical, recipe)
    networks = [train(task) for task in plan.tasks]
    apart = [crossed(rows, plan.fold, i, recipe, known) for i in plan.repeated] if scored else []
    return finished(rows, physical, plan, networks, apart)


@dataclass(frozen=True)
class Plan:
    """What is trained of a part: the correction without networks, what it reads, folds of the rows (rows,), a task for each
    network by `recipe`; `repeated` are the folds without which the whole fit is made again. The last tasks are of networks that
    see no row of the masks `blind`, for intervals alone: so many for each as are blind to a fold."""

    blank: Residual
    inputs: NDArray[np.float32]
    fold: NDArray[np.int64]
    recipe: Recipe
    tasks: list[Task]
    repeated: tuple[int, ...]
    blind: tuple[Mask, ...] = ()


def planned(rows: Rows, part: Part, recipe: Recipe) -> Plan:
    """A network for each fold, without it and the next. Few rows have none: their whole fit is made again without each fold, to
    know how far off it is."""
    from calib import network

    own = _recipe(rows, recipe)
    fold = network.folds(rows.unit, own)
    p, is_few = with_floor(rows, part), len(rows) < MANY_ROWS
    features, condition = seen(rows, p), rows.condition.tolist()
    blank = network.scaled(features, condition)
    inputs = blank.inputs(features)
    target = np.log(rows.measured / p.time)
    tasks = network.tasks(blank, inputs, condition, target, fold, own) if can_learn(rows.unit) and not is_few else []
    masks = held_values.held(rows.frame, rows.family.values, own.seed) if tasks else []
    for mask, one in held_values.recipes(masks, fold, own):
        tasks += network.tasks(blank, inputs, condition, target, np.where(mask, 0, 1), one)
    repeated = tuple(np.unique(fold).tolist()) if is_few and len(np.unique(fold)) > 1 else ()
    return Plan(blank, inputs, fold, own, tasks, repeated, tuple(masks))


def _recipe(rows: Rows, recipe: Recipe) -> Recipe:
    width, epochs = rows.family.size
    many = {"width": width, "epochs": epochs, **rows.family.recipe}
    return replace(recipe, **(many if len(rows) >= MANY_ROWS else {"folds": FOLDS}))


def crossed(
    rows: Rows, folds: NDArray[np.int64], fold: int, recipe: Recipe, known: Mapping[str, float] | None = None
) -> Floats:
    """Seconds of the rows of a fold by a fit of the other rows."""
    out, others = rows.take(folds == fold), rows.take(folds != fold)
    return predicted(out, physical_stage(others, recipe.seed, known))[0]


def finished(rows: Rows, physical: Part, plan: Plan, networks: Sequence[Network], apart: Sequence[Floats]) -> Part:
    """The part with its correction; errors and intervals of each fold are by the fit (`apart`) or by the networks that did not
    see it. Where there is neither, errors are of the fitted rows themselves, and there are no intervals."""
    p, count = with_floor(rows, physical), plan.recipe.folds if networks else 0

    def correction(own: Sequence[Network]) -> Residual:
        return replace(plan.blank, layers=tuple(own))

    part = replace(physical, residual=correction(networks[:count])) if networks else physical
    if (plan.repeated and not apart) or not (plan.repeated or networks):
        return replace(part, held_out=errors(*_compared(rows, part)))
    guess, scale, doubt = np.zeros(len(rows)), np.ones((len(rows), 2)), None
    held = blind.Held(plan.inputs, rows.condition, plan.fold, rows.unit, rows.measured, p)
    for i, own in zip(plan.repeated, apart, strict=True):
        guess[plan.fold == i] = own
    if part.residual is not None and not plan.repeated:
        guess, scale, doubt = blind.held_out(part.residual, held, plan.recipe)
    intervals = conformal(rows.condition, rows.unit, rows.measured, guess, NEARER if networks else 1.0, scale)
    columns, others, known = rows.family.values if plan.blind else (), correction(networks[count:]), plan.fold == 0

    def off(index: int, mask: Mask) -> held_values.Off:
        return blind.off(others, blind.judges(index, plan.recipe), held.take(mask), doubt, intervals)

    more = [held_values.excess(off(i, mask), off(i, known & ~mask)) for i, mask in enumerate(plan.blind)]
    return replace(
        part, held_out=errors(rows.measured, guess), rows={**physical.rows, "held_out": len(rows)}, intervals=intervals,
        known=held_values.measured_values(rows.frame, columns), doubt=doubt,
        added=held_values.added(rows.frame, columns, plan.blind, more),
    )  # fmt: skip


def _with_outliers(rows: Rows, part: Part) -> Part:
    """The part with the number of rows far outside what it explains, and the names of the worst."""
    measured, guess = _compared(rows, part)
    count = int(outliers.found(measured, guess).sum())
    return replace(part, rows={**part.rows, "outliers": count}, outliers=outliers.named(rows.frame, measured, guess))


def _compared(rows: Rows, part: Part) -> tuple[Floats, Floats]:
    return rows.measured, predicted(rows, part)[0]


def held_units(unit: NDArray[np.int64], seed: int, share: float = HELD_OUT) -> Mask:
    """Rows of the units that are held out, (rows,)."""
    units = np.unique(unit)
    chosen = np.random.default_rng(seed).choice(units, max(1, int(share * len(units))), replace=False)
    return np.isin(unit, chosen)


def errors(measured: Floats, guess: Floats) -> dict[str, float]:
    """Median, mean, 80th and 90th percentile of the absolute error, and the median error, in percent of the measured time."""
    error = 100.0 * (guess / measured - 1.0)
    size = np.abs(error)
    return {
        "median": float(np.median(size)), "mape": float(size.mean()), "p90": float(np.quantile(size, 0.9)),
        "p80": float(np.quantile(size, 0.8)), "bias": float(np.median(error)),
    }  # fmt: skip


def physical_stage(rows: Rows, seed: int, known: Mapping[str, float] | None = None) -> Part:
    """Terms and floors by robust least squares, as many as the rows carry; with few rows, their correction too."""
    given = dict(known or {})
    drawn = np.random.default_rng(seed).permutation(len(rows))[:PHYSICAL_ROWS]
    some = rows.take(np.sort(drawn))
    start = _starts(some, carried(rows.family.fitted, len(rows)), given)
    blank = Part(rows.name, (), (), {}, {}, {}, {}, {}, {}, None)
    if len(rows) < FEW:
        some = some.take(_telling(some, blank, start, given))

    def predict(values: Mapping[str, float]) -> Floats:
        return with_floor(some, _with(blank, {**given, **values})).time

    unit = np.unique(some.unit, return_inverse=True)[1]
    least = LEAST_SPREAD if len(rows) < SOME else 1e-4
    found = least_squares(predict, some.measured, start, unit, least)
    error = {**dict.fromkeys(given, 0.0), **found.errors}
    part = _smoothed(rows, _with(blank, {**given, **found.values}, error, f"robust least squares, {len(some)} rows"))
    return replace(
        part, dtypes=tuple(sorted(set(rows.frame["dtype"]))), devices=tuple(sorted(set(rows.frame["device_id"]))),
        extents={n: (float(rows.frame[n].min()), float(rows.frame[n].max())) for n in rows.family.extents if n in rows.frame},
        rows={"used": len(rows)},
    )  # fmt: skip


def _smoothed(rows: Rows, part: Part) -> Part:
    """The part with a smooth correction, where its rows are few but enough for that."""
    from calib.smooth import smooth

    if len(rows) >= MANY_ROWS or not can_learn(rows.unit):
        return part
    p = with_floor(rows, part)
    return replace(part, residual=smooth(seen(rows, p), rows.condition.tolist(), np.log(rows.measured / p.time)))


def _telling(rows: Rows, blank: Part, start: Mapping[str, Start], given: Mapping[str, float]) -> Mask:
    """Rows that say something of the first parameter, the only one that few rows carry."""
    values = {**given, **{name: s.value for name, s in start.items()}}
    moved = values | {name: CHANGE * values[name] for name in list(start)[:1]}
    before, after = (with_floor(rows, _with(blank, v)).time for v in (values, moved))
    return telling(before, after, CHANGE)


def _starts(rows: Rows, names: tuple[str, ...], given: Mapping[str, float]) -> dict[str, Start]:
    """Terms as given or from the physical calibration, rates from the device's file, floors from the smallest latencies."""
    terms, first = base_terms(), rates(device.load(str(rows.frame["device_id"].iat[0])))
    out = {}
    for name in names:
        value = given.get(name, float(np.max(getattr(first if name in RATES else terms, name))))
        out[name] = Start(value, (LOOSE | TIGHT).get(name, SPREAD), MOST.get(name, np.inf))
    for label in sorted(set(rows.floor) - {""}):
        least = float(np.quantile(rows.measured[rows.floor == label], FLOOR_QUANTILE))
        out[f"floor {label}"] = Start(least, FLOOR_SPREAD)
    return out


def _with(part: Part, values: Mapping[str, float], error: Mapping[str, float] | None = None, source: str = "") -> Part:
    """A part with these parameters and floors."""
    units = {name: p.unit for name, p in load_physical().parameters.items()} | UNITS

    def parameter(name: str) -> Parameter:
        return Parameter(values[name], units.get(name, "s"), error[name] if error else 0.0, source)

    floors = {name.removeprefix("floor "): parameter(name) for name in values if name.startswith("floor ")}
    return replace(part, parameters={n: parameter(n) for n in values if not n.startswith("floor ")}, floors=floors)


def fit(
    frame: pd.DataFrame, name: str, provenance: Mapping[str, Any], seed: int = 0, workers: int = 2,
    say: Callable[[str], None] = lambda _: None,
) -> Fitted:  # fmt: skip
    """Fit every part that the rows of a frame have; `device_id` must name one device a row. Parts, and their networks, run
    side by side; the result does not depend on `workers`."""
    from calib.network import Recipe

    recipe, parts = Recipe(seed=seed), sorted(parts_of(frame), key=len, reverse=True)
    for rows in parts:
        if line := said(rows.name, len(rows), carried(rows.family.fitted, len(rows)), can_learn(rows.unit)):
            say(line)
    with ProcessPoolExecutor(max_workers=workers) as pool:
        stages = list(pool.map(_physical, [(rows.frame, rows.name, recipe.seed) for rows in parts]))
        begun = [_begun(rows, part, recipe, pool) for rows, part in zip(parts, stages, strict=True)]
        done = [_ended(*each) for each in zip(parts, stages, begun, strict=True)]
    return Fitted(name, {part.name: part for part in sorted(done, key=lambda p: p.name)}, provenance)


Begun: TypeAlias = "tuple[Plan, list[Future[Network]], list[Future[Floats]]]"


def _begun(rows: Rows, part: Part, recipe: Recipe, pool: Executor) -> Begun:
    """The networks of a part, and the fits without a fold, each in training on its own."""
    from calib.network import train

    plan = planned(rows, part, recipe)
    networks = [pool.submit(train, task) for task in plan.tasks]
    return plan, networks, [pool.submit(_crossed, rows.frame, rows.name, plan.fold, i, recipe) for i in plan.repeated]


def _ended(rows: Rows, part: Part, begun: Begun) -> Part:
    plan, networks, apart = begun
    found = finished(rows, part, plan, [f.result() for f in networks], [f.result() for f in apart])
    return _with_outliers(rows, found)


def _rows(frame: pd.DataFrame, name: str) -> Rows:
    return next(rows for rows in parts_of(frame) if rows.name == name)


def _physical(task: tuple[pd.DataFrame, str, int]) -> Part:
    frame, name, seed = task
    return physical_stage(_rows(frame, name), seed)


def _crossed(frame: pd.DataFrame, name: str, folds: NDArray[np.int64], fold: int, recipe: Recipe) -> Floats:
    return crossed(_rows(frame, name), folds, fold, recipe)
