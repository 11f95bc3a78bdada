"""Calibration: the parameters of the physical terms, with units, errors and sources, and the range that they cover."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from hwspecs import spec
from hwspecs.device import Device
from hwspecs.errors import CalibrationError
from sim.parts import changed_fields
from workloads.lower import Kernels

FOLDER = Path(__file__).parent / "calibrations"


@dataclass(frozen=True)
class Terms:
    """Parameter values that the cost models read; units and meaning stand beside each in `calibrations/physical.yaml`."""

    tile_issue: float
    wave_share: float
    fill_drain_tile: float
    loop_latency: float
    split_reduction: float
    operand_delivery: float
    write_out: float
    hbm_tile: float
    hbm_stream: float
    hbm_reduce: float
    hbm_gather: float
    inline_ecc: float
    l2_reach: float
    l2_stream: float
    fill_drain_stream: float
    fused_issue: float
    fused_prologue: float
    fused_iteration: float


SHARES = (
    "tile_issue", "wave_share", "hbm_tile", "hbm_stream", "hbm_reduce", "hbm_gather", "inline_ecc", "l2_stream", "fused_issue",
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One fitted or cited value: unit, standard error (or stated range), source."""

    value: float
    unit: str
    error: float
    source: str


@dataclass(frozen=True)
class Coverage:
    """Where measurements back a family of kernels: ids of devices, dtypes, and closed ranges of m, n, k (counts)."""

    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    m: tuple[float, float]
    n: tuple[float, float]
    k: tuple[float, float]
    source: str


@dataclass(frozen=True)
class Calibration:
    """A named parameter set."""

    name: str
    parameters: Mapping[str, Parameter]
    coverage: Mapping[str, Coverage]

    @property
    def terms(self) -> Terms:
        """The values alone."""
        return Terms(**{name: p.value for name, p in self.parameters.items()})

    def covered(self, kernels: Kernels, device: Device | None = None) -> NDArray[np.bool_]:
        """Which kernels (kernels,) lie inside the shapes and dtypes that a measurement backs.

        With a device, only where it is one that was measured, with none of its numbers changed.
        """
        out = np.zeros(len(kernels), dtype=bool)
        same = device is None or not _changed_numbers(device)
        for i, (family, dtype) in enumerate(zip(kernels.family, kernels.dtype, strict=True)):
            c = self.coverage.get(family)
            if c and dtype in c.dtypes and same and (device is None or device.name in c.devices):
                _, m, n, k = kernels.gemm[:, i]
                out[i] = c.m[0] <= m <= c.m[1] and c.n[0] <= n <= c.n[1] and c.k[0] <= k <= c.k[1]
        return out


@cache
def load(name: str = "physical") -> Calibration:
    """A shipped calibration. Raises CalibrationError for a missing or malformed file."""
    path = FOLDER / f"{name}.yaml"
    try:
        data: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        parameters = {key: Parameter(**value) for key, value in data["parameters"].items()}
        coverage = {key: _coverage(value) for key, value in data["coverage"].items()}
    except OSError as error:
        raise CalibrationError(f"{path}: cannot read the calibration: {error.strerror}") from None
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise CalibrationError(f"{path}: not a calibration: {error}") from None
    problems = list(_problems(path, parameters))
    if problems:
        raise CalibrationError(problems)
    return Calibration(name, parameters, coverage)


def _changed_numbers(device: Device) -> set[str]:
    """Paths of the numbers and switches that results depend on in which a device differs from ours of that name."""
    numbers = {f.path for f in spec.fields(Device) if f.switch or (f.numeric and not f.descriptive)}
    return numbers & set(changed_fields(device))


def _coverage(data: Mapping[str, Any]) -> Coverage:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return Coverage(**values)


def _problems(path: Path, parameters: Mapping[str, Parameter]) -> list[str]:
    """Missing, unknown or impossible parameters."""
    wanted = {f.name for f in fields(Terms)}
    lines = [f"{path}: parameters.{n}: missing" for n in sorted(wanted - set(parameters))]
    lines += [f"{path}: parameters.{n}: unknown parameter" for n in sorted(set(parameters) - wanted)]
    for name, p in parameters.items():
        if not (math.isfinite(p.value) and p.value > 0):
            lines.append(f"{path}: parameters.{name}.value: found {p.value}, expected a positive number")
        elif name in SHARES and p.value > 1:
            lines.append(f"{path}: parameters.{name}.value: found {p.value}, expected a share of a peak, at most 1")
    return lines
