"""How a bad file reads: one line a problem, file:line:column, what was found, what was expected, the way out."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic.dataclasses import dataclass

from hwspecs import catalogue, device, software, spec
from hwspecs.errors import SpecError
from hwspecs.spec import CONFIG, Quantity


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Hbm:
    bandwidth: Annotated[float, Quantity("B/s", gt=0)]
    capacity: Annotated[float, Quantity("B", gt=0)] = 8e10
    latency: Annotated[float, Quantity("s", gt=0)] = 4e-7


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    hbm: Hbm
    title: str
    frames: Annotated[int, Quantity(ge=1)] = 1
    share: Annotated[float, Quantity(gt=0, le=1)] = 1.0
    mode: Literal["serial", "batched"] = "serial"
    graphs: bool = False
    plain: int = 0
    pods: tuple[int, ...] = ()
    notes: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if self.frames > 100:
            raise ValueError("frames and share do not go together")
        if self.frames > 50:
            raise spec.RuleError([("hbm.capacity", "too small for the frames"), ("", "too many frames")])


def problems(text: str, at: str = "") -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        spec.build(Request, spec.mapping(text, "video.yaml"), at=at)
    return caught.value.problems


GOOD = "title: x\nhbm:\n  bandwidth: 1 TB/s\n"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("frames: sixteen", "4:9: frames: found 'sixteen', expected a whole number of at least 1"),
        ("frames: 0", "4:9: frames: found '0', expected a whole number of at least 1"),
        ("frames: 1.5", "4:9: frames: found '1.5', expected a whole number of at least 1"),
        ("frames: true", "4:9: frames: found 'true', expected a whole number of at least 1"),
        ("frames:", "4:8: frames: found nothing, expected a whole number of at least 1"),
        ("frames: [1]", "4:9: frames: found a list of 1, expected a whole number of at least 1"),
        ("frames: {a: 1}", "4:9: frames: found fields (a), expected a whole number of at least 1"),
        ("share: 1.2", "4:8: share: found '1.2', expected a number greater than 0 and at most 1"),
        ("share: 1e999", "4:8: share: found '1e999', expected a number greater than 0 and at most 1"),
        ("mode: serail", "4:7: mode: found 'serail', expected one of serial, batched; did you mean 'serial'?"),
        ("mode: 7", "4:7: mode: found '7', expected one of serial, batched"),
        ("graphs: maybe", "4:9: graphs: found 'maybe', expected true or false"),
        ("plain: much", "4:8: plain: found 'much', expected a whole number"),
        ("pods: 3", "4:7: pods: found '3', expected a list"),
        ("pods: [1, x]", "4:11: pods.1: found 'x', expected a whole number"),
        ("notes: [a]", "4:8: notes: found a list of 1, expected fields, one `name: value` a line"),
        ("notes: {a: 1}", "4:12: notes.a: found '1', expected text, in quotes"),
        ("frmes: 3", "4:1: frmes: unknown field; did you mean 'frames'? "
                     "(allowed: hbm, title, frames, share, mode, graphs, plain, pods, notes)"),
        ("frames: 101", "1:1: frames and share do not go together"),
    ],
)  # fmt: skip
def test_fields(extra: str, message: str) -> None:
    assert problems(GOOD + extra) == (f"video.yaml:{message}",)


def test_units_and_unknown_fields_below() -> None:
    text = "title: x\nhbm: {bandwidth: 4800, bandwith: 1 B/s, capacity: -3 GB, latency: 3 tb}"
    assert problems(text, at="device") == (
        "video.yaml:2:18: device.hbm.bandwidth: found '4800', expected a rate with its unit, for example '4.8 TB/s'",
        "video.yaml:2:24: device.hbm.bandwith: unknown field; did you mean 'bandwidth'? "
        "(allowed: bandwidth, capacity, latency)",
        "video.yaml:2:51: device.hbm.capacity: found '-3 GB', expected a size greater than 0 B",
        "video.yaml:2:67: device.hbm.latency: found '3 tb', expected a time with its unit, for example '1.2 us'",
    )  # fmt: skip


def test_missing_fields_say_what_they_want() -> None:
    assert problems("frames: 3\nhbm: {}") == (
        "video.yaml:1:1: title: missing; expected text",
        "video.yaml:2:6: hbm.bandwidth: missing; expected a rate with its unit, for example '4.8 TB/s'",
    )
    assert problems("title: x") == ("video.yaml:1:1: hbm: missing; expected fields (bandwidth, capacity, latency)",)


def test_a_value_where_fields_belong() -> None:
    assert problems("title: x\nhbm: fast") == (
        "video.yaml:2:6: hbm: found 'fast', expected fields (bandwidth, capacity, latency)",
    )
    with pytest.raises(SpecError, match="x: device: found 'fast', expected fields"):
        spec.build(Hbm, spec.wrap("fast", "x"), at="device")


def test_rules_across_fields_may_name_their_fields() -> None:
    text = "title: x\nframes: 60\nhbm:\n  bandwidth: 1 B/s\n  capacity: 1 GB"
    assert problems(text, at="request") == (
        "video.yaml:1:1: request: too many frames",
        "video.yaml:5:3: request.hbm.capacity: too small for the frames",
    )


def test_an_option_is_named_as_the_source() -> None:
    node = spec.set_path(spec.mapping(GOOD, "video.yaml"), "hbm.bandwidth", "4")
    with pytest.raises(SpecError) as caught:
        spec.build(Request, node)
    assert caught.value.problems == (
        "--set hbm.bandwidth: hbm.bandwidth: found '4', expected a rate with its unit, for example '4.8 TB/s'",
    )


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("title.x", "1", "--set title.x: 'title' is 'x', which has no fields"),
        ("a..b", "1", "--set a..b: expected a field's path, for example 'device.hbm.bandwidth'"),
        ("frames", "[1",
         "--set frames: YAML syntax: did not find expected ',' or ']' (while parsing a flow sequence)"),
    ],
)  # fmt: skip
def test_options(path: str, text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec.set_path(spec.mapping(GOOD, "video.yaml"), path, text)
    assert caught.value.problems == (message,)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", [": empty; expected fields, one `name: value` a line"]),
        ("# nothing", [": empty; expected fields, one `name: value` a line"]),
        ("- 1", [":1:1: expected fields, one `name: value` a line"]),
        ("a: 1\nb: {c: 1, c: 2}\na: 2", [":2:11: b.c: duplicate field; it is already set in line 2",
                                        ":3:1: a: duplicate field; it is already set in line 1"]),
        ("a: b: c", [":1:5: YAML syntax: mapping values are not allowed in this context"]),
        ("a: *b", [":1:4: YAML syntax: found undefined alias"]),
        ("a: &x [*x]", [":1:4: an alias (*name) stands inside the value that it names"]),
        ("a: 1\n---\nb: 2",
         [":2:1: a second document begins here; expected one a file, without a line '---' inside"]),
        ("a: !python/name:os.system ''", [":1:4: unknown tag '!python/name:os.system'; write the value without it"]),
        ("a: !!int x", [":1:4: found 'x', expected a number"]),
        ("a: !!bool x", [":1:4: found 'x', expected true or false"]),
        ("? [1]\n: 2", [":1:3: expected a field's name, found a list or a mapping"]),
        ("a: \x01", [": YAML syntax: control characters are not allowed"]),
        ("a: " + "[" * 100_000, [":1:63: nested more than 60 levels deep"]),
        ("a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]\n"
         + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
         [": more than 20000 values; are aliases nested?"]),
    ],
    ids=range(15),
)  # fmt: skip
def test_files(tmp_path: Path, text: str, messages: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        spec.read(path)
    assert caught.value.problems == tuple(f"{path}{message}" for message in messages)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing\.yaml: no such file$"):
        spec.read(tmp_path / "nothing.yaml")
    with pytest.raises(SpecError, match=r"cannot be read \(is a directory\)$"):
        spec.read(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(SpecError, match=r"latin.yaml:2:1: not UTF-8 text; save the file as UTF-8$"):
        spec.read(tmp_path / "latin.yaml")


def test_unknown_names_and_files() -> None:
    with pytest.raises(SpecError) as caught:
        device.load("a100-smx-80gb")
    assert caught.value.problems[0].startswith(
        "unknown device 'a100-smx-80gb'; did you mean 'a100-sxm-80gb'? (allowed: "
    )
    with pytest.raises(SpecError, match=r"^unknown software 'jax' \(allowed: pytorch-compiled, pytorch-eager\)$"):
        software.load("jax")
    with pytest.raises(SpecError, match=r"^mine\.yaml: no such file$"):
        device.load("mine.yaml")


def test_a_file_of_ours_is_named_as_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(spec.dump(device.load("imaginary-1")))
    assert device.load(str(path)).name == "imaginary-1"  # one that is named by its path may be called as it likes
    with pytest.raises(SpecError) as caught:
        catalogue.load(device.Device, "device", tmp_path, "mine")
    assert caught.value.problems == (f"{path}:1:7: name: found 'imaginary-1', expected the file's own name 'mine'",)


def test_values_and_sources_are_checked_together(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = spec.dump(device.load("imaginary-1")).replace("sm_count: 160", "sm_count: 0\nvendor: x", 1)
    path.write_text(text.replace("  exp:", "  epx:"))
    with pytest.raises(SpecError) as caught:
        device.load(str(path))
    fields = [line.removeprefix(f"{path}:").split(": ")[1] for line in caught.value.problems]
    assert sorted(fields) == ["exp", "sm_count", "sources.epx", "vendor"]


def test_numbers_need_sources() -> None:
    node = spec.wrap(spec.to_data(device.load("imaginary-1")), "mine.yaml").plain()
    node["sources"] |= {"hmb": "?", "exp": " "}
    del node["sources"]["sm_clock"]
    with pytest.raises(SpecError) as caught:
        spec.build(device.Device, spec.wrap(node, "mine.yaml"))
    unnamed, empty, uncovered = caught.value.problems
    assert unnamed == "mine.yaml: sources.hmb: names no field; did you mean 'hbm'?"
    assert empty == "mine.yaml: sources.exp: empty; expected where the value comes from"
    assert uncovered == (
        "mine.yaml: sm_clock: has no source; add it under sources, for example `sm_clock: data sheet, page 1`"
    )
