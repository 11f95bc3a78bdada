"""What a shell completes on TAB: files, device ids, software ids. See click's `shell_complete`."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Whatever files there are."""
    return [CompletionItem(incomplete, type="file")]


def devices(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Ids of devices."""
    from hwspecs.device import device_names

    return [name for name in device_names() if name.startswith(incomplete)]
