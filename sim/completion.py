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


def ops(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Module paths of the scenario's trace, up to the next dot; none where the scenario cannot be read or was never captured."""
    from hwspecs.errors import FramecastError
    from sim.scenario import load
    from workloads.cache import cached, trace_of

    named = [context.params.get("scenario"), *context.args]  # an option without its value yet leaves arguments unread
    try:
        scenario = load(str(next(filter(None, named), "")), context.params.get("overrides") or ())
        paths = trace_of(scenario.model, scenario.request).paths if cached(scenario.model, scenario.request) else ()
    except FramecastError:
        return []
    found = [path for path in paths if path.startswith(incomplete)]
    return list(dict.fromkeys(incomplete + _to_next_dot(path.removeprefix(incomplete)) for path in found))


def _to_next_dot(rest: str) -> str:
    """'blocks.0.norm' -> 'blocks.', '.0' -> '.0'."""
    end = rest.find(".", 1)
    return rest if end < 0 else rest[: end + 1]
