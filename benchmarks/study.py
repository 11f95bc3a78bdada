"""Writes the ledger of docs/study.md: `python -m benchmarks.study` runs the study, then again with each assumption otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.short_sequences import short_sequences
from explore.paper import checks
from explore.paper.answer import Answer, answer, calibration_hash
from explore.paper.finding import Finding
from explore.paper.report import ORDER, why
from explore.paper.suite import ASKED, IMAGEN, LLM, MUSE, PARTI, PRODUCTION, SD, VIDEO, Suite
from explore.paper.table import CLAIMS
from hwspecs.software import load as load_software

PAGE = Path(__file__).parent.parent / "docs/study.md"
BEGIN, END = "<!-- ledger: python -m benchmarks.study -->", "<!-- end of the ledger -->"
UPSCALERS = {IMAGEN: ("super_resolution_1", "super_resolution_2"), VIDEO: ("super_resolution_1", "super_resolution_2")}
GOOD = ORDER[:2]


@dataclass(frozen=True)
class Other:
    """An assumption made otherwise: fields of requests by model, components whose time does not count, fields of the suite."""

    name: str
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: Mapping[str, Collection[str]] = field(default_factory=dict)
    suite: Mapping[str, Any] = field(default_factory=dict)

    def of(self, base: Suite) -> Suite:
        """The suite under this assumption."""
        return (base.otherwise(**self.suite) if self.suite else base).but(self.asked, self.left_out)


CAUSES = (
    (
        "Imagen's networks that upscale have most of its time, are convolutions, and attend at their lowest level alone; its "
        "base network, by its published sizes, has more convolution than the study says too",
        ("C04", "C05", "C06", "C07", "C10"),
    ),
    (
        "temporal attention has a small part of the FLOPs (C19) and bytes of spatial attention and smaller scores, and its "
        "kernels are not slow enough to make up for that",
        ("C18", "C20", "C22"),
    ),
    (
        "Parti decodes a token at a time: it reads all weights for each of them, and has a single row of scores a head, which "
        "leaves flash-2 little to save",
        ("C12", "C30"),
    ),
    ("Muse works on 256 tokens in a pass, with and without the prompt: above the ridge by counts alone", ("C02",)),
    ("how long LLaMA's prompt and answer are, which the study does not say", ("C28",)),
)
STEPS = ("steps", "upscale_steps_1", "upscale_steps_2")


def _steps(*counts: int) -> Mapping[str, Mapping[str, Any]]:
    return {IMAGEN: {**ASKED[IMAGEN], **dict(zip(STEPS, counts, strict=True))}}


def _unguided() -> Mapping[str, Mapping[str, Any]]:
    models = (IMAGEN, SD, PRODUCTION, MUSE, PARTI, VIDEO)
    return {model: {**ASKED.get(model, {}), "guidance": False} for model in models}


LAST = dataclasses.replace(load_software("pytorch-eager").convolution, layout="nhwc")
OTHERS = (
    Other("Imagen over 256 pixels, as published, not 768", {IMAGEN: {"middle": "256"}}),
    Other("Imagen: 50 steps in every network", _steps(50, 50, 50)),
    Other("Imagen: 30, 20 and 20 steps (NVIDIA NeMo, imagen/conf/inference_pipeline.yaml)", _steps(30, 20, 20)),
    Other("Imagen: 100, 50 and 75 steps (DeepFloyd IF's example, whose third network is another)", _steps(100, 50, 75)),
    Other("Imagen without its last network", {}, {IMAGEN: ("super_resolution_2",)}),
    Other("the networks that upscale left out", {}, UPSCALERS),
    Other("Make-A-Video: 50 steps in decoder and interpolation", {VIDEO: {"steps": 50, "interpolation_steps": 50}}),
    Other("Make-A-Video: its 16 frames, none between them", {VIDEO: {"interpolation": 1}}),
    Other("Make-A-Video: the last network one frame at a time", {VIDEO: {"upscale_frames": 1}}),
    Other("Muse: the base's 256 pixels, no super-resolution", {MUSE: {"super_resolution": False}}),
    Other("the production model at 512 pixels", {PRODUCTION: {"height": 512, "width": 512}}),
    Other("LLaMA: prompt of 512, output of 512 tokens", {LLM: {"prompt_len": 512, "output_len": 512}}),
    Other("LLaMA: prompt of 4064, output of 32 tokens", {LLM: {"prompt_len": 4064, "output_len": 32}}),
    Other("no guidance in any model", _unguided()),
    Other("unfused attention of every model as plain torch: scale, mask, softmax", suite={"baseline": "plain"}),
    Other("unfused attention of every model as diffusers has it", suite={"baseline": "diffusers"}),
    Other("feature maps channels last", suite={"changed": {"convolution": LAST}}),
    Other("pointwise chains compiled into one kernel", suite={"changed": {"fusion": "pointwise"}}),
    Other("the A100 as a PCIe board", suite={"device": "a100-pcie-80gb"}),
    Other("every kernel at the device's peaks (level roofline)", suite={"level": "roofline"}),
)


def main() -> None:
    """Write the ledger into the page, between its marks."""
    base = answer(list(CLAIMS))
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    body = "\n\n".join((_head(base), _claims(base), _reasons(base), short_sequences(), *_others(base)))
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


def _others(base: Answer) -> tuple[str, str]:
    """The table of assumptions made otherwise, and what it leaves of the claims."""
    rows, under = [], {f.claim.id: ["as it is"] * (f.verdict in GOOD) for f in base.findings if f.verdict in ORDER[:3]}
    of_base = {f.claim.id: f.verdict for f in base.findings}
    for i, other in enumerate(OTHERS, start=1):
        found = answer(list(under), other.of(base.suite))
        moved = [f"{f.claim.id} {f.verdict}" for f in found.findings if f.verdict != of_base[f.claim.id]]
        good = [f.claim.id for f in found.findings if f.verdict in GOOD]
        for name in good:
            under[name].append(f"{i}")
        rows.append((f"{i}", other.name, str(len(good)), ", ".join(moved) or "none"))
    heads = ("", "assumed otherwise", "agree or close", "claims that change")
    table = f"What other assumptions would do; none of them is taken:\n\n{_table(heads, rows)}"
    return table, _causes({name for name, verdict in of_base.items() if verdict == "disagrees"}, under)


def _causes(missed: Collection[str], under: Mapping[str, Sequence[str]]) -> str:
    """Why not more claims are met: the disagreements by cause, and how many the assumptions made otherwise could mend.

    ValueError for a claim that disagrees and has no cause here.
    """
    left = set(missed).difference(*(claims for _, claims in CAUSES))
    if left:
        raise ValueError(f"no cause is written down for {', '.join(sorted(left))}")
    rows = []
    for cause, claims in CAUSES:
        mine = [c for c in claims if c in missed]
        rows += [(cause, ", ".join(f"{c} ({', '.join(under[c]) or 'none'})" for c in mine))] * bool(mine)
    ever = sum(bool(found) for found in under.values())
    return (
        f"Why no more are met, by cause; in brackets the assumptions above under which a claim agrees or is close:\n\n"
        f"{_table(('cause', 'claims'), rows)}\n\nWere every claim given the assumption that suits it best, though they exclude "
        f"each other, {ever} of {len(under)} would agree or be close."
    )


if __name__ == "__main__":
    main()
