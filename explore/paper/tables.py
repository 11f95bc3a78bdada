"""The figures' numbers: every figure is one table or several, and every row names the scenario that made it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explore.paper import caches
from explore.paper.claims_memory import over_calls
from explore.paper.claims_shape import RESOLUTIONS, SIDES, UNET, lengths
from explore.paper.frames import crossed_at, crossover, networks, over_frames, shapes
from explore.paper.suite import (
    GROUPS,
    IMAGEN,
    MUSE,
    PARTI,
    PROJECTIONS,
    SD,
    SUITE,
    TITLE,
    UNFUSED,
    VIDEO,
    WAYS,
    Member,
    Suite,
)
from workloads.ops.attention import ROLES
from workloads.views import attention, histogram, intensities, matrix_bytes_per_pass, period

PROFILED = (SD, IMAGEN, MUSE, PARTI)
BLOCKS = {
    "down": 2,
    "up": 3,
    "middle": 1,
}  # attention blocks a level of SD 1.5 (runwayml/stable-diffusion-v1-5, unet/config.json)


@dataclass(frozen=True)
class Table:
    """Rows under columns; units are in the names of the columns."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def column(self, name: str) -> list[Any]:
        """One column."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]

    def where(self, **equal: Any) -> Table:
        """The rows in which columns have given values."""
        at = {self.columns.index(name): value for name, value in equal.items()}
        return Table(self.name, self.columns, tuple(r for r in self.rows if all(r[i] == v for i, v in at.items())))

    def csv(self) -> str:
        """With a head; numbers to nine digits."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([f"{c:.9g}" if isinstance(c, float) else c for c in row] for row in self.rows)
        return out.getvalue()


def _table(name: str, columns: str, rows: Iterator[tuple[Any, ...]]) -> Table:
    return Table(name, tuple(columns.split()), tuple(rows))


def roofline(suite: Suite) -> Sequence[Table]:
    """Figure 1: intensity as the study has it, over the traffic, and the rate that is reached."""

    def rows() -> Iterator[tuple[Any, ...]]:
        for model in SUITE:
            member = suite.member(model)
            found = intensities(member.trace)[-1]
            for i, way in enumerate(WAYS):
                seconds = float(member.times[way].sum())
                yield (
                    member.scenario.name, TITLE[model], way, found.flops, found.weight_bytes, found.traffic_bytes[i],
                    found.of_study,
                    found.of_traffic[i], seconds, found.flops / seconds,
                )  # fmt: skip

    heads = (
        "scenario model attention flops weight_bytes traffic_bytes study_flop_per_byte "
        "traffic_flop_per_byte time_s flop_per_s"
    )
    return (_table("fig1", heads, rows()),)


def breakdown(suite: Suite) -> Sequence[Table]:
    """Figure 2: time by class in both ways over the unfused total, the speed-ups, and which parts are prefill and
    which decode.
    """

    def rows() -> Iterator[tuple[Any, ...]]:
        for model in SUITE:
            member = suite.member(model)
            whole = float(member.times[UNFUSED].sum())
            for way in WAYS:
                for group, value in zip(GROUPS, member.times[way].sum(axis=(0, 2)).tolist(), strict=True):
                    if value:
                        yield (member.scenario.name, TITLE[model], way, group, value, value / whole)

    def speed() -> Iterator[tuple[Any, ...]]:
        for model in SUITE:
            member = suite.member(model)
            t = [member.times[way].sum(axis=(0, 2)) for way in WAYS]
            apart = [float(x[: len(ROLES)].sum()) for x in t]
            whole = [a + float(x[-len(ROLES) :].sum()) for a, x in zip(apart, t, strict=True)]
            speeds = (float(t[0].sum() / t[1].sum()), whole[0] / whole[1], apart[0] / apart[1])
            yield (member.scenario.name, TITLE[model], *speeds)

    return (
        _table("fig2", "scenario model attention class time_s of_unfused", rows()),
        _table("fig2_speedup", "scenario model end_to_end attention_modules without_projections", speed()),
        _table(
            "fig2_correspondence",
            "scenario model component runs queries keys flop_per_weight_byte resembles",
            _phases(suite),
        ),
    )


def _phases(suite: Suite) -> Iterator[tuple[Any, ...]]:
    """Every component beside the phase of a language model that it resembles: many queries at a time, or one."""
    for model in SUITE:
        member = suite.member(model)
        a, flops = attention(member.trace), member.trace.op_flops()[member.trace.call_op]
        for i, segment in enumerate(member.trace.segments):
            mine = a.component == i
            if not mine.any():
                continue
            each = float(flops[segment.start : segment.stop].sum() / max(segment.weight_bytes, 1))
            queries, keys = int(a.q_len[mine].max()), int(a.kv_len[mine].max())
            phase = "decode" if queries == 1 else "prefill"
            yield (member.scenario.name, TITLE[model], segment.name, segment.repeats, queries, keys, each, phase)


def profile(suite: Suite) -> Sequence[Table]:
    """Figure 3: length, HBM rate and L2 misses of every attention call, unfused; and the periods."""

    def rows() -> Iterator[tuple[Any, ...]]:
        for model in PROFILED:
            calls = over_calls(suite, model)
            names = ("q_len", "kv_len", "hbm_bytes_per_s", "l2_miss_rate", "time_s")
            scenario = suite.member(model).scenario.name
            for i, role in enumerate(calls["role"].astype(int)):
                if model in (SD, MUSE) and not _of(suite, model)[i]:
                    continue
                whole = (int(calls[n][i]) for n in names[:2])
                yield (scenario, TITLE[model], i, ROLES[role], *whole, *(float(calls[n][i]) for n in names[2:]))

    def periods() -> Iterator[tuple[Any, ...]]:
        for model in PROFILED:
            a = attention(suite.member(model).trace)
            found = period(a.over_inference(a.q_len))
            yield (
                suite.member(model).scenario.name,
                TITLE[model],
                len(a.over_inference(a.q_len)),
                found.calls if found else "",
                found.times if found else "",
            )

    return (
        _table("fig3", "scenario model call role q_len kv_len hbm_bytes_per_s l2_miss_rate time_s", rows()),
        _table("fig3_period", "scenario model attention_calls period_calls periods", periods()),
    )


def _of(suite: Suite, model: str) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    a = attention(suite.member(model).trace)
    return np.array([a.components[c].startswith({SD: UNET, MUSE: "base"}[model]) for c in a.component])


def sequence(suite: Suite) -> Sequence[Table]:
    """Figure 4: calls by length over image sizes; similarity memory against the formula and against L^4."""

    def counts() -> Iterator[tuple[Any, ...]]:
        for side in SIDES:
            for length, calls in histogram(lengths(suite, side)).items():
                yield (_sd(suite, side).scenario.name, side, length, calls)

    def memory() -> Iterator[tuple[Any, ...]]:
        for side in SIDES:
            member, found = _sd(suite, side), lengths(suite, side)
            traced = matrix_bytes_per_pass(found)[UNET]
            own = int(found.matrix_bytes[found.role == 0].sum())
            base = SIDES[0]
            law = float(matrix_bytes_per_pass(lengths(suite, base))[UNET] * (side / base) ** 4)
            yield (member.scenario.name, side, side // 8, traced, own, similarity_bytes(side // 8), law)

    return (
        _table("fig4", "scenario side_px q_len calls", counts()),
        _table(
            "fig4_memory",
            "scenario side_px latent_side traced_bytes traced_self_bytes formula_bytes l4_bytes",
            memory(),
        ),
    )


def similarity_bytes(
    latent: int, levels: int = 4, text: int = 77, heads: int = 8, batch: int = 2, itemsize: int = 2
) -> int:
    """Bytes of all similarity matrices of one UNet pass of SD 1.5: sum of calls heads batch itemsize P (P + text)
    over its levels.

    The upper levels have BLOCKS down and up, the lowest those of the middle. Two values of batch are guidance's.
    """
    blocks = [BLOCKS["down"] + BLOCKS["up"]] * (levels - 1) + [BLOCKS["middle"]]
    positions = [(latent >> level) ** 2 for level in range(levels)]
    return sum(b * heads * batch * itemsize * p * (p + text) for b, p in zip(blocks, positions, strict=True))


def study_form(latent: int, factor: int, depth: int, text: int) -> int:
    """The study's closed form, of a UNet with one block a level, one head and batch 1: 2 (2 sum P_n (P_n + text) +
    P_D (P_D + text)).
    """
    positions = [latent**2 // factor ** (2 * n) for n in range(depth + 1)]
    return int(2 * (2 * sum(p * (p + text) for p in positions[:-1]) + positions[-1] * (positions[-1] + text)))


def _sd(suite: Suite, side: int) -> Member:
    return suite.member(SD, height=side, width=side)


def growth(suite: Suite) -> Sequence[Table]:
    """Figure 5: convolution and attention against image size."""

    def rows() -> Iterator[tuple[Any, ...]]:
        for side in SIDES:
            for way in WAYS:
                groups = _sd(suite, side).times[way].sum(axis=(0, 2))
                found = {
                    p: float(sum(v for v, g in zip(groups, GROUPS, strict=True) if g.startswith(p)))
                    for p in ("Convolution", "attention", PROJECTIONS)
                }
                yield (_sd(suite, side).scenario.name, side, way, *found.values(), float(groups.sum()))

    return (_table("fig5", "scenario side_px attention convolution_s attention_s projections_s all_s", rows()),)


def temporal(suite: Suite) -> Sequence[Table]:
    """Figure 6: both attentions of Make-A-Video, and the modelled counters under every assumption."""
    member = suite.member(VIDEO)

    def rows() -> Iterator[tuple[Any, ...]]:
        group, repeats = member.call_group(), member.trace.call_repeats()
        segment, flops = member.trace.call_segment(), member.trace.op_flops()[member.trace.call_op]
        for way in WAYS:
            cost = member.priced[way].cost
            time, hbm = cost.per_call(cost.time), cost.per_call(cost.hbm_bytes)
            for network in networks(suite):
                at = [s.name for s in member.trace.segments].index(network)
                for role in ("self", "temporal"):
                    mine = (segment == at) & (group == ROLES.index(role))
                    runs = np.where(mine, repeats, 0)
                    beside = (segment == at) & (group == GROUPS.index(f"{PROJECTIONS}{role}"))
                    projected = float(np.where(beside, repeats, 0) @ time)
                    seconds, total = float(runs @ time), int(runs @ flops)
                    name, bytes_ = {"self": "spatial"}.get(role, role), float(runs @ hbm)
                    yield (member.scenario.name, network, way, name, seconds, total, bytes_, total / seconds, projected)

    def counted() -> Iterator[tuple[Any, ...]]:
        for name, found in caches.spread(suite):
            for (role, kind), c in found.items():
                spatial = {"self": "spatial"}.get(role, role)
                yield (
                    member.scenario.name,
                    name,
                    spatial,
                    kind,
                    c.instructions,
                    c.misses,
                    c.per_kilo,
                    c.miss_rate,
                    c.cycles,
                )

    heads = (
        "scenario assumption attention kernel warp_instructions l2_misses misses_per_kilo_instruction "
        "l2_miss_rate access_cycles"
    )
    return (
        _table(
            "fig6", "scenario network attention_way attention time_s flops hbm_bytes flop_per_s projections_s", rows()
        ),
        _table("fig6_caches", heads, counted()),
    )


def overtaking(suite: Suite) -> Sequence[Table]:
    """Figure 7: FLOPs and time of spatial, temporal and joint attention over frames and resolutions, and where they cross."""
    levels, scenario = shapes(suite, "decoder"), suite.member(VIDEO).scenario
    rows: list[tuple[Any, ...]] = []
    crossed: list[tuple[Any, ...]] = []
    for r in RESOLUTIONS:
        side = scenario.request.height // 12 * r
        scaled = [s.scaled(r) for s in levels]
        for way in WAYS:
            found = over_frames(scaled, way, suite.rates, suite.level)
            rows += [(scenario.name, side, n, way, call, flops, seconds) for n, call, flops, seconds in found]
            at = crossed_at(found)
            crossed.append((scenario.name, side, way, float(crossover(scaled)), at[-1] if at else "", len(at)))
    return (
        Table("fig7", ("scenario", "side_px", "frames", "attention_way", "attention", "flops", "time_s"), tuple(rows)),
        Table(
            "fig7_crossover",
            ("scenario", "side_px", "attention_way", "flops_frames", "time_frames", "times_crossed"),
            tuple(crossed),
        ),
    )


FIGURES: dict[str, tuple[str, Callable[[Suite], Sequence[Table]]]] = {
    "fig1": (
        "Roofline of the suite: the study's arithmetic intensity, and that over the traffic of the kernels",
        roofline,
    ),
    "fig2": ("Operator breakdown, unfused and flash-2, over the unfused time", breakdown),
    "fig3": (
        "Sequence length, HBM rate and modelled L2 miss rate over the attention calls of one pass, unfused",
        profile,
    ),
    "fig4": (
        "Sequence lengths of Stable Diffusion over image sizes, and the memory of its similarity matrices",
        sequence,
    ),
    "fig5": ("Time of convolution and attention against image size", growth),
    "fig6": ("Temporal and spatial attention of Make-A-Video", temporal),
    "fig7": ("FLOPs and time of spatial, temporal and joint attention against frames", overtaking),
}
