"""Every shipped device and software stack is valid, sourced, and gives back the published peaks."""

import dataclasses
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from hwspecs import catalogue, device, rates, software, spec
from hwspecs.device import DTYPES, Device

DEVICES = device.device_names()
STACKS = software.software_names()


def test_the_shipped_files() -> None:
    assert DEVICES == ["a100-sxm-40gb", "a100-sxm-80gb", "h100-sxm", "imaginary-1"]
    assert STACKS == ["pytorch-compiled", "pytorch-eager"]


@pytest.mark.parametrize("name", DEVICES)
def test_devices(name: str) -> None:
    found = device.load(name)
    assert found.name == name
    assert spec.build(Device, spec.mapping(spec.dump(found), "dumped")) == found
    jsonschema.validate(device.device_node(name).plain(), spec.schema(Device))
    assert all(catalogue.source_of(found.sources, f.path) for f in spec.fields(Device) if f.numeric)
    assert not found.imaginary or all(text.startswith("assumption") for text in found.sources.values())


@pytest.mark.parametrize("name", STACKS)
def test_software(name: str) -> None:
    found = software.load(name)
    assert found.name == name
    assert spec.build(software.Software, spec.mapping(spec.dump(found), "dumped")) == found
    jsonschema.validate(software.software_node(name).plain(), spec.schema(software.Software))


@pytest.mark.parametrize(
    ("name", "engine", "dtype", "published"),  # NVIDIA data sheets, dense, FLOP/s
    [
        ("a100-sxm-80gb", "tensor", "bf16", 312e12),
        ("a100-sxm-80gb", "tensor", "tf32", 156e12),
        ("a100-sxm-80gb", "tensor", "int8", 624e12),
        ("a100-sxm-80gb", "vector", "fp32", 19.5e12),
        ("a100-sxm-80gb", "vector", "fp16", 78e12),
        ("a100-sxm-40gb", "tensor", "fp16", 312e12),
        ("h100-sxm", "tensor", "bf16", 989.4e12),
        ("h100-sxm", "tensor", "fp8", 1978.9e12),
    ],
)
def test_peaks(name: str, engine: str, dtype: str, published: float) -> None:
    rate = device.load(name).flop_rate("tensor" if engine == "tensor" else "vector", dtype)
    assert rate == pytest.approx(published, rel=5e-3)


def test_derived_rates() -> None:
    a100 = device.load("a100-sxm-80gb")
    assert a100.ridge("bf16") == pytest.approx(312e12 / 2039e9, rel=5e-3)
    assert a100.matmul_rate("fp32") == a100.flop_rate("vector", "fp32")
    assert a100.l2_rate == 5120 * 1410e6
    assert a100.exp_rate == 108 * 16 * 1410e6
    with pytest.raises(ValueError, match="unknown dtype 'fp4'"):
        a100.flop_rate("tensor", "fp4")


def test_the_two_a100_differ_in_memory_alone() -> None:
    big, small = device.load("a100-sxm-80gb"), device.load("a100-sxm-40gb")
    same = dataclasses.replace(small, name=big.name, title=big.title, hbm=big.hbm, sources=big.sources)
    assert same == big


def test_a_path_is_a_device_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(spec.dump(dataclasses.replace(device.load("imaginary-1"), name="mine")))
    assert device.load(str(path)).name == "mine"


def test_a_stack_of_rates_is_the_rates_stacked() -> None:
    each = [device.load(name) for name in DEVICES]
    stack = rates.rates(each)
    assert stack.designs == len(each)
    for index, one in enumerate(map(rates.rates, each)):
        assert one.designs == 1
        for field in dataclasses.fields(rates.Rates):
            many, single = getattr(stack, field.name), getattr(one, field.name)
            if isinstance(single, dict):
                assert set(single) == set(DTYPES)
                assert all(many[t].shape == (len(each), 1) and many[t][index, 0] == single[t] for t in DTYPES)
            else:
                assert many.shape == (len(each), 1)
                assert many[index, 0] == single
        for dtype in DTYPES:
            assert np.asarray(stack.matmul(dtype))[index, 0] == one.matmul(dtype)
