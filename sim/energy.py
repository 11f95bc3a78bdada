"""Energy of a run: what its kernels compute and move, times the energies of `hwspecs.power`, plus idle power over its time.

Bytes through L2 are those of the largest tiles, for every device alike, so that a design of a search and a run alone have the
same energy; smaller tiles move more, which the range of the L2's energy allows for. One device has no traffic on its links.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs import power
from hwspecs.device import Device, Silicon
from hwspecs.estimate import Estimate
from hwspecs.power import BLOCK_TILE, BYTES, Activity
from hwspecs.price import Running, price, running
from hwspecs.rates import Rates, rates
from hwspecs.silicon import anchor, die_area, outside
from sim import traffic
from workloads.kind import REPORT_CLASSES
from workloads.lower import Kernels

if TYPE_CHECKING:
    from sim.result import Result

Floats: TypeAlias = NDArray[np.float64]
DESIGN = {
    "energy_per_image_j": "J", "average_power_w": "W", "full_power_w": "W", "area_mm2": "mm2", "price_usd": "",
    "usd_per_1000_images": "",
}  # fmt: skip


@dataclass(frozen=True)
class Energy:
    """Joules at the board's input of one inference, and what follows.

    Attributes:
        total, per_image, average_power: J, J and W, with their ranges.
        terms: J by what takes it (power.TERMS, idle, board); they add up to the total.
        classes, components: J by report class and by component, `waiting` being what is drawn while no kernel runs.
        running: dollars and CO2 of one inference. full_power: W of the device at full activity; area: mm2; price: dollars.
        outside: what of the device the public dies do not cover.
    """

    total: Estimate
    per_image: Estimate
    average_power: Estimate
    terms: Mapping[str, float]
    classes: Mapping[str, float]
    components: Mapping[str, float]
    waiting: float
    running: Running
    full_power: Estimate
    area: Estimate
    price: Estimate
    clock: float
    outside: tuple[str, ...]


def l2_bytes(kernels: Kernels) -> Floats:
    """Bytes through L2 (kernels,) with the largest tiles: operands once per row or column of blocks, results once."""
    batch, m, n, k = kernels.gemm
    rows, columns = BLOCK_TILE
    operands = batch * k * (m * np.ceil(n / columns) + n * np.ceil(m / rows))
    product = kernels.itemsize * (operands + batch * m * n)
    groups, q_len, kv_len, head_dim, causal, query = kernels.flash[:6]
    fused = kernels.itemsize * groups * head_dim * (
        2.0 * q_len + 2.0 * np.ceil(q_len / np.maximum(query, 1.0)) * kv_len * (1.0 - causal / 2.0)
    )  # fmt: skip
    streamed = traffic.sum_reads(kernels) * traffic.overfetch(kernels) + kernels.write_bytes
    return np.where(kernels.gemm[0] > 0, product, np.where(kernels.flash[0] > 0, fused, streamed))


def activity(kernels: Kernels, hbm_bytes: Any) -> Activity:
    """What one run of each kernel does, (kernels,); hbm_bytes (..., kernels) as they were priced."""
    dtypes = np.array(kernels.dtype)
    flops = {t: np.where(dtypes == t, kernels.flops, 0.0) for t in BYTES if np.any(dtypes == t)}
    return Activity(flops, kernels.vector_flops + kernels.index_ops, kernels.exp_ops, l2_bytes(kernels), hbm_bytes)


def summed(done: Activity, runs: Any) -> Activity:
    """Of a whole run: `runs` (kernels,) or (designs, kernels) says how often each kernel runs; (designs, 1) or ()."""

    def over(counts: Any) -> Any:
        return (np.asarray(counts) * runs).sum(axis=-1, keepdims=np.ndim(runs) > 1 or np.ndim(counts) > 1)

    flops = {t: over(f) for t, f in done.flops.items()}
    return Activity(flops, over(done.vector_flops), over(done.exp_ops), over(done.l2_bytes), over(done.hbm_bytes))


def joules(done: Activity, seconds: Any, on: Rates, silicon: Silicon, anchored: float = 1.0) -> dict[str, Estimate]:
    """J by term of a run that lasts `seconds`, without the board's losses; `power.at_board` is their sum."""
    return power.work(done, on, silicon) | {"idle": power.idle(on, silicon, anchored).times(seconds)}


def of_result(result: Result) -> Energy | None:
    """Energy of a run, by class and component; None where the device does not say what it is made of."""
    device, drawn = result.scenario.device, power.of_device(result.scenario.device)
    if device.silicon is None or drawn is None:
        return None
    from sim.result import call_class

    silicon, on, anchored = device.silicon, rates(device), anchor(device)
    cost, repeats = result.priced.cost, result.trace.call_repeats()
    per_kernel = activity(cost.kernels, cost.hbm_bytes)
    terms = joules(summed(per_kernel, result.priced.runs(repeats)), result.latency, on, silicon, anchored)
    whole = power.at_board(terms, silicon).floats()
    lost = float(whole.value) - sum(float(e.value) for e in terms.values())
    bought = price(on, silicon, anchored, silicon.load_power or None)
    calls = _per_call(result, power.work(per_kernel, on, silicon), terms)
    return Energy(
        total=whole,
        per_image=whole.times(1 / result.images),
        average_power=whole.times(1 / result.latency),
        terms={name: float(e.value) for name, e in terms.items()} | {"board": lost},
        classes=_by(call_class(result.trace), calls, REPORT_CLASSES),
        components=_by(result.trace.call_segment(), calls, tuple(s.name for s in result.trace.segments)),
        waiting=max(0.0, float(whole.value) - float(calls.sum())),
        running=running(whole, result.latency, bought, on, silicon, anchored),
        full_power=drawn.full,
        area=die_area(on, silicon, anchored).floats(),
        price=bought.whole.floats(),
        clock=drawn.clock,
        outside=tuple(outside(device)),
    )


def of_designs(
    done: Activity,
    latency: Any,
    images: int,
    on: Rates,
    device: Device,
    wanted: Collection[str] = tuple(DESIGN),
    off: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> dict[str, Any]:
    """Values by those names in DESIGN that are wanted, (designs, 1), of a stack made of what `device` is made of.

    done: counts of one inference, (designs, 1) or (1, 1) each; latency: (designs, 1) seconds. off: what the area, what
    energy and power, and what the price are multiplied with, to see what an error of them does.
    """
    silicon, anchored = device.silicon, anchor(device) * off[0]
    assert silicon is not None, "the caller leaves such devices out"
    spent = power.at_board(joules(done, latency, on, silicon, anchored), silicon).times(off[1])
    watts = (silicon.load_power or power.full(on, silicon, anchored).value) * off[1]
    found = {
        "energy_per_image_j": spent.value / images,
        "average_power_w": spent.value / latency,
        "full_power_w": watts,
        "area_mm2": die_area(on, silicon, anchored).value,
    }
    if "price_usd" in wanted or "usd_per_1000_images" in wanted:  # yields take longer than all else
        bought = price(on, silicon, anchored, watts)
        bought = replace(bought, whole=bought.whole.times(off[2]))
        dear = running(spent, latency, bought, on, silicon, anchored).total.value
        found |= {"price_usd": bought.whole.value, "usd_per_1000_images": dear * 1000 / images}
    return {name: value for name, value in found.items() if name in wanted}


def _per_call(result: Result, work: Mapping[str, Estimate], terms: Mapping[str, Estimate]) -> Floats:
    """J of all runs of each call (calls,), idle power over its kernels' time and the board's losses included."""
    cost, zero = result.priced.cost, np.zeros(len(result.priced.cost.kernels))
    each = reduce(np.add, (np.asarray(e.value) for e in work.values()), zero)
    idle = float(terms["idle"].value) / result.latency
    loss = power.with_board(Estimate(1.0, 1.0, 1.0)).value
    return np.asarray((cost.per_call(each) + idle * cost.per_call(cost.time)) * result.trace.call_repeats() * loss)


def _by(index: Any, joules_: Floats, names: tuple[str, ...]) -> dict[str, float]:
    sums = np.bincount(index, joules_, len(names))
    return {names[i]: float(sums[i]) for i in np.flatnonzero(np.bincount(index))}


def to_json(found: Energy | None, images: int) -> dict[str, Any]:
    """Keys of result.json (docs/json.md); all null where the device does not say what it is made of."""
    if found is None:
        return dict.fromkeys(KEYS)
    spent, thousand = found.running, 1000 / images
    numbers: Mapping[str, Estimate] = {
        "energy_j": found.total, "energy_per_image_j": found.per_image, "average_power_w": found.average_power,
        "full_power_w": found.full_power, "area_mm2": found.area, "price_usd": found.price,
        "usd_per_1000_images": spent.total.times(thousand), "energy_usd_per_1000_images": spent.energy.times(thousand),
        "co2_kg_per_1000_images": spent.carbon.times(thousand),
    }  # fmt: skip
    data: dict[str, Any] = {}
    for key, estimate in numbers.items():
        data |= {key: float(estimate.floats().value), f"{key}_interval": estimate.as_list()}
    return data | {
        "energy_terms_j": dict(found.terms), "energy_classes_j": dict(found.classes),
        "energy_components_j": dict(found.components), "energy_waiting_j": found.waiting,
        "sustained_clock_hz": found.clock, "outside_known_dies": list(found.outside),
    }  # fmt: skip


_WITH_RANGE = (
    "energy_j", "energy_per_image_j", "average_power_w", "full_power_w", "area_mm2", "price_usd",
    "usd_per_1000_images", "energy_usd_per_1000_images", "co2_kg_per_1000_images",
)  # fmt: skip
KEYS = (
    *(key for name in _WITH_RANGE for key in (name, f"{name}_interval")),
    "energy_terms_j", "energy_classes_j", "energy_components_j", "energy_waiting_j", "sustained_clock_hz", "outside_known_dies",
)  # fmt: skip
