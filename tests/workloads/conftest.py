"""Stable Diffusion 1.5 at 512 x 512, and a cache folder of the session's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from workloads.cache import trace_of
from workloads.model import find
from workloads.trace import Trace

MODEL = "stable-diffusion-1.5"


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for the session, named by FRAMECAST_CACHE."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMECAST_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def sd(shared_cache: Path) -> Trace:
    """The trace of the default request."""
    assert shared_cache.exists()
    return trace_of(MODEL, find(MODEL).request())
