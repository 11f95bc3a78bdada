"""Chakra traces of PyTorch: what torch's own ExecutionTraceObserver wrote, as nodes, against our capture of the same module."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

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
NUMBERS = ("rf_id", "fw_parent", "seq_id", "scope", "tid", "fw_tid")  # attributes of a node that are int64


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A Block on the CPU as torch's execution trace."""
    folder = tmp_path_factory.mktemp("observed")
    module, args = Block().eval(), inputs("cpu")
    observer = ExecutionTraceObserver()
    observer.register_callback(str(folder / "et.json"))
    observer.start()
    with torch.no_grad():
        module(*args)
    observer.stop()
    observer.unregister_callback()
    found: dict[str, Any] = json.loads((folder / "et.json").read_text())
    assert found["schema"].endswith("chakra.0.0.4")
    return found


def converted(data: dict[str, Any], version: str, schema: str) -> bytes:
    """The file that Chakra's src/converter/pytorch_converter.py writes of a trace without kernels.

    Its metadata are attributes. Data dependencies are in the order in which operators began; the node around all
    threads has none, so that it is left out, though others depend on it.
    """
    metadata, _ = messages()
    out, head = io.BytesIO(), metadata(version=version)
    for name in ("schema", "pid", "time", "start_ts", "finish_ts"):
        value = schema if name == "schema" else data[name]
        head.attr.add(name=name, **{"string_val" if isinstance(value, str) else "uint64_val": value})
    chakra.write_message(out, head)
    whole, *rest = sorted(data["nodes"], key=lambda n: int(n["id"]))
    assert whole["name"].endswith("|process]")
    known: set[int] = {whole["id"]}
    before: list[int] = []
    for found in rest:
        chakra.write_message(out, _node(found, [d for d in [found["ctrl_deps"]] if d in known], before))
        known.add(found["id"])
        before = [found["id"]]
    return out.getvalue()


def _node(found: dict[str, Any], around: list[int], before: list[int]) -> Any:
    """A node of torch's as that converter writes it: lists as Python writes them."""
    _, node_class = messages()
    node = node_class(id=found["id"], name=found["name"], type=4, ctrl_deps=around, data_deps=before)
    for side in ("inputs", "outputs"):
        for field in FIELDS:
            setattr(getattr(node, side), field, str(found[side][field]))
    attributes = {a["name"]: a["value"] for a in found["attrs"]}
    for name in NUMBERS:
        node.attr.add(name=name, int64_val=attributes.get(name, 0))
    node.attr.add(name="op_schema", string_val=attributes.get("op_schema", ""))
    node.attr.add(name="is_cpu_op", bool_val=True)
    node.attr.add(name="stream", int64_val=0)
    return node


@pytest.fixture(scope="module", params=[("", "1.0.2-chakra.0.0.4"), ("0.0.4", "")], ids=["schema", "version"])
def file(observed: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The same as Chakra's converter writes it, and with a version in its field."""
    path = tmp_path_factory.mktemp("converted") / "block.et"
    path.write_bytes(converted(observed, *request.param))
    return path


@pytest.fixture(scope="module")
def trace(file: Path) -> Trace:
    """The same, read."""
    return formats.load(file)


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
