"""What a shell completes behind --set of the commands that explore: the fields of their section, beside those of a run."""

from __future__ import annotations

import click

from sim import completion


def settings(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """PATH= of the fields of a scenario, and of the section that the command is named after."""
    section = context.info_name or ""
    own = [f"{section}.{path}=" for path in _paths(section)]
    return [
        *completion.settings(context, parameter, incomplete),
        *(path for path in own if path.startswith(incomplete)),
    ]


def _paths(section: str) -> list[str]:
    """Paths below `sweep`, `search`, `pods`, `serve` or `project`."""
    from explore import goals, objectives, pods_spec, project_spec, serve_spec, sweep
    from explore.evaluate import RATES
    from explore.silicon import VARIED
    from hwspecs import spec

    if section == "sweep":
        options = [f.path for f in spec.fields(sweep.Options)]
        return [*options, "model", "device", "software", "level", *completion.leaves(), *VARIED]
    if section == "search":
        options = [f.path for f in spec.fields(objectives.Options)]
        inside = [f"objectives.{name}" for name in goals.numbers([])]
        return [*options, *inside, *RATES, *VARIED, *(f"resources.{path}" for path in RATES)]
    sections = {"pods": pods_spec.Pods, "project": project_spec.Project, "serve": serve_spec.Serve}
    return [f.path for f in spec.fields(sections[section])]
