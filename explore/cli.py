"""The commands that explore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from explore import editor_cli, pods_cli, project_cli, search_cli, serve_cli, study_cli
from sim.cli import SECTION_CHECKS


def register(cli: click.Group) -> None:
    """Add them to the command line."""
    SECTION_CHECKS[:] = [(_checked, _told)]
    search_cli.register(cli)
    pods_cli.register(cli)
    serve_cli.register(cli)
    project_cli.register(cli)
    study_cli.register(cli)
    editor_cli.register(cli)


def _checked(path: str, overrides: Sequence[str], sections: Sequence[str]) -> dict[str, Any]:
    """Of `framecast check`; nothing is imported for a scenario without a space."""
    if not {"sweep", "search"} & set(sections):
        return {}
    from explore.check import checked

    return checked(path, overrides, sections)


def _told(found: dict[str, Any]) -> Iterator[str]:
    if found:
        from explore.check import text

        yield from text(found)
