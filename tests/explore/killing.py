"""Real commands, ended by `kill -9` at random moments and started again, for tests of what is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOY = """
import sys
from explore import evaluate
from tests.sim.toy import trace_of
evaluate.trace_of = trace_of
import framecast
framecast.main()
"""


@dataclass(frozen=True)
class Random:
    """Where the moments come from. FRAMECAST_KILL_SEED gives those of a run that failed; else they are new each time."""

    seed: int
    draws: random.Random

    @staticmethod
    def new() -> Random:
        seed = int(os.environ.get("FRAMECAST_KILL_SEED", random.SystemRandom().randrange(10**6)))
        return Random(seed, random.Random(seed))


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`framecast ARGUMENTS` in a folder, over the toy trace, in a process group of its own; it has begun to work."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", TOY, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr
    line = process.stderr.readline()
    assert line.startswith(f"{arguments[0]}: "), line + process.stderr.read()
    return process


def whole(folder: Path, *arguments: str) -> tuple[str, float]:
    """What the command prints when nothing disturbs it, and the seconds that it works."""
    process = started(folder, *arguments)
    start = time.monotonic()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, time.monotonic() - start


def kill(process: subprocess.Popen[str]) -> bool:
    """`kill -9` of its process group; whether that ended it, and it had not ended by itself."""
    os.killpg(process.pid, signal.SIGKILL)  # also of one that has ended: it is waited for below only
    process.communicate()
    return process.returncode == -signal.SIGKILL


def killed(
    folder: Path, arguments: Sequence[str], delays: Sequence[float], look: Callable[[], None]
) -> tuple[str, int]:
    """The command, killed after each delay (s from when it begins to work) and started again, then left alone.

    What the last one printed, and how many of the kills met one at work. look: called after each kill.
    """
    met = 0
    for delay in delays:
        process = started(folder, *arguments)
        time.sleep(delay)
        met += kill(process)
        look()
    return whole(folder, *arguments)[0], met
