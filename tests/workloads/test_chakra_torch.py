"""Chakra traces of PyTorch: what torch's own ExecutionTraceObserver wrote, as nodes, against our capture of the same module."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from torch.profiler import ExecutionTraceObserver

from tests.workloads.timelines import Block, inputs
from workloads import formats
from workloads.capture import CapturedPass, capture
from workloads.formats import chakra
from workloads.formats.chakra_schema import messages
from workloads.formats.rows import calls_of
from workloads.trace import Trace

FIELDS = ("values", "shapes", "types")


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Block on the CPU as torch's execution trace, its nodes written as Chakra's converter does: lists as text."""
    folder = tmp_path_factory.mktemp("observed")
    module, args = Block().eval(), inputs("cpu")
    observer = ExecutionTraceObserver()
    observer.register_callback(str(folder / "et.json"))
    observer.start()
    with torch.no_grad():
        module(*args)
    observer.stop()
    observer.unregister_callback()
    data = json.loads((folder / "et.json").read_text())
    assert data["schema"].endswith("chakra.0.0.4")
    metadata, node_class = messages()
    out = io.BytesIO()
    chakra.write_message(out, metadata(version="0.0.4"))
    for found in data["nodes"]:
        node = node_class(id=found["id"], name=found["name"], type=4, ctrl_deps=[found["ctrl_deps"]])
        for side in ("inputs", "outputs"):
            for field in FIELDS:
                setattr(getattr(node, side), field, str(found[side][field]))
        node.attr.add(name="is_cpu_op", bool_val=True)
        chakra.write_message(out, node)
    (folder / "block.et").write_bytes(out.getvalue())
    return folder / "block.et"


@pytest.fixture(scope="module")
def trace(observed: Path) -> Trace:
    """The same, read."""
    return formats.load(observed)


@pytest.fixture(scope="module")
def captured() -> CapturedPass:
    """Our own capture."""
    return capture(Block().to("meta"), inputs("meta"))


def test_same_operators(trace: Trace, captured: CapturedPass) -> None:
    ours = [(c.kind, c.dtype, c.dims, c.label) for c in captured.calls]
    assert [(c.kind, c.dtype, c.dims, c.label) for c in calls_of(trace)] == ours
    assert trace.parameters == captured.parameters


def test_same_dataflow(trace: Trace, captured: CapturedPass) -> None:
    """Which call wrote what a call reads: tensor ids are in the file, so that nothing is guessed."""

    def writers(reads: list[tuple[int, ...]], writes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        last: dict[int, int] = {}
        found = []
        for call, (read, written) in enumerate(zip(reads, writes, strict=True)):
            found.append(tuple(last.get(t, -1) for t in read))
            last.update(dict.fromkeys(written, call))
        return found

    calls = calls_of(trace)
    theirs = writers([c.inputs for c in calls], [c.outputs for c in calls])
    assert theirs == writers([c.inputs for c in captured.calls], [c.outputs for c in captured.calls])


def test_it_goes_on_as_our_own_chakra(trace: Trace, tmp_path: Path) -> None:
    formats.save(trace, tmp_path / "again.et")
    assert calls_of(formats.load(tmp_path / "again.et")) == calls_of(trace)
