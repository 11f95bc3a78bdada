"""Sustained share of the matrix rate from power: what a device's file says of TDP, SMs, clock and products a cycle.

A matrix unit at full rate draws some energy for every cycle of an SM: a constant, and a share that grows with the products of a
cycle. Where the TDP does not pay for that at the boost clock, the clock falls: the share is that of the energy at hand, softly
limited by what a device reaches without such a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.physics import Start, least_squares
from hwspecs import device
from hwspecs.device import Device

# Devices whose files cite a measured share of long 16-bit products. Not T4 and P100, whose sources contradict each other or
# have no matrix unit; not the PCIe part of 40 GB, the 40 GB of SXM and the H200, which no source of their own separates.
CITED = ("a100-sxm-80gb", "a100-pcie-80gb", "l40s", "l4", "v100-pcie", "h100-sxm", "b200")
SHARPNESS = 4.0  # of the soft limit: as overlapping times are combined
UNIT = 1024.0  # FLOP/cycle/SM in which the products of a cycle are counted
STARTS = {
    "base": Start(0.7e-9, 0.5),
    "product": Start(0.5e-9, 0.5),
    "cap": Start(0.9, 0.05, 1.0),
}  # J/cycle, J/cycle, ratio


@dataclass(frozen=True)
class Law:
    """Energy of an SM cycle: `base`, and `product` for each UNIT FLOP of it, J; `cap`: the share without a limit.

    `spread` is the standard deviation of the logarithm of cited over predicted shares, each predicted without its own chip.
    """

    base: float
    product: float
    cap: float
    spread: float = 0.0

    def share(self, d: Device) -> float:
        """Sustained over peak rate of a device."""
        rate = max(d.tensor.fp16, d.vector.fp16) / UNIT
        return float(_share(np.array([joules(d)]), np.array([rate]), self.base, self.product, self.cap)[0])


def joules(d: Device) -> float:
    """What the TDP pays for a cycle of an SM at the boost clock."""
    return d.power.tdp / (d.sm_count * d.sm_clock)


def _share(
    have: NDArray[np.float64], rate: NDArray[np.float64], base: float, product: float, cap: float
) -> NDArray[np.float64]:
    at_hand = have / (base + product * rate)
    return np.asarray(cap * at_hand / (1.0 + at_hand**SHARPNESS) ** (1.0 / SHARPNESS))


def chip(id_: str) -> str:
    """'a100-sxm-80gb' -> 'a100': devices of one chip are left out together."""
    return id_.split("-")[0]


def law(without: Iterable[str] = ()) -> Law:
    """The law by least squares on the cited devices, those of some chips left out."""
    out = {chip(id_) for id_ in without}
    return _fitted([id_ for id_ in CITED if chip(id_) not in out])


def scored() -> Law:
    """The law of all cited devices, with its spread on chips left out."""
    away = [np.log(device.load(id_).tensor.sustained / law([id_]).share(device.load(id_))) for id_ in CITED]
    found = law()
    return Law(found.base, found.product, found.cap, float(np.sqrt(np.mean(np.square(away)))))


def _fitted(ids: list[str]) -> Law:
    devices = [device.load(id_) for id_ in ids]
    have, rate = (
        np.array([joules(d) for d in devices]),
        np.array([max(d.tensor.fp16, d.vector.fp16) / UNIT for d in devices]),
    )
    cited = np.array([d.tensor.sustained for d in devices])

    def predict(values: Mapping[str, float]) -> NDArray[np.float64]:
        return _share(have, rate, values["base"], values["product"], values["cap"])

    found = least_squares(predict, cited, STARTS, np.arange(len(ids)))
    return Law(**found.values)
