"""Leave one chip out: fit on the others, predict it from its spec file alone, and again after ten measured points.

What is shared by all devices (terms in cycles and shares of peaks) is fitted on the other chips. What belongs to a device, the
sustained share of its matrix rate, is a random effect: fitted for each of those, never carried over; for the one left out it
comes from the law of power, itself without that chip. Host time inside a measured row belongs to the host, not to the device, and
is read off the chip's smallest rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib import lanes, power
from calib.carried import STREAMS, groups, on_chip, units
from calib.families.base import RATES, Floats
from calib.families.gemm import BATCHED_EDGE, EDGE
from calib.few import LEAST_SPREAD
from calib.fit import FLOOR_QUANTILE, MOST, TIGHT, Rows, errors, parts_of
from calib.physics import Start, least_squares
from calib.predict import roofline
from hwspecs import device
from hwspecs.errors import CalibrationError, nearest
from hwspecs.power import LANES
from hwspecs.rates import rates
from sim.fitted import base_terms
from sim.traffic import beside_check_bits

if TYPE_CHECKING:
    import pandas as pd

FIT_ROWS = 2500  # drawn at random from the other chips
LONG = 50e-6  # s: rows from which errors are also given apart
LEAST = 100  # rows on either side from which a part is scored
NEVER_FITTED = (
    "t4",
)  # chips whose rows teach others nothing: throttled by power as the runs went on (the tables' README)
PRIOR = (
    0.3  # standard deviation of the logarithm of a term: what is to hold elsewhere must stay near what holds elsewhere
)
POINTS = 10  # measured points after which the sustained rate is refitted
DRAWS = 5  # of such points, whose errors are averaged
LONE = 2.0  # times the median of the floors of a chip's labels that no floor is
CLEARLY = 2.0  # times narrower that errors must be for a chip's library to be taken as unlike others
EDGES = (
    64.0,
    128.0,
)  # least tile edge that a chip's library may have for batched fp32 products (calib/families/gemm.py)


@dataclass(frozen=True)
class Left:
    """One part of one chip that was left out: rows, errors in percent of all rows and of long ones, by stage.

    `sustained` is the share of the matrix rate, on the vector lanes of the clock, of streams of the bandwidth. `by` has, for
    'roofline', 'spec' (nothing of the chip measured) and 'ten points' (the mean of DRAWS draws): errors, and errors of
    long rows ({} where there are few).
    `away` are logarithms of measured over predicted from the spec, `guess` the predicted seconds, (rows,).
    """

    part: str
    group: str  # library of an attention, operator of fp32 products, timing of streams; "" where all rows are one group
    chip: str
    others: tuple[str, ...]
    rows: int
    by: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]
    sustained: tuple[float, float]  # from the law, and after ten points
    away: Floats
    guess: Floats


def chips(frame: pd.DataFrame) -> NDArray[np.object_]:
    """The chip of each row."""
    return np.array([power.chip(str(id_)) for id_ in frame["device_id"]], dtype=object)


def left_out(frame: pd.DataFrame, id_: str, seed: int = 0) -> list[Left]:
    """Every part that the chip of a device and some other chip have rows of. CalibrationError where there is none."""
    if id_ not in device.device_names():
        raise CalibrationError(f"--leave-out: found '{id_}', expected a device{nearest(id_, device.device_names())}")
    wanted, known = power.chip(id_), chips(frame)
    if wanted not in set(known):
        have = ", ".join(sorted(set(known)))
        raise CalibrationError(f"--leave-out: found '{id_}', which the tables have no row of (they have {have})")
    out = []
    for rows in parts_of(frame):
        known = chips(rows.frame)
        test, train = rows.take(known == wanted), rows.take((known != wanted) & ~np.isin(known, NEVER_FITTED))
        for group in sorted(set(groups(test)) & set(groups(train))):
            pair = [typical(side.take(groups(side) == group)) for side in (test, train)]
            if min(map(len, pair)) >= LEAST:
                out.append(_one(pair[0], pair[1], id_, seed, group))
    if not out:
        raise CalibrationError(f"--leave-out: every row of the tables is of {wanted}; add tables of other devices")
    return out


def typical(rows: Rows) -> Rows:
    """One row for each shape of each device: the median over the softwares that measured the same call; where the software is
    the kernel (attention), all rows."""
    if rows.family.name != "gemm" or rows.part == "fp32":
        return rows
    keys = ["device_id", "op", "dtype", "batch", "m", "n", "k", "timing"]
    median = rows.frame.groupby(keys, dropna=False)["latency_us"].transform("median").to_numpy()
    first = ~rows.frame.duplicated(keys).to_numpy()
    return replace(rows, measured=median * 1e-6).take(first)


def _one(test: Rows, train: Rows, id_: str, seed: int, group: str) -> Left:
    rng = np.random.default_rng(seed)
    some = train.take(np.sort(rng.permutation(len(train))[:FIT_ROWS]))
    some = with_edges(some, least(some), {})
    found = fitted(some)
    own = _shares(test, id_)
    floors = _floors(test, found)
    guess = predicted(test, found, own, floors)
    long = np.flatnonzero(guess >= LONG)  # as predicted: what a user would measure to learn a sustained rate
    pool = long if len(long) >= POINTS else np.arange(len(test))
    ten = [_after_draw(test, np.sort(rng.permutation(pool)[:POINTS]), found, own, floors) for _ in range(DRAWS)]
    by = {
        "roofline": _two(test.measured, roofline(test, id_) + added(test, floors)),
        "spec": _two(test.measured, guess),
        "ten points": (_mean([each[0] for each in ten]), _mean([each[1] for each in ten])),
    }
    key = next(iter(own))
    others = tuple(sorted(set(chips(train.frame))))
    return Left(
        test.name,
        group,
        power.chip(id_),
        others,
        len(test),
        by,
        (own[key], float(np.mean([each[2] for each in ten]))),
        np.log(test.measured / guess),
        guess,
    )


def _after_draw(
    test: Rows,
    drawn: NDArray[np.int64],
    found: Mapping[str, float],
    own: Mapping[str, float],
    floors: Mapping[str, float],
) -> tuple[Mapping[str, float], Mapping[str, float], float]:
    """Errors of the other rows and of the long ones among them, once the rows `drawn` are measured; the share that those tell."""
    points = with_edges(test.take(drawn), floors, own)
    ten = _after_points(points, found, own, floors)
    after = predicted(_alike(test, points), found, ten, floors)
    rest = ~np.isin(np.arange(len(test)), drawn)
    return (*_two(test.measured[rest], after[rest]), float(next(iter(ten.values()))))


def _mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of every error, over the draws that have it."""
    known = [e for e in each if e]
    return {name: float(np.mean([e[name] for e in known])) for name in known[0]} if known else {}


def _alike(rows: Rows, points: Rows) -> Rows:
    """All rows of a chip with the tile edge that its points told."""
    return _with_edge(rows, points.frame[EDGE].to_numpy()[0]) if EDGE in points.frame else rows


def _two(measured: Floats, guess: Floats) -> tuple[dict[str, float], dict[str, float]]:
    long = measured >= LONG
    return errors(measured, guess), errors(measured[long], guess[long]) if long.sum() >= POINTS else {}


def fitted(rows: Rows) -> dict[str, float]:
    """Shared terms by name, 'sustained CHIP' of each chip, 'floor LABEL', by robust least squares. Where rows hold the host's
    dispatch, 'floor LABEL @ CHIP', since every chip was measured on a host of its own."""
    rows = replace(rows, floor=_by_host(rows))
    start = {name: _start(name) for name in rows.family.fitted if name not in RATES}
    own = (
        set() if rows.family.name in STREAMS else set(chips(rows.frame))
    )  # the shared share of the bandwidth is theirs
    for chip in sorted(own):
        ids = rows.frame["device_id"][chips(rows.frame) == chip]
        id_ = str(ids.iat[0])
        value = _shares(rows, id_)[chip] if rows.name in lanes.PARTS else device.load(id_).tensor.sustained
        start[f"sustained {chip}"] = Start(value, 0.3, 1.0)
    for label, value in least(rows).items():
        start[f"floor {label}"] = Start(value, 0.1)

    def predict(values: Mapping[str, float]) -> Floats:
        shares = {n.removeprefix("sustained "): v for n, v in values.items() if n.startswith("sustained ")}
        floors = {n.removeprefix("floor "): v for n, v in values.items() if n.startswith("floor ")}
        return predicted(rows, values, shares, floors)

    unit = np.unique(rows.unit, return_inverse=True)[1]
    return dict(least_squares(predict, rows.measured, start, unit).values)


def _by_host(rows: Rows) -> NDArray[np.object_]:
    """Floor labels with the chip, where they are of a host."""
    launched = launches(rows) & (rows.floor != "")
    named = np.array(
        [f"{label} @ {chip}" for label, chip in zip(rows.floor, chips(rows.frame), strict=True)], dtype=object
    )
    return np.where(launched, named, rows.floor)


def launches(rows: Rows) -> NDArray[np.bool_]:
    """Rows that hold the host's dispatch."""
    return np.asarray(rows.frame["timing"] == "with_launch", dtype=bool)


def predicted(
    rows: Rows, values: Mapping[str, float], shares: Mapping[str, float], floors: Mapping[str, float]
) -> Floats:
    """Seconds of every row, by shared terms, the sustained share of each chip, and the floor of each label."""
    terms = replace(base_terms(), **{n: values[n] for n in rows.family.fitted if n in values})
    out, known = np.zeros(len(rows)), chips(rows.frame)
    for chip in sorted(set(known)):
        mask = known == chip
        out[mask] = on_chip(rows.take(mask), terms, shares.get(chip)).time
    return np.asarray(out + added(rows, floors))


def added(rows: Rows, floors: Mapping[str, float]) -> Floats:
    """Seconds of each row's floor."""
    return np.array([floors.get(label, 0.0) for label in rows.floor]) * units(rows)


def with_edges(rows: Rows, floors: Mapping[str, float], share: Mapping[str, float]) -> Rows:
    """Batched fp32 products with the least tile edge that each chip's library seems to have: BATCHED_EDGE, or another of EDGES
    where errors under the shared terms are half as wide. Like the sustained share it belongs to a chip, and is not carried on."""
    if rows.name != lanes.PRODUCTS:
        return rows
    known, edge = chips(rows.frame), np.zeros(len(rows))
    for chip in sorted(set(known)):
        mask = known == chip
        some = rows.take(mask)
        off = {e: _width(_with_edge(some, e), floors, share) * (1.0 if e == BATCHED_EDGE else CLEARLY) for e in EDGES}
        edge[mask] = min(EDGES, key=lambda e: off[e])
    return _with_edge(rows, edge)


def _with_edge(rows: Rows, edge: Any) -> Rows:
    return replace(rows, frame=rows.frame.assign(**{EDGE: edge}))


def _width(rows: Rows, floors: Mapping[str, float], share: Mapping[str, float]) -> float:
    away = np.log(rows.measured / predicted(rows, {}, share, floors))
    return float(np.median(np.abs(away - np.median(away))))


def _shares(rows: Rows, id_: str) -> dict[str, float]:
    """The sustained share of a chip from its spec: by the law of power, without it; on the vector lanes from their energy."""
    if rows.family.name in STREAMS:
        return {power.chip(id_): float(np.squeeze(beside_check_bits(rates(device.load(id_)), base_terms())))}
    if rows.name in lanes.PARTS:  # convolutions leave lanes idle between transforms: no power limit is seen in them
        return {power.chip(id_): lanes.share(device.load(id_)) if rows.name == lanes.PRODUCTS else LANES}
    return {power.chip(id_): power.law([id_]).share(device.load(id_))}


def _start(name: str) -> Start:
    return Start(float(getattr(base_terms(), name)), PRIOR, MOST.get(name, np.inf))


def least(rows: Rows) -> dict[str, float]:
    """Where the floor of each label starts: its smallest latencies. A label whose rows are all long says nothing of its floor,
    and would lend it a kernel's time: from LONE times the median of the labels on, that median is taken."""
    labels = sorted(set(rows.floor) - {""})
    counted = rows.measured / units(rows)
    found = {label: float(np.quantile(counted[rows.floor == label], FLOOR_QUANTILE)) for label in labels}
    middle = float(np.median(list(found.values()))) if found else 0.0
    return {label: value if value < LONE * middle else middle for label, value in found.items()}


def _floors(test: Rows, found: Mapping[str, float]) -> dict[str, float]:
    """Of the rows left out: of the host that measured them where they hold its dispatch, of the library as on the other chips
    where they hold its auxiliary kernels; 0 for a label that no other chip has."""
    launched = set(test.floor[launches(test)])
    hosts = least(test)
    known = {label: found.get(f"floor {label}") for label in set(test.floor)}
    alike = [v for n, v in found.items() if n.startswith("floor ")]
    middle = float(np.median(alike)) if alike else 0.0
    out: dict[str, float] = {"": 0.0}
    for label, value in known.items():
        if label:
            out[label] = hosts[label] if label in launched else value if value is not None else middle
    return out


def _after_points(rows: Rows, found: Mapping[str, float], own: Mapping[str, float], floors: Mapping[str, float]) -> Any:
    """The sustained share of the chip, refitted on a few rows with all else held."""
    (chip,) = own
    loose = 1.0 if rows.family.name in STREAMS else TIGHT["tensor_sustained"]  # no law says what streams reach
    start = {"share": Start(own[chip], loose, 1.0)}

    def predict(values: Mapping[str, float]) -> Floats:
        return predicted(rows, found, {chip: values["share"]}, floors)

    return {chip: least_squares(predict, rows.measured, start, np.arange(len(rows)), LEAST_SPREAD).values["share"]}
