"""explain: an operator is found by what is unique of its path; its terms make its time; a change of bound is a real one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwspecs.errors import SpecError
from hwspecs.rates import rates
from sim import simulate, vary
from sim.cost import BOUNDS, cost
from sim.explain import Explained, explain, find_call
from sim.explain_report import text, to_json
from sim.result import Result
from tests.sim.toy import result


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Result:
    return result(monkeypatch, tmp_path, "level=physical")


@pytest.mark.parametrize("op", ["down.0.conv", "0.conv", "conv", "down.0.attn.to_q", "to_q", "layers.0.norm"])
def test_a_unique_part_of_a_path_finds_it(toy: Result, op: str) -> None:
    call, _ = find_call(toy, op)
    assert op in toy.trace.paths[int(toy.trace.call_path[call])]


def test_a_label_picks_one_of_several(toy: Result) -> None:
    longest, others = find_call(toy, "down.0.attn")
    assert toy.trace.labels[int(toy.trace.op_label[toy.trace.call_op[longest]])] == "attention"
    assert others == ("elementwise",)
    call, _ = find_call(toy, "down.0.attn:elementwise")
    assert call != longest


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (
            "down.0.cnv",
            "--op down.0.cnv: no operator of stable-diffusion-1.5 is at this module path; did you mean 'down.0.conv'?",
        ),
        ("zzz", "--op zzz: no operator of stable-diffusion-1.5 is at this module path; for example 'conv_out'"),
        ("", "--op : no operator of stable-diffusion-1.5 is at this module path; for example 'conv_out'"),
        ("layers", "--op layers: 2 modules match; the longest are layers.0.q_proj, layers.0.norm"),
        ("down.0.attn:sofmax", "--op down.0.attn:sofmax: no 'sofmax' at down.0.attn (it has attention, elementwise)"),
        (
            "down.0.attn:elementwse",
            "--op down.0.attn:elementwse: no 'elementwse' at down.0.attn; did you mean 'elementwise'?"
            " (it has attention, elementwise)",
        ),
    ],
)  # fmt: skip
def test_messages(toy: Result, op: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        explain(toy, op)
    (found,) = caught.value.problems
    if "for example" in message:
        assert found.partition("; for example")[0] == message.partition("; for example")[0]
    else:
        assert found == message


def test_the_terms_of_each_kernel_make_its_time(toy: Result) -> None:
    for op in ("down.0.conv", "down.0.attn", "to_q", "down.0.norm", "embed"):
        for kernel in explain(toy, op).kernels:
            overlapped = [value for name, value in kernel.terms.items() if name != "fixed"]
            soft = sum(t**4 for t in overlapped) ** 0.25
            assert kernel.time >= max(overlapped) + kernel.terms["fixed"] - 1e-15
            # Latency stands for two terms that the soft maximum takes apart, so that it may only be a little less.
            assert kernel.time == pytest.approx(soft + kernel.terms["fixed"], rel=0.05)


def test_kernels_add_up_to_what_the_result_holds(toy: Result) -> None:
    found = explain(toy, "down.0.conv")
    c = toy.priced.cost
    assert found.time == pytest.approx(c.per_call(c.time)[found.call])
    assert sum(k.time for k in found.kernels) == pytest.approx(found.time)
    assert sum(k.hbm_bytes for k in found.kernels) == pytest.approx(c.per_call(c.hbm_bytes)[found.call])
    assert found.total == pytest.approx(found.time * 50)


def test_both_ways_of_attention_are_shown_and_one_is_taken(toy: Result) -> None:
    ways = {way.name: way for way in explain(toy, "down.0.attn").ways}
    assert ways["flash-2"].allowed
    assert ways["flash-2"].taken
    assert not ways["unfused"].allowed
    fused, unfused = ways["flash-2"].time, ways["unfused"].time
    assert fused is not None
    assert unfused is not None
    assert unfused > fused


def test_a_way_that_is_not_taken_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy: Result) -> None:
    shown = text(explain(toy, "down.0.attn"))
    assert "not allowed: attention: flash-2 in the scenario" in shown
    assert "not for this call: flash-2 has a kernel" in shown
    shown = text(explain(result(monkeypatch, tmp_path, "software.attention=unfused"), "down.0.attn"))
    assert "not allowed: attention: unfused in the scenario" in shown


def test_splits_of_keys_that_cannot_be_taken_are_not_listed(toy: Result) -> None:
    found = explain(toy, "down.0.attn")
    assert any(", keys in " in way.name and not way.allowed for way in found.ways)
    listed = [way.name for way in found.ways if f"\n{way.name} " in text(found)]
    assert "unfused" in listed
    assert {name for name in listed if ", keys in " in name} == {
        way.name for way in found.ways if ", keys in " in way.name and way.allowed
    }


def test_auto_allows_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = explain(result(monkeypatch, tmp_path, "software.attention=auto"), "down.0.attn")
    assert {way.name for way in found.ways if way.allowed} >= {"flash-2", "unfused"}
    assert "taken: the fastest that is allowed" in text(found)


@pytest.mark.parametrize("op", ["down.0.conv", "down.0.attn", "to_q"])
def test_a_change_of_bound_is_one_when_it_is_priced(toy: Result, op: str) -> None:
    found = explain(toy, op)
    assert found.better or found.worse
    longest = max(range(len(found.kernels)), key=lambda i: found.kernels[i].time)
    for change in (*found.better, *found.worse):
        after = _bound(toy, found, change.path, change.needed)
        assert after == change.bound
        assert after != found.kernels[longest].bound


def _bound(toy: Result, found: Explained, path: str, needed: float) -> str:
    """The bound of the operator's longest kernel with one number of the device at `needed`."""
    c = toy.priced.cost
    number = next(n for n in vary.numbers(toy.scenario.device) if n.field == path)
    kernels = np.flatnonzero((c.kernels.row == c.kernels.call_row[found.call]) & c.chosen)
    longest = int(kernels[np.argmax(c.time[kernels])])
    device = vary.with_number(toy.scenario.device, number, needed)
    return BOUNDS[int(cost(c.kernels, rates(device), toy.scenario.level).bound[longest])]


def test_where_nothing_moves_the_bound_that_is_said(toy: Result) -> None:
    found = replace(explain(toy, "down.0.conv"), better=(), worse=())
    assert "no single number of the device, changed by up to 16x, changes that." in text(found)


def test_text_and_json(toy: Result) -> None:
    found = explain(toy, "down.0.conv")
    shown = text(found)
    for part in ("Ways to run it", "Its kernels", "Terms in us", "misses L2", "Bound", "Host:", "Not calibrated"):
        assert part in shown
    data = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert data["path"] == "down.0.conv"
    assert data["time_s"] == pytest.approx(sum(k["time_s"] for k in data["kernels"]))
    assert data["dims"]["taps"] == 9


def test_how_much_of_a_block_of_scores_is_filled_is_said(toy: Result) -> None:
    found = explain(toy, "down.0.attn")
    fused = next(k for k in found.kernels if k.filled is not None)
    padded = replace(found, kernels=tuple(replace(k, filled=0.004) if k is fused else k for k in found.kernels))
    whole = replace(found, kernels=tuple(replace(k, filled=1.0) if k is fused else k for k in found.kernels))
    said = f"\n{fused.name}: the sequences fill 0.4 % of its blocks of scores, each of which is computed whole"
    assert said in text(padded)
    assert "blocks of scores" not in text(whole)
    assert [k["filled"] for k in to_json(padded)["kernels"]] == [k.filled for k in padded.kernels]


def test_roofline_has_no_l2_and_no_tiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = explain(result(monkeypatch, tmp_path, "level=roofline"), "to_q")
    (kernel,) = found.kernels
    assert kernel.tile == ""
    assert all(read.miss_share == 1 for read in kernel.reads)
    assert "at the level roofline the time is the largest" in text(found)


def test_a_row_alone_costs_what_it_costs_in_the_whole(toy: Result) -> None:
    c = toy.priced.cost
    on = rates(toy.scenario.device)
    for row in range(c.kernels.rows):
        alone = cost(vary.row(c.kernels, row), on, toy.scenario.level)
        mine = c.kernels.row == row
        np.testing.assert_allclose(alone.time, c.time[mine], rtol=1e-12)
        np.testing.assert_array_equal(alone.chosen, c.chosen[mine])


def test_explaining_does_not_price_the_model_again(toy: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "price", None)
    assert explain(replace(toy), "to_q").time > 0
