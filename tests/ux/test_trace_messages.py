"""What is said of traces that cannot be read, written or shown: one line each, and nothing is left behind."""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import framecast
from hwspecs.errors import FramecastError
from tests.workloads.timelines import by_hand, small
from workloads import formats
from workloads.formats import chakra
from workloads.formats.chakra_schema import messages

EXPECTED = "expected a trace that torch.profiler exported (export_chrome_trace) with record_shapes=True"


def problem(call: Callable[[], Any]) -> str:
    with pytest.raises(FramecastError) as refused:
        call()
    (line,) = refused.value.problems
    assert "\n" not in line
    return line


def typed(line: str) -> str:
    arguments = shlex.split(line)[1:]
    return problem(lambda: CliRunner().invoke(framecast.commands(), arguments, catch_exceptions=False))


def changed(**more: Any) -> dict[str, Any]:
    """The timeline by hand, with the arguments of its operators changed; None leaves one out."""
    data = by_hand()
    for event in data["traceEvents"]:
        if event["cat"] == "cpu_op":
            event["args"] = {k: v for k, v in {**event["args"], **more}.items() if v is not None}
    return data


def without(name: str) -> dict[str, Any]:
    data = by_hand()
    data["traceEvents"] = [{k: v for k, v in e.items() if k != name} for e in data["traceEvents"]]
    return data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(by_hand())[:700], "truncated, or not JSON (line 1, column 695); "),
        ("{}", f"holds no list 'traceEvents'; {EXPECTED}"),
        (
            '{"schema": "1.1.1-chakra.0.0.4", "nodes": []}',
            "an execution trace as JSON, schema 1.1.1-chakra.0.0.4; expected a timeline of torch.profiler, or Chakra (.et), "
            "which chakra_converter makes of this file",
        ),
        ('{"traceEvents": 3}', f"holds no list 'traceEvents'; {EXPECTED}"),
        ('{"traceEvents": []}', f"holds no event of category 'cpu_op'; {EXPECTED}"),
        (
            json.dumps(changed(**{"Input Dims": None})),
            "was recorded without shapes; record it again with profile(record_shapes=True)",
        ),
        (
            json.dumps(changed(**{"Concrete Inputs": None})),
            "has no 'Concrete Inputs', as traces of old torch; record it with torch 2.4 or newer",
        ),
        (json.dumps(without("ts")), f"an event lacks 'ts'; {EXPECTED}"),
        (
            json.dumps(changed(**{"Input Dims": 4})),
            "an event has a field of another form: 'int' object is not iterable; ",
        ),
        (
            json.dumps(changed(**{"Input Dims": [[-3, 4]]})),
            "an event has a field of another form: operator mylib::fused_norm has 1 types, dims ([-3, 4],), strides ([32, 1],); ",
        ),
        (
            json.dumps(changed(**{"Input type": []})),
            "an event has a field of another form: operator mylib::fused_norm has 0 types, dims ([64, 32],), strides ",
        ),
    ],
)
def test_timelines(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    line = problem(lambda: formats.load(path))
    assert line.startswith(f"{path}: {message}"), line


def test_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(json.dumps(by_hand()).encode())[:-20])
    assert problem(lambda: formats.load(path)) == f"{path}: truncated or damaged (gzip); {EXPECTED}"


def test_our_own_timeline_is_not_a_profilers(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    path.write_text(json.dumps({"traceEvents": [{"ph": "X", "cat": "Attention", "name": "a", "ts": 0, "dur": 1}]}))
    assert problem(lambda: formats.load(path)).startswith(f"{path}: holds no event of category 'cpu_op'; ")


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    missing = tmp_path / "no.et"
    assert problem(lambda: formats.load(missing)) == f"{missing}: cannot read the trace: no such file or directory"
    assert problem(lambda: formats.load(tmp_path)) == f"{tmp_path}: cannot read the trace: is a directory"
    strange = tmp_path / "a.et"
    strange.write_bytes(b"\xff" * 64)
    assert problem(lambda: formats.load(strange)).startswith(
        f"{strange}: a format that framecast does not know; expected "
    )
    strange.write_bytes(b"")
    assert problem(lambda: formats.load(strange)).startswith(
        f"{strange}: a format that framecast does not know; expected "
    )


def test_chakra(tmp_path: Path) -> None:
    path, stored = tmp_path / "t.et", chakra.to_bytes(small())
    path.write_bytes(stored[:-9])
    line = problem(lambda: formats.load(path))
    assert line == f"{path}: truncated in message 1, at byte {len(stored) - 9} of {len(stored)}"
    metadata, node_class = messages()
    path.write_bytes(_delimited(metadata(version="1.0.0")))
    assert problem(lambda: formats.load(path)) == f"{path}: Chakra version '1.0.0', expected '0.0.4'"
    foreign = metadata()
    foreign.attr.add(name="schema", string_val="1.2.0-chakra.0.0.5")
    path.write_bytes(_delimited(foreign))
    expected = "expected one that ends in 'chakra.0.0.4'"
    assert problem(lambda: formats.load(path)) == f"{path}: Chakra schema '1.2.0-chakra.0.0.5', {expected}"
    foreign.attr[0].name = "input_file"
    path.write_bytes(_delimited(foreign))
    told = "names no Chakra version: neither its metadata nor an attribute 'schema' does; expected '0.0.4'"
    assert problem(lambda: formats.load(path)) == f"{path}: {told}"
    path.write_bytes(_delimited(metadata(version="0.0.4"), node_class(id=0, name="mm", type=4)))
    text = (
        "none of its 1 nodes holds an operator of PyTorch with shapes; expected a trace that framecast wrote, or that "
    )
    assert problem(lambda: formats.load(path)).startswith(f"{path}: {text}")
    ours = metadata(version="0.0.4")
    ours.attr.add(name="framecast.model", string_val='"net"')
    path.write_bytes(_delimited(ours, node_class(id=0, name="mm", type=4)))
    assert problem(lambda: formats.load(path)) == f"{path}: node 0 ('mm') lacks the attribute 'dims'; export it again"
    path.write_bytes(_delimited(ours))
    assert problem(lambda: formats.load(path)).startswith(f"{path}: lacks request, segments, kind_dims, ")


@pytest.mark.parametrize(
    ("values", "shapes", "types", "what"),
    [
        ("[[1, 1, 0, 4, 4, 'cpu']", "[[2, 2]]", "['Tensor(float)']", "lists"),
        ("[[1, 1, 0, 4, 4, 'cpu']]", "[[2, 2], []]", "['Tensor(float)']", "lists"),
        ("['x']", "[[2, 2]]", "['Tensor(float)']", "lists"),
        ("[[1, 1, 0, 4, 4, 'cpu']]", "[[2, -2]]", "['Tensor(float)']", "shapes"),
        ("[[[1, 1, 0, 4, 4, 'cpu']]]", "[[[2, 2], [2, 2]]]", "['GenericList[Tensor(float)]']", "shapes"),
    ],
)
def test_chakra_of_pytorch(tmp_path: Path, values: str, shapes: str, types: str, what: str) -> None:
    metadata, node_class = messages()
    node = node_class(id=7, name="aten::neg", type=4)
    node.inputs.values, node.inputs.shapes, node.inputs.types = values, shapes, types
    path = tmp_path / "t.et"
    path.write_bytes(_delimited(metadata(version="0.0.4"), node))
    line = problem(lambda: formats.load(path))
    assert line == f"{path}: node 7 (aten::neg) holds {what} of another form; export it again from PyTorch"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gemm", "gemn", "unknown operator kind 'gemn'; did you mean 'gemm'? (known: attention, "),
        ('"n"', '"o"', "operator kind 'gemm' has dimensions batch, m, o, k, weight, bias, expected batch, m, n, k, "),
        ('"stop": 1', '"stop": 7', "its segments hold 7 calls, the file 1; it may be truncated"),
        (
            '"start": 0',
            '"start": 1',
            "segment 'net' spans calls 1 to 1, 3 times, expected a span that begins at call 0",
        ),
        ("[128, 128, 128]", "[128, 128]     ", "tensor_bytes has 2 entries, tensor_is_weight 3; expected as many"),
        ("[128, 128, 128]", "[128, 128, -12]", "tensor 2 has -12 bytes, expected 0 or more"),
        ("[128, 128, 128]", "[128, 128, xxx]", "the header is damaged (JSONDecodeError: "),
        ("fp16", "fp17", "call 0 (aten.mm): unknown dtype 'fp17'; did you mean 'fp16'? (known: fp32, "),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, old: str, new: str, message: str) -> None:
    path, stored = tmp_path / "t.et", chakra.to_bytes(small())
    path.write_bytes(stored.replace(old.encode(), new.encode()))
    line = problem(lambda: formats.load(path))
    assert line.startswith(f"{path}: {message}"), line


def test_parquet(tmp_path: Path) -> None:
    import pandas as pd

    path = tmp_path / "t.parquet"
    formats.save(small(), path)
    stored = path.read_bytes()
    path.write_bytes(stored[: len(stored) // 2])
    assert problem(lambda: formats.load(path)) == f"{path}: truncated or damaged (Parquet); export the trace again"
    pd.DataFrame({"a": [1]}).to_parquet(path)
    text = "a table of schema version None, expected 1: a trace that framecast wrote"
    assert problem(lambda: formats.load(path)) == f"{path}: {text}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "framecast trace dit-xl-2 --out x.onnx",
            "--out x.onnx: unknown ending '.onnx'; expected .npz (framecast's own), ",
        ),
        ("framecast trace nothing.et", "nothing.et: cannot read the trace: no such file or directory"),
        (
            "framecast trace net.et --height 512",
            "--height: net.et is the trace of one request; only a model's id takes another",
        ),
        (
            "framecast trace net.et --over height=1,2",
            "--set height=1: net.et is the trace of one request; only a model's id",
        ),
        (
            "framecast trace dit-xl-2 --over height",
            "--over height: expected FIELD=VALUE,VALUE,..., for example height=256,",
        ),
        (
            "framecast trace dit-xl-2 --over height=1 --over height=2",
            "--over height=2: the field height is given twice",
        ),
        (
            "framecast trace dit-xl-2 --over height=1,2 --over width=1",
            "--over: fields change together, found height 2, width 1 values; expected as many of each",
        ),
        (
            "framecast trace dit-xl-2 --over steps=1,2,3,4,5,6,7,8,9",
            "--over: found 9 values, expected at most 8 side by side",
        ),
        (
            "framecast trace dit-xl-2 --over height=250",
            "--over height=250: request.height: found 250, expected a multiple of ",
        ),
        ("framecast trace net.et --plot ''", "--plot: empty; expected the name of a folder"),
        ("framecast trace net.et --plot out --out x.et", "--out: writes one trace; give it without --plot and --over"),
        ("framecast measured net.json --device a100", "unknown device 'a100'; "),
        (
            "framecast measured cpu.json --device a100-sxm-80gb",
            "cpu.json: holds no kernels of a GPU, so that there is nothing ",
        ),
        (
            "framecast measured net.json --device t4 --level calibrated",
            "--level: found 'calibrated', which t4 does not have; ",
        ),
        (
            "framecast measured net.json --calls no/calls.csv",
            "--calls no/calls.csv: cannot write: no such file or directory",
        ),
    ],
)
def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    formats.save(small(), "net.et")
    data = by_hand()
    Path("net.json").write_text(json.dumps(data))
    data["traceEvents"] = [e for e in data["traceEvents"] if e["cat"] == "cpu_op"]
    Path("cpu.json").write_text(json.dumps(data))
    found = typed(line)
    assert found.startswith(message), found
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cpu.json", "net.et", "net.json"]


def _delimited(*parts: Any) -> bytes:
    stored = [part.SerializeToString() for part in parts]
    assert all(len(data) < 128 for data in stored)
    return b"".join(bytes([len(data)]) + data for data in stored)
