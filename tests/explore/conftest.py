"""What several tests of explore share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from explore.project import Projection, expected_seconds, load, project
from sim.scenario import load as load_scenario
from tests.sim.toy import write

SECTION = "project: {frames: [64, 2, 16, 1024, 4], sizes: [64, [64, 128]]}\n"


@pytest.fixture(scope="session")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A scenario of two small sizes, and a cache of its own."""
    folder = tmp_path_factory.mktemp("projection")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMECAST_CACHE", str(folder / "cache"))
        yield write(folder, f"model: modelscope-t2v\ndevice: a100-sxm-80gb\nsoftware: pytorch-eager\n{SECTION}")


@pytest.fixture(scope="session")
def found(scenario: Path) -> Projection:
    """That projection; its captures are made here."""
    loaded = load_scenario(scenario)
    captures, seconds = expected_seconds(loaded, *load(loaded))
    assert (captures, seconds > 10) == (6, True)  # three a size
    done: list[int] = []
    projection = project(loaded, done.append)
    assert done == list(range(1, 11))
    assert expected_seconds(loaded, *load(loaded))[0] == 0
    return projection
