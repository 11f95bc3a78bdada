"""Lines on stderr beside a result: progress and warnings, unless --quiet is given."""

from __future__ import annotations

import sys

import click

QUIET = "framecast.quiet"  # key of click's context


def is_quiet() -> bool:
    """Whether --quiet was given; False outside the command line."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(QUIET))


def say(line: str) -> None:
    """A warning, or what is being done."""
    if not is_quiet():
        print(line, file=sys.stderr)


def shows_progress() -> bool:
    """Whether to draw progress: on a terminal, and not under --quiet."""
    return sys.stderr.isatty() and not is_quiet()


def quiet_option() -> click.Option:
    """The option --quiet of a command."""

    def note(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            context.meta[QUIET] = True

    return click.Option(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        callback=note,
        help="No progress and no warnings on stderr, errors only.",
    )
