"""Laws of area, power, energy and price: every part costs, the clock is not free, bytes cost at least their memory's energy."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explore import evaluate
from hwspecs import device, power, price, silicon
from hwspecs.device import DTYPES, Device
from hwspecs.estimate import data
from hwspecs.power import Activity
from hwspecs.rates import Rates, rates
from hwspecs.spec import fields
from sim import energy
from sim.cost import cost
from tests.build import kernels

NAMES = [n for n in device.device_names() if device.load(n).silicon is not None]
devices = st.sampled_from(NAMES)
# Improvements that no silicon is priced for: latency and launch are not made of area, fewer copies of a line and a finer tile of
# the matrix unit are arrangement. docs/silicon.md lists them.
FREE = (
    "hbm.latency",
    "launch.gap",
    "l2.partitions",
    "tensor.tile.m",
    "tensor.tile.n",
    "tensor.tile.k",
    "tensor.fill",
    "tensor.older",
)
PARTS = (
    "sm_count",
    "exp",
    "shared_memory",
    "registers",
    "max_threads",
    "l2_capacity",
    "l2_bandwidth",
    "l2_port",
    "hbm_bandwidth",
)


def replaced(on: Rates, part: str, value: Any) -> Rates:
    changed: dict[str, Any] = {part: value}
    return dataclasses.replace(on, **changed)


def figures_of(found: Device, on: Rates) -> tuple[float, float, float]:
    """Area, power and price of a design made of what a device is made of."""
    made = found.silicon
    assert made is not None
    anchored = silicon.anchor(found)
    return tuple(
        float(np.squeeze(e.value))
        for e in (
            silicon.die_area(on, made, anchored), power.full(on, made, anchored), price.price(on, made, anchored).whole
        )
    )  # type: ignore[return-value]  # fmt: skip


@given(name=devices, part=st.sampled_from(PARTS), factor=st.floats(1.01, 4.0))
@settings(max_examples=60, deadline=None)
def test_every_part_takes_area_and_power_and_costs(name: str, part: str, factor: float) -> None:
    found = device.load(name)
    on = rates(found)
    before, after = (
        figures_of(found, on),
        figures_of(found, dataclasses.replace(on, **{part: getattr(on, part) * factor})),
    )
    assert all(b > a for a, b in zip(before, after, strict=True))


@given(
    name=devices, unit=st.sampled_from(["tensor", "vector"]), dtype=st.sampled_from(DTYPES), factor=st.floats(1.2, 4.0)
)
@settings(max_examples=60, deadline=None)
def test_every_format_takes_area_and_never_saves_power(name: str, unit: str, dtype: str, factor: float) -> None:
    found = device.load(name)
    on = rates(found)
    more = {t: rate * (factor if t == dtype else 1.0) for t, rate in getattr(on, unit).items()}
    before, after = figures_of(found, on), figures_of(found, replaced(on, unit, more))
    if getattr(on, unit)[dtype]:
        assert after[0] > before[0]
    assert all(b >= a * (1 - 1e-12) for a, b in zip(before, after, strict=True))


def test_nothing_that_makes_a_device_faster_is_free() -> None:
    a100 = device.load("a100-sxm-80gb")
    on = rates(a100)
    here = np.array(figures_of(a100, on))
    for path, name in evaluate.RATES.items():
        field, (part, _, dtype) = path.removeprefix("device."), name.partition(".")
        value = getattr(on, part)
        changed: Any = {t: 2 * r if t == dtype else r for t, r in value.items()} if dtype else value * 2
        if field == "tensor.sustained":
            changed = value * 1.03  # towards the share where no power limit binds
        moved = np.array(figures_of(a100, dataclasses.replace(on, **{part: changed}))) > here
        lacking = dtype and not value[dtype]
        assert moved.any() != (field in FREE or bool(lacking)), field


@given(name=devices, clock=st.floats(1.0, 3.0), factor=st.floats(1.0, 3.0))
@settings(max_examples=60, deadline=None)
def test_beyond_the_nominal_voltage_energy_grows_at_least_as_the_square_of_the_clock(
    name: str, clock: float, factor: float
) -> None:
    found = device.load(name)
    assert found.silicon is not None
    nominal = silicon.nodes()[found.silicon.node].clock
    on = dataclasses.replace(rates(found), sm_clock=nominal * clock, tensor_sustained=1.0)
    faster = dataclasses.replace(on, sm_clock=nominal * clock * factor)
    done = Activity({"fp16": 1e12}, 1e10, 1e9, 1e11, 0.0)
    before, after = (sum(e.value for e in power.work(done, o, found.silicon).values()) for o in (on, faster))
    assert after >= before * factor**2 * (1 - 1e-12)


@given(name=devices, clock=st.floats(0.1, 1.0))
@settings(max_examples=30, deadline=None)
def test_below_the_floor_voltage_a_slower_clock_saves_no_energy_of_work(name: str, clock: float) -> None:
    made = device.load(name).silicon
    assert made is not None
    on = rates(device.load(name))
    floor = data("energy")["floor"][1]
    slow = dataclasses.replace(on, sm_clock=silicon.nodes()[made.node].clock * floor * clock, tensor_sustained=1.0)
    assert float(np.squeeze(power.voltage(slow, made))) == pytest.approx(floor)


@given(name=devices, m=st.integers(1, 4096), n=st.integers(1, 4096), k=st.integers(1, 4096), rows=st.integers(1, 4096))
@settings(max_examples=40, deadline=None)
def test_energy_is_at_least_that_of_the_bytes_of_memory(name: str, m: int, n: int, k: int, rows: int) -> None:
    found = device.load(name)
    made, on = found.silicon, rates(found)
    assert made is not None
    priced = cost(
        kernels(
            [
                ("gemm", {"batch": 1, "m": m, "n": n, "k": k, "weight": 1, "bias": 0}),
                ("softmax", {"rows": rows, "cols": n}),
            ]
        ),
        on,
    )
    done = energy.summed(energy.activity(priced.kernels, priced.hbm_bytes), priced.chosen)
    seconds = float((priced.time * priced.chosen).sum())
    spent = power.at_board(energy.joules(done, seconds, on, made, silicon.anchor(found)), made)
    least = float(np.squeeze(done.hbm_bytes)) * 1e-12 * data("energy")["memory"][made.memory][1]
    assert float(np.squeeze(spent.value)) >= least
    assert spent.low <= spent.value <= spent.high


@given(name=devices, cap=st.floats(1.0, 3000.0), more=st.floats(1.0, 3.0))
@settings(max_examples=40, deadline=None)
def test_the_clock_under_a_power_cap(name: str, cap: float, more: float) -> None:
    found = device.load(name)
    made, on = found.silicon, rates(found)
    assert made is not None
    low, high = (float(power.sustained_clock(on, made, c)) for c in (cap, cap * more))
    assert 0 <= low <= high <= found.sm_clock


@given(data_=st.data())
@settings(max_examples=15, deadline=None)
def test_a_stack_equals_its_members(data_: st.DataObject) -> None:
    found = device.load(data_.draw(devices))
    made = found.silicon
    assert made is not None
    each = [dataclasses.replace(found, sm_count=data_.draw(st.integers(1, 400))) for _ in range(3)]
    stack = rates(each)
    for of in (silicon.die_area, power.full, lambda on, m: price.price(on, m).whole, power.idle):
        many = of(stack, made)
        alone = [of(rates(one), made) for one in each]
        for part in range(3):
            np.testing.assert_allclose(np.ravel(many[part]), [float(np.squeeze(a[part])) for a in alone], rtol=1e-9)


@given(name=devices, extra=st.floats(1.0, 1.5), defects=st.floats(0.0, 1.0))
@settings(max_examples=30, deadline=None)
def test_spare_units_never_lower_the_share_that_is_good(name: str, extra: float, defects: float) -> None:
    """Of dies of the same size: fewer SMs enabled of as many."""
    found = device.load(name)
    made, on = found.silicon, rates(found)
    assert made is not None
    spare = dataclasses.replace(made, sm_enabled=made.sm_enabled / extra)
    fewer = dataclasses.replace(on, sm_count=on.sm_count / extra)
    here, there = (float(np.squeeze(price.good_share(*pair, defects))) for pair in ((on, made), (fewer, spare)))
    assert 0 <= here <= there + 1e-12 <= 1 + 1e-9


LIVE = [f.path for f in fields(Device) if f.path.startswith("silicon.") and f.numeric]


@pytest.mark.parametrize("path", LIVE)
def test_every_number_of_the_silicon_moves_a_figure(path: str) -> None:
    a100 = device.load("a100-sxm-80gb")
    assert a100.silicon is not None
    base = dataclasses.replace(a100.silicon, area=0.0)
    name = path.removeprefix("silicon.")
    value = {"dies": 2, "area": 700.0, "load_power": 350.0}.get(name, getattr(base, name) * 0.8)
    each = (dataclasses.replace(a100, silicon=s) for s in (base, dataclasses.replace(base, **{name: value})))
    before, after = ((figures_of(d, rates(d)), power.of_device(d)) for d in each)
    assert before != after, path
