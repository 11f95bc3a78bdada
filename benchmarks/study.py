"""Writes the ledger of docs/study.md: `python -m benchmarks.study` runs the study, then again with each assumption otherwise."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explore.paper import checks
from explore.paper.answer import Answer, answer, calibration_hash
from explore.paper.finding import Finding
from explore.paper.report import ORDER, why
from explore.paper.suite import IMAGEN, LLM, VIDEO
from explore.paper.table import CLAIMS

PAGE = Path(__file__).parent.parent / "docs/study.md"
BEGIN, END = "<!-- ledger: python -m benchmarks.study -->", "<!-- end of the ledger -->"
UPSCALERS = {IMAGEN: ("super_resolution_1", "super_resolution_2"), VIDEO: ("super_resolution_1", "super_resolution_2")}
EVEN = {"steps": 50, "upscale_steps_1": 50, "upscale_steps_2": 50, "middle": "768"}
GOOD = ORDER[:2]


@dataclass(frozen=True)
class Other:
    """One assumption made otherwise: fields of requests by model, or components whose time does not count."""

    name: str
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: Mapping[str, Collection[str]] = field(default_factory=dict)


OTHERS = (
    Other("Imagen over 256 pixels, as published, not 768", {IMAGEN: {"middle": "256"}}),
    Other("Imagen: 50 steps in every network", {IMAGEN: EVEN}),
    Other("Make-A-Video: 50 steps in decoder and interpolation", {VIDEO: {"steps": 50, "interpolation_steps": 50}}),
    Other("Make-A-Video: the last network one frame at a time", {VIDEO: {"upscale_frames": 1}}),
    Other("LLaMA: prompt of 512, output of 512 tokens", {LLM: {"prompt_len": 512, "output_len": 512}}),
    Other("LLaMA: prompt of 4064, output of 32 tokens", {LLM: {"prompt_len": 4064, "output_len": 32}}),
    Other("the networks that upscale left out", {}, UPSCALERS),
)  # fmt: skip


def main() -> None:
    """Write the ledger into the page, between its marks."""
    base = answer(list(CLAIMS))
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    body = "\n\n".join((_head(base), _claims(base), _reasons(base), _others(base)))
    PAGE.write_text(f"{head}{BEGIN}\n{body}\n{END}{tail}", encoding="utf-8")


def _head(base: Answer) -> str:
    counts = base.counts()
    simulated = sum(counts[v] for v in ORDER[:3])
    good, other, first = (
        sum(getattr(f, name) in GOOD for f in base.findings) for name in ("verdict", "other_verdict", "first_verdict")
    )
    return (
        f"Of {simulated} simulated claims {counts['agrees']} agree, {counts['close']} are close, {counts['disagrees']} disagree "
        f"(asked: 25 agree or close; {good} do). With projections as linear layers {other} agree or are close, by the readings "
        f"committed first {first}. Calibration {calibration_hash()}.\n\n"
        f"Why projections are attention: {checks.reading(base.suite)}."
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def _claims(base: Answer) -> str:
    rows = [(f.claim.id, f.claim.title, f.claim.study, f.value, f.verdict, _first(f)) for f in base.findings]
    return _table(("", "claim", "study", "framecast", "verdict", "by the first reading"), rows)


def _first(f: Finding) -> str:
    return "" if f.first_verdict == f.verdict else f.first_verdict


def _reasons(base: Answer) -> str:
    said = [f"- **{f.claim.id}** {why(f)}" for f in base.findings if f.verdict == "disagrees"]
    return "\n".join(("What each disagreement rests on, and what can be checked:", "", *said))


def _others(base: Answer) -> str:
    rows = []
    of_base = {f.claim.id: f.verdict for f in base.findings}
    for other in OTHERS:
        found = answer([i for i in CLAIMS if of_base[i] in ORDER[:3]], base.suite.but(other.asked, other.left_out))
        moved = [f"{f.claim.id} {f.verdict}" for f in found.findings if f.verdict != of_base[f.claim.id]]
        good = sum(f.verdict in GOOD for f in found.findings)
        rows.append((other.name, str(good), ", ".join(moved) or "none"))
    heads = ("assumed otherwise", "agree or close", "claims that change")
    return f"What other assumptions would do; none of them is taken:\n\n{_table(heads, rows)}"


if __name__ == "__main__":
    main()
