"""Predict the rows of a measurement table: seconds with an interval, what bounds each row, whether the fit covers its shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib import carried, power
from calib.carried import KERNELS
from calib.devices import CHIPS, asked_for, peaks
from calib.families.base import Floats, Physical, family_of
from calib.fit import Rows, judged, parts_of, priced
from calib.held_values import columns_of
from hwspecs import device
from hwspecs.errors import CalibrationError, nearest
from hwspecs.rates import rates
from sim import fitted as fits
from sim.cost import BOUNDS
from sim.fitted import Fitted, Part
from sim.spread import ROW_EDGES
from sim.spread import load as spreads
from workloads.kind import ITEMSIZE

if TYPE_CHECKING:
    import pandas as pd

LEVELS = ("roofline", "physical", "calibrated")
NO_FAMILY, NO_DEVICE, NO_DTYPE, NOT_ASKED, UNKNOWN_DTYPE = (
    "no model prices this operator", "no hardware file for this device", "the device lacks this dtype", "another device",
    "unknown dtype",
)  # fmt: skip
PRODUCTS = ("gemm", "conv", "attention")  # families whose dtype the device must have a rate for
WIDE = float(np.log(2.0))  # half-width of the interval, in the logarithm, where no held-out row says how far off we are


@dataclass(frozen=True)
class Target:
    """What rows are priced on: the devices that count (None: each row on its own), and the fit to use (None: by device)."""

    devices: tuple[str, ...] | None = None
    fitted: Fitted | None = None

    def fit_for(self, id_: str) -> Fitted | None:
        """The fit that is used for rows of a device."""
        return self.fitted if self.fitted is not None else fits.find(id_)


@dataclass(frozen=True)
class Predictions:
    """Columns (rows,): seconds, interval of 80 %, bound (name), whether the shape is covered, the level used; why not, or ""."""

    predicted: Floats
    low: Floats
    high: Floats
    bound: NDArray[np.object_]
    in_range: NDArray[np.bool_]
    level: NDArray[np.object_]
    device: NDArray[np.object_]
    why: NDArray[np.object_]


def target(name: str | None) -> Target:
    """What `--hardware NAME` means: a fit by name or file, a device by id, or a name as tables write it. CalibrationError."""
    if name is None:
        return Target()
    fitted = fits.find(name)
    if fitted is not None:
        first = (name,) if name in fitted.devices else ()
        return Target(tuple(dict.fromkeys((*first, *fitted.devices))), fitted)
    ids = (name,) if name in device.device_names() else asked_for(name)
    if not ids:
        known = [*device.device_names(), *CHIPS, *fits.names()]
        raise CalibrationError(f"--hardware: found '{name}', expected a device or a fit{nearest(name, known)}")
    shared = next((f for f in map(fits.load, fits.names()) if set(ids) & set(f.devices)), None)
    return Target(tuple(dict.fromkeys((*ids, *(shared.devices if shared else ())))), shared)


def predict(frame: pd.DataFrame, on: Target, level: str = "calibrated") -> Predictions:
    """Predict every row of a frame of `calib.table`. A row that cannot be priced is nan, with the reason in `why`.

    Raises ValueError for a level that does not exist.
    """
    if level not in LEVELS:
        raise ValueError(f"level: found '{level}', expected one of {', '.join(LEVELS)}")
    count = len(frame)
    nan = np.full(count, np.nan)
    blank = np.full(count, "", dtype=object)
    out = Predictions(
        nan, nan.copy(), nan.copy(), blank, np.zeros(count, bool), blank.copy(), blank.copy(), blank.copy()
    )
    ids = chosen_devices(frame["device_id"], on.devices)
    out.device[:] = ids
    _refused(frame, ids, on, out)
    usable = np.flatnonzero(out.why == "")
    own = frame.iloc[usable].assign(device_id=ids[usable], row=usable)
    for rows in parts_of(own):
        for id_ in sorted(set(rows.frame["device_id"])):
            some = rows.take((rows.frame["device_id"] == id_).to_numpy())
            _fill(out, some, on.fit_for(id_), level)
    out.why[np.isnan(out.predicted) & (out.why == "")] = NO_FAMILY
    return out


def chosen_devices(names: pd.Series[Any], wanted: tuple[str, ...] | None) -> NDArray[np.object_]:
    """One id for each row: of those that a name may mean, the first that is wanted, else the first."""
    table = {}
    for text in set(names.astype(str)):
        ids = text.split("|")
        table[text] = next((id_ for id_ in ids if wanted and id_ in wanted), ids[0])
    return np.array([table[str(text)] for text in names], dtype=object)


def _refused(frame: pd.DataFrame, ids: NDArray[np.object_], on: Target, out: Predictions) -> None:
    known = set(device.device_names())
    has = {id_: set(peaks(id_).flops) for id_ in set(ids) & known}
    dtypes = frame["dtype"].astype(str).to_numpy()
    needs = np.isin(family_of(frame["op"]).astype(str), PRODUCTS) | np.isin(dtypes, device.DTYPES)
    for i, (id_, dtype) in enumerate(zip(ids, dtypes, strict=True)):
        if on.devices is not None and id_ not in on.devices:
            out.why[i] = NOT_ASKED
        elif id_ not in known:
            out.why[i] = NO_DEVICE
        elif dtype not in ITEMSIZE:
            out.why[i] = UNKNOWN_DTYPE
        elif needs[i] and dtype not in has[id_]:
            out.why[i] = NO_DTYPE


def _fill(out: Predictions, rows: Rows, fitted: Fitted | None, level: str) -> None:
    """Predictions of rows of one part on one device."""
    at = rows.frame["row"].to_numpy()
    id_ = str(rows.frame["device_id"].iat[0])
    part = fitted.parts.get(rows.name) if fitted else None
    here = part is not None and id_ in part.devices
    used = "roofline" if level == "roofline" else "calibrated" if level == "calibrated" and here else "physical"
    if used == "calibrated" and part is not None:
        (time, physical, scale), floor = judged(rows, part), _floors(rows, part)
    else:
        scale = np.ones(len(rows))
        physical, floor = (priced(rows, fits.base_terms()), _floors(rows, part)) if here else on_new_device(rows)
        time = roofline(rows, id_) if used == "roofline" else physical.time + floor
    out.predicted[at], out.level[at] = time, used
    out.bound[at] = np.array(BOUNDS, dtype=object)[physical.bound]
    out.bound[at[floor > 0.5 * time]] = "launch"
    out.in_range[at] = covered(rows, part) if here and part is not None else False
    if used == "calibrated" and part is not None:
        low, high = part.ends(rows.condition, time, columns_of(rows.frame, part), scale)
    else:
        by_size = np.array([abroad(rows.name, bin_) for bin_ in range(len(ROW_EDGES) + 1)])
        low, high = by_size[np.searchsorted(ROW_EDGES, time, side="right")].T
    out.low[at], out.high[at] = time * np.exp(low), time * np.exp(high)


def on_new_device(rows: Rows) -> tuple[Physical, Floats]:
    """The physical model of rows on a device that no fit is for, and the floor of each.

    Attention layers of serving libraries, and fp32 products, have terms that were fitted on several chips at once; the floor of a
    layer is a number of small kernels. An encoder has no layer around it: where its kernel alone was timed, it has no floor.
    """
    known = spreads().layers.get(rows.name)
    if known is None:
        borrowed = _floors(rows, None)
        bare = rows.name == "attention/encoder"
        alone = bare & (rows.frame["timing"] == "kernel").to_numpy()
        return carried.on_chip(rows, fits.base_terms()), _of_host(rows, np.where(alone, 0.0, borrowed))
    floor, parts = np.zeros(len(rows)), []
    groups = carried.groups(rows)
    labels = np.array([name if name in known else "" for name in groups], dtype=object)
    for label in sorted(set(labels)):
        mask = labels == label
        own, terms = rows.take(mask), {name: value for name, value in known[label].items() if name != KERNELS}
        parts.append((mask, carried.on_chip(own, replace(fits.base_terms(), **terms))))
        counted = known[label].get(KERNELS)
        floor[mask] = _floors(own, None) if counted is None else counted * carried.units(own)
    return _put_together(parts, len(rows)), _of_host(rows, floor)


def _of_host(rows: Rows, floor: Floats) -> Floats:
    """Floors (rows,), of rows that hold the dispatch of the host on which a table measured their chip: that."""
    known = spreads().hosts.get(power.chip(str(rows.frame["device_id"].iat[0])), {})
    launched = (rows.frame["timing"] == "with_launch").to_numpy()
    return np.array(
        [known.get(label, f) if on else f for label, f, on in zip(rows.floor, floor, launched, strict=True)]
    )


def _put_together(parts: list[tuple[NDArray[np.bool_], Physical]], count: int) -> Physical:
    """Rows that were priced apart, in their own order."""
    time, lower, bound = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
    terms: dict[str, Floats] = {}
    for mask, one in parts:
        time[mask], lower[mask], bound[mask] = one.time, one.lower, one.bound
        for name, values in one.terms.items():
            terms.setdefault(name, np.zeros(count))[mask] = values
    return Physical(time, terms, bound, lower)


def abroad(part: str, bin_: int) -> tuple[float, float]:
    """Interval of a row on a device that no fit is for, in the logarithm, by part and group of predicted times: from chips that
    were left out; WIDE for other parts."""
    known = spreads().rows
    return known.get(f"{part} | {bin_}", known.get(part, (-WIDE, WIDE)))


def _floors(rows: Rows, part: Part | None) -> Floats:
    """Seconds added to each row by its floor label: of the part, or, on a device that no fit is for, of any fit."""
    part = part or next((f.parts[rows.name] for f in map(fits.load, fits.names()) if rows.name in f.parts), None)
    known = {label: part.floor(label) if part else 0.0 for label in set(rows.floor)}
    return np.array([known[label] for label in rows.floor], dtype=np.float64)


def roofline(rows: Rows, id_: str) -> Floats:
    """The larger of FLOPs over peak and bytes over bandwidth, every tensor once."""
    on, frame = rates(device.load(id_)), rows.frame
    chip = float(np.max(on.sm_count)) * float(np.max(on.sm_clock))
    peak = {t: chip * float(np.max(on.matmul(t))) for t in device.DTYPES}
    flops = frame["flops"].to_numpy(dtype=np.float64)
    moved = (frame["read_bytes"] + frame["write_bytes"]).to_numpy(dtype=np.float64)
    rate = np.array([peak.get(str(t), peak["fp32"]) for t in frame["dtype"]])
    return np.asarray(np.maximum(np.maximum(flops / rate, moved / float(np.max(on.hbm_bandwidth))), 1e-9))


def covered(rows: Rows, part: Part) -> NDArray[np.bool_]:
    """Rows whose dtype and extents the fit saw."""
    inside = rows.frame["dtype"].isin(part.dtypes).to_numpy()
    for name, (low, high) in part.extents.items():
        values = rows.frame[name].to_numpy(dtype=np.float64)
        inside = inside & (values >= low) & (values <= high)
    return np.asarray(inside, dtype=bool)
