"""framecast: public names and the command line.

from framecast import load, replay
result = replay(load("examples/stable-diffusion-a100.yaml", ["device.hbm.bandwidth=4 TB/s"]))
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

    from explore.api import search, sweep
    from hwspecs.errors import FramecastError, InfeasibleError, SpecError
    from sim.result import Result
    from sim.scenario import Scenario, load
    from sim.simulate import replay
    from workloads.capture_call import capture
    from workloads.trace import save as save_trace

__all__ = [
    "FramecastError", "InfeasibleError", "Result", "Scenario", "SpecError", "capture", "load", "main", "replay", "save_trace",
    "search", "sweep",
]  # fmt: skip

_HOME = {
    "FramecastError": "hwspecs.errors",
    "InfeasibleError": "hwspecs.errors",
    "SpecError": "hwspecs.errors",
    "Result": "sim.result",
    "Scenario": "sim.scenario",
    "load": "sim.scenario",
    "replay": "sim.simulate",
    "capture": "workloads.capture_call",
    "save_trace": "workloads.trace",
    "search": "explore.api",
    "sweep": "explore.api",
}
_NAMED = {"save_trace": "save"}  # where its name at home is another
PACKAGES = ("hwspecs", "workloads", "sim", "explore", "calib")
COMMANDS = (
    "sim.cli",
    "sim.analysis_cli",
    "workloads.cli",
    "workloads.capture_cli",
    "sim.views_cli",
    "sim.measured_cli",
    "explore.cli",
    "calib.cli",
    "hwspecs.cli",
)
INTERRUPTED = 130


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'framecast' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), _NAMED.get(name, name))


def main() -> None:
    """Run the command line; exits with 0 done, 1 our bug, 2 input, 3 infeasible, 4 out of range, 130 interrupted."""
    hidden = hidden_packages()
    if hidden:
        print("\n".join(hidden), file=sys.stderr)
        sys.exit(2)
    _place_font_cache()
    sys.exit(_guarded())


def hidden_packages() -> list[str]:
    """One line for each of our packages that a file elsewhere hides, such as a `sim.py` in the working folder."""
    home = Path(__file__).resolve().parent
    lines = []
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        origin = Path(found.origin).resolve() if found and found.origin else None
        if origin is not None and origin.parent.parent != home:
            what = origin.parent if origin.name == "__init__.py" else origin
            lines.append(
                f"{what}: hides framecast's package '{package}'; rename it, or run framecast from another folder"
            )
    return lines


def commands() -> click.Group:
    """The command group with every verb."""
    import click

    @click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
    @click.version_option(package_name="framecast")
    def framecast() -> None:
        """What must an accelerator look like to generate images and video?

        \b
        Examples:
          framecast run examples/stable-diffusion-a100.yaml
          framecast run examples/stable-diffusion-a100.yaml --set request.height=768
          framecast hardware show a100-sxm-80gb
        """

    for module in COMMANDS:
        importlib.import_module(module).register(framecast)
    _offer_quiet(framecast)
    return framecast


def _offer_quiet(group: click.Group) -> None:
    """Give every command below a group the option --quiet."""
    import click

    from hwspecs.notes import quiet_option

    for command in group.commands.values():
        if isinstance(command, click.Group):
            _offer_quiet(command)
        elif not any("--quiet" in parameter.opts for parameter in command.params):
            command.params.append(quiet_option())


def _command_named(arguments: list[str]) -> str:
    """'framecast hardware show': the command that the arguments name, for errors that click raises without saying where."""
    import click

    group, names = commands(), ["framecast"]
    for argument in arguments:
        command = group.commands.get(argument)
        names += [argument] if command else []
        if not isinstance(command, click.Group):
            break
        group = command
    return " ".join(names)


def _place_font_cache() -> None:
    """matplotlib keeps a cache in the home folder; where none can be written, it goes to ours, or to a temporary one."""
    home = os.path.expanduser("~")
    usual = [
        os.environ.get(f"XDG_{kind.upper()}_HOME") or os.path.join(home, f".{kind}") for kind in ("config", "cache")
    ]
    if "MPLCONFIGDIR" in os.environ or all(map(_can_write, usual)):
        return
    import tempfile

    from workloads.cache import folder

    below = (
        str(folder()) if _can_write(str(folder())) else os.path.join(tempfile.gettempdir(), f"framecast-{os.getuid()}")
    )
    os.environ["MPLCONFIGDIR"] = os.path.join(below, "matplotlib")


def _can_write(folder: str) -> bool:
    """Whether files can be written below a folder, which may yet have to be made."""
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _guarded() -> int:
    """Run the command and turn whatever it raises into lines on stderr and an exit code."""
    import click

    from hwspecs.errors import EXTRA, INSTALL, FramecastError, shown

    try:
        code = commands().main(standalone_mode=False, prog_name="framecast")
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except FramecastError as error:
        print("\n".join(shown(error.problems)), file=sys.stderr)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else _command_named(sys.argv[1:])
        print(f"{error.format_message().rstrip('.')}; see '{path} --help'", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered can go nowhere
        if isinstance(error, BrokenPipeError):
            return 0
        print(f"{error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRA:
            command = _command_named(sys.argv[1:])
            print(
                f"{command} needs {error.name}, which is not installed: {INSTALL}",
                file=sys.stderr,
            )
            return 2
        if os.environ.get("FRAMECAST_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".replace("\n", " ")
        print(f"internal error: {what} (set FRAMECAST_DEBUG=1 for the traceback); please report it", file=sys.stderr)
        return 1


if __name__ == "__main__":
    main()
