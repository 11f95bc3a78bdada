"""Scenarios over the toy trace of tests.sim.toy, for sweeps and searches."""

from __future__ import annotations

from pathlib import Path

import pytest

from explore import evaluate
from explore.space import Origin, origin
from sim import simulate
from tests.sim.toy import trace_of

HEAD = "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\nsoftware: pytorch-compiled\n"
SEARCH = """search:
  device.sm_count: 64..256 step 4
  device.hbm.bandwidth: 1..8 TB/s log
  device.l2.capacity: [20 MiB, 40 MiB, 80 MiB]
  objectives: {latency_s: minimize, relative_resources: minimize}
  constraints: [relative_resources <= 2]
  trials: 20
  batch: 8
  spread: 4
"""


def use_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy trace instead of any model's, for runs and for stacks of designs."""
    monkeypatch.setattr(simulate, "trace_of", trace_of)
    monkeypatch.setattr(evaluate, "trace_of", trace_of)


def write(folder: Path, section: str, name: str = "toy.yaml") -> Path:
    """A scenario file with a section."""
    path = folder / name
    path.write_text(HEAD + section)
    return path


def opened(folder: Path, section: str, *overrides: str) -> Origin:
    """The same, loaded."""
    return origin(str(write(folder, section)), overrides)
