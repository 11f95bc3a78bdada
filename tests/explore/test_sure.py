"""How sure goals are: errors of times, areas, power and prices carried through what a search asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from explore import objectives
from explore.answer import Answer, answer
from explore.answer_report import search_text, sure_rows
from explore.storage import Location
from explore.study import run
from hwspecs.estimate import data
from hwspecs.silicon import NINETY, STATED, fitted
from sim.spread import EIGHTY
from tests.explore.toys import HEAD, SEARCH, opened, use_toy, write

GOALS = "latency_s: minimize, area_mm2: minimize, images_per_s / price_usd: maximize, full_power_w: minimize"
TEXT = SEARCH.replace("latency_s: minimize, relative_resources: minimize", GOALS).replace(
    "relative_resources <= 2", "area_mm2 <= 858, area_mm2 >= 100, full_power_w <= 500, price_usd <= 20000"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answer]:
    folder = tmp_path_factory.mktemp("sure")
    with pytest.MonkeyPatch.context() as patch:
        use_toy(patch)
        search = objectives.read(opened(folder, TEXT))
        where = Location(str(folder / "s.journal"))
        yield answer(search, run(search, where), where)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


def test_the_baseline_is_sure_of_itself_and_times_are_those_of_the_ranking(found: Answer) -> None:
    for name, way in found.search.objectives.items():
        assert found.sure.ratio(name, 0) == pytest.approx((1, 1, 1))
        assert found.sure.better(name, way, 0, 0) == 0.5
    for row in range(1, len(found.shown()) + 1):
        ratio, low, high = found.sure.ratio("latency_s", row)
        assert (1 / ratio, 1 / high, 1 / low) == pytest.approx(found.ranking.speed(row))
        assert found.sure.better("latency_s", "minimize", row, 0) == pytest.approx(found.ranking.faster(row, 0))


def test_areas_err_by_what_the_fit_missed_of_dies_that_it_had_not_seen(found: Answer) -> None:
    for row in range(1, len(found.shown()) + 1):
        apart = fitted()["error"] * math.sqrt(2 - 2 * found.ranking.alike[0, row])
        ratio, low, high = found.sure.ratio("area_mm2", row)
        assert (low, high) == pytest.approx(
            (ratio * math.exp(-EIGHTY * apart), ratio * math.exp(EIGHTY * apart)), rel=1e-3
        )
        whole = math.sqrt(found.sure.covariance["area_mm2"][row, row])
        assert whole == pytest.approx(math.hypot(apart, STATED / NINETY), rel=1e-3)  # the baseline's die is known
    _, low, high = found.sure.ratio("full_power_w", 1)
    assert 1 < high / low < (data("energy")["model"][2] / data("energy")["model"][0]) ** 2


def test_a_limit_further_away_is_surer(found: Answer) -> None:
    below, above, watts, dollars = found.search.constraints
    rows = range(len(found.shown()) + 1)
    area = found.sure.values["area_mm2"]
    order = sorted(rows, key=lambda row: float(area[row]))
    assert all(found.sure.meets(above, row) > 0.99 for row in rows)
    assert found.sure.meets(below, order[0]) >= found.sure.meets(below, order[-1])
    for row in rows:
        assert (found.sure.meets(below, row) >= 0.5) == (area[row] <= 858)
        assert 0 <= found.sure.meets(watts, row) <= 1
    doubt = [float(np.sqrt(found.sure.covariance["price_usd"][row, row])) for row in rows]
    assert min(doubt) > 0.2  # margins and wafers, which all designs share
    assert found.sure.meets(dollars, 0) > 0.5


def test_probabilities_of_two_designs_add_up(found: Answer) -> None:
    for name, way in found.search.objectives.items():
        for one, other in pairwise(range(len(found.shown()) + 1)):
            both = found.sure.better(name, way, one, other) + found.sure.better(name, way, other, one)
            assert both == pytest.approx(1)


def test_it_is_told_where_more_than_times_count(found: Answer, tmp_path: Path) -> None:
    head, rows = sure_rows(found)
    assert head[1:] == [*found.search.objectives, *(c.text for c in found.search.constraints)]
    assert len(rows) == len(found.shown())
    assert "with 80 %, x baseline" in search_text(found)
    table = found.ranking_frame()
    assert {"area_mm2 over baseline low", "area_mm2 better than next", "meets area_mm2 <= 858"} <= set(table.columns)
    assert table["meets area_mm2 <= 858"].between(0, 1).all()
    search = objectives.read(opened(tmp_path, SEARCH))
    alone = answer(search, run(search, Location(str(tmp_path / "s.journal"))), Location("s"))
    assert sure_rows(alone) == ([], [])


def test_what_has_no_logarithm_has_no_interval(tmp_path: Path) -> None:
    text = "search: {device.sm_count: [64, 108], objectives: {area_mm2 - 2000: minimize}, trials: 4,"
    text += " constraints: [area_mm2 >= -1]}\n"
    search = objectives.read(opened(tmp_path, text))
    alone = answer(search, run(search, Location(str(tmp_path / "s.journal"))), Location("s"))
    assert np.isnan(alone.sure.ratio("area_mm2 - 2000", 1)[1])
    assert np.isnan(alone.sure.meets(search.constraints[0], 1))
    assert sure_rows(alone)[1][0][1:] == ["", ""]


def test_a_device_that_does_not_say_what_it_is_made_of(tmp_path: Path) -> None:
    from tests.sim.test_energy import bare

    text = SEARCH.replace("relative_resources <= 2", "latency_s <= 1 s")
    path = write(tmp_path, text)
    path.write_text(HEAD.replace("a100-sxm-80gb", str(bare(tmp_path))) + text)
    from explore.space import origin

    search = objectives.read(origin(str(path)))
    alone = answer(search, run(search, Location(str(tmp_path / "s.journal"))), Location("s"))
    assert all(0 <= alone.sure.meets(search.constraints[0], row) <= 1 for row in range(1 + len(alone.shown())))
