"""Capture files: expressions, what is part of a key, models made of them, and a warm run without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwspecs import nodes, spec
from hwspecs.errors import SpecError, StudyError
from sim.scenario import load
from sim.simulate import replay
from workloads import capture_file, capture_model, formats
from workloads import trace as traces
from workloads.cache import trace_of
from workloads.capture_inputs import TensorSpec, names, nested, number, read_input
from workloads.capture_source import Source, source_key
from workloads.model import find
from workloads.parametric import over_frames

NETS = Path(__file__).with_name("own_nets.py")
LENGTHS = st.integers(1, 10_000)
EXPRESSIONS = st.recursive(
    st.one_of(st.integers(1, 99).map(str), st.sampled_from(["a", "b"])),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=6,
)


@given(EXPRESSIONS, LENGTHS, LENGTHS)
def test_expressions_are_pythons(text: str, a: int, b: int) -> None:
    assert number(text, {"a": a, "b": b}) == eval(text, {"a": a, "b": b})
    assert names(f"{{{text}}}") == {name for name in "ab" if name in text}


@given(LENGTHS, st.integers(1, 64))
def test_divisions_come_out_even_or_say_so(a: int, by: int) -> None:
    if a % by:
        with pytest.raises(SpecError, match=f"'{{a/{by}}}' is .* for a {a}, expected a whole number"):
            number(f"a/{by}", {"a": a})
    else:
        assert number(f"a/{by}", {"a": a}) == a // by


@given(st.lists(st.integers(1, 200), max_size=5), st.sampled_from(["fp16", "bf16", "int64", "bool"]))
def test_shapes_read_back(shape: list[int], dtype: str) -> None:
    assert read_input(f"{','.join(map(str, shape))}:{dtype}", {}) == TensorSpec(tuple(shape), dtype)


@pytest.mark.parametrize(("text", "value"), [("{a}", 3), ("false", False), ("null", None), ("7", 7), ("0.5", 0.5)])
def test_plain_values(text: str, value: Any) -> None:
    assert read_input(text, {"a": 3}) == value


def test_names_with_dots_are_entries_and_digits_positions() -> None:
    assert nested({"1": 5, "0": 4, "a.b": 1, "a.c.d": 2}) == ((4, 5), {"a": {"b": 1, "c": {"d": 2}}})


def written(folder: Path, text: str, name: str = "net.yaml") -> Path:
    """A capture file beside a copy of the small modules, and a scenario that names it."""
    folder.mkdir(exist_ok=True)
    (folder / "own_nets.py").write_text(NETS.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "scenario.yaml").write_text(f"model: {name}\ndevice: a100-sxm-80gb\n", encoding="utf-8")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


LINEAR = 'dims: {rows: 4, steps: 2}\nstages:\n  net:\n    module: own_nets.py:linear\n    repeats: "{2*steps}"\n'
VIDEO = "dims: {frames: 3, pixels: 8}\nstages:\n  net: {module: 'own_nets.py:video'}\n"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path / "cache"))


def test_a_capture_file_is_a_model(tmp_path: Path) -> None:
    written(tmp_path, LINEAR)
    first = replay(load(tmp_path / "scenario.yaml"))
    assert [s.repeats for s in first.trace.segments] == [4]
    other = replay(load(tmp_path / "scenario.yaml", ["request.steps=5"]))
    assert [s.repeats for s in other.trace.segments] == [10]
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 1  # steps are no part of what is captured
    assert first.denoising == (0, 0)  # twice a step
    wider = replay(load(tmp_path / "scenario.yaml", ["request.rows=8"]))
    assert wider.trace.flops() == 2 * first.trace.flops()
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 2
    assert len({first.scenario.hash, other.scenario.hash, wider.scenario.hash}) == 3


def test_repeats_that_some_steps_alone_give(tmp_path: Path) -> None:
    written(tmp_path, LINEAR.replace("2*steps", "steps/2"))
    assert [s.repeats for s in replay(load(tmp_path / "scenario.yaml", ["request.steps=6"])).trace.segments] == [3]
    with pytest.raises(SpecError, match=r"net\.yaml: '{steps/2}' is 3\.5 for steps 7, expected a whole number"):
        replay(load(tmp_path / "scenario.yaml", ["request.steps=7"]))


def test_a_resolved_scenario_gives_itself_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, LINEAR)
    monkeypatch.chdir(tmp_path)
    scenario = load("scenario.yaml")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/scenario.resolved.yaml").write_text(scenario.resolved(), encoding="utf-8")
    again = load("out/scenario.resolved.yaml")
    assert again.resolved() == scenario.resolved()
    assert again.hash == scenario.hash
    assert find(again.model) is find(scenario.model)


def test_the_key_covers_the_module_and_what_it_imports(tmp_path: Path) -> None:
    path = written(tmp_path, LINEAR)

    def key() -> str:
        captured = capture_model.Captured(capture_file.load(path), str(path), path.parent)
        return capture_model._key(captured, captured.file.dims)

    keys = [key()]
    path.write_text(LINEAR.replace("rows: 4", "rows: 5"), encoding="utf-8")
    keys.append(key())
    path.write_text(LINEAR + "corrections: {x: self}\n", encoding="utf-8")
    keys.append(key())
    nets = tmp_path / "own_nets.py"
    nets.write_text(nets.read_text(encoding="utf-8") + "\nimport beside\n", encoding="utf-8")
    keys.append(key())
    (tmp_path / "beside.py").write_text("A = 1\n", encoding="utf-8")
    keys.append(key())
    (tmp_path / "beside.py").write_text("A = 2\n", encoding="utf-8")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    path.write_text(LINEAR.replace("steps: 2", "steps: 9") + "corrections: {x: self}\n", encoding="utf-8")
    assert key() == keys[-1]


def test_an_installed_package_counts_by_its_version(tmp_path: Path) -> None:
    import diffusers

    assert source_key(Source("diffusers:UNet2DModel", tmp_path)) == [f"diffusers {diffusers.__version__}"]


def test_a_changed_file_is_captured_again_in_one_process(tmp_path: Path) -> None:
    path = written(tmp_path, LINEAR)
    name = str(path)
    before = trace_of(name, find(name).request())
    path.write_text(LINEAR.replace("rows: 4", "rows: 40"), encoding="utf-8")
    assert trace_of(name, find(name).request()).flops() == 10 * before.flops()


def test_a_changed_module_is_imported_again_and_what_was_loaded_stays(tmp_path: Path) -> None:
    path = written(tmp_path, LINEAR)
    name, nets = str(path), tmp_path / "own_nets.py"
    before = trace_of(name, find(name).request())
    other = sys.modules["own_nets"] = type(sys)("own_nets")  # of the same name, loaded by somebody else
    nets.write_text(nets.read_text(encoding="utf-8").replace("WIDTH = 16", "WIDTH = 32"), encoding="utf-8")
    after = trace_of(name, find(name).request())
    assert after.flops() == 4 * before.flops()
    assert sys.modules.pop("own_nets") is other


def test_frames_lie_on_a_line_and_are_not_captured_each(tmp_path: Path) -> None:
    name = str(written(tmp_path, VIDEO))
    request = find(name).request()
    asked = list(over_frames(name, request, [2, 3, 4, 5, 6, 9]))
    assert [trace.request["frames"] for trace in asked] == [2, 3, 4, 5, 6, 9]
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 3
    fresh = trace_of(name, find(name).request(frames=5))
    assert asked[3].flops() == fresh.flops()
    assert fresh.dims("attention").role.tolist().count(2) == 1


def test_a_stored_trace_is_a_model_of_one_size(tmp_path: Path) -> None:
    name = str(written(tmp_path, LINEAR))
    held = tmp_path / "net.trace"
    traces.save(trace_of(name, find(name).request()), held)
    result = replay(load(tmp_path / "scenario.yaml", [f"model={held}"]))
    assert result.trace.segments[0].repeats == 4
    with pytest.raises(SpecError, match=r"request\.rows: found 8, expected 4: a stored trace has one size"):
        load(tmp_path / "scenario.yaml", [f"model={held}", "request.rows=8"])
    held.write_bytes(held.read_bytes()[:200])
    with pytest.raises(StudyError, match="not a framecast trace, or damaged"):
        load(tmp_path / "scenario.yaml", [f"model={held}"])


@pytest.mark.parametrize("ending", [".npz", ".parquet", ".et"])
def test_a_trace_from_outside_is_a_model_too(tmp_path: Path, ending: str) -> None:
    name = str(written(tmp_path, LINEAR))
    own = replay(load(tmp_path / "scenario.yaml"))
    formats.save(trace_of(name, find(name).request()), tmp_path / f"net{ending}")
    assert replay(load(tmp_path / "scenario.yaml", [f"model={tmp_path}/net{ending}"])).latency == own.latency


def test_a_device_must_have_the_dtype(tmp_path: Path) -> None:
    config = "stages:\n  net: {module: 'own_nets.py:Inner', inputs: {x: '4,16:bf16'}}\n"
    written(tmp_path, config)
    assert replay(load(tmp_path / "scenario.yaml")).trace.dtypes == ("bf16",)
    with pytest.raises(
        SpecError, match=r"v100-pcie has no bf16 arithmetic, in which .*net\.yaml multiplies; it has fp32"
    ):
        replay(load(tmp_path / "scenario.yaml", ["device=v100-pcie"]))


def test_a_second_run_loads_no_torch(tmp_path: Path) -> None:
    written(tmp_path, LINEAR)
    replay(load(tmp_path / "scenario.yaml"))
    code = (
        "import sys\nfrom framecast import load, replay\n"
        f"replay(load({str(tmp_path / 'scenario.yaml')!r}))\n"
        "assert not {'torch', 'diffusers', 'transformers', 'own_nets'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_config_files_and_dimensions_in_them(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "dims: {n: 32}\nstages:\n  net: {module: 'torch.nn:Linear', config: c.json, inputs: {input: '4,{n}:fp16'}}\n",
    )
    (tmp_path / "c.json").write_text(
        json.dumps({"_note": 1, "in_features": "{n}", "out_features": 8}), encoding="utf-8"
    )
    trace = trace_of(str(path), find(str(path)).request(n=16))
    assert trace.flops() == 2 * 4 * 16 * 8
    assert trace.weight_bytes == 2 * (16 * 8 + 8)


def test_several_stages_each_with_its_repeats(tmp_path: Path) -> None:
    text = (
        "dims: {n: 4}\nstages:\n  first: {module: 'own_nets.py:anything', config: {rows: 2}}\n"
        "  second: {module: 'own_nets.py:Inner', inputs: {x: '{n},16:fp16'}, repeats: 3}\n"
    )
    trace = trace_of(str(written(tmp_path, text)), find(str(tmp_path / "net.yaml")).request())
    assert [(s.name, s.repeats) for s in trace.segments] == [("first", 1), ("second", 3)]
    assert {"first.lin", "second.lin"} <= set(trace.paths)
    assert trace.dtypes == ("fp32", "fp16")


def test_what_is_written_reads_back_equal() -> None:
    made = capture_file.build(nodes.mapping(LINEAR + "corrections: {'net.*': cross}\nreal: true\n", "net.yaml"))
    assert capture_file.build(nodes.mapping(spec.dump(made), "again.yaml")) == made
