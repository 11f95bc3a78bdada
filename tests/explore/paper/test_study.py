"""`framecast study`: a small part of it as a user runs it; every number of the output is in a row that names its scenario."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import study as ledger
from benchmarks.short_sequences import PUBLISHED, priced
from explore.paper import answer as answers
from explore.paper import checks, claims_shape, doubt, tables
from explore.paper.answer import Answer, answer, calibration_hash, chosen
from explore.paper.claims_memory import rank_correlation
from explore.paper.claims_shape import lengths
from explore.paper.finding import Finding, Times
from explore.paper.page import page
from explore.paper.report import COLUMNS, claims_csv, summary, to_json, values_csv, why
from explore.paper.suite import GROUPS, IMAGEN, PROJECTIONS, SD, VIDEO, WAYS, Suite, request_of
from explore.paper.table import CLAIMS
from explore.study_cli import study
from hwspecs.errors import SpecError
from sim.scenario import load
from sim.simulate import replay
from workloads.views import matrix_bytes_per_pass

ACCURACY = Path(__file__).parents[3] / "docs/accuracy.md"
ASKED = ("C13", "C15", "C16", "C17", "C24", "C26", "C31", "fig4", "fig5")
SIDES = (64, 128, 256)  # in tests; the study's own go further


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answer]:
    """Claims and figures that rest on Stable Diffusion alone, at small images, with a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMECAST_CACHE", str(tmp_path_factory.mktemp("study")))
        for module in (claims_shape, tables):
            patch.setattr(module, "SIDES", SIDES)
        patch.setattr(claims_shape, "FAR", SIDES[-1])
        yield answer(ASKED)


def test_a_row_a_claim_with_a_verdict_and_a_command(found: Answer) -> None:
    rows = list(csv.DictReader(io.StringIO(claims_csv(found))))
    assert list(rows[0]) == list(COLUMNS)
    assert [r["id"] for r in rows] == [a for a in ASKED if a.startswith("C")]
    verdicts = {r["id"]: r["verdict"] for r in rows}
    assert verdicts == verdicts | {"C13": "agrees", "C15": "agrees", "C24": "cited", "C26": "open", "C31": "agrees"}
    assert all(r["command"] == f"framecast study --out study --only {r['id']}" and r["reason"] for r in rows)
    assert f"calibration {calibration_hash()}" in summary(found)
    assert json.loads(to_json(found))["calibration"] == calibration_hash()


def test_similarity_memory_is_the_formula_exactly(found: Answer) -> None:
    memory = found.figures["fig4"][1]
    assert memory.column("side_px") == list(SIDES)
    assert memory.column("traced_bytes") == memory.column("formula_bytes")
    traced = matrix_bytes_per_pass(lengths(found.suite, 64))["unet"]
    assert traced == tables.similarity_bytes(8)


def test_a_scenario_of_a_figure_gives_its_numbers_again(found: Answer, tmp_path: Path) -> None:
    table = found.figures["fig5"][0]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    (member,) = (m for m in found.suite.members() if m.scenario.name == row["scenario"])
    (tmp_path / "again.yaml").write_text(member.scenario.resolved())
    again = replay(load(tmp_path / "again.yaml", [f"software.attention={row['attention']}"]))
    assert row["all_s"] == pytest.approx(again.gpu_time, rel=1e-9)
    classes = again.by_class()
    assert row["attention_s"] == pytest.approx(classes["Attention"].time, rel=1e-9)
    assert row["convolution_s"] == pytest.approx(classes["Convolution"].time, rel=1e-9)


def test_groups_and_kernels_add_up(found: Answer) -> None:
    member = found.suite.member(SD, height=64, width=64)
    for way in WAYS:
        cost = member.priced[way].cost
        whole = float(member.trace.call_repeats() @ cost.per_call(cost.time))
        assert member.times[way].sum() == pytest.approx(whole, rel=1e-9)
        assert member.times[way].shape == (len(member.trace.segments), len(GROUPS), 6)


def test_the_page_shows_every_row_and_needs_nothing_else(found: Answer) -> None:
    text = page(found)
    assert all(f'id="{f.claim.id}"' in text for f in found.findings)
    assert text.count("data:image/svg+xml;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_files_of_a_run(found: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(*_: object, **__: object) -> Answer:
        return found

    monkeypatch.setattr(answers, "answer", given)
    monkeypatch.setattr("explore.study_cli.capture_beside", given)
    result = CliRunner().invoke(study, ["--out", str(tmp_path / "out")], standalone_mode=False)
    assert result.exception is None, result.exception
    assert f"Figures fig4, fig5: in {tmp_path / 'out' / 'figures'} (PNG, SVG, CSV)." in result.stdout
    alone = CliRunner().invoke(study, ["--only", "fig4"], standalone_mode=False)
    assert "not written; --out DIR writes them to DIR/figures (PNG, SVG, CSV)." in alone.stdout
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert names >= {
        "claims.csv",
        "values.csv",
        "study.html",
        "study.json",
        "figures/fig4.png",
        "figures/fig5.svg",
        "figures/fig5.csv",
    }
    assert {f"scenarios/{m.scenario.name}.yaml" for m in found.suite.members()} <= names
    assert "agrees" in result.stdout


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("C33", "--only: unknown 'C33'"),
        ("fig14", "--only: unknown 'fig14'; did you mean 'fig4'?"),
        (",", "--only: unknown ','"),
    ],
)
def test_what_there_is_not(only: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        chosen(only)
    (line,) = error.value.problems
    assert line.startswith(message)
    assert line.endswith("(claims C01 to C32, figures fig1 to fig7)")


def test_what_is_asked_for_comes_in_order() -> None:
    assert chosen("fig5, c18,C03") == ["C03", "C18", "fig5"]
    assert len(chosen("")) == 39


def test_errors_of_kernels_are_those_of_the_accuracy_page() -> None:
    text = ACCURACY.read_text(encoding="utf-8")
    rows = {
        "GEMM": "GEMM bf16/fp16, unseen pairs (n, k)", "fused attention": "attention prefill, unseen pairs (batch, length)",
        "convolution": "convolution fp32, algorithm predicted", "norm": "layer and RMS norm", "softmax": "softmax",
        "element-wise": "element-wise",
    }  # fmt: skip
    levels = text[text.index("## What each level adds") :].split("\n## ", 1)[0]
    for kind, row in rows.items():
        (value,) = re.findall(rf"^\| {re.escape(row)} +\| ([\d.]+) ", levels, re.MULTILINE)
        assert doubt.ERRORS[kind] == pytest.approx(float(value) / 100), kind


def test_an_interval_holds_the_value_and_widens_with_errors() -> None:
    low, high = doubt.interval(lambda f: (float(f[0]),))
    assert low < 1 < high
    assert high / low == pytest.approx(1.31, abs=0.05)  # 8.5 % mean error: two 1.28 sigma of 10.7 %


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 40]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3], [5, 5, 5]) == 0
    assert rank_correlation([1, 1, 2, 3], [1, 1, 2, 2]) == pytest.approx(0.943, abs=1e-3)


def test_scenarios_load_back(tmp_path: Path) -> None:
    made: Any = Suite().scenario("muse")
    (tmp_path / "muse.yaml").write_text(made.resolved())
    assert load(tmp_path / "muse.yaml").hash == made.hash


@pytest.mark.parametrize("name", sorted(answers.READS))
def test_what_is_captured_beforehand_is_what_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that a claim or a figure reads first was announced, so that a cold run captures it beside the others."""
    asked: list[str] = []

    class Read(Exception):
        pass

    def refused(model: str, _: Any) -> None:
        asked.append(model)
        raise Read

    monkeypatch.setattr("explore.paper.suite.trace_of", refused)
    with pytest.raises(Read):
        answer([name])
    assert asked[0] in {model for model, _ in answers.needed([name])}


def test_a_number_whose_shape_does_not_hold_disagrees() -> None:
    claim = CLAIMS["C13"]
    assert Finding(claim, {"": 4.0}, {"U": True, "period": True}).verdict == "agrees"
    assert Finding(claim, {"": 4.0}, {"U": True, "period": False}).verdict == "disagrees"


def test_projections_are_attention_by_one_reading_and_linear_by_the_other(found: Answer) -> None:
    module, apart = (Times(found.suite, projections=p) for p in (True, False))
    member = found.suite.member(SD, height=64, width=64)
    times = dict(zip(GROUPS, member.times["flash-2"].sum(axis=(0, 2)), strict=True))
    projections = sum(times[f"{PROJECTIONS}{role}"] for role in ("self", "cross", "temporal"))
    assert projections > 0
    assert set(module.names) | {"Linear, self", "Linear, cross", "Linear, temporal"} == set(apart.names) | {"Linear"}
    assert [n for n, g in zip(module.names, GROUPS, strict=True) if g == f"{PROJECTIONS}cross"] == ["attention, cross"]
    assert [n for n, g in zip(apart.names, GROUPS, strict=True) if g == f"{PROJECTIONS}cross"] == ["Linear, cross"]


def test_a_projection_has_the_role_of_its_module(found: Answer) -> None:
    member = found.suite.member(SD, height=64, width=64)
    trace, group = member.trace, member.call_group()
    for role, module in (("self", "attn1"), ("cross", "attn2")):
        mine = [trace.paths[p] for p in trace.call_path[group == GROUPS.index(f"{PROJECTIONS}{role}")]]
        inside = {path.split(".")[-2] for path in mine if ".transformer_blocks." in path and path.startswith("unet")}
        assert inside <= {module, "to_out"}
        assert mine


def test_the_first_readings_are_judged_too(found: Answer) -> None:
    (c17,) = (f for f in found.findings if f.claim.id == "C17")
    assert c17.claim.before
    assert c17.first_verdict == "disagrees" or all(c17.first_cases.values())
    assert "Read otherwise at first" in why(c17)
    assert "by the readings committed first" in summary(found)


def test_every_number_of_a_claim_has_a_row_with_its_scenarios(found: Answer) -> None:
    rows = list(csv.DictReader(io.StringIO(values_csv(found))))
    names = {m.scenario.name for m in found.suite.members()}
    for f in found.findings:
        mine = [r for r in rows if r["id"] == f.claim.id]
        assert len(mine) == len(f.values) + len(f.other)
        assert all(r["scenarios"] and set(r["scenarios"].split()) <= names for r in mine)
        assert [float(r["value"]) for r in mine][: len(f.values)] == pytest.approx(list(f.values.values()), rel=1e-8)


def test_the_study_asks_imagen_for_what_the_study_says() -> None:
    assert request_of(IMAGEN).middle == "768"
    assert request_of(SD).height == 512


def test_a_suite_otherwise_shares_nothing_and_prices_otherwise(found: Answer) -> None:
    suite, sized = found.suite, {"height": 64, "width": 64}
    own = suite.member(SD, **sized)
    plain = suite.otherwise(baseline="plain").member(SD, **sized)
    assert plain is not own
    assert plain.times["unfused"].sum() > own.times["unfused"].sum()  # diffusers has the scale in its product
    assert plain.times["flash-2"].sum() == pytest.approx(own.times["flash-2"].sum())
    last = replace(suite.software("flash-2").convolution, layout="nhwc")
    kept = suite.otherwise(changed={"convolution": last}).member(SD, **sized)
    assert kept.times["flash-2"].sum() < own.times["flash-2"].sum()
    other = suite.otherwise(device="a100-pcie-80gb").member(SD, **sized)
    assert other.scenario.device.name == "a100-pcie-80gb"
    assert other.times["flash-2"].sum() > own.times["flash-2"].sum()
    assert suite.otherwise(level="roofline").member(SD, **sized).times["flash-2"].sum() < own.times["flash-2"].sum()


def test_scores_are_a_part_of_temporal_attention() -> None:
    suite = Suite()
    inside, all_ = checks.between(suite), Times(suite).of(VIDEO, "unfused", "attention, temporal")
    assert 0 < inside < all_
    assert "times as long as priced" in checks.twice_spatial(suite)


def test_make_a_video_without_interpolation_has_one_network_over_time() -> None:
    alone = Suite().but({VIDEO: {"interpolation": 1}})
    findings = {f.claim.id: f for f in answer(["C18", "C19", "C20"], alone).findings}
    assert "decoder" in findings["C18"].reason
    assert "interpolation" not in findings["C18"].reason


def test_every_disagreement_has_a_cause_and_what_would_mend_it() -> None:
    causes = ledger._causes({"C02", "C18"}, {"C02": [], "C18": ["3"], "C19": ["as it is"]})
    assert "C02 (none)" in causes
    assert "C18 (3)" in causes
    assert "2 of 3 would agree or be close" in causes
    with pytest.raises(ValueError, match="no cause is written down for C31"):
        ledger._causes({"C31"}, {"C31": []})


def test_short_sequences_are_not_priced_below_public_times() -> None:
    """What C18 and C20 rest on: unfused attention of 128 tokens within 5 % of public times, longer ones not below."""
    for row in PUBLISHED:
        ratio = priced(row, "a100-sxm-80gb") / row.us
        assert 0.95 < ratio < (1.05 if row.tokens == 128 else 1.35), row
