"""`framecast hardware list|show`: what is known about accelerators, with units and sources."""

from __future__ import annotations

import json
from typing import Any

import click


def register(cli: click.Group) -> None:
    """Add the group `hardware` to the command line."""
    cli.add_command(hardware)


@click.group()
def hardware() -> None:
    """Accelerators that framecast knows: list them, show one.

    \b
    Examples:
      framecast hardware list
      framecast hardware show a100-sxm-80gb
    """


@hardware.command("list")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
def list_devices(form: str) -> None:
    """List the accelerators with their main numbers.

    \b
    Examples:
      framecast hardware list
      framecast hardware list --format json
    """
    from hwspecs.device import device_names, load

    devices = [load(name) for name in device_names()]
    if form == "json":
        click.echo(json.dumps([_summary(device) for device in devices], indent=2))
        return
    rows = [
        (
            device.name,
            device.title,
            device.sm_count,
            f"{device.matmul_rate('bf16') / 1e12:.4g} TFLOP/s",
            _shown(device.hbm.bandwidth, "B/s"),
            _shown(device.hbm.capacity, "B"),
            _shown(device.l2.capacity, "B"),
        )
        for device in devices
    ]
    click.echo(_table(rows, ("id", "name", "SMs", "bf16 matrix peak", "HBM", "memory", "L2")))


@hardware.command("show")
@click.argument("name")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the YAML, to copy as the start of a device of your own.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
def show(name: str, as_yaml: bool, form: str) -> None:
    """Show every field of NAME (an id or a YAML file) with its unit and source, and what follows from them.

    \b
    Examples:
      framecast hardware show h100-sxm
      framecast hardware show a100-sxm-80gb --yaml > my-device.yaml
      framecast hardware show my-device.yaml --format json
    """
    from hwspecs import spec
    from hwspecs.device import load

    device = load(name)
    if as_yaml:
        click.echo(spec.dump(device), nl=False)
    elif form == "json":
        click.echo(json.dumps({"spec": spec.to_data(device), "derived": _derived(device)}, indent=2))
    else:
        click.echo(_described(device))


def _described(device: Any) -> str:
    """The table of a device: field, value, source; below it the rates that follow."""
    import textwrap

    from hwspecs import catalogue, spec

    skipped = ("name", "title", "vendor", "imaginary", "sources")
    rows = [
        (field.path, _field_value(device, field), textwrap.fill(catalogue.source_of(device.sources, field.path), 72))
        for field in spec.fields(type(device))
        if field.path not in skipped
    ]
    note = "\nIMAGINARY: not a product; every value is an assumption." if device.imaginary else ""
    derived = [(key, f"{value / 1e12:.4g} T{unit}" if unit != "FLOP/B" else f"{value:.4g} {unit}")
               for key, (value, unit) in _rates(device).items()]  # fmt: skip
    return "\n".join(
        [
            f"{device.name}: {device.title}{note}",
            "",
            _table(rows, ("field", "value", "source")),
            "",
            _table(derived, ("derived, at boost clock", "peak")),
        ]
    )


def _rates(device: Any) -> dict[str, tuple[float, str]]:
    """What follows from the fields: name -> (value, unit)."""
    from hwspecs.device import DTYPES

    tensor = {f"matrix {t}": (device.flop_rate("tensor", t), "FLOP/s") for t in DTYPES if getattr(device.tensor, t)}
    vector = {f"vector {t}": (device.flop_rate("vector", t), "FLOP/s") for t in ("fp32", "fp16", "bf16")}
    rest = {
        "exp": (device.exp_rate, "op/s"),
        "L2 reads": (device.l2_rate, "B/s"),
        "ridge point bf16": (device.ridge("bf16"), "FLOP/B"),
    }
    return tensor | vector | rest


def _derived(device: Any) -> dict[str, float]:
    """The same for JSON, units in the keys."""
    suffix = {"FLOP/s": "flop_per_s", "op/s": "op_per_s", "B/s": "b_per_s", "FLOP/B": "flop_per_b"}
    return {f"{key.lower().replace(' ', '_')}_{suffix[unit]}": value for key, (value, unit) in _rates(device).items()}


def _summary(device: Any) -> dict[str, Any]:
    return {
        "name": device.name,
        "title": device.title,
        "imaginary": device.imaginary,
        "sm_count": device.sm_count,
        "bf16_flop_per_s": device.matmul_rate("bf16"),
        "hbm_b_per_s": device.hbm.bandwidth,
        "hbm_bytes": device.hbm.capacity,
        "l2_bytes": device.l2.capacity,
    }


def _field_value(device: Any, field: Any) -> str:
    value = device
    for step in field.path.split("."):
        value = getattr(value, step)
    return _shown(value, field.unit)


def _shown(value: Any, unit: str) -> str:
    from hwspecs import units

    return units.format(value, unit) if unit else str(value)


def _table(rows: Any, headers: tuple[str, ...]) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
