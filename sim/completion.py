"""What a shell completes for scenarios: the fields of --set and the values that are names."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from hwspecs.completion import devices, files


def settings(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """PATH= of every field that --set takes; behind it the ids of devices, software and models, and levels."""
    from hwspecs.device import device_names
    from hwspecs.software import software_names
    from sim.scenario import LEVELS
    from workloads.model import models

    field, equals, _ = incomplete.partition("=")
    names = {"device": device_names(), "software": software_names(), "model": list(models()), "level": list(LEVELS)}
    names |= {f"{part}.base": names[part] for part in ("device", "software")}
    values = [f"{field}={value}" for value in names.get(field, [])]
    found = values if equals else [f"{path}=" for path in (*names, *leaves())]
    return [text for text in found if text.startswith(incomplete)]


def leaves() -> list[str]:
    """Paths of the fields of the device, the software and every model's request."""
    from hwspecs import spec
    from hwspecs.device import Device
    from hwspecs.software import Software
    from workloads.model import models

    parts = [("device", Device), ("software", Software), *(("request", m.request) for m in models().values())]
    return list(dict.fromkeys(f"{part}.{f.path}" for part, cls in parts for f in spec.fields(cls) if not f.descriptive))


def sides(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem] | list[str]:
    """What `compare` takes: devices under --scenario, else files, and devices of which the beginning is there."""
    named = devices(context, parameter, incomplete) if incomplete or context.params.get("scenario") else []
    if context.params.get("scenario"):
        return named
    return [*files(context, parameter, incomplete), *map(CompletionItem, named)]
