"""From tables to a fit with its provenance, and from a table of shapes to the same table with predictions."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from calib import table
from calib.devices import asked_for, device_ids
from calib.families.base import family_of
from calib.fit import fit
from calib.predict import NO_DEVICE, UNKNOWN_DTYPE, Target, chosen_devices, predict, target
from calib.table import Measurements
from calib.work import NEEDS, work
from hwspecs import device
from hwspecs.errors import CalibrationError, nearest
from sim import fitted as fits
from sim.fitted import Fitted, Part

if TYPE_CHECKING:
    import pandas as pd

UNSEEN_LATENCY_US = 1e9  # stands in for a column of latencies that a table of shapes does not have


def made(
    found: Measurements, hardware: str | None, name: str, tables: Sequence[str], seed: int, workers: int,
    say: Callable[[str], None],
) -> Fitted:  # fmt: skip
    """Fit the rows of the tables that are of the hardware. Raises CalibrationError where there are none."""
    frame = rows_on(found.frame, hardware)
    provenance = {
        "tables": {Path(p).name: hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in tables},
        "rows": len(frame), "left_out": {Path(p.path).name: dict(p.dropped) for p in found.provenance if p.dropped},
        "seed": seed, "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "framecast": version("framecast"),
    }  # fmt: skip
    return fit(frame, Path(name).name.removesuffix(".yaml"), provenance, seed, workers, say)


def rows_on(frame: pd.DataFrame, hardware: str | None) -> pd.DataFrame:
    """Rows of the hardware (a device, or a name such as 'a100' that stands for several) that some family prices."""
    wanted = None
    if hardware is not None:
        wanted = (hardware,) if hardware in device.device_names() else asked_for(hardware) or target(hardware).devices
    ids = chosen_devices(frame["device_id"], wanted)
    kept = np.isin(ids.astype(str), device.device_names()) & (family_of(frame["op"]) != "")
    if wanted is not None:
        kept &= np.isin(ids.astype(str), wanted)
    if not kept.any():
        raise CalibrationError(
            f"no row of the tables is of {hardware or 'a device that framecast knows'}; nothing to fit"
        )
    out: pd.DataFrame = frame.assign(device_id=ids)[kept].reset_index(drop=True)
    return out


def report(fitted: Fitted) -> str:
    """Parts of a fit: rows, parameters that moved, errors on rows kept out; and the rows that it does not explain."""
    rows, heads = [], ["part", "rows", "outliers", "correction", "held out: median %", "MAPE %", "p90 %", "parameters"]
    for part in fitted.parts.values():
        values = ", ".join(f"{n} {p.value:.4g} ± {p.error:.1g} {p.unit}" for n, p in part.parameters.items())
        scores = [f"{part.held_out[n]:.1f}" for n in ("median", "mape", "p90")]
        own = "learned" if part.residual else "none: too few rows"
        rows.append([part.name, part.rows["used"], part.rows["outliers"], own, *scores, values])
    table_ = str(tabulate(rows, heads, disable_numparse=True, maxcolwidths=[None] * 7 + [60]))
    return "\n\n".join([table_, *map(_outliers, (p for p in fitted.parts.values() if p.outliers))])


def _outliers(part: Part) -> str:
    share = 100.0 * part.rows["outliers"] / part.rows["used"]
    head = f"{part.name}: {part.rows['outliers']} outliers ({share:.1f} % of the rows), the worst of each operator"
    return "\n".join([head, *(f"  {line}" for line in part.outliers)])


def predicted_table(path: Path, hardware: str | None, level: str) -> tuple[pd.DataFrame, list[str]]:
    """The table at a path with predictions appended, and a line for each row that has none. CalibrationError for no table."""
    raw, on = table._loaded(path), target(hardware)
    if hardware is None and "op" in raw and "device" not in raw:
        raise CalibrationError(f"{path}:1: column 'device' is missing; say on what to price the rows: --hardware NAME")
    frame, missing = _shapes(path, raw, hardware, on)
    p = predict(frame, on, level)
    out: dict[str, Any] = {"predicted_us": 1e6 * p.predicted, "low_us": 1e6 * p.low, "high_us": 1e6 * p.high}
    out |= {"bound": p.bound, "in_range": p.in_range}
    why = [
        *_left_open(hardware),
        *_told(path, missing.index, missing),
        *_told(path, frame["line"], _reasons(frame, p.why)),
    ]
    at = frame["line"].to_numpy() - 2
    for name, values in out.items():
        column = np.full(len(raw), np.nan, dtype=object)
        column[at] = values
        raw[name] = column
    return raw, why


def _left_open(hardware: str | None) -> Iterator[str]:
    """Which device was taken, where `--hardware` is a name that stands for several, and no fit."""
    if hardware is None or hardware in device.device_names() or fits.find(hardware) is not None:
        return
    ids = asked_for(hardware)
    if len(ids) > 1:
        others = f"{', '.join(ids[:-1])} or {ids[-1]}"
        yield f"--hardware: '{hardware}' may be {others}; rows that name none of them are priced on {ids[0]}"


def _reasons(frame: pd.DataFrame, why: NDArray[np.object_]) -> list[str]:
    """Why each row is not priced, with what was found; "" where it is."""
    known = f"(known: {', '.join(table.DTYPES)})"
    found = zip(why, frame["device"].astype(str), frame["dtype"].astype(str), strict=True)
    return [
        f"no hardware file for device '{name}'" if reason == NO_DEVICE
        else f"unknown dtype '{dtype}'{nearest(dtype, table.DTYPES)} {known}" if reason == UNKNOWN_DTYPE
        else str(reason)
        for reason, name, dtype in found
    ]  # fmt: skip


def _told(path: Path, lines: Iterable[int], reasons: Iterable[str]) -> Iterator[str]:
    """A line for each reason that rows have: the first of them, and how many more."""
    texts, numbers = list(reasons), list(lines)
    for text in dict.fromkeys(filter(None, texts)):
        more = f" (and {texts.count(text) - 1} more rows)" if texts.count(text) > 1 else ""
        yield f"{path}:{numbers[texts.index(text)]}: {text}{more}"


def _shapes(path: Path, raw: pd.DataFrame, hardware: str | None, on: Target) -> tuple[pd.DataFrame, pd.Series[str]]:
    """Our columns of the rows that say all that their operator needs, and what the others lack, by line.

    Rows without a device, or of one that the hardware's fit is not for, are taken as shapes to price on the hardware.
    """
    import pandas as pd

    blank: dict[str, Any] = {
        "latency_us": UNSEEN_LATENCY_US,
        "device": hardware or "",
        "timing": "kernel",
        "software": "",
    }
    full = raw.assign(**{name: value for name, value in blank.items() if name not in raw})
    frame = table._schema(path, full)
    ids = {name: "|".join(device_ids(str(name))) for name in frame["device"].map(str).unique()}
    frame["device_id"] = frame["device"].map(str).map(ids)
    if hardware and on.devices:
        own = np.isin(chosen_devices(frame["device_id"], on.devices).astype(str), on.devices)
        frame["device_id"] = np.where(own, frame["device_id"], on.devices[0])
    missing = pd.Series("", index=frame["line"].to_numpy())
    for family, needs in NEEDS.items():
        mask = (frame["family"] == family).to_numpy()
        for name in needs if mask.any() else ():
            missing[mask & ~(frame[name] > 0).to_numpy() & (missing == "").to_numpy()] = (
                f"'{name}' is empty or not positive"
            )
    frame = frame[(missing == "").to_numpy()].reset_index(drop=True)
    frame["flops"], frame["read_bytes"], frame["write_bytes"] = work(frame)
    return frame, missing
