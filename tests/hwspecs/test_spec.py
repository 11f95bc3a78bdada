"""Nodes and specs: what is read is what was written, and what is dumped reads back."""

from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.dataclasses import dataclass

from hwspecs import spec, units
from hwspecs.errors import SpecError
from hwspecs.spec import CONFIG, Doc, Quantity


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Memory:
    bandwidth: Annotated[float, Quantity("B/s", gt=0, doc="how fast")]
    capacity: Annotated[float, Quantity("B", ge=0)] = 0.0


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Example:
    name: Annotated[str, Doc("id", descriptive=True)]
    memory: Memory
    count: Annotated[int, Quantity(ge=1)] = 1
    share: Annotated[float, Quantity(gt=0, le=1)] = 1.0
    mode: Literal["serial", "batched"] = "serial"
    fast: bool = False
    limit: Annotated[float | None, Quantity("W")] = None
    steps: Annotated[tuple[int, ...], Doc("which")] = ()
    sizes: Annotated[tuple[float, ...], Doc("plain numbers")] = ()
    notes: dict[str, str] | None = None


POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
EXAMPLES = st.builds(
    Example,
    name=st.text(),
    memory=st.builds(Memory, bandwidth=POSITIVE, capacity=st.floats(0, 1e300)),
    count=st.integers(1, 2**80),
    share=st.floats(1e-300, 1),
    mode=st.sampled_from(["serial", "batched"]),
    fast=st.booleans(),
    limit=st.none() | st.floats(-1e300, 1e300),
    steps=st.lists(st.integers()).map(tuple),
    sizes=st.lists(st.floats(-1e300, 1e300)).map(tuple),
    notes=st.none() | st.dictionaries(st.text(), st.text(), max_size=3),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(EXAMPLES)
def test_what_is_dumped_reads_back(example: Example) -> None:
    text = spec.dump(example)
    again = spec.build(Example, spec.mapping(text, "x.yaml"))
    assert again == example
    assert spec.dump(again) == text


@settings(deadline=None)
@given(EXAMPLES)
def test_plain_data_is_what_the_schema_says(example: Example) -> None:
    jsonschema.validate(spec.to_data(example), spec.schema(Example))


@settings(deadline=None)
@given(st.dictionaries(st.text(), PLAIN, max_size=3), st.dictionaries(st.text(), PLAIN, max_size=3))
def test_merge_takes_over_then_base(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = spec.merge(spec.wrap(base, "a"), spec.wrap(over, "b")).plain()
    assert set(merged) == set(base) | set(over)
    assert all(merged[key] == value for key, value in base.items() if key not in over)
    assert all(merged[key] == value for key, value in over.items() if not isinstance(value, dict))


def test_values_follow_yaml_1_2() -> None:
    text = "{a: no, b: 1e3, c: 010, d: 1:30, e: ~, f: TRUE, g: '12', h: .5, i: !!str 12, j: 2001-01-01}"
    assert spec.mapping(text, "x").plain() == {
        "a": "no", "b": 1000.0, "c": 10, "d": "1:30", "e": None, "f": True, "g": "12", "h": 0.5, "i": "12",
        "j": "2001-01-01",
    }  # fmt: skip


def test_a_name_without_a_space_after_its_colon_is_no_field(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("memory: {bandwidth:1, size: 2}\nnothing: {a: , 'b:c': 1}\n", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        spec.read(path)
    told = "memory: found 'bandwidth:1', expected a space after the colon; did you mean 'bandwidth: 1'?"
    assert caught.value.problems == (f"{path}:1:10: {told}",)


def test_nodes_know_where_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffname: x\nmemory:\n  bandwidth: 1 TB/s\nsteps: [1, 2]\n", encoding="utf-8")
    node = spec.read(path)
    inner = node.get("memory.bandwidth")
    assert inner is not None
    assert (inner.where, inner.at_key().where) == (f"{path}:3:14", f"{path}:3:3")
    assert node.get("memory.nothing") is None
    changed = spec.set_path(node, "memory.bandwidth", "2 TB/s")
    assert spec.build(Example, changed).memory.bandwidth == 2e12
    new = changed.get("memory.bandwidth")
    assert new is not None
    assert new.where == "--set memory.bandwidth"
    memory = changed.get("memory")
    assert memory is not None
    assert memory.where == f"{path}:3:3"


def test_set_path_reads_lists_and_makes_what_is_missing() -> None:
    node = spec.mapping("name: x", "x.yaml")
    for path, text in (("memory.bandwidth", "1 B/s"), ("steps", "[3, 4]"), ("notes", "{a: b}"), ("fast", "true")):
        node = spec.set_path(node, path, text)
    built = spec.build(Example, node)
    assert (built.memory.bandwidth, built.steps, built.notes, built.fast) == (1.0, (3, 4), {"a": "b"}, True)


def test_aliases_share_values() -> None:
    assert spec.mapping("a: &x {b: 1}\nc: *x", "x").plain() == {"a": {"b": 1}, "c": {"b": 1}}


def test_python_takes_numbers_and_text() -> None:
    assert Memory(bandwidth=1e12) == Memory(bandwidth="1 TB/s")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="expected a rate greater than 0 B/s"):
        Memory(bandwidth=-1.0)
    with pytest.raises(ValidationError, match="expected a rate with its unit"):
        Memory(bandwidth=True)


def test_fields_list_every_leaf() -> None:
    found = {field.path: field for field in spec.fields(Example)}
    assert list(found) == [
        "name", "memory.bandwidth", "memory.capacity", "count", "share", "mode", "fast", "limit", "steps",
        "sizes", "notes",
    ]  # fmt: skip
    assert (found["memory.bandwidth"].unit, found["memory.bandwidth"].doc) == ("B/s", "how fast")
    assert found["name"].descriptive
    assert [path for path, field in found.items() if field.numeric] == [
        "memory.bandwidth", "memory.capacity", "count", "share", "limit",
    ]  # fmt: skip


def test_schema_speaks_of_units_and_bounds() -> None:
    found = spec.schema(Example)
    bandwidth = found["$defs"]["Memory"]["properties"]["bandwidth"]
    assert (bandwidth["type"], bandwidth["pattern"]) == ("string", units.pattern("B/s"))
    assert found["properties"]["count"]["minimum"] == 1
    assert found["$defs"]["Memory"]["properties"]["capacity"]["default"] == "0 B"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "memory": {"bandwidth": 3}}, found)
