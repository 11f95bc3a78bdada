"""`framecast hardware`: tables for people, JSON and YAML for programs."""

import json

import click
import pytest
from click.testing import CliRunner

from hwspecs import cli, device, spec
from hwspecs.errors import SpecError


def run(*args: str) -> str:
    group = click.Group()
    cli.register(group)
    result = CliRunner().invoke(group, ["hardware", *args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(result.output)


def test_list() -> None:
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines[2:]] == device.device_names()
    assert "2.039 TB/s" in run("list")
    assert [row["name"] for row in json.loads(run("list", "--format", "json"))] == device.device_names()


def test_show_gives_every_number_with_its_source() -> None:
    text = run("show", "a100-sxm-80gb")
    a100 = device.load("a100-sxm-80gb")
    assert all(field.path in text for field in spec.fields(device.Device) if field.numeric)
    assert "2.039 TB/s" in text
    assert "311.9 TFLOP/s" in text
    assert all(source.split()[0] in text for source in a100.sources.values())
    assert "IMAGINARY" in run("show", "imaginary-1")


def test_show_for_programs() -> None:
    a100 = device.load("a100-sxm-80gb")
    found = json.loads(run("show", "a100-sxm-80gb", "--format", "json"))
    assert found["spec"] == spec.to_data(a100)
    assert found["derived"]["matrix_bf16_flop_per_s"] == a100.flop_rate("tensor", "bf16")
    assert spec.build(device.Device, spec.mapping(run("show", "a100-sxm-80gb", "--yaml"), "out")) == a100


def test_unknown_device_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match="unknown device"):
        run("show", "a1000")


@pytest.mark.parametrize("command", ["list", "show"])
def test_help_has_examples(command: str) -> None:
    assert f"framecast hardware {command}" in run(command, "--help")
