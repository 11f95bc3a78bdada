"""The `serve:` section of a scenario: requests over time, how they are served, and what is fast enough."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from hwspecs.errors import SpecError
from hwspecs.nodes import Node
from hwspecs.spec import CONFIG, Doc, Quantity, RuleError
from sim.demand import Floats
from sim.scenario import Scenario, section

Policy: TypeAlias = Literal["fcfs", "batch", "pods"]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Arrivals:
    """When requests arrive: at random (Poisson), or as a file says."""

    every: Annotated[float | None, Quantity("s", gt=0, doc="mean time between requests, which arrive at random")] = None
    count: Annotated[int, Quantity(ge=1, le=100_000, doc="requests that arrive at random")] = 200
    seed: Annotated[int, Quantity(ge=0, le=2**32 - 1, doc="of the arrivals")] = 0
    file: Annotated[str | None, Doc("text file with the second of an arrival in each line, beside the scenario")] = None

    def __post_init__(self) -> None:
        if (self.every is None) == (self.file is None):
            found = "neither" if self.file is None else "both"
            raise RuleError([("every", f"found {found} of every and file, expected one, for example `every: 0.8 s`")])


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Serve:
    """Requests over time on one device or several."""

    arrivals: Arrivals
    deadline: Annotated[float, Quantity("s", gt=0, doc="a request is good if it is done this long after it arrived")]
    policies: Annotated[
        Annotated[tuple[Policy, ...], Field(min_length=1)],
        Doc(
            "fcfs: one at a time; batch: up to `most`, after at most `wait`; pods: up to `most` in flight, each on a stream"
        ),
    ] = ("fcfs", "batch", "pods")
    most: Annotated[int, Quantity(ge=1, le=64, doc="requests of a batch, or in flight on a device")] = 4
    wait: Annotated[float, Quantity("s", ge=0, doc="that the first of a batch waits for others")] = 0.0
    devices: Annotated[int, Quantity(ge=1, le=1024, doc="devices that share the requests")] = 1


def load(scenario: Scenario) -> tuple[Serve, Floats]:
    """The section, and the seconds at which requests arrive, ascending. SpecError with every problem, placed in the file."""
    if "serve" not in scenario.sections:
        text = "missing; expected requests over time, for example `serve: {arrivals: {every: 0.8 s}, deadline: 5 s}`"
        raise SpecError(f"{scenario.path}: serve: {text}")
    spec = section(scenario, "serve", Serve)
    a = spec.arrivals
    if a.every is not None:
        rng = np.random.default_rng(a.seed)
        return spec, np.cumsum(rng.exponential(a.every, a.count))
    node = scenario.sections["serve"].get("arrivals.file") or scenario.sections["serve"]
    return spec, _read(Path(scenario.path).parent / str(a.file), node)


def _read(path: Path, node: Node) -> Floats:
    """Seconds, one a line; blank lines and lines that begin with # are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not a text file"
        raise SpecError(node.problem("serve.arrivals.file", f"cannot read '{node.text}': {reason}")) from None
    found, problems = [], []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value >= 0):
                problems.append(
                    f"{path.name}:{number}: found '{text}', expected the second of an arrival, for example 12.5"
                )
            found.append(value)
    if problems:
        raise SpecError(problems)
    if not found:
        raise SpecError(f"{path.name}: found no arrivals, expected the second of one in each line")
    return np.sort(np.array(found))
