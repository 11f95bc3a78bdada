"""Measurement tables, ours and public ones: read, put into one schema, checked row by row.

    found = read(["gemm.csv.gz", "calib/data/h200/operators.csv"])
    found.frame      # the rows that can be used, with family, device_id, flops, read_bytes, write_bytes, path, line
    found.problems   # one line for each row that could not

A file that cannot be used as a whole is refused (CalibrationError); a row that cannot is left out, and counted with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calib.devices import CHIPS, device_ids, peaks
from calib.shapes import AXES
from calib.work import EXTENT_COLUMNS, IDENTITY, NEEDS, families, work
from hwspecs.errors import CalibrationError, nearest
from workloads.kind import ITEMSIZE

if TYPE_CHECKING:
    import pandas as pd

Mask: TypeAlias = NDArray[np.bool_]
COLUMNS = ("op", "device", "dtype", "latency_us")  # that every table has
TOLERANCE = 1.05  # above a stated peak: clocks above the stated boost, rounding
ROUNDING_US = 0.5  # published latencies are rounded, to 1 us at worst
OUTLIER = 2.5  # times the median of the rows of one shape, either way
ALIKE = 3  # rows of one shape from which a median is one
FASTER = 2.25  # executed FLOPs of Winograd's F(2x2, 3x3) are so many times fewer (Lavin and Gray, 2015)
FEWER_FLOPS = ("winograd", "fft")
IMPOSSIBLE = 0.5  # share of a file's rows above the peaks at which its unit is wrong
DTYPES = tuple(ITEMSIZE)


@dataclass(frozen=True)
class Provenance:
    """One file: rows read, rows that are used, and how many were left out for which reason."""

    path: str
    rows: int
    used: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class Measurements:
    """Rows that can be used (`frame`), where they come from, and a line for each row that has to be fixed.

    Columns beside those of the tables: family, device_id (ids joined by '|' where the name leaves it open), flops (matrix, as the
    operator has them), read_bytes, write_bytes (each tensor once), path, line.
    """

    frame: pd.DataFrame
    provenance: tuple[Provenance, ...]
    problems: tuple[str, ...]


def read(paths: str | Path | Iterable[str | Path], cpu: bool = False) -> Measurements:
    """Read and check tables (CSV, CSV.gz, Parquet). Rows timed on a CPU are left out, or, with `cpu`, are the only ones.

    Raises CalibrationError, with a line for each file that cannot be used: missing, no table, a column missing, a wrong unit.
    """
    import pandas as pd

    found: list[Measurements] = []
    problems: list[str] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        try:
            found.append(_read_one(Path(path), cpu))
        except CalibrationError as error:
            problems += error.problems
    if problems:
        raise CalibrationError(problems)
    frames = [m.frame for m in found if len(m.frame)] or [m.frame for m in found[:1]]
    return Measurements(
        frame=pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
        provenance=tuple(p for m in found for p in m.provenance),
        problems=tuple(line for m in found for line in m.problems),
    )


def _read_one(path: Path, cpu: bool) -> Measurements:
    frame = _schema(path, _loaded(path))
    drops = _Drops(frame)
    for check in (_unmeasured, _machine, _latency, _dtype, _extents):
        check(frame, drops, cpu)
    frame["flops"], frame["read_bytes"], frame["write_bytes"] = work(frame)
    _impossible(path, frame, drops)
    _repeated(frame, drops)
    _outliers(frame, drops)
    kept = drops.open()
    lines = tuple(_told(f"{path}:{frame.line.iat[i]}: {drops.text[i]}", alike) for i, alike in drops.told())
    return Measurements(
        frame[kept].copy(), (Provenance(str(path), len(frame), int(kept.sum()), drops.counts()),), lines
    )


UNKNOWN_DEVICE = "unknown device"


def _told(problem: str, alike: int) -> str:
    rows = "the row was not used: fix or delete it" if alike == 1 else f"{alike} rows like it were not used"
    return f"{problem}{'' if problem.endswith('?') else ';'} {rows}"


class _Drops:
    """Why each row is left out: the first reason that was found."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.why = np.full(len(frame), "", dtype=object)
        self.text = np.full(len(frame), "", dtype=object)

    def open(self) -> Mask:
        """Rows without a reason so far."""
        return np.asarray(self.why == "", dtype=bool)

    def add(self, mask: Any, why: str, text: Callable[[int], str] | None = None) -> None:
        """Leave out the rows of a mask; with `text`, as a problem to be fixed."""
        for i in np.flatnonzero(np.asarray(mask, dtype=bool) & self.open()):
            self.why[i], self.text[i] = why, text(int(i)) if text else ""

    def told(self) -> list[tuple[int, int]]:
        """Rows with a problem, and how many it stands for: of an unknown device the first row stands for all."""
        out: dict[Any, tuple[int, int]] = {}
        for i in np.flatnonzero(self.text != ""):
            key = self.text[i] if self.why[i] == UNKNOWN_DEVICE else i
            first, alike = out.get(key, (int(i), 0))
            out[key] = (first, alike + 1)
        return sorted(out.values())

    def counts(self) -> dict[str, int]:
        """Rows by reason, most frequent first."""
        reasons, counts = np.unique(self.why[~self.open()].astype(str), return_counts=True)
        return dict(sorted(zip(reasons.tolist(), counts.tolist(), strict=True), key=lambda item: -item[1]))


# ---- whole files -----------------------------------------------------------------------------------------------------


def _loaded(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, low_memory=False, skip_blank_lines=False)
    except ImportError:
        raise CalibrationError(
            f"{path}: reading Parquet needs pyarrow: install it, or write the table as CSV"
        ) from None
    except FileNotFoundError:
        raise CalibrationError(f"{path}: no such file") from None
    except OSError as error:
        raise CalibrationError(f"{path}: cannot read the table: {error.strerror or error}") from None
    except Exception as error:  # pandas, zlib and pyarrow each have their own for a file that is no table
        raise CalibrationError(f"{path}: not a table: {_no_table(error)}") from None


def _no_table(error: Exception) -> str:
    """What a reader found wrong with a file, in one line without its own words for itself."""
    if isinstance(error, UnicodeDecodeError):
        return "no UTF-8 text; a table is CSV or Parquet (.parquet)"
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].removeprefix("Error tokenizing data. ").removeprefix("C error: ")


def _schema(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Our columns: whole models under `op`, kernel extents by axis, numbers as numbers. Refuses a table without them."""
    import pandas as pd

    frame = frame.assign(line=np.arange(len(frame)) + 2, path=str(path)) if len(frame.columns) else frame
    if "it_per_s" in frame:
        frame = _published(frame)
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        other = next((c for c in frame.columns if str(c).startswith("latency_") and c != "latency_us"), "")
        hint = f" ('{other}' is there: give microseconds)" if missing == ["latency_us"] and other else ""
        raise CalibrationError(f"{path}:1: column '{missing[0]}' is missing{hint}; a table has {', '.join(COLUMNS)}")
    if not len(frame):
        raise CalibrationError(f"{path}: the table has no rows")
    frame = frame[frame[[c for c in frame if c not in ("line", "path")]].notna().any(axis=1)].reset_index(drop=True)
    if "family" not in frame:
        frame["family"] = families(frame["op"])
    for name in [n for n in ("kernel", "stride", "padding") if n in frame]:
        rank = frame["op"].astype(str).str.extract(r"(\d)d$")[0].astype(float)
        for back, axis in enumerate(reversed(AXES)):
            frame[f"{name}_{axis}"] = frame[name].where(rank > back)
    for family in sorted(set(frame["family"])):
        absent = [name for name in NEEDS[family] if name not in frame]
        if absent:
            needs = ", ".join(NEEDS[family])
            raise CalibrationError(f"{path}:1: column '{absent[0]}' is missing; {family} rows need {needs}")
    numeric = [c for c in ("latency_us", *EXTENT_COLUMNS, "gflop", "mbytes", "spread") if c in frame]
    frame[numeric] = frame[numeric].apply(lambda column: pd.to_numeric(column, errors="coerce"))
    return frame


def _published(frame: pd.DataFrame) -> pd.DataFrame:
    """Times of whole models and their components: the latency of one result, or of one step, in microseconds."""
    latency = (frame["latency_ms"] * 1e3).fillna(1e6 / frame["it_per_s"])
    return frame.assign(
        op=frame["component"], dtype=frame["precision"].str.split(" ").str[0], latency_us=latency, family="end_to_end"
    )


# ---- rows ------------------------------------------------------------------------------------------------------------


def _unmeasured(frame: pd.DataFrame, drops: _Drops, _: bool) -> None:
    """Rows that say themselves that nothing was measured."""
    if "status" in frame:
        for status in sorted(set(frame["status"].dropna()) - {"ok"}):
            drops.add(frame["status"] == status, f"not measured ({status})")


def _machine(frame: pd.DataFrame, drops: _Drops, cpu: bool) -> None:
    """Device names -> ids. Rows of CPUs and of GPUs never come back together."""
    names = frame["device"].map(str)
    on_cpu = names.str.startswith("cpu:")
    known = {name: "|".join(device_ids(name)) for name in names.unique()}
    frame["device_id"] = np.where(on_cpu, names, names.map(known))
    drops.add(on_cpu if not cpu else ~on_cpu, "timed on a CPU" if not cpu else "not timed on a CPU")
    drops.add(
        frame["device_id"] == "",
        UNKNOWN_DEVICE,
        lambda i: f"unknown device '{names.iat[i]}'{nearest(str(names.iat[i]), CHIPS)}",
    )


def _latency(frame: pd.DataFrame, drops: _Drops, _: bool) -> None:
    latency = frame["latency_us"]
    drops.add(
        ~np.isfinite(latency), "latency not finite", lambda i: f"latency is not a finite number ({latency.iat[i]})"
    )
    drops.add(latency <= 0, "latency not positive", lambda i: f"latency is not positive ({latency.iat[i]:g})")


def _dtype(frame: pd.DataFrame, drops: _Drops, cpu: bool) -> None:
    """Unknown dtypes, and those that the device lacks. A dtype may be followed by a remark."""
    frame["dtype"] = frame["dtype"].astype(str).str.split(" ").str[0]
    dtype = frame["dtype"]
    drops.add(
        ~dtype.isin(DTYPES), "unknown dtype", lambda i: f"unknown dtype '{dtype.iat[i]}' (known: {', '.join(DTYPES)})"
    )
    if cpu:
        return
    computes = ~frame["family"].isin(["collective"]).to_numpy() & dtype.isin(["fp16", "bf16", "tf32", "fp8"]).to_numpy()
    lacks = {
        (ids, kind)
        for ids, kind in set(zip(frame["device_id"], dtype, strict=True))
        if ids and not ids.startswith("cpu:") and not any(kind in peaks(id_).flops for id_ in ids.split("|"))
    }
    pairs = np.array([pair in lacks for pair in zip(frame["device_id"], dtype, strict=True)], dtype=bool)
    drops.add(
        computes & pairs, "dtype that the device lacks", lambda i: f"{frame.device_id.iat[i]} has no {dtype.iat[i]}"
    )


def _extents(frame: pd.DataFrame, drops: _Drops, _: bool) -> None:
    """Every extent that a family needs is there and positive."""
    for family in sorted(set(frame["family"])):
        mask = (frame["family"] == family).to_numpy()
        for name in NEEDS[family]:
            bad = mask & ~(frame[name] > 0).to_numpy()
            drops.add(bad, "extent missing", partial(_empty, name))


def _empty(name: str, _: int) -> str:
    return f"'{name}' is empty or not positive"


def _impossible(path: Path, frame: pd.DataFrame, drops: _Drops) -> None:
    """Rows faster than the device can be; a file in which most rows are has its latency in another unit."""
    seconds = frame["latency_us"].to_numpy(dtype=float) * 1e-6
    slower = seconds + ROUNDING_US * 1e-6
    rate, bandwidth, l2 = _limits(frame)
    reads, writes = frame["read_bytes"].to_numpy(), frame["write_bytes"].to_numpy()
    cold = (frame["condition"] == "cold").to_numpy() if "condition" in frame else np.zeros(len(frame), dtype=bool)
    moved = np.where(cold, reads + np.maximum(writes - l2, 0), np.maximum(reads + writes - l2, 0))
    flops = frame["flops"].to_numpy()
    with np.errstate(all="ignore"):
        too_many = flops / slower > TOLERANCE * rate
        too_wide = moved / slower > TOLERANCE * bandwidth
    judged = drops.open()
    share = float(np.mean((too_many | too_wide)[judged])) if judged.sum() >= 20 else 0.0
    if share > IMPOSSIBLE:
        text = f"latency_us: {100 * share:.0f} % of the rows would be faster than their device can be"
        raise CalibrationError(f"{path}: {text}; give microseconds")
    with np.errstate(all="ignore"):
        peak, had = rate / 1e12, flops / seconds / 1e12
        wide, carried = bandwidth / 1e9, moved / seconds / 1e9
    drops.add(
        too_many, "above the peak FLOP/s",
        lambda i: f"{had[i]:.4g} TFLOP/s is above the {peak[i]:.4g} TFLOP/s that {_who(frame, i)} can do",
    )  # fmt: skip
    drops.add(
        too_wide, "above the peak bandwidth",
        lambda i: f"{carried[i]:.4g} GB/s from memory is above the {wide[i]:.4g} GB/s of {_who(frame, i)}",
    )  # fmt: skip


def _who(frame: pd.DataFrame, i: int) -> str:
    return str(frame["device_id"].iat[i]).replace("|", " or ")


def _limits(frame: pd.DataFrame) -> tuple[Any, Any, Any]:
    """FLOP/s, B/s and L2 bytes that bound each row: of the best device that its name may mean, inf where nothing does."""
    conv = (frame["family"] == "conv").to_numpy()
    math = frame["math"].astype(str).str.split(" ").str[0] if "math" in frame else frame["dtype"]
    kind = np.where(math.isin(DTYPES), math, frame["dtype"])
    algorithm = frame["algorithm"].fillna("").astype(str) if "algorithm" in frame else frame["op"].map(lambda _: "")
    # fp32 convolutions may run as TF32 unless the row says otherwise, and by algorithms that execute fewer FLOPs.
    tf32 = conv & (kind == "fp32") & (("math" not in frame) & (algorithm == "")).to_numpy()
    table = {key: _peak(*key) for key in set(zip(frame["device_id"], np.where(tf32, "tf32", kind), strict=True))}
    rows = np.array(
        [table[key] for key in zip(frame["device_id"], np.where(tf32, "tf32", kind), strict=True)], dtype=float
    )
    rate = rows[:, 0] * np.where(conv & (algorithm == "").to_numpy(), FASTER, 1.0)
    return np.where(algorithm.isin(FEWER_FLOPS), np.inf, rate), rows[:, 1], rows[:, 2]


def _peak(ids: str, dtype: str) -> tuple[float, float, float]:
    known = [peaks(id_) for id_ in ids.split("|")] if ids and not ids.startswith("cpu:") else []
    if not known:
        return np.inf, np.inf, 0.0
    rate = max(p.flops.get(dtype, p.flops["fp32"] if dtype == "tf32" else np.inf) for p in known)
    return rate, max(p.bandwidth for p in known), max(p.l2 for p in known)


def _keys(frame: pd.DataFrame, names: Sequence[str]) -> NDArray[np.int64]:
    """One number for each distinct combination of columns, empty cells alike, (rows,)."""
    import pandas as pd

    codes = [pd.factorize(frame[name], use_na_sentinel=False)[0] for name in names if name in frame]
    joined = reduce(
        lambda a, b: pd.factorize(a * (int(b.max()) + 1) + b)[0], codes, np.zeros(len(frame), dtype=np.int64)
    )
    return np.asarray(joined, dtype=np.int64)


def _repeated(frame: pd.DataFrame, drops: _Drops) -> None:
    """Rows that repeat an earlier one in every cell."""
    cells = [
        str(c) for c in frame if c not in ("line", "path", "device_id", "family", "flops", "read_bytes", "write_bytes")
    ]
    keys = _keys(frame, cells)
    first = np.full(keys.max() + 1, -1)
    first[keys[::-1]] = np.arange(len(keys))[::-1]
    drops.add(
        first[keys] != np.arange(len(keys)), "duplicate", lambda i: f"the same as line {frame.line.iat[first[keys[i]]]}"
    )


def _outliers(frame: pd.DataFrame, drops: _Drops) -> None:
    """Rows more than OUTLIER times from the median of their shape, where at least ALIKE rows share it."""
    kept = np.flatnonzero(drops.open() & (frame["family"] != "end_to_end").to_numpy())
    if not len(kept):
        return
    alike = frame.iloc[kept]
    grouped = alike["latency_us"].groupby(_keys(alike, ["device_id", *IDENTITY, *EXTENT_COLUMNS]))
    count, ratio = grouped.transform("size").to_numpy(), (alike["latency_us"] / grouped.transform("median")).to_numpy()
    far = (count >= ALIKE) & ((ratio > OUTLIER) | (ratio < 1 / OUTLIER))
    mask, of_row = np.zeros(len(frame), dtype=bool), dict(zip(kept.tolist(), range(len(kept)), strict=True))
    mask[kept[far]] = True
    drops.add(
        mask, "outlier",
        lambda i: f"latency is {ratio[of_row[i]]:.3g} times the median of the {count[of_row[i]]} rows of its shape",
    )  # fmt: skip
