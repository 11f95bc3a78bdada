"""Time operators, peaks, whole modules and streams on the machine at hand. Needs torch (2.4 or later) and numpy, nothing else.

    python calib/measure.py --plan plan.csv --out DIR --minutes 8 --device cuda

Needs of this repository only the folder `calib`. Writes to DIR, row by row and flushed to the disk: peaks.csv, operators.csv,
modules.csv, kernels.csv, streams.csv, blocks.csv (clocks, power, temperature) and campaign.json. Killed or out of time, the
next call with the same DIR goes on where it stopped. The columns are described in docs/measurements.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # started as a file: the folder that holds the package `calib`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from calib.measure_files import MEASURED, PLAN, RefusedError, Row, Rows, read_plan
from calib.measure_lab import (
    CLOCKS,
    FLOOR,
    TARGET,
    BrokenError,
    Build,
    Lab,
    Ready,
    clocks,
    failure,
    lab,
    prepare,
    summary,
    visit,
)
from calib.measure_ops import build, probes

PEAKS = ("probe", "dtype", "size", "condition", "value", "unit", *MEASURED)
BLOCKS = (
    "block",
    "phase",
    "started",
    "rows",
    "device",
    *(f"{when} {c}" for when in ("before", "after") for c in CLOCKS),
)
BLOCK = 24  # rows between two readings of the clocks, visited in random order
VISITS = (3, 6)  # a row is set up and timed at least and at most so often, at moments apart
RESERVE = 0.03  # share of the time that is left at the end: nothing runs into the limit
PHASES = (
    ("peaks", 0.1),
    ("operators", 0.55),
    ("modules", 0.85),
    ("streams", 1.0),
    ("operators", 1.0),
)  # share at its end


class TimeIsUp(BaseException):
    """Raised wherever the campaign is when its time has run out, so that it ends before the limit."""


@dataclass(frozen=True)
class Item:
    """One row to measure: its cells, how to build it, and the amount of work that turns its latency into a peak's value."""

    row: Row
    build: Callable[[Lab], Build]
    amount: float = 1.0


@dataclass
class Budget:
    """The moment at which a phase has to stop, and what the dearest step so far took; seconds."""

    end: float
    dearest: float = 0.5

    def fits(self, seconds: float = 0.0) -> bool:
        """Whether another step of this length, or of half as much again as the longest seen, ends in time."""
        return time.monotonic() + max(seconds, 1.5 * self.dearest) < self.end

    def spent(self, begun: float) -> None:
        """Take note of a step that began at `begun`."""
        self.dearest = max(self.dearest, time.monotonic() - begun)


@dataclass(frozen=True)
class Campaign:
    """What every phase needs: the machine, the folder, random order, and the file of blocks."""

    machine: Lab
    out: Path
    rng: Any
    blocks: Rows

    def stamp(self) -> dict[str, str]:
        """Columns that every row carries."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"source": "framecast", "device": self.machine.name, "software": self.machine.software, "started": now}

    def say(self, text: str) -> None:
        """Progress, on stderr."""
        print(text, file=sys.stderr, flush=True)

    def block(self, phase: str, before: Sequence[str], rows: int) -> list[str]:
        """Note the clocks around a block; returns those at its end, which begin the next one."""
        after = clocks(self.machine)
        cells = dict(zip(BLOCKS[5:], [*before, *after], strict=True))
        self.blocks.append({"block": len(self.blocks.done), "phase": phase, "rows": rows, **cells, **self.stamp()})
        return after


def measure(campaign: Campaign, phase: str, items: Sequence[Item], rows: Rows, budget: Budget) -> None:
    """Measure items in blocks of BLOCK, each block in random order and visited several times; append each when it is done."""
    todo = [item for item in items if not rows.has(item.row)]
    before = clocks(campaign.machine)
    for start in range(0, len(todo), BLOCK):
        block = todo[start : start + BLOCK]
        whole = _block(campaign, block, rows, budget)
        before = campaign.block(phase, before, len(block))
        left = sum(not rows.has(item.row) for item in items)
        campaign.say(f"{phase}: {len(items) - left} of {len(items)} rows ({_counted(rows)})")
        if not whole:
            campaign.say(f"{phase}: its time is up; call again with the same --out to go on")
            return


def _block(campaign: Campaign, block: Sequence[Item], rows: Rows, budget: Budget) -> bool:
    """Visit the rows of a block until each is done. False where the time ran out: rows with two visits are kept then."""
    visits: list[list[list[float]]] = [[] for _ in block]
    last: dict[int, Ready] = {}
    pending = set(range(len(block)))
    for turn in range(VISITS[1]):
        for i in campaign.rng.permutation(sorted(pending)).tolist():
            if not budget.fits():
                for j in pending:
                    if len(visits[j]) > 1:
                        _write(campaign, block[j], rows, visits[j], last[j])
                return False
            begun = time.monotonic()
            ready = _visited(campaign, block[i], rows, visits[i])
            budget.spent(begun)
            done = ready is None or _settled(visits[i], campaign.machine.kind, turn)
            pending -= {i} if done else set()
            if ready is not None:
                last[i] = ready
                if done:
                    _write(campaign, block[i], rows, visits[i], ready)
    return True


def _settled(visits: Sequence[Sequence[float]], kind: str, turn: int) -> bool:
    """Whether a row needs no further visit."""
    enough = turn + 1 >= VISITS[0] and float(summary(visits, kind)["spread"]) <= max(TARGET, FLOOR[kind])
    return enough or turn + 1 == VISITS[1]


def _visited(campaign: Campaign, item: Item, rows: Rows, visits: list[list[float]]) -> Ready | None:
    """One visit of one row. None where it failed, which is then in the file."""
    machine = campaign.machine
    ready: Ready | None = None
    try:
        ready = prepare(machine, item.build(machine), str(item.row["condition"]))
        visits.append(visit(machine, ready))
        return replace(ready, run=lambda: None)  # keeps no tensors alive
    except Exception as error:
        try:
            rows.append({**item.row, **campaign.stamp(), **failure(machine, error)})
        except BrokenError as broken:  # the next call leaves this row out
            rows.append({**item.row, **campaign.stamp(), "status": "error", "reason": str(broken)})
            raise
        return None
    finally:
        ready = None  # the graph and its operands go before the memory is given back
        machine.release()


def _write(campaign: Campaign, item: Item, rows: Rows, visits: Sequence[Sequence[float]], ready: Ready) -> None:
    found = summary(visits, campaign.machine.kind)
    rate = item.row.get("unit") != "us"
    value = item.amount / (found["latency_us"] * 1e-6) if rate else found["latency_us"] / item.amount
    about = {"status": "ok", "method": ready.method, "timing": ready.timing, "footprint_bytes": ready.footprint}
    rows.append({**item.row, **campaign.stamp(), **found, **about, "value": value})


def _counted(rows: Rows) -> str:
    counts = {s: list(rows.done.values()).count(s) for s in ("ok", "oom", "unsupported", "error")}
    return ", ".join(f"{n} {status}" for status, n in counts.items() if n or status == "ok")


# ---- the phases ------------------------------------------------------------------------------------------------------


def run_peaks(campaign: Campaign, _: Sequence[Row], budget: Budget) -> None:
    """What the machine can do at most: peaks.csv."""
    names = ("probe", "dtype", "size", "condition")
    rows = Rows(campaign.out / "peaks.csv", PEAKS, names)
    items = [
        Item({**dict(zip(names, probe[:4], strict=True)), "unit": probe[5]}, probe[6], probe[4])
        for probe in probes(campaign.machine.kind)
    ]
    measure(campaign, "peaks", items, rows, budget)


def run_operators(campaign: Campaign, plan: Sequence[Row], budget: Budget) -> None:
    """The rows of the plan, in its order: operators.csv."""
    rows = Rows(campaign.out / "operators.csv", (*PLAN, *MEASURED), ("plan_id", "condition"))
    items = [Item(row, lambda machine, row=row: build(machine, row)) for row in plan]  # type: ignore[misc]
    measure(campaign, "operators", items, rows, budget)


def run_modules(campaign: Campaign, _: Sequence[Row], budget: Budget) -> None:
    """Whole modules: modules.csv and kernels.csv."""
    from calib import measure_modules

    measure_modules.modules(campaign, budget)


def run_streams(campaign: Campaign, _: Sequence[Row], budget: Budget) -> None:
    """The same step on several streams: streams.csv."""
    from calib import measure_modules

    measure_modules.streams(campaign, budget)


RUN = {"peaks": run_peaks, "operators": run_operators, "modules": run_modules, "streams": run_streams}


def selected(plan: Sequence[dict[str, str]], only: str) -> tuple[set[str], list[dict[str, str]]]:
    """(phases, rows of the plan) of `--only`: phases, or operators by name, separated by commas; '' is everything."""
    words = {word.strip() for word in only.split(",") if word.strip()}
    ops = {row["op"] for row in plan}
    unknown = sorted(words - set(RUN) - ops)
    if unknown:
        known = ", ".join([*RUN, *sorted(ops)])
        raise RefusedError(f"--only: found '{unknown[0]}', expected phases or operators of the plan ({known})")
    named = words & ops
    phases = (words & set(RUN)) | ({"operators"} if named else set()) or set(RUN)
    return phases, [row for row in plan if not named or row["op"] in named]


def campaign(args: argparse.Namespace) -> None:
    """All phases that were asked for, within the time."""
    begun = time.monotonic()
    phases, plan = selected(read_plan(Path(args.plan)), args.only)
    machine = lab(args.device, args.seed)
    gc.freeze()  # torch collects garbage whenever a graph is captured: what is there now need not be looked at again
    out = _folder(Path(args.out), machine)
    this = Campaign(
        machine, out, np.random.default_rng(args.seed), Rows(out / "blocks.csv", BLOCKS, ("block", "started"))
    )
    usable = args.minutes * 60 * (1 - RESERVE)
    order = [(name, share) for name, share in PHASES if name in phases]
    for i, (name, share) in enumerate(order):
        budget = Budget(begun + usable * (1.0 if i == len(order) - 1 else share))
        RUN[name](this, plan, budget)
    this.say(f"{out}: {(time.monotonic() - begun) / 60:.1f} of {args.minutes:g} minutes used")


def _stop_after(seconds: float) -> None:
    """TimeIsUp in so many seconds, where the platform and the thread allow it; 0 calls it off."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():

        def up(*_: Any) -> None:
            raise TimeIsUp

        signal.signal(signal.SIGALRM, up)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _folder(out: Path, machine: Lab) -> Path:
    """The folder of a campaign: made, or one of the same device and software. Rows of two machines never share a file."""
    header = out / "campaign.json"
    now = {"device": machine.name, "software": machine.software, "free_bytes": machine.free()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        before = json.loads(header.read_text(encoding="utf-8")) if header.exists() else None
        if before is None:
            begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            text = json.dumps({**now, "begun": begun, "schema_version": 1}, indent=2) + "\n"
            header.with_suffix(".tmp").write_text(text, encoding="utf-8")
            header.with_suffix(".tmp").replace(header)
    except OSError as error:
        raise RefusedError(f"{out}: cannot write here: {error.strerror}") from None
    except ValueError:
        raise RefusedError(f"{header}: not the note of a campaign; use another --out") from None
    for name in ("device", "software"):
        if before and before.get(name) != now[name]:
            raise RefusedError(
                f"{header}: was measured with {name} '{before.get(name)}', this is '{now[name]}'; use another --out"
            )
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or out of time, 2 input that cannot be used or a device that broke, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="measure.py", description="Time the rows of a plan, peaks, modules and streams."
    )
    parser.add_argument("--plan", required=True, help="plan.csv, as `framecast calib plan` writes it")
    parser.add_argument("--out", required=True, help="folder of the results; one that has some is continued")
    parser.add_argument("--minutes", type=float, default=8.0, help="all of it stops before this (default 8)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--only", default="", help="phases (peaks, operators, modules, streams) or operators, with commas"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order and of the numbers in tensors")
    args = parser.parse_args(argv)
    try:
        _stop_after(args.minutes * 60 * (1 - RESERVE / 2))
        campaign(args)
    except TimeIsUp:
        print("the time is up; call again with the same --out to go on", file=sys.stderr)
    except (RefusedError, BrokenError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; call again with the same --out to go on", file=sys.stderr)
        return 130
    finally:
        _stop_after(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
