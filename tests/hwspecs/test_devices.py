"""Every shipped device and software stack is valid, sourced, and gives back the published peaks."""

import dataclasses
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from hwspecs import catalogue, device, rates, software, spec
from hwspecs.device import DTYPES, Device
from hwspecs.errors import SpecError

DEVICES = device.device_names()
STACKS = software.software_names()


A100 = {f"a100-{form}-{size}gb" for form in ("sxm", "pcie") for size in (40, 80)}


def test_the_shipped_files() -> None:
    rest = {
        "h100-sxm",
        "h200",
        "b200",
        "l40s",
        "l4",
        "v100-pcie",
        "t4",
        "p100-pcie",
        "h100-pcie",
        "h20",
        "l20",
        "rtx-4090",
        "rtx-3090",
        "rtx-a6000",
        "a10g",
        "a10",
        "a30",
        "a40",
        "l40",
        "rtx-6000-ada",
        "v100-sxm2",
        "gb200",
        "imaginary-1",
        "imaginary-systolic",
    }
    assert set(DEVICES) >= A100 | rest
    assert STACKS == ["pytorch-compiled", "pytorch-eager"]


@pytest.mark.parametrize("name", DEVICES)
def test_devices(name: str) -> None:
    found = device.load(name)
    assert found.name == name
    assert spec.build(Device, spec.mapping(spec.dump(found), "dumped")) == found
    jsonschema.validate(device.device_node(name).plain(), spec.schema(Device))
    assert all(catalogue.source_of(found.sources, f.path) for f in device.numbers(found))
    assert not found.imaginary or all(device.mark(text) == "assumption" for text in found.sources.values())
    words = [text.split(":")[0].split(",")[0].split()[0].lower() for text in found.sources.values()]
    assert not [
        w for w, t in zip(words, found.sources.values(), strict=True) if w in device.MARKS and not device.mark(t)
    ]


@pytest.mark.parametrize("name", STACKS)
def test_software(name: str) -> None:
    found = software.load(name)
    assert found.name == name
    assert spec.build(software.Software, spec.mapping(spec.dump(found), "dumped")) == found
    jsonschema.validate(software.software_node(name).plain(), spec.schema(software.Software))


# Published peaks, dense, TFLOP/s (TOP/s for int8): fp16, bf16, tf32 and int8 of the matrix units, fp32 of the vector lanes.
PEAKS = {
    **dict.fromkeys(sorted(A100), (312, 312, 156, 624, 19.5)),  # NVIDIA A100 data sheet (2021)
    "h100-sxm": (
        989.4,
        989.4,
        494.7,
        1978.9,
        None,
    ),  # NVIDIA H100 data sheet (2023); its 66.9 fp32 are at another clock
    "h200": (989.4, 989.4, 494.7, 1978.9, None),  # NVIDIA H200 data sheet (2024); the same
    "b200": (
        2250,
        2250,
        1125,
        4500,
        None,
    ),  # NVIDIA HGX B200 data sheet (2025), per GPU; its 75 fp32 are at another clock
    "l40s": (362.05, 362.05, 183, 733, 91.6),  # NVIDIA L40S data sheet (2023)
    "l4": (121, 121, 60, 242.5, 30.3),  # NVIDIA L4 data sheet (2023), halved: it lists peaks with sparsity
    "v100-pcie": (112, 0, 0, 0, 14),  # NVIDIA V100 data sheet (2020)
    "t4": (65, 0, 0, 130, 8.1),  # NVIDIA T4 data sheet (2019)
    "p100-pcie": (0, 0, 0, 0, 9.3),  # NVIDIA P100 PCIe data sheet (2016)
    "h100-pcie": (756.5, 756.5, 378, 1513, None),  # NVIDIA H100 data sheet (2023); its 51.2 fp32 are at another clock
    "h20": (148, 148, 74, 296, None),  # SemiAnalysis (2023); its 44 fp32 follow from no clock of 78 SMs
    "gb200": (2500, 2500, 1250, 5000, None),  # NVIDIA GB200 NVL72 data sheet (2024), one of 72; fp32 at another clock
    "l20": (119.5, 119.5, 59.8, 239, 59.8),  # as published at its launch (2023)
    "l40": (181.05, 181.05, 90.5, 362, 90.5),  # NVIDIA L40 data sheet (2022)
    "rtx-4090": (165.2, 165.2, 82.6, 660.6, 82.6),  # NVIDIA Ada GPU Architecture whitepaper (2022), fp32 accumulation
    "rtx-6000-ada": (364.2, 364.2, 182.1, 728.5, 91.1),  # NVIDIA Ada GPU Architecture whitepaper (2022)
    "rtx-3090": (71, 71, 35.6, 284, 35.6),  # NVIDIA Ampere GA102 GPU Architecture whitepaper (2021), fp32 accumulation
    "rtx-a6000": (154.8, 154.8, 77.4, 309.7, 38.7),  # NVIDIA Ampere GA102 GPU Architecture whitepaper (2021)
    "a10": (125, 125, 62.5, 250, 31.2),  # NVIDIA A10 data sheet (2021)
    "a10g": (70, 70, 35, 140, 35),  # NVIDIA A10G data sheet (2021)
    "a30": (165, 165, 82, 330, 10.3),  # NVIDIA A30 data sheet (2021)
    "a40": (149.7, 149.7, 74.8, 299.3, 37.4),  # NVIDIA A40 data sheet (2020)
    "v100-sxm2": (125, 0, 0, 0, 15.7),  # NVIDIA V100 data sheet (2020)
}


@pytest.mark.parametrize("name", PEAKS)
def test_peaks(name: str) -> None:
    found = device.load(name)
    *matrix, vector = PEAKS[name]
    for dtype, published in zip(("fp16", "bf16", "tf32", "int8"), matrix, strict=True):
        assert found.flop_rate("tensor", dtype) == pytest.approx((published or 0) * 1e12, rel=0.01), dtype
    if vector is not None:
        assert found.flop_rate("vector", "fp32") == pytest.approx(vector * 1e12, rel=0.01)


def test_more_peaks() -> None:
    """fp8 twice fp16 where there is fp8; packed fp16 of the P100 (18.7) and A100 (78); data sheets as above."""
    fp8 = (
        "h100-sxm",
        "h200",
        "b200",
        "l40s",
        "l4",
        "h100-pcie",
        "h20",
        "gb200",
        "l20",
        "l40",
        "rtx-4090",
        "rtx-6000-ada",
    )
    for name in fp8:
        found = device.load(name)
        assert found.flop_rate("tensor", "fp8") == 2 * found.flop_rate("tensor", "fp16")
    assert device.load("p100-pcie").matmul_rate("fp16") == pytest.approx(18.7e12, rel=0.01)
    assert device.load("a100-sxm-80gb").flop_rate("vector", "fp16") == pytest.approx(78e12, rel=0.01)


@pytest.mark.parametrize(
    ("name", "bandwidth", "capacity", "l2", "shared", "threads"),  # data sheets; CUDA C++ Programming Guide, KiB an SM
    [
        ("a100-pcie-80gb", 1935e9, 80 * 2**30, 40, 164, 2048),
        ("a100-pcie-40gb", 1555e9, 40 * 2**30, 40, 164, 2048),
        ("h200", 4800e9, 140 * 2**30, 50, 228, 2048),
        ("b200", 8000e9, 179 * 2**30, 126, 228, 2048),
        ("l40s", 864e9, 48 * 2**30, 96, 100, 1536),
        ("l4", 300e9, 24 * 2**30, 48, 100, 1536),
        ("v100-pcie", 900e9, 32 * 2**30, 6, 96, 2048),
        ("t4", 320e9, 16 * 2**30, 4, 64, 1024),
        ("p100-pcie", 732e9, 16 * 2**30, 4, 64, 2048),
        ("h100-pcie", 2039e9, 80 * 2**30, 50, 228, 2048),
        ("h20", 4000e9, 95 * 2**30, 60, 228, 2048),
        ("gb200", 8000e9, 185 * 2**30, 126, 228, 2048),
        ("l20", 864e9, 48 * 2**30, 96, 100, 1536),
        ("l40", 864e9, 48 * 2**30, 96, 100, 1536),
        ("rtx-4090", 1008e9, 24 * 2**30, 72, 100, 1536),
        ("rtx-6000-ada", 960e9, 48 * 2**30, 96, 100, 1536),
        ("rtx-3090", 936e9, 24 * 2**30, 6, 100, 1536),
        ("rtx-a6000", 768e9, 48 * 2**30, 6, 100, 1536),
        ("a10", 600e9, 24 * 2**30, 6, 100, 1536),
        ("a10g", 600e9, 24 * 2**30, 6, 100, 1536),
        ("a30", 933e9, 24 * 2**30, 24, 164, 2048),
        ("a40", 696e9, 48 * 2**30, 6, 100, 1536),
        ("v100-sxm2", 900e9, 16 * 2**30, 6, 96, 2048),
    ],
)
def test_memories(name: str, bandwidth: float, capacity: float, l2: int, shared: int, threads: int) -> None:
    found = device.load(name)
    assert (found.hbm.bandwidth, found.hbm.capacity) == (bandwidth, capacity)
    assert (found.l2.capacity, found.sm.shared_memory) == (l2 * 2**20, shared * 2**10)
    assert (found.sm.max_threads, found.sm.registers) == (threads, 256 * 2**10)


def test_two_blackwell_parts_share_their_sm() -> None:
    """GB200 is the die of B200: what one SM does in a cycle is the same in both files."""
    b200, gb200 = device.load("b200"), device.load("gb200")
    for part in ("sm", "vector", "l2", "exp"):
        assert getattr(b200, part) == getattr(gb200, part), part
    assert dataclasses.replace(gb200.tensor, sustained=b200.tensor.sustained) == b200.tensor


def test_boards_whose_check_bits_lie_beside_the_data() -> None:
    found = {name for name in DEVICES if device.load(name).hbm.inline_ecc}
    assert found == {"a10", "a10g", "a40", "l20", "l4", "l40", "l40s", "t4"}
    assert {made.memory for name in found if (made := device.load(name).silicon)} == {"GDDR6"}
    assert all("hbm.inline_ecc" in device.load(name).sources for name in found)


def test_files_from_before_stay_valid(tmp_path: Path) -> None:
    """The usual bandwidth of shared memory needs no source; another one does."""
    text = (catalogue.DATA / "imaginary-systolic.yaml").read_text()  # whose sources speak of each field of `sm`
    kept = [line for line in text.splitlines() if "shared_bandwidth" not in line]
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join(kept))
    found = device.load(str(path))
    assert (found.sm.shared_bandwidth, found.hbm.inline_ecc) == (device.SHARED_BANDWIDTH, False)
    path.write_text(
        "\n".join(kept).replace("  max_threads: 65536", "  max_threads: 65536\n  shared_bandwidth: 64 B/cycle")
    )
    with pytest.raises(SpecError) as caught:
        device.load(str(path))
    assert [p.partition(": ")[2] for p in caught.value.problems] == [
        "sm.shared_bandwidth: has no source; add it under sources, for example `sm.shared_bandwidth: data sheet, page 1`"
    ]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("l40s", "hbm.inline_ecc"),
        ("l40s", "silicon.node"),
        ("l40s", "silicon.graphics"),
        ("a100-sxm-80gb", "silicon.memory"),
    ],
)
def test_switches_and_choices_need_a_source(tmp_path: Path, name: str, path: str) -> None:
    group = path.partition(".")[0]
    text = yaml.safe_load((catalogue.DATA / f"{name}.yaml").read_text())
    text["sources"] = {key: value for key, value in text["sources"].items() if not path.startswith(key)}
    others = [f.path for f in spec.fields(Device) if f.path.startswith(f"{group}.") and f.path != path]
    text["sources"] |= dict.fromkeys(others, "data sheet")
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(text))
    with pytest.raises(SpecError) as caught:
        device.load(str(file))
    assert [p.partition("mine.yaml: ")[2] or p.partition(": ")[2] for p in caught.value.problems] == [
        f"{path}: has no source; add it under sources, for example `{path}: data sheet, page 1`"
    ]


def test_what_no_source_backs_is_marked() -> None:
    b200, a100 = device.load("b200"), device.load("a100-sxm-80gb")
    assert {"sm_clock", "l2.capacity", "l2.bandwidth", "hbm.latency"} <= set(b200.doubts())
    assert (b200.doubts()["sm_clock"], b200.doubts()["l2.bandwidth"]) == ("unsure", "assumption")
    assert "hbm.bandwidth" not in b200.doubts()
    assert a100.doubts() == {"l2.port": "assumption"}
    assert set(device.load("t4").doubts()) >= {"tensor.sustained", "l2.bandwidth", "hbm.latency"}


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("A100-SXM4-80GB", ["a100-sxm-80gb"]),
        ("A100-SXM4-40GB", ["a100-sxm-40gb"]),
        ("A100-PCIe-80GB", ["a100-pcie-80gb"]),
        ("NVIDIA A100 80GB PCIe", ["a100-pcie-80gb"]),
        ("NVIDIA A100-PCIE-40GB", ["a100-pcie-40gb"]),
        ("H100-SXM5-80GB", ["h100-sxm"]),
        ("NVIDIA H100 80GB HBM3", ["h100-sxm"]),
        ("H200-SXM-141GB", ["h200"]),
        ("B200-SXM", ["b200"]),
        ("L40S", ["l40s"]),
        ("nvidia_l4", ["l4"]),
        ("V100-PCIe-32GB", ["v100-pcie"]),
        ("Tesla T4", ["t4"]),
        ("P100-PCIe-16GB", ["p100-pcie"]),
        ("l40s", ["l40s"]),
        ("A100-80GB", ["a100-pcie-80gb", "a100-sxm-80gb"]),
        ("A100", sorted(A100)),
        ("RTX-3090-Ti", []),
        ("H100 PCIe", ["h100-pcie"]),
        ("NVIDIA GeForce RTX 4090", ["rtx-4090"]),
        ("RTX A6000", ["rtx-a6000"]),
    ],
)
def test_names_of_measurement_tables(name: str, ids: list[str]) -> None:
    assert device.known_as(name) == ids


def test_a_file_without_the_shape_of_its_matrix_unit_is_read() -> None:
    lines = spec.dump(device.load("a100-sxm-80gb")).splitlines()
    start = lines.index("  tile:")
    text = "\n".join(line for line in lines[:start] + lines[start + 5 :] if not line.startswith("  tensor.tile"))
    found = spec.build(Device, spec.mapping(text, "mine.yaml"))
    assert (found.tensor.tile, found.tensor.fill) == (device.TensorTile(), 0.0)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("m: 128", "m: 100", "tile.m: found 100, expected a power of two"),
        ("k: 128", "k: 0", "tile.k: found '0', expected a whole number of at least 1 and at most 65536"),
        (
            "fill: 32 cycle",
            "fill: 32",
            "fill: found '32', expected a time in clock cycles with its unit, for example '32 cycle'",
        ),
        (
            "fill: 32 cycle",
            "fill: -1 cycle",
            "fill: found '-1 cycle', expected a time in clock cycles of at least 0 cycle and at most 1000000 cycle",
        ),
    ],
)
def test_messages_of_the_shape(old: str, new: str, problem: str) -> None:
    text = spec.dump(device.load("imaginary-systolic"))
    assert text.count(old) == 1
    with pytest.raises(SpecError) as caught:
        spec.build(Device, spec.mapping(text.replace(old, new), "x.yaml"))
    assert [p.split(": tensor.", 1)[1] for p in caught.value.problems] == [problem]


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
    told = {name: getattr(big, name) for name in ("name", "title", "aliases", "hbm", "sources")}
    assert big.silicon is not None
    assert small.silicon is not None
    kind = {name: getattr(big.silicon, name) for name in ("memory", "memory_unit")}
    same = dataclasses.replace(small, **told, silicon=dataclasses.replace(small.silicon, **kind))
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
