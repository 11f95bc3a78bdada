"""`framecast serve`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from explore.completion import settings
from hwspecs.completion import files

if TYPE_CHECKING:
    from explore.serve import Served, Service

HEADS = ("policy", "mean", "p50", "p90", "p99", "in time %", "good/s", "done/s")
ASSUMED = (
    "Latency is from arrival to image; 'in time' is within the deadline, and good/s what that makes of the time from the first "
    "arrival to the last image.\n"
    "Pods: kernels keep the SMs that they fill and streams split the L2, in few pieces (docs/concurrency.md); batches of sizes "
    "between powers of two are interpolated."
)


def register(cli: click.Group) -> None:
    """Add `serve` to the command line."""
    cli.add_command(serve)


@click.command()
@click.argument("scenario", shell_complete=files)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    shell_complete=settings,
    help="Change one field, e.g. serve.most=8.",
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Output on stdout.")
def serve(scenario: str, overrides: tuple[str, ...], form: str) -> int:
    """Serve requests that arrive over time: one at a time, in batches, or as pods; latency, and goodput against a deadline.

    The `serve:` section of SCENARIO says when requests arrive, on how many devices, and what is fast enough.

    \b
    Examples:
      framecast serve examples/serve-stable-diffusion.yaml
      framecast serve examples/serve-stable-diffusion.yaml --set serve.arrivals.every='0.5 s' --set serve.devices=2
      framecast serve examples/serve-stable-diffusion.yaml --format json | jq .policies.pods.p99_s
    """
    from explore.serve import serve as run
    from sim.scenario import load

    found = run(load(scenario, overrides))
    click.echo(json.dumps(to_json(found), indent=2) if form == "json" else text(found))
    return 0


def text(found: Service) -> str:
    """Title, verdict, table, assumptions."""
    from tabulate import tabulate

    from sim.report import seconds

    s, spec = found.scenario, found.serve
    arrive = found.rows[0].arrive
    devices = f"{spec.devices} x " if spec.devices > 1 else ""
    title = (
        f"{s.name}: {len(arrive)} requests of {s.model} over {seconds(float(arrive[-1]))}, {seconds(found.alone)} each alone, "
        f"deadline {seconds(spec.deadline)}\non {devices}{s.device.title} ({s.device.name}), {s.software.name}, level {s.level}"
    )
    align = ("left", *("right" for _ in HEADS[1:]))
    table = tabulate(
        [_row(r, spec.deadline) for r in found.rows], HEADS, tablefmt="simple", colalign=align, disable_numparse=True
    )
    return f"{title}\n\nVerdict: {verdict(found)}.\n\n{table}\n\n{ASSUMED}"


def verdict(found: Service) -> str:
    """One line: the policy with the most good requests (of equal ones the shortest p99), and whether contention may turn it."""
    deadline = found.serve.deadline

    def better(rows: Any) -> Served:
        best: Served = max(rows, key=lambda r: (round(r.good(deadline), 4), -r.percentile(99)))
        return best

    best = better(found.rows)
    other = better([found.under if r.policy == "pods" and found.under else r for r in found.rows])
    said = f"{best.policy} is best: {100 * best.good(deadline):.1f} % in time, p99 {best.percentile(99):.3g} s"
    if best.policy == other.policy:
        return said
    return (
        f"undecided, because it hinges on how kernels share the device: {said}; if any mix of kernels runs side by side, "
        f"{other.policy}: {100 * other.good(deadline):.1f} % in time, p99 {other.percentile(99):.3g} s"
    )


def to_json(found: Service) -> dict[str, Any]:
    """Plain data."""
    from sim.result import SCHEMA_VERSION

    s, spec = found.scenario, found.serve
    return {
        "schema_version": SCHEMA_VERSION,
        "name": s.name,
        "scenario_hash": s.hash,
        "model": s.model,
        "device": s.device.name,
        "devices": spec.devices,
        "level": s.level,
        "requests": len(found.rows[0].arrive),
        "deadline_s": spec.deadline,
        "alone_s": found.alone,
        "policies": {r.policy: _json(r, spec.deadline) for r in found.rows},
        "pods_side_by_side": _json(found.under, spec.deadline) if found.under else None,
        "verdict": verdict(found),
        "assumptions": ASSUMED.split("\n"),
    }


def _json(r: Served, deadline: float) -> dict[str, float]:
    from explore.serve import PERCENTILES

    return {
        "mean_s": float(r.latency.mean()),
        **{f"p{p}_s": r.percentile(p) for p in PERCENTILES},
        "in_time": r.good(deadline),
        "good_per_s": r.good(deadline) * len(r.done) / r.span,
        "done_per_s": len(r.done) / r.span,
    }


def _row(r: Served, deadline: float) -> list[str]:
    from sim.report import number, percent, seconds

    j = _json(r, deadline)
    times = [seconds(j[key]) for key in ("mean_s", "p50_s", "p90_s", "p99_s")]
    return [r.policy, *times, percent(j["in_time"]), number(j["good_per_s"]), number(j["done_per_s"])]
