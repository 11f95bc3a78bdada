"""Traces through Chakra and Parquet and back: nothing is lost, and whoever else reads them finds what they expect."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwspecs.errors import FramecastError, StudyError
from tests.workloads.timelines import by_hand, small
from workloads import formats
from workloads import trace as own
from workloads.capture import CapturedCall, CapturedPass, assemble
from workloads.formats import chakra
from workloads.formats.chakra_schema import COMP, VERSION, messages
from workloads.formats.rows import same
from workloads.kind import ITEMSIZE, kinds
from workloads.trace import Trace

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
ENDINGS = (".npz", ".parquet", ".et")


@st.composite
def calls(draw: Any, tensors: int) -> CapturedCall:
    """Any call of any kind, one of its dimensions large (FLOPs have to fit int64); `tensors`: ids that it may name."""
    kind = draw(st.sampled_from(sorted(kinds())))
    ids = st.lists(st.integers(0, tensors - 1), max_size=4).map(tuple)
    dims = [draw(st.integers(0, 3)) for _ in kinds()[kind].dims]
    dims[draw(st.integers(0, len(dims) - 1))] = draw(st.integers(0, 2**40))
    return CapturedCall(
        kind=kind, dtype=draw(st.sampled_from(sorted(ITEMSIZE))), dims=tuple(dims),
        label=draw(WORDS), path=draw(WORDS), in_attention=draw(st.booleans()), inputs=draw(ids), outputs=draw(ids),
    )  # fmt: skip


@st.composite
def traces(draw: Any) -> Trace:
    """Traces of up to three segments, some of them without calls."""
    passes = []
    for _ in range(draw(st.integers(0, 3))):
        sizes = tuple(draw(st.lists(st.integers(0, 2**45), min_size=1, max_size=5)))
        weights = tuple(draw(st.booleans()) for _ in sizes)
        made = tuple(draw(st.lists(calls(len(sizes)), max_size=4)))
        found = CapturedPass(made, sizes, weights, (), draw(st.integers(0, 2**40)), draw(st.integers(0, 2**45)))
        passes.append((draw(WORDS), draw(WORDS), draw(st.integers(1, 2000)), found))
    request = draw(st.dictionaries(WORDS, st.one_of(st.integers(), st.booleans(), WORDS, st.floats(allow_nan=False))))
    return assemble(draw(WORDS), request, passes)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trace=traces())
def test_round_trip(trace: Trace, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"trace{ending}"
    formats.save(trace, path)
    assert same(formats.load(path), trace)
    assert [f.name for f in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [*ENDINGS, ".json"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=3), kept=st.floats(0.5, 1))
def test_damage_gives_one_line_or_a_trace(
    flips: list[tuple[int, int]], kept: float, ending: str, tmp_path: Path
) -> None:
    """Bytes changed, the end cut off: never a traceback, never more than a line."""
    whole, path = tmp_path / f"whole{ending}", tmp_path / f"damaged{ending}"
    if ending == ".json":
        whole.write_text(json.dumps(by_hand()))
    else:
        formats.save(small(), whole)
    data = bytearray(whole.read_bytes())
    for at, byte in flips:
        data[at % len(data)] = byte
    path.write_bytes(data[: round(kept * len(data))])
    try:
        formats.load(path)
    except FramecastError as error:
        (line,) = error.problems
        assert line.startswith(f"{path}: ")
        assert "\n" not in line


@pytest.mark.parametrize("ending", ENDINGS)
def test_round_trip_of_a_model(sd: Trace, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"sd{ending}"
    formats.save(sd, path)
    assert same(formats.load(path), sd)


def test_the_same_trace_gives_the_same_chakra_bytes(sd: Trace) -> None:
    assert chakra.to_bytes(sd) == chakra.to_bytes(sd)


def test_chakra_for_other_readers(sd: Trace) -> None:
    """What ASTRA-sim's feeder asks of a node: COMP_NODE, is_cpu_op, num_ops, tensor_size, dependencies on earlier nodes."""
    metadata, node_class = messages()
    head, *rest = (bytes(part) for part in _delimited(chakra.to_bytes(sd)))
    assert metadata.FromString(head).version == VERSION
    nodes = [node_class.FromString(part) for part in rest]
    assert [n.id for n in nodes] == list(range(sd.calls))
    assert {n.type for n in nodes} == {COMP}
    assert all(d < n.id for n in nodes for d in n.data_deps)
    attributes = [{a.name: a for a in n.attr} for n in nodes]
    flops = sum(a["num_ops"].int64_val * a["framecast.repeats"].int64_val for a in attributes)
    assert flops == sd.flops()
    assert not any(a["is_cpu_op"].bool_val for a in attributes)
    for call in (0, 100, sd.calls - 1):
        tensors = json.loads(nodes[call].inputs.values)
        assert [t[0] for t in tensors] == sd.inputs(call).tolist()
        assert [t[3] * t[4] for t in tensors] == sd.tensor_bytes[sd.inputs(call)].tolist()


def test_dependencies_are_the_writers_of_what_a_call_reads(sd: Trace) -> None:
    _, node_class = messages()
    writer: dict[int, int] = {}
    for call, part in enumerate(list(_delimited(chakra.to_bytes(sd)))[1:]):
        wanted = {writer[t] for t in sd.inputs(call).tolist() if t in writer}
        assert set(node_class.FromString(part).data_deps) == wanted
        writer.update(dict.fromkeys(sd.outputs(call).tolist(), call))


def test_parquet_is_a_table_that_pandas_reads(sd: Trace, tmp_path: Path) -> None:
    formats.save(sd, tmp_path / "sd.parquet")
    table = pd.read_parquet(tmp_path / "sd.parquet")
    assert len(table) == sd.calls
    assert (table.flops * table.repeats).sum() == sd.flops()
    assert set(table.segment) == {s.name for s in sd.segments}


def _delimited(stored: bytes) -> Any:
    """Messages after their lengths, read as the protobuf documentation says and not with our reader."""
    from google.protobuf.internal.decoder import _DecodeVarint32  # type: ignore[attr-defined]

    at = 0
    while at < len(stored):
        size, at = _DecodeVarint32(stored, at)
        yield stored[at : at + size]
        at += size


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_of_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        for ending in ENDINGS:
            formats.save(small(), tmp_path / f"net{ending}")
        own.save(small(), tmp_path / "net.trace")
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert found == dict.fromkeys((*(f"net{ending}" for ending in ENDINGS), "net.trace"), mode)


def test_a_trace_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "net.npz").mkdir()
    with pytest.raises(StudyError, match=r"net\.npz: cannot write the trace: Is a directory"):
        own.save(small(), tmp_path / "net.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


def test_a_trace_of_more_flops_than_are_counted_is_not_written(tmp_path: Path) -> None:
    for kind, sizes, refused in (("gemm", {"m": 2**30, "n": 2**30, "k": 2**30}, True), ("conv", {"groups": 0}, False)):
        dims = tuple(sizes.get(name, 1 if kind == "gemm" else 2**20) for name in kinds()[kind].dims)
        call = CapturedCall(
            kind=kind, dtype="fp16", dims=dims, label="", path="", in_attention=False, inputs=(0,), outputs=(0,)
        )
        trace = assemble("net", {}, [("net", "net", 1, CapturedPass((call,), (8,), (False,), (), 0, 0))])
        if not refused:  # what divides by 0 has no count
            trace.check_flops()
            continue
        for ending in (".parquet", ".et"):
            with pytest.raises(
                FramecastError, match=r"net: gemm of .*: found 2\.48e\+27 FLOP in one call, expected at most"
            ):
                formats.save(trace, tmp_path / f"trace{ending}")
            assert not list(tmp_path.iterdir())
