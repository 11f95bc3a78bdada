"""Fitted: what `calib fit` learnt of the operators of one chip, and whether it may be applied.

A part (a family of operators, or a share of one such as decoding) has refitted parameters of the physical terms, additive floors,
a learned correction, the shapes that it covers, and how far held-out rows were from it. The correction belongs to the devices
that were fitted: on any other, and on one of them with any number changed, there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml
from numpy.typing import NDArray

from hwspecs.device import Device
from hwspecs.errors import CalibrationError, nearest
from hwspecs.rates import Rates
from sim.calibration import FOLDER, Parameter, Terms
from sim.calibration import load as load_physical
from sim.forest import Forest
from sim.intervals import Doubt, Interval, ends_of, interval_of, news, size_of, sizes, widened
from sim.residual import Kernel, Residual

Floats: TypeAlias = NDArray[np.float64]
RUNS = "gemm/16-bit"  # the part that corrects runs: the other measured operators are none that a run has
KIND = "fit"  # of the file, beside hardware and software files
NODES = ("roots", "feature", "threshold", "child", "ends")  # arrays of a forest
NO_FITS = ("physical", "spread")  # shipped files that are no fit
# Parts whose kernels stream, at what check bits leave them
STREAMED = ("norm", "softmax", "elementwise", "attention/unfused")
FUSED = ("attention/encoder", "attention/prefill")  # parts whose kernels have the blocks of their library


@dataclass(frozen=True)
class Part:
    """A family of operators, or one share of it, as it was fitted.

    `parameters` are fields of Terms, and of Rates for what belongs to the device; `floors` are seconds by label. `extents` are
    closed ranges of the columns that the fit covers. `intervals` are by software and size (`sim.intervals`), "" for all of them.
    """

    name: str
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    floors: Mapping[str, Parameter]
    extents: Mapping[str, tuple[float, float]]
    intervals: Mapping[str, Interval]
    rows: Mapping[str, int]  # used, held out, outliers
    held_out: Mapping[str, float]  # median, mape, p80, p90 in percent, of the same recipe on rows kept out
    residual: Residual | None
    outliers: tuple[
        str, ...
    ] = ()  # the worst rows that the fit does not explain, one line each; all of them are counted in `rows`
    known: Mapping[str, Floats] = field(
        default_factory=dict
    )  # measured values of columns, sorted, where they are a grid
    added: Mapping[str, float] = field(
        default_factory=dict
    )  # to intervals, by what is new in a column, in the logarithm
    doubt: Doubt | None = None  # by which intervals of rows are wider or narrower

    def terms(self, base: Terms) -> Terms:
        """Physical terms with the refitted ones in place."""
        own = {f.name for f in fields(Terms)}
        return replace(base, **{name: p.value for name, p in self.parameters.items() if name in own})

    def rates(self, base: Rates) -> Rates:
        """Rates with those in place that the fit found for the device."""
        own = {f.name for f in fields(Rates)}
        values: dict[str, Any] = {name: p.value for name, p in self.parameters.items() if name in own}
        return replace(base, **values)

    def floor(self, label: str) -> float:
        """Seconds added to a row with this label; of an unknown label, the median of those of the same operator."""
        if not label:
            return 0.0
        if label in self.floors:
            return self.floors[label].value
        alike = [p.value for key, p in self.floors.items() if key.split(" | ")[0] == label.split(" | ")[0]]
        return float(np.median(alike)) if alike else 0.0

    def interval(self, condition: str, seconds: float | None = None) -> Interval:
        """Of a software and a predicted time, of the software, of the time, or of all of them: the first that there is."""
        return interval_of(self.intervals, condition, size_of(seconds) if seconds is not None else "")

    def ends(
        self,
        condition: NDArray[np.object_],
        seconds: Floats,
        columns: Mapping[str, Floats] | None = None,
        scale: Floats | float = 1.0,
    ) -> tuple[Floats, Floats]:
        """Both ends of the intervals of rows, (rows,) each, in the logarithm: by their software and time, times `scale`,
        how unsure the correction is of each, below and above (rows, 2) (`doubt`), and wider for what is new of the values in
        their columns; without columns nothing is."""
        low, high = ends_of(self.intervals, condition, sizes(seconds))
        below, above = np.broadcast_to(scale, (len(seconds), 2)).T
        return widened(below * low, above * high, self.added, news(columns, self.known) if columns else {})


@dataclass(frozen=True)
class Fitted:
    """A fit by name: its parts by "family" or "family/part", where it comes from, and the devices that it is for."""

    name: str
    parts: Mapping[str, Part]
    provenance: Mapping[str, Any]

    @property
    def devices(self) -> tuple[str, ...]:
        """Ids of every device that some part was fitted on, in alphabetical order."""
        return tuple(sorted({d for p in self.parts.values() for d in p.devices}))


def applies(device: Device, to: tuple[str, ...]) -> bool:
    """Whether a device is exactly one of those: every number as in its file."""
    from hwspecs.device import load as load_device
    from hwspecs.rates import rates

    return device.name in to and rates(device) == rates(load_device(device.name))


def fit_of(device: Device) -> Fitted | None:
    """The fit that may correct runs on a device: one with this device in the part that runs use, every number as in its file."""
    fitted = find(device.name)
    part = fitted.parts.get(RUNS) if fitted else None
    return fitted if part and part.residual and applies(device, part.devices) else None


def names() -> list[str]:
    """The fits that framecast carries, sorted."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml") if p.stem not in NO_FITS)


def find(name: str) -> Fitted | None:
    """The fit of a device (by id), or with this name or path; None where there is none."""
    path = Path(name)
    if path.suffix == ".yaml" and path.is_file():
        return load(str(path)) if _is_fit(path) else None
    beside = Path(f"{name}.yaml")
    if beside.is_file() and _is_fit(beside):
        return load(str(beside))
    return next((f for f in map(load, names()) if name == f.name or name in f.devices), None)


def _is_fit(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return f"kind: {KIND}" in file.readline()


@cache
def load(name: str) -> Fitted:
    """A shipped fit by name, or one by the path of its YAML file; its networks lie beside it. Raises CalibrationError."""
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    try:
        data: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        arrays = dict(np.load(path.with_suffix(".npz"))) if path.with_suffix(".npz").is_file() else {}
        parts = {key: _named(_part(key, value, arrays), path) for key, value in data["parts"].items()}
        return Fitted(str(data["name"]), parts, data["provenance"])
    except OSError as error:
        hint = nearest(name, names()) if not name.endswith(".yaml") else ""
        raise CalibrationError(f"{path}: cannot read the fit: {error.strerror}{hint}") from None
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise CalibrationError(f"{path}: not a fit: {error}; write it again with 'framecast calib fit'") from None


def _named(part: Part, path: Path) -> Part:
    """The part, its correction naming the file in messages."""
    return replace(part, residual=replace(part.residual, file=str(path))) if part.residual else part


def _part(name: str, data: Mapping[str, Any], arrays: Mapping[str, Any]) -> Part:
    if name in STREAMED and not data.get("check_bits") and any(map(_inline_ecc, data["devices"])):
        raise ValueError(f"{name}: fitted before check bits beside the data were priced, which would count twice")
    if name in FUSED and not data.get("check_bits"):  # written since both are priced
        raise ValueError(f"{name}: fitted before fused attention was priced by the blocks of its kernels")
    if "stretches" in data:
        raise ValueError(f"{name}: its intervals are made wider by stretches, which are no longer read")
    return Part(
        name=name,
        dtypes=tuple(data["dtypes"]),
        devices=tuple(data["devices"]),
        parameters={key: Parameter(**value) for key, value in data["parameters"].items()},
        floors={key: Parameter(**value) for key, value in data["floors"].items()},
        extents={key: (float(low), float(high)) for key, (low, high) in data["extents"].items()},
        intervals={key: Interval(**value) for key, value in data["intervals"].items()},
        rows=data["rows"],
        held_out=data["held_out"],
        residual=_residual(name, data["residual"], arrays) if data["residual"] else None,
        outliers=tuple(data.get("outliers", ())),
        known={key: np.array(values, dtype=np.float64) for key, values in data.get("known", {}).items()},
        added={key: float(value) for key, value in data.get("added", {}).items()},
        doubt=_doubt(name, data.get("doubt"), arrays),
    )


def _inline_ecc(name: str) -> bool:
    """Whether a device of ours keeps check bits beside the data."""
    from hwspecs.device import device_names
    from hwspecs.device import load as load_device

    return name in device_names() and load_device(name).hbm.inline_ecc


def _doubt(name: str, data: Mapping[str, Any] | None, arrays: Mapping[str, Any]) -> Doubt | None:
    if not data:
        return None
    doubt = Doubt(tuple(data["networks"]), float(data["floor"]), float(data["typical"]))
    if "depth" not in data:
        return doubt
    nodes = {key: arrays[f"{name}/forest/{key}"] for key in NODES}
    return replace(doubt, forest=Forest(**nodes, depth=int(data["depth"])))


def _residual(name: str, data: Mapping[str, Any], arrays: Mapping[str, Any]) -> Residual:
    if data["networks"] == 0:
        kernel = Kernel(*(arrays[f"{name}/kernel/{f.name}"] for f in fields(Kernel)))
        centre, scale, low, high = arrays[f"{name}/scaling"].astype(np.float64)
        return Residual(tuple(data["features"]), centre, scale, low, high, tuple(data["conditions"]), (), kernel)
    layers = tuple(
        tuple(
            (arrays[f"{name}/{i}/{j}/weights"].astype(np.float32), arrays[f"{name}/{i}/{j}/biases"].astype(np.float32))
            for j in range(data["layers"])
        )
        for i in range(data["networks"])
    )
    outputs, wanted = len(layers[0][-1][1]), 1 + len(data["conditions"])
    if outputs != wanted:
        raise ValueError(f"{name}: the correction has {outputs} outputs, expected {wanted}")
    centre, scale, low, high = arrays[f"{name}/scaling"].astype(np.float64)
    return Residual(tuple(data["features"]), centre, scale, low, high, tuple(data["conditions"]), layers)


def dump(fitted: Fitted, path: Path) -> None:
    """Write a fit as YAML, and its networks beside it in half precision."""
    arrays: dict[str, Any] = {}
    parts = {name: _part_data(part, arrays) for name, part in fitted.parts.items()}
    data = {"name": fitted.name, "provenance": dict(fitted.provenance), "parts": parts}
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=130)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# kind: {KIND}; written by 'framecast calib fit'. Times in seconds.\n{text}", encoding="utf-8")
    if arrays:
        np.savez_compressed(path.with_suffix(".npz"), **arrays)
    load.cache_clear()


def _part_data(part: Part, arrays: dict[str, Any]) -> dict[str, Any]:
    def plain(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: {k: _number(v) for k, v in vars(value).items()} for key, value in values.items()}

    data: dict[str, Any] = {
        "dtypes": list(part.dtypes), "devices": list(part.devices), "rows": dict(part.rows),
        "held_out": {k: _number(v) for k, v in part.held_out.items()},
        "extents": {k: [_number(v) for v in pair] for k, pair in part.extents.items()},
        "parameters": plain(part.parameters), "floors": plain(part.floors), "intervals": plain(part.intervals),
        "known": {k: [float(v) for v in values] for k, values in part.known.items()},
        "added": {k: _number(v) for k, v in part.added.items()}, "doubt": None,
        "outliers": list(part.outliers), "residual": None, "check_bits": True,
    }  # fmt: skip
    if part.doubt:
        d = part.doubt
        data["doubt"] = {"networks": list(d.networks), "floor": _number(d.floor), "typical": _number(d.typical)}
        if d.forest:
            data["doubt"]["depth"] = d.forest.depth
            arrays.update({f"{part.name}/forest/{key}": getattr(d.forest, key) for key in NODES})
    if part.residual:
        r = part.residual
        arrays[f"{part.name}/scaling"] = np.stack([r.centre, r.scale, r.low, r.high])
        for f in fields(Kernel) if r.kernel else ():
            arrays[f"{part.name}/kernel/{f.name}"] = getattr(r.kernel, f.name)
        for i, network in enumerate(r.layers):
            for j, (weights, biases) in enumerate(network):
                arrays[f"{part.name}/{i}/{j}/weights"] = weights.astype(np.float16)
                arrays[f"{part.name}/{i}/{j}/biases"] = biases.astype(np.float16)
        data["residual"] = {
            "networks": len(r.layers), "layers": len(r.layers[0]) if r.layers else 0, "features": list(r.names),
            "conditions": list(r.conditions),
        }  # fmt: skip
    return data


def _number(value: Any) -> Any:
    """Floats with six digits, whole numbers as such."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def base_terms() -> Terms:
    """The physical terms that every device shares."""
    return load_physical().terms
