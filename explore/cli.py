"""The commands that explore."""

from __future__ import annotations

import click

from explore import editor_cli, pods_cli, project_cli, search_cli, serve_cli, study_cli


def register(cli: click.Group) -> None:
    """Add them to the command line."""
    search_cli.register(cli)
    pods_cli.register(cli)
    serve_cli.register(cli)
    project_cli.register(cli)
    study_cli.register(cli)
    editor_cli.register(cli)
