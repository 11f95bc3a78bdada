"""`framecast schema` and `framecast completion`: for editors and shells."""

from __future__ import annotations

import json

import click

SHELLS = ("bash", "zsh", "fish")


def register(cli: click.Group) -> None:
    """Add the commands to the command line."""
    cli.add_command(schema)
    cli.add_command(completion)


@click.command()
@click.argument("kind", type=click.Choice(["scenario", "device", "software", "capture"]))
def schema(kind: str) -> None:
    """Print the JSON Schema of a file, with which an editor completes and checks it.

    A copy of each is in docs/schema; a scenario says so in its first line:
    # yaml-language-server: $schema=../docs/schema/scenario.json

    \b
    Examples:
      framecast schema scenario > scenario.schema.json
      framecast schema device
    """
    from explore.schema import schema as made

    click.echo(json.dumps(made(kind), indent=2, ensure_ascii=False))


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell: commands, options, fields, devices, models.

    bash: add `eval "$(framecast completion bash)"` to ~/.bashrc; zsh the same in ~/.zshrc; fish: save it as
    ~/.config/fish/completions/framecast.fish.

    \b
    Examples:
      framecast completion bash
      framecast completion fish > framecast.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = context.find_root()
    click.echo(found(root.command, {}, "framecast", "_FRAMECAST_COMPLETE").source())
