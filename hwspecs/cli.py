"""`framecast hardware list|show|compare`: what is known about accelerators, with units and sources."""

from __future__ import annotations

import json
from typing import Any

import click

from hwspecs.completion import devices

SCHEMA_VERSION = 1  # of the JSON


def register(cli: click.Group) -> None:
    """Add the group `hardware` to the command line."""
    cli.add_command(hardware)


@click.group()
def hardware() -> None:
    """Accelerators that framecast knows: list them, show one, compare some.

    \b
    Examples:
      framecast hardware list
      framecast hardware show a100-sxm-80gb
      framecast hardware compare a100-sxm-80gb h100-sxm
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
        click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "devices": list(map(_summary, devices))}, indent=2))
        return
    rows = [
        (
            device.name,
            device.title,
            device.sm_count,
            f"{device.matmul_rate('fp16') / 1e12:.4g} TFLOP/s",
            _shown(device.hbm.bandwidth, "B/s"),
            _shown(device.hbm.capacity, "B"),
            _shown(device.l2.capacity, "B"),
            f"{len(device.doubts())} of {_numbers(device)}",
        )
        for device in devices
    ]
    click.echo(_table(rows, ("id", "name", "SMs", "fp16 matrix peak", "HBM", "memory", "L2", "unsure")))
    click.echo("\nunsure: values that no source backs; `framecast hardware show ID` marks them with ?")


@hardware.command("show")
@click.argument("name", shell_complete=devices)
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
    from hwspecs import catalogue, figures, spec
    from hwspecs.device import load
    from hwspecs.errors import SpecError

    if as_yaml and form == "json":
        raise SpecError("hardware show: found --yaml and --format json, expected one of them")
    device = load(name)
    if as_yaml:  # the file itself: a dump would lose its comments
        click.echo(
            "# Save this as NAME.yaml; give it a name and title of its own. Sources speak of the values beside: change both."
        )
        click.echo(catalogue.file("device", catalogue.DATA, name).read_text(encoding="utf-8-sig"), nl=False)
    elif form == "json":
        found = {
            "schema_version": SCHEMA_VERSION,
            "spec": spec.to_data(device),
            "derived": _derived(device),
            "silicon": figures.to_json(device),
            "unsure": device.doubts(),
        }
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(_described(device))


@hardware.command("compare")
@click.argument("names", shell_complete=devices, nargs=-1, required=True, metavar="A B [C ...]")
@click.option("--all", "every", is_flag=True, help="Show rows in which the devices agree, too.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
def compare(names: tuple[str, ...], every: bool, form: str) -> None:
    """Show devices (ids or YAML files) side by side, with ratios to the first, and the peaks that follow.

    \b
    Examples:
      framecast hardware compare a100-sxm-80gb h100-sxm
      framecast hardware compare l40s l4 t4 --all
      framecast hardware compare h100-sxm imaginary-systolic --format json
    """
    from hwspecs.compare import rows
    from hwspecs.device import load
    from hwspecs.errors import SpecError

    if len(names) < 2:
        raise SpecError(f"hardware compare: found 1 device ({names[0]}), expected at least 2")
    devices = [load(name) for name in names]
    found = rows(devices)
    shown = [row for row in found if every or not row.same]
    if form == "json":
        data = {
            "schema_version": SCHEMA_VERSION,
            "devices": [d.name for d in devices],
            "rows": [_row_data(row) for row in shown],
        }
        click.echo(json.dumps(data, indent=2))
    else:
        click.echo(_compared(devices, shown, len(found)))


def _row_data(row: Any) -> dict[str, Any]:
    """A row for JSON: values in the unit beside them."""
    marks = [found or None for found in row.marks]
    data = {"field": row.field, "unit": row.unit, "values": row.values, "ratios": row.ratios, "unsure": marks}
    ranges = [figure and figure.value.as_list() for figure in row.figures]
    return data | ({"intervals": ranges, "stated": [bool(f and f.stated) for f in row.figures]} if ranges else {})


def _compared(devices: Any, rows: Any, total: int) -> str:
    """The table of a comparison: one column a device, and one for its ratio to the first."""
    headers = ["field", devices[0].name]
    for device in devices[1:]:
        headers += [device.name, "ratio"]
    table = []
    for row in rows:
        cells = [figure.words() if figure else "-" for figure in row.figures] or [
            _cell(value, row.unit, found) for value, found in zip(row.values, row.marks, strict=True)
        ]
        ratios = ["-" if ratio is None else f"{ratio:.3g}x" for ratio in row.ratios]
        table.append([row.field, cells[0], *(c for pair in zip(cells[1:], ratios[1:], strict=True) for c in pair)])
    notes = [f"{total - len(rows)} of {total} rows are equal; --all shows them"] if len(rows) < total else []
    if any(any(row.marks) for row in rows):
        notes.append("? no source backs the value; `framecast hardware show ID` says what is known")
    titles = [f"{d.name}: {d.title}{', IMAGINARY' if d.imaginary else ''}" for d in devices]
    return "\n".join([*titles, "", _table(table, tuple(headers)), "", *notes]).rstrip()


def _cell(value: float | None, unit: str, found: str) -> str:
    """'2800 B/cycle ?', '312 TFLOP/s'; '-' where the device has none."""
    if value is None:
        return "-"
    if unit == "B/s":
        value = float(f"{value:.4g}")
    text = _derived_text(value, unit) if unit in ("FLOP/s", "op/s", "FLOP/B") else _shown(value, unit)
    return f"{text} ?" if found else text


def _derived_text(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}" if unit == "FLOP/B" else f"{value / 1e12:.4g} T{unit}"


def _numbers(device: Any) -> int:
    """How many numbers a device's file has."""
    from hwspecs.device import numbers

    return len(numbers(device))


def _described(device: Any) -> str:
    """The table of a device: field, value, source; below it the rates that follow."""
    import textwrap

    from hwspecs import catalogue, spec
    from hwspecs.device import numbers

    doubts, of_numbers = device.doubts(), numbers(device)
    listed = [f for f in spec.fields(type(device)) if f in of_numbers or f.switch]
    rows = [
        (
            field.path,
            _field_value(device, field),
            "?" if field.path in doubts else "",
            textwrap.fill(catalogue.source_of(device.sources, field.path), 72),
        )
        for field in listed
    ]
    note = "\nIMAGINARY: not a product; every value is an assumption." if device.imaginary else ""
    if device.aliases:
        note += f"\nIn measurement tables: {', '.join(device.aliases)}"
    derived = [(key, _derived_text(value, unit)) for key, (value, unit) in _rates(device).items()]
    return "\n".join(
        [
            f"{device.name}: {device.title}{note}",
            "",
            _table(rows, ("field", "value", "?", "source")),
            "",
            f"?: {len(doubts)} of {len(of_numbers)} values that no source backs (unsure, or an assumption)",
            "",
            _table(derived, ("derived, at boost clock", "peak")),
            "",
            _silicon(device),
        ]
    )


def _silicon(device: Any) -> str:
    """Area, power and price with their ranges, what they are made of, and what is outside the dies that are known."""
    from hwspecs import figures, silicon

    found = figures.figures(device)
    if not found:
        return "Area, power and price: unknown, since the file has no `silicon`, which says what the device is made of."
    rows = [(name, figure.words()) for name, figure in found.items()] + figures.details(device)
    outside = [f"outside the dies that are known: {line}" for line in silicon.outside(device)]
    return "\n".join([_table(rows, ("estimated, docs/silicon.md", "value (range)")), *outside])


def _rates(device: Any) -> dict[str, tuple[float, str]]:
    """What follows from the fields: name -> (value, unit)."""
    from hwspecs.compare import derived

    return derived(device)


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
        "fp16_flop_per_s": device.matmul_rate("fp16"),
        "bf16_flop_per_s": device.matmul_rate("bf16"),
        "hbm_b_per_s": device.hbm.bandwidth,
        "hbm_bytes": device.hbm.capacity,
        "l2_bytes": device.l2.capacity,
        "unsure": sorted(device.doubts()),
    }


def _field_value(device: Any, field: Any) -> str:
    value = device
    for step in field.path.split("."):
        value = getattr(value, step)
    return _shown(value, field.unit)


def _shown(value: Any, unit: str) -> str:
    from hwspecs import units

    return units.format(value, unit) if unit else str(value).lower()


def _table(rows: Any, headers: tuple[str, ...]) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
