"""`framecast study` as a whole: which claims and figures are asked for, what they need, and their rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explore.paper import claims_memory, claims_shape, claims_time
from explore.paper.claims_shape import SIDES
from explore.paper.finding import Finding
from explore.paper.suite import IMAGEN, LLM, PARTI, SD, SUITE, TRANSFORMER_TTI, VIDEO, Suite, request_of
from explore.paper.table import CLAIMS
from explore.paper.tables import FIGURES, Table
from hwspecs.errors import SpecError, nearest

# Why a claim has no value.
APART = {
    "C24": "a statistic of a production fleet; carried as stated, not simulated",
    "C25": "a statistic of a production fleet; carried as stated, not simulated",
    "C26": "needs several GPUs, and a figure of the study that is not at hand; not computed",
}
FOUND: Mapping[str, Callable[[Suite], Finding]] = {
    **claims_time.FOUND, **claims_shape.FOUND, **claims_memory.FOUND,
}  # fmt: skip
WITH_SIZES = ("C15", "C16", "C17", "C31", "fig4", "fig5")  # need Stable Diffusion at every image size
# Models that a claim or a figure reads; the whole suite where it is not listed.
READS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("C18", "C19", "C20", "C21", "C22", "C23", "fig6", "fig7"), (VIDEO,)),
    **dict.fromkeys(("C08", "C09", "C28"), (LLM, *TRANSFORMER_TTI)),
    "C02": TRANSFORMER_TTI, "C13": (SD,), "C14": TRANSFORMER_TTI, "C27": (IMAGEN, PARTI), "fig3": (SD, IMAGEN, *TRANSFORMER_TTI),
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What `framecast study` found: claims in order, figures by name as tables, and the suite that both came from."""

    findings: tuple[Finding, ...]
    figures: Mapping[str, Sequence[Table]]
    suite: Suite

    def counts(self) -> Counter[str]:
        """Claims by verdict."""
        return Counter(f.verdict for f in self.findings)


def chosen(only: str) -> list[str]:
    """'C18,fig5' -> ids of claims and figures in their order; all for ''. SpecError for one that there is not."""
    known = [*CLAIMS, *FIGURES]
    if not only.strip():
        return known
    of = {name.lower(): name for name in known}
    asked = [part.strip() for part in only.split(",") if part.strip()]
    wrong = [part for part in asked if part.lower() not in of]
    if wrong or not asked:
        raise SpecError(
            f"--only: unknown '{part}'{nearest(part, known)} (claims C01 to C32, figures fig1 to fig7)"
            for part in wrong or [only]
        )
    return [name for name in known if name in {of[part.lower()] for part in asked}]


def needed(ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Models and requests that claims and figures read: of the suite, and Stable Diffusion at its sizes."""
    asked = {model for i in ids if i not in (*APART, *WITH_SIZES) for model in READS.get(i, SUITE)}
    yield from ((model, request_of(model)) for model in SUITE if model in asked)
    if any(i in WITH_SIZES for i in ids):
        yield from ((SD, request_of(SD, height=side, width=side)) for side in SIDES)


def scenarios_of(name: str, suite: Suite) -> list[str]:
    """Names of the scenarios that a claim or a figure rests on, as files under scenarios/ have them, each request once."""
    wanted = [] if name in APART else list(needed([name]))
    found = []
    for model, request in wanted:
        same = [m.scenario.name for m in suite.members() if (m.scenario.model, m.scenario.request) == (model, request)]
        found += sorted(same, key=len, reverse=name in WITH_SIZES)[:1]  # the longer name says its size
    return found


def answer(ids: Sequence[str], suite: Suite | None = None, done: Callable[[str], object] | None = None) -> Answer:
    """The claims and figures asked for. `done` is called with each id. Raises SpecError where a model cannot be captured."""
    suite = suite or Suite()
    findings, figures = [], {}
    for name in ids:
        if name in FIGURES:
            figures[name] = FIGURES[name][1](suite)
        else:
            findings.append(_cited(name) if name in APART else FOUND[name](suite))
        if done:
            done(name)
    return Answer(tuple(findings), figures, suite)


def _cited(name: str) -> Finding:
    return Finding(CLAIMS[name], {}, {}, reason=APART[name])


def calibration_hash() -> str:
    """16 hex digits of the parameters that the cost model reads."""
    import sim.calibration

    file = Path(sim.calibration.__file__).parent / "calibrations" / "physical.yaml"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
