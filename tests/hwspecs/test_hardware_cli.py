"""`framecast hardware`: tables for people, JSON and YAML for programs."""

import dataclasses
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hwspecs import cli, device, spec
from hwspecs.compare import rows
from hwspecs.errors import SpecError


def run(*args: str) -> str:
    group = click.Group()
    cli.register(group)
    result = CliRunner().invoke(group, ["hardware", *args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(result.output)


def test_list() -> None:
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines[2:-2]] == device.device_names()
    assert "2.039 TB/s" in run("list")
    assert "unsure: values that no source backs" in lines[-1]
    t4 = next(line for line in lines if line.startswith("t4 "))
    assert "65.13 TFLOP/s" in t4
    assert t4.endswith(f"{len(device.load('t4').doubts())} of 43")
    found = json.loads(run("list", "--format", "json"))
    assert found["schema_version"] == 1
    assert [row["name"] for row in found["devices"]] == device.device_names()


def test_show_gives_every_number_with_its_source() -> None:
    text = run("show", "a100-sxm-80gb")
    a100 = device.load("a100-sxm-80gb")
    assert all(field.path in text for field in spec.fields(device.Device) if field.numeric)
    assert "2.039 TB/s" in text
    assert "311.9 TFLOP/s" in text
    assert all(source.split()[0] in text for source in a100.sources.values())
    assert "IMAGINARY" in run("show", "imaginary-1")
    assert "In measurement tables: A100-SXM4-80GB" in text


def test_check_bits_beside_the_data_are_shown() -> None:
    for name, value in (("t4", "true"), ("a100-sxm-80gb", "false")):
        line = next(line for line in run("show", name).splitlines() if line.startswith("hbm.inline_ecc"))
        assert line.split()[1] == value
    row = next(line for line in run("compare", "a100-sxm-80gb", "t4").splitlines() if line.startswith("hbm.inline_ecc"))
    assert row.split()[1:] == ["false", "true", "-"]


def test_show_marks_what_no_source_backs() -> None:
    lines = run("show", "b200").splitlines()
    clock = next(line for line in lines if line.startswith("sm_clock"))
    assert clock.split()[3:5] == ["?", "unsure:"]
    assert next(line for line in lines if line.startswith("hbm.bandwidth")).split()[3] != "?"
    assert (
        f"?: {len(device.load('b200').doubts())} of 43 values that no source backs (unsure, or an assumption)" in lines
    )


def test_show_for_programs() -> None:
    a100 = device.load("a100-sxm-80gb")
    found = json.loads(run("show", "a100-sxm-80gb", "--format", "json"))
    assert found["schema_version"] == 1
    assert found["spec"] == spec.to_data(a100)
    assert found["derived"]["matrix_bf16_flop_per_s"] == a100.flop_rate("tensor", "bf16")
    assert found["unsure"] == a100.doubts()
    assert spec.build(device.Device, spec.mapping(run("show", "a100-sxm-80gb", "--yaml"), "out")) == a100


@pytest.mark.parametrize("name", ["l40s", "imaginary-systolic"])
def test_the_yaml_of_a_device_is_the_start_of_ones_own(tmp_path: Path, name: str) -> None:
    text = run("show", name, "--yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(f"name: {name}", "name: mine", 1))
    assert dataclasses.replace(device.load(str(path)), name=name) == device.load(name)
    assert f"{path.stem}: {device.load(name).title}" in run("show", str(path))


def test_compare_shows_what_differs_and_what_follows() -> None:
    text = run("compare", "a100-sxm-80gb", "h100-sxm", "p100-pcie")
    cells = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert cells["sm_count"] == ["sm_count", "108", "132", "1.22x", "56", "0.519x"]
    assert cells["hbm.latency"][1:] == ["404", "ns", "370", "ns", "?", "0.916x", "350", "ns", "?", "0.866x"]
    assert "hbm.inline_ecc" not in cells  # none of them has it
    assert cells["matrix bf16"][2:] == ["311.9", "TFLOP/s", "989.4", "TFLOP/s", "3.17x", "-", "-"]
    assert cells["ridge point fp16"][-1] == "0.167x"
    assert "sm.registers" not in cells
    assert cells["tensor.fp8"][-2:] == ["FLOP/cycle", "-"]
    assert "no source backs the value" in text
    assert "rows are equal; --all shows them" in text
    everything = run("compare", "a100-sxm-80gb", "h100-sxm", "--all")
    assert "sm.registers" in everything
    assert "--all shows them" not in everything


def test_compare_shows_bandwidths_with_four_digits() -> None:
    (line,) = [line for line in run("compare", "a100-sxm-80gb", "b200").splitlines() if line.startswith("L2 reads")]
    assert line.split()[2:6] == ["7.219", "TB/s", "19.01", "TB/s"]


def test_compare_for_programs() -> None:
    found = json.loads(run("compare", "l40s", "l4", "--format", "json", "--all"))
    assert (found["schema_version"], found["devices"]) == (1, ["l40s", "l4"])
    rows = {row["field"]: row for row in found["rows"]}
    assert {f.path for f in spec.fields(device.Device) if f.numeric} <= set(rows)
    assert rows["hbm.bandwidth"]["unit"] == "B/s"
    assert rows["hbm.bandwidth"]["values"] == [864e9, 300e9]
    assert rows["hbm.bandwidth"]["ratios"] == [1.0, pytest.approx(300 / 864)]
    assert rows["hbm.latency"]["unsure"] == [None, "unsure"]
    assert rows["tensor.fp32"]["ratios"] == [None, None]
    assert (rows["hbm.inline_ecc"]["values"], rows["hbm.inline_ecc"]["ratios"]) == ([True, True], [None, None])
    assert rows["matrix fp16"]["values"] == [device.load(name).flop_rate("tensor", "fp16") for name in ("l40s", "l4")]
    different = json.loads(run("compare", "l40s", "l4", "--format", "json"))["rows"]
    assert [row["field"] for row in different] == [f for f, row in rows.items() if len(set(row["values"])) > 1]


def test_compare_of_a_device_with_itself_is_empty() -> None:
    assert "rows are equal" in run("compare", "t4", "t4")
    assert all(row.same for row in rows([device.load("t4")] * 2))


def test_compare_needs_two() -> None:
    with pytest.raises(SpecError, match=r"hardware compare: found 1 device \(t4\), expected at least 2"):
        run("compare", "t4")
    with pytest.raises(ValueError, match="found 1 device, expected at least 2"):
        rows([device.load("t4")])
    with pytest.raises(SpecError, match="unknown device 'l4-'; did you mean 'l4'"):
        run("compare", "t4", "l4-")


def test_what_is_shown_as_yaml_loads_under_any_name(tmp_path: Path) -> None:
    text = run("show", "h100-sxm", "--yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert device.load(str(path)) == device.load("h100-sxm")
    assert "# per SM" in text
    assert run("show", str(path), "--yaml").endswith(text)


def test_yaml_and_json_are_one_or_the_other() -> None:
    with pytest.raises(SpecError, match=r"^hardware show: found --yaml and --format json, expected one of them$"):
        run("show", "h100-sxm", "--yaml", "--format", "json")


def test_unknown_device_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match="unknown device"):
        run("show", "a1000")


@pytest.mark.parametrize("command", ["list", "show", "compare"])
def test_help_has_examples(command: str) -> None:
    assert f"framecast hardware {command}" in run(command, "--help")
