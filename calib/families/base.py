"""Family: how rows of one kind of operator are priced, split and corrected; the registry of the files in this folder.

A prediction of a row is `floor + physical time`, and at the calibrated level that multiplied by `exp(correction)`, bounded. A
family says what the physical time is, which dimensionless features the correction may see, and what a held-out unit is.
Everything here is columns of a frame of `calib.table.read`, which may hold rows of several softwares but of one device.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.rates import Rates
from sim.calibration import Terms

if TYPE_CHECKING:
    import pandas as pd

Floats: TypeAlias = NDArray[np.float64]
RATES = (
    "tensor_sustained",
    "launch_gap",
    "hbm_bandwidth",
)  # fields of `Rates` that a fit may change: of the device, not of a term


@dataclass(frozen=True)
class Physical:
    """What the physical terms say of each row, columns (rows,): seconds, without launch floors.

    Attributes:
        time: of the kernels of the row.
        terms: what it is made of, by name; feeds features and reports.
        bound: codes into `sim.cost.BOUNDS`.
        lower: what no software can beat on this device: executed FLOPs over peak, bytes that must move over peak bandwidth.
    """

    time: Floats
    terms: Mapping[str, Floats]
    bound: NDArray[np.int64]
    lower: Floats

    def take(self, mask: Any) -> Physical:
        """The rows of a mask."""
        return Physical(
            self.time[mask], {n: v[mask] for n, v in self.terms.items()}, self.bound[mask], self.lower[mask]
        )

    def corrected(self, away: Floats) -> Floats:
        """Seconds (rows,) with these logarithms of a factor, never below what no software can beat."""
        return np.maximum(self.time * np.exp(away), self.lower)


@dataclass(frozen=True)
class Family:
    """One family of operators.

    Attributes:
        name: the file's name.
        ops: values of the column `op` that it prices.
        physical: (frame, rates of the rows' device, terms) -> Physical.
        features: (frame, physical, rates) -> dimensionless columns by name, for the correction. Flags of op, dtype or timing
            that change the kernel belong here; software belongs in `condition`.
        part: label of each row; each part has parameters and a correction of its own ("fp32", "decode"), "" where there is one.
        groups: held-out unit of each row, such as "n_k": rows of one unit are never split.
        condition: software (or, where it matters more, algorithm) of each row; "" is unknown. Left out at random in training,
            so that the prediction for an unknown condition is a sensible mean.
        floor: label of the additive host or layer time of each row, "" for none. "op | software": an unknown label takes the
            median of those that share the part before " | ".
        extents: columns whose range over the fit is what the calibration covers.
        fitted: names of `Terms` that the fit may change, and of RATES, which belong to the device; most telling first.
        size: hidden width and epochs of the correction's network.
        abroad: `physical` on a device that no fit is for, where that differs; None: it does not.
        floor_unit: seconds (rows,) on a device of what a floor counts where floors are carried from one chip to another, such as
            small kernels; None: floors are seconds.
        values: columns that are a grid in tables, whose values are held out whole to know intervals between and beyond them.
        recipe: what else of `calib.network.Recipe` differs for this family.
    """

    name: str
    ops: tuple[str, ...]
    physical: Callable[[pd.DataFrame, Rates, Terms], Physical]
    features: Callable[[pd.DataFrame, Physical, Rates], dict[str, Floats]]
    groups: Callable[[pd.DataFrame], pd.Series[Any]]
    condition: Callable[[pd.DataFrame], pd.Series[Any]]
    floor: Callable[[pd.DataFrame], pd.Series[Any]]
    extents: tuple[str, ...]
    fitted: tuple[str, ...] = ()
    part: Callable[[pd.DataFrame], pd.Series[Any]] = lambda frame: constant(frame, "")
    size: tuple[int, int] = (96, 80)
    values: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    abroad: Callable[[pd.DataFrame, Rates, Terms], Physical] | None = None
    floor_unit: Callable[[pd.DataFrame, Rates, Terms], Floats] | None = None


@cache
def families() -> dict[str, Family]:
    """Every family of the files in `calib/families`, by name, in alphabetical order."""
    import calib.families as package

    names = sorted(i.name for i in pkgutil.iter_modules(package.__path__) if i.name != "base")
    found: dict[str, Family] = {name: importlib.import_module(f"calib.families.{name}").FAMILY for name in names}
    return found


def family_of(ops: pd.Series[Any]) -> NDArray[np.object_]:
    """The name of the family that prices each row; "" where none does."""
    known = {op: family.name for family in families().values() for op in family.ops}
    return np.array([known.get(str(op), "") for op in ops], dtype=object)


def constant(frame: pd.DataFrame, label: str) -> pd.Series[Any]:
    """The same label for every row."""
    import pandas as pd

    return pd.Series(label, index=frame.index)


def floats(frame: pd.DataFrame, *names: str) -> list[Floats]:
    """Columns of a frame as float arrays."""
    return [frame[name].to_numpy(dtype=np.float64) for name in names]


def joined(frame: pd.DataFrame, *names: str) -> pd.Series[Any]:
    """Columns as one label a row, 'a_b'; whole numbers without a point."""
    import pandas as pd

    out = pd.Series("", index=frame.index)
    for i, name in enumerate(names):
        column = frame[name]
        text = column.map(lambda v: f"{v:g}") if column.dtype.kind == "f" else column.fillna("").astype(str)
        out = text if i == 0 else out + "_" + text
    return out
