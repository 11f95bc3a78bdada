"""The verdict on pods: which way wins, whether that holds over the range of contention, and what would turn it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from explore.pods import CORNERS, Comparison, Larger, Row, most
from sim.concurrent import Inference, inference, play
from sim.demand import HBM_BYTES, TENSOR
from sim.engine import DEFAULT, Contention
from sim.report import number
from sim.scenario import Scenario
from sim.schedule import Schedule, serial
from sim.vary import numbers, with_number

TIE = 0.01  # makespans that differ by less are called equal: finer than any of the assumptions
FACTORS = (2.0, 4.0, 8.0)  # of one number of the device, by which a change is tried in both directions
CHANGES = {  # numbers of the device that are tried, and how they are said
    "device.hbm.bandwidth": "HBM bandwidth",
    "device.tensor": "matrix rate",
    "device.sm_count": "SMs",
    "device.l2.capacity": "L2 capacity",
    "device.launch.gap": "launch gap",
}
HINGES = {  # parameters of contention, and what they are about
    "sms_kept": "how kernels share the SMs",
    "l2_split": "how streams share the L2",
    "loss": "what running side by side costs",
}


@dataclass(frozen=True)
class Turn:
    """A change of the device after which the other side wins, or neither: field, factor, and the gain of pods there."""

    field: str
    factor: float
    gain: float

    def words(self) -> str:
        """'HBM bandwidth x 1/4 (pods 12 % faster)'."""
        name = next(text for path, text in CHANGES.items() if self.field.startswith(path))
        by = f"{self.factor:g}" if self.factor >= 1 else f"1/{1 / self.factor:g}"
        if abs(self.gain - 1) < TIE:
            return f"{name} x {by} (no difference)"
        side = f"pods {by_percent(self.gain)} faster" if self.gain >= 1 else f"pods {by_percent(1 / self.gain)} slower"
        return f"{name} x {by} ({side})"


def verdict(found: Comparison, turn: Turn | None = None) -> str:
    """One line: which way wins, by how much, and whether that hinges on how kernels share the device."""
    if alone := _alone(found):
        return alone
    against, each = rival(found), gains(found)
    best = found.rows["best"]
    host = "; the host's launches set the pace of the pods (cuda_graphs: true lifts that)" if _paced(best) else ""
    turned = f"; {turn.words()} would turn it" if turn else ""
    first, low, high = each[0], min(each), max(each)
    if high < 1 + TIE and first < 1 - TIE:
        return f"{against} wins here: {by_percent(1 / first)} faster than the best pods found{host}{turned}"
    if low > 1 - TIE and high < 1 + TIE:
        return f"no difference: pods come within {100 * TIE:.0f} % of {against}{host}{turned}"
    if low >= 1 + TIE:
        mode = best.played.schedule.mode
        least = f", at least {by_percent(low)} however kernels share the device" if low < first - 1e-3 else ""
        return f"{mode} pods win here: {by_percent(first)} faster than {against}{least}{host}{turned}"
    return f"undecided, because {_hinges(each)}: {_sides(each, against)}{host}{turned}"


def gains(found: Comparison) -> tuple[float, ...]:
    """Of the better of the best schedules found (for this and for side-by-side kernels) over the rival, at each of CORNERS."""
    rivals = [found.rows[n].corners for n in ("batched", "serial") if n in found.rows]
    ours = [r.corners for r in (found.rows["best"], found.side_by_side, found.rows["lockstep"]) if r.fits(found)]
    ours = [c for c in ours if c] or [found.rows["serial"].corners]
    return tuple(min(r[i] for r in rivals) / min(o[i] for o in ours) for i in range(len(CORNERS)))


def rival(found: Comparison) -> str:
    """The better of the honest alternatives, in words."""
    rows = {n: found.rows[n].played.makespan for n in ("batched", "serial") if n in found.rows}
    best = min(rows, key=lambda n: rows[n])
    return (
        "batching"
        if best == "batched" and found.rows[best].played.schedule.largest > 1
        else "running one after another"
    )


def by_percent(ratio: float) -> str:
    """'12 %' of 1.12."""
    return f"{100 * (ratio - 1):.0f} %"


def _paced(row: Row) -> bool:
    """The host needs nearly as long to launch the kernels as the schedule lasts."""
    return row.played.host > 0.95 * row.played.makespan


def _hinges(each: tuple[float, ...]) -> str:
    """What the winner depends on."""

    def side(i: int) -> int:
        return (each[i] >= 1 + TIE) - (each[i] < 1 - TIE)

    found = []
    for name, text in HINGES.items():
        pairs = [(i, j) for i, a in enumerate(CORNERS) for j, b in enumerate(CORNERS[:i]) if _differ(a, b) == {name}]
        if any(side(i) != side(j) for i, j in pairs):
            found.append(text)
    return "it hinges on " + " and ".join(found or HINGES.values())


def _differ(a: Contention, b: Contention) -> set[str]:
    return {name for name in HINGES if getattr(a, name) != getattr(b, name)}


def _sides(each: tuple[float, ...], against: str) -> str:
    best, worst = max(range(len(each)), key=lambda i: (each[i], i)), min(range(len(each)), key=lambda i: each[i])

    def when(c: Contention) -> str:
        sms = "kernels keep the SMs that they fill" if c.sms_kept else "any mix of kernels runs side by side"
        loss = f", which costs {100 * c.loss:.0f} % of their speed" if c.loss else ""
        return f"{sms} and streams {'split' if c.l2_split else 'share all of'} the L2{loss}"

    loss = each[worst]
    low = "no faster" if loss > 1 - TIE else f"{by_percent(1 / loss)} slower"
    return f"pods are {by_percent(each[best])} faster than {against} if {when(CORNERS[best])}, {low} if {when(CORNERS[worst])}"


def _alone(found: Comparison) -> str:
    """Why nothing can run together, '' where something can."""
    pods, count = found.pods, found.rows["serial"].played.schedule.count
    if count == 1:
        field = "pods.count" if pods.members == "requests" else "request.steps"
        return f"there is nothing to run together: {field} is 1"
    if most(pods, count) == 1:
        return "there is nothing to run together: pods.budget.largest is 1"
    together = [row.played.schedule.largest for name, row in found.rows.items() if name != "serial" and row.fits(found)]
    if max(together, default=1) > 1:
        return ""
    if pods.search.size == (1,):
        return "there is nothing to run together: pods.search.size is 1"
    return f"nothing but serial fits {number(found.scenario.device.hbm.capacity / 1e9)} GB"


def turning(found: Comparison) -> Turn | None:
    """The smallest change of one number of the device after which the other side wins under the default contention.

    Ranked in few pieces with the schedules that were found, scaled as on the device itself, then played in full; None if no
    factor up to 8 turns it.
    """
    if _alone(found):
        return None
    wins = gains(found)[0] >= 1 + TIE
    schedules = [r.played.schedule for r in (found.rows["best"], found.side_by_side, found.rows["lockstep"])]
    schedules = [s for s in dict.fromkeys(schedules) if s.mode != "serial"]
    if not schedules:
        return None
    miss = {s: play(found.one, s, brief=True).makespan / play(found.one, s).makespan for s in schedules}
    for factor in FACTORS:
        near = []
        for field, by in ((f, b) for f in _fields(found.scenario) for b in (1 / factor, factor)):
            changed = _changed(found.scenario, field, by)
            one, batch = inference(changed), _batch(changed, found)
            ours = min(play(one, s, brief=True).makespan / miss[s] for s in schedules)
            gain = _least_rival(one, found, batch) / ours
            near.append((gain, field, by, one, batch))
        near.sort(key=lambda t: t[0], reverse=not wins)
        for gain, field, by, one, batch in near[:2]:
            if (gain >= 1 + TIE) == wins:
                break
            exact = _least_rival(one, found, batch) / min(play(one, s).makespan for s in schedules)
            if (exact >= 1 + TIE) != wins:
                return Turn(field, by, exact)
    return None


def _fields(scenario: Scenario) -> list[str]:
    """Paths of CHANGES that this device has; the matrix rate is that of the request's data type."""
    dtype = getattr(scenario.request, "dtype", "fp16")
    known = {n.field for n in numbers(scenario.device)}
    return [p for p in (f"{c}.{dtype}" if c == "device.tensor" else c for c in CHANGES) if p in known]


def _changed(scenario: Scenario, field: str, by: float) -> Scenario:
    one = next(n for n in numbers(scenario.device) if n.field == field)
    return replace(scenario, device=with_number(scenario.device, one, one.value * by))


def _batch(scenario: Scenario, found: Comparison) -> tuple[Schedule, Larger] | None:
    if "batched" not in found.rows:
        return None
    schedule = found.rows["batched"].played.schedule
    return schedule, {n: inference(scenario, n) for n in sorted({len(p) for p in schedule.pods}) if n > 1}


def _least_rival(one: Inference, found: Comparison, batch: tuple[Schedule, Larger] | None) -> float:
    count = found.rows["serial"].played.schedule.count
    alone = play(one, serial(found.pods.members, count), brief=True).makespan
    return min(alone, play(one, batch[0], DEFAULT, batch[1], brief=True).makespan) if batch else alone


def met(found: Comparison) -> dict[str, float]:
    """What overlapped with what in the best schedule: shares of its makespan by what is in heavy use (above half)."""
    names = {(True, True): "both", (True, False): "matrix units", (False, True): "HBM", (False, False): "neither"}
    seconds = dict.fromkeys(names.values(), 0.0)
    best = found.rows["best"].played
    for _, run, _ in best.phases:
        before = 0.0
        for when, used in zip(run.when, run.used, strict=True):
            seconds[names[(used[TENSOR] > 0.5, used[HBM_BYTES] > 0.5)]] += when - before
            before = when
    return {name: value / best.makespan for name, value in seconds.items()}
