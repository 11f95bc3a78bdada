"""Every sampler by name: studies that go on as they were, combinations that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from explore import objectives, samplers
from hwspecs.errors import SpecError
from tests.explore.test_study import same, searched
from tests.explore.toys import SEARCH, opened, use_toy

ONE = SEARCH.replace(", relative_resources: minimize", "")


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


@pytest.mark.parametrize("name", ["nsga3", "tpe", "gp", "cmaes"])
def test_a_study_goes_on_as_it_was(tmp_path: Path, name: str) -> None:
    for package in samplers.NEEDS.get(name, ()):
        pytest.importorskip(package)
    text = (SEARCH if name in samplers.SEVERAL else ONE) + f"  sampler: {name}\n"
    trials = "search.trials=12" if name == "gp" else "search.trials=20"  # a second an ask, from the eleventh on
    whole = searched(tmp_path, trials, study="whole.journal", text=text)
    searched(tmp_path, "search.trials=11", text=text)
    assert same(whole, searched(tmp_path, trials, text=text))


def test_a_sampler_for_another_number_of_objectives(tmp_path: Path) -> None:
    place = r"^\S+toy\.yaml:\d+:\d+: search\.sampler: "
    with pytest.raises(SpecError, match=place + "found 'gp' for 2 objectives, expected nsga2, nsga3 or auto$"):
        objectives.read(opened(tmp_path, SEARCH + "  sampler: gp\n"))
    with pytest.raises(SpecError, match=place + "found 'nsga3' for one objective, expected tpe, gp, cmaes or auto$"):
        objectives.read(opened(tmp_path, ONE + "  sampler: nsga3\n"))


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(samplers, "find_spec", lambda _: None)
    for name, needs in (("gp", "torch and scipy"), ("cmaes", "cmaes")):
        text = f"search.sampler: found '{name}', which needs {needs}; install framecast with the extra 'samplers'$"
        with pytest.raises(SpecError, match=text):
            objectives.read(opened(tmp_path, ONE, f"search.sampler={name}"))
