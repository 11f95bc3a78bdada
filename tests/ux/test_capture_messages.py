"""Every message of `framecast capture` and of capture files, word for word, and what the command prints and writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import framecast
from hwspecs import nodes
from hwspecs.errors import FramecastError, SpecError
from tests.workloads.test_capture_file import LINEAR, NETS
from workloads import capture_file, capture_run
from workloads.cache import trace_of
from workloads.model import find

STAGE = "stages:\n  net: {module: 'own_nets.py:Inner', inputs: {x: '4,16:fp32'}}\n"
DTYPES = "(allowed: fp32, fp16, bf16, int8, fp8, int32, int64, bool, fp64)"
SHAPE = "expected SHAPE:DTYPE, for example 2,4,{height},{width}:bf16"
X = ("--input", "x=4,16:fp32")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with small modules, as the current one, and a cache of its own."""
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_nets.py").write_text(NETS.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "net.yaml").write_text(LINEAR, encoding="utf-8")
    return tmp_path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(framecast.commands(), ["capture", *arguments], prog_name="framecast")


def said(*arguments: str) -> tuple[str, ...]:
    """The lines of what the command refuses."""
    error = command(*arguments).exception
    assert isinstance(error, FramecastError), error
    return error.problems


OF_FILES: list[tuple[str, tuple[str, ...]]] = [
    ("dims: {n: 1}\n", ("net.yaml:1:1: stages: missing; expected fields, one `name: value` a line",)),
    ("stages: {}\n", ("net.yaml:1:1: stages: empty; expected at least one module",)),
    ("stages: {1a: {module: a:b}}\n", ("net.yaml:1:10: stages.1a: expected a name of letters, digits, _ and -",)),
    (STAGE + "dims: {2b: 1}\n", ("net.yaml:3:8: dims.2b: expected a name of letters, digits and _",)),
    (STAGE + "dims: {cache: 1}\n", ("net.yaml:3:8: dims.cache: the name has another meaning; choose another",)),
    (
        STAGE + "dims: {n: 0}\n",
        ("net.yaml:3:11: dims.n: found '0', expected a whole number of at least 1 and at most 2147483648",),
    ),
    (
        STAGE + "dimms: {n: 1}\n",
        (
            "net.yaml:3:1: dimms: unknown field; did you mean 'dims'?"
            " (allowed: title, dims, stages, corrections, assume, by_hand, real)",
        ),
    ),
    (
        STAGE + "corrections: {'net.*': crss}\n",
        (
            "net.yaml:3:24: corrections.net.*: found 'crss', expected one of self, cross, temporal, spatial, none;"
            " did you mean 'cross'?",
        ),
    ),
    (
        STAGE + "assume: {aten.sort: 1}\n",
        (
            "net.yaml:3:10: assume.aten.sort: no answer is known for this operator"
            " (allowed: aten.nonzero, aten._local_scalar_dense)",
        ),
    ),
    (STAGE + "assume: {aten.nonzero: 3}\n", ("net.yaml:3:10: assume.aten.nonzero: found '3', expected all",)),
    (
        STAGE + "assume: {aten._local_scalar_dense: x}\n",
        ("net.yaml:3:10: assume.aten._local_scalar_dense: found 'x', expected a number, true or false",),
    ),
    (
        "stages: {a: {module: Inner}}\n",
        ("net.yaml:1:14: stages.a.module: found 'Inner', expected MODULE:NAME, for example diffusers:UNet2DModel",),
    ),
    (
        "stages: {a: {module: a:b, config: 3}}\n",
        ("net.yaml:1:27: stages.a.config: found '3', expected fields or a file",),
    ),
    (
        "stages: {a: {module: a:b, inputs: {x: [1]}}}\n",
        ("net.yaml:1:36: stages.a.inputs.x: found a list or fields, expected SHAPE:DTYPE or a plain value",),
    ),
    (
        "stages: {a: {module: a:b, repeats: 0.5}}\n",
        ("net.yaml:1:27: stages.a.repeats: found '0.5', expected a whole number of at least 1 or {dimension}",),
    ),
    (
        "dims: {n: 2}\nstages: {a: {module: a:b, repeats: '{n-2}'}}\n",
        ("net.yaml:2:27: stages.a.repeats: found 0, expected a whole number of at least 1",),
    ),
    (
        "stages: {a: {module: a:b, dtype: fp17}}\n",
        (
            "net.yaml:1:34: stages.a.dtype: found 'fp17', expected one of fp16, bf16, fp32, fp64;"
            " did you mean 'fp16'?",
        ),
    ),
    (
        "dims: {height: 65}\nstages: {a: {module: a:b, inputs: {x: '{height/8}:fp16', y: '4,4', z: '4:bf17', 2: 1}}}\n",
        (
            "net.yaml:2:36: stages.a.inputs.x: '{height/8}' is 8.125 for height 65, expected a whole number",
            f"net.yaml:2:58: stages.a.inputs.y: found '4,4', {SHAPE}",
            f"net.yaml:2:68: stages.a.inputs.z: unknown dtype 'bf17'; did you mean 'bf16'? {DTYPES}",
            "net.yaml:2:27: stages.a.inputs: found the positions 2, expected 0, 1, 2 ... without gaps",
        ),
    ),
    (
        "dims: {height: 64}\nstages: {a: {module: a:b, config: {size: '{heigth}'}, inputs: {x: '{height+}:fp16'}}}\n",
        (
            "net.yaml:2:64: stages.a.inputs.x: found '{height+}', expected whole-number arithmetic on dimensions,"
            " for example {height/8}",
            "net.yaml:2:27: stages.a.config: unknown dimension 'heigth'; did you mean 'height'? (dimensions: height)",
        ),
    ),
    (
        "stages: {a: {module: a:b, inputs: {x: '0,3:fp16', y: '9999999,9999999:fp16', z: '{q}', w: '[1]'}}}\n",
        (
            "net.yaml:1:36: stages.a.inputs.x: '0' is 0, expected a length from 1 to 2^40",
            "net.yaml:1:51: stages.a.inputs.y: found '9999999,9999999:fp16', a tensor of more than 2^40 elements",
            "net.yaml:1:78: stages.a.inputs.z: unknown dimension 'q'; no dimensions are named",
            "net.yaml:1:88: stages.a.inputs.w: found '[1]', expected SHAPE:DTYPE (for example"
            " 2,4,{height},{width}:bf16), a number, true, false or null",
        ),
    ),
    (
        "stages: {a: {module: a:b, inputs: {x: 1, x.y: 2}}}\n",
        ("net.yaml:1:42: stages.a.inputs.x.y: 'x' is an input of its own already",),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), OF_FILES, ids=range(len(OF_FILES)))
def test_files(text: str, lines: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as error:
        capture_file.build(nodes.mapping(text, "net.yaml"))
    assert error.value.problems == lines


OF_SOURCES: list[tuple[tuple[str, ...], str]] = [
    ((), "capture: expected a capture file, or --from MODULE:NAME, for example --from diffusers:UNet2DConditionModel"),
    (("none.yaml",), "none.yaml: no such file; did you mean 'net.yaml'?"),
    (("net.json",), "net.json: expected a capture file (.yaml); a module is named by --from"),
    (("net.yaml", "--from", "a:b"), "--from: net.yaml says this already; change it there, or leave the file out"),
    (("net.yaml", "--dim", "row=3"), "--dim row: unknown dimension; did you mean 'rows'? (dimensions: rows, steps)"),
    (("net.yaml", "--dim", "rows"), "--dim rows: expected NAME=LENGTH, for example height=64"),
    (("net.yaml", "--dim", "rows=0"), "--dim rows: found '0', expected a whole number of at least 1"),
    (
        ("net.yaml", "--out", "x.json"),
        "--out x.json: expected a name that ends in .yaml (a capture file), .sizes (any size, without the module) or .trace "
        "(one size)",
    ),
    (("--from", "Inner"), "--from: found 'Inner', expected MODULE:NAME, for example diffusers:UNet2DModel"),
    (("--from", "own_net.py:Inner"), "--from: own_net.py: no such file; did you mean 'own_nets.py'?"),
    (("--from", "own_net:Inner"),
     "--from: own_net:Inner: no module 'own_net' beside the file, in the current folder or installed"),
    (("--from", "own_nets:Iner"), "--from: own_nets:Iner: own_nets has no 'Iner'; did you mean 'Inner'?"),
    (("--from", "own_nets:CONSTANT"), "--from: own_nets:CONSTANT: found a int, expected a class or a function"),
    (("--from", "own_nets:Any"), "--from: own_nets:Any: found a class that is no torch.nn.Module"),
    (
        ("--from", "own_nets:nothing"),
        "--from: own_nets:nothing: returned int, expected an nn.Module, (module, inputs) or (module, args, kwargs)",
    ),
    (("--from", "broken:Net"), "--from: broken:Net: cannot be imported: ZeroDivisionError: division by zero"),
    (("--from", "needs:Net"), "--from: needs:Net: needs imports 'not_there', which is not installed"),
    (("--from", "own_nets:linear", "--dim", "row=3"), "--dim row: no input, config or function uses it; did you mean 'rows'?"),
    (("--from", "own_nets:Inner", "--config", "c.json", *X), "--config: c.json: cannot be read (no such file or directory)"),
    (("--from", "own_nets:Inner", "--config", "bad.json", *X), "--config: bad.json:1:5: not JSON"),
    (("--from", "own_nets:Inner", "--config", "list.json", *X), "--config: list.json: expected a mapping of fields"),
    (
        ("--from", "torch.nn:Linear", "--config", "linear.json", *X),
        "--config: in_feature: Linear has no such field; did you mean 'in_features'?",
    ),
    (("--from", "torch.nn:Linear", *X), "--from: torch.nn:Linear: TypeError: Linear.__init__() missing 2 required"
     " positional arguments: 'in_features' and 'out_features'; give them in its config"),
    (("--from", "own_nets:Inner"), "--input x: missing; expected SHAPE:DTYPE or a value"),
    (("--from", "own_nets:Inner", "--input", "x"), "--input x: expected NAME=VALUE, for example --input sample=2,4,64,64:bf16"),
    (("--from", "own_nets:Inner", *X, *X), "--input x: given twice"),
    (("--from", "own_nets:Inner", "--input", "x=4,16"), f"--input x: found '4,16', {SHAPE}"),
    (("--from", "own_nets:Inner", "--input", "x=4,16:bf15"), f"--input x: unknown dtype 'bf15'; did you mean 'bf16'? {DTYPES}"),
    (("--from", "own_nets:Inner", *X, "--assume", "aten.nonzero=some"), "--assume aten.nonzero: found 'some', expected all"),
    (
        ("--from", "own_nets:Inner", *X, "--repeats", "x"),
        "--repeats: unknown dimension 'x'; no dimensions are named",
    ),
    (
        ("--from", "own_nets:Inner", *X, "--correct", "inner.*=cross"),
        "--correct inner.*: no attention is at this module path; there is none",
    ),
    (
        ("--from", "own_nets:video", "--correct", "own_nets.spacial=cross"),
        "--correct own_nets.spacial: no attention is at this module path; did you mean 'own_nets.spatial'?"
        " (attention: own_nets.spatial, own_nets.text, own_nets.motion ...)",
    ),
    (
        ("--from", "own_nets:Raises", "--input", "_=4,16:fp32"),
        r"raises: the module raises KeyError: 'no such key\nin two lines'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "line"), OF_SOURCES, ids=range(len(OF_SOURCES)))
def test_sources(arguments: tuple[str, ...], line: str, folder: Path) -> None:
    for name, text in {
        "broken.py": "1 / 0\n", "needs.py": "import not_there\n", "bad.json": '{"a"', "list.json": "[1]",
        "linear.json": '{"in_feature": 3}',
    }.items():  # fmt: skip
        (folder / name).write_text(text, encoding="utf-8")
    assert said(*arguments) == (line,)
    assert not list(folder.glob("*.tmp"))


def test_without_torch_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_run, "find_spec", lambda _: None)
    line = "to capture it needs torch: pip install 'framecast[capture]'"
    assert said("--from", "own_nets.py:Inner", *X) == (f"inner: {line}",)
    assert said("--from", "torch.nn:Linear", *X) == (f"linear: {line}",)
    (folder / "scenario.yaml").write_text("model: net.yaml\ndevice: a100-sxm-80gb\n", encoding="utf-8")
    done = CliRunner().invoke(framecast.commands(), ["run", "scenario.yaml"])
    assert isinstance(done.exception, FramecastError)
    assert done.exception.problems == (f"net.yaml: net: {line}",)


def test_a_file_that_imports_what_the_extra_brings_says_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bare.py").write_text("import diffusers\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    wanted = "bare imports 'diffusers', which is not installed: pip install 'framecast[capture]'"
    assert said("--from", "bare:Net", *X) == (f"--from: bare:Net: {wanted}",)


def test_inputs_that_are_none_and_that_lack() -> None:
    assert said("--from", "own_nets:Inner", "--input", "y=4,16:fp32") == (
        "--input y: Inner.forward has no such input",
        "--input x: missing; expected SHAPE:DTYPE or a value",
    )


def test_a_wrong_size_names_the_innermost_module() -> None:
    (line,) = said("--from", "own_nets:Inner", "--input", "x=4,17:fp32")
    assert line.startswith("inner.lin: the module raises RuntimeError: ")


def test_at_other_sizes_the_file_is_named(folder: Path) -> None:
    text = "dims: {n: 32}\nstages:\n  net: {module: 'own_nets.py:Inner', inputs: {x: '4,{n/2}:fp32'}}\n"
    (folder / "odd.yaml").write_text(text, encoding="utf-8")
    for value, line in (
        (33, "odd.yaml: stages.net.inputs.x: '{n/2}' is 16.5 for n 33, expected a whole number"),
        (64, "odd.yaml: net.lin: the module raises RuntimeError: "),
    ):
        with pytest.raises(SpecError) as error:
            trace_of("odd.yaml", find("odd.yaml").request(n=value))
        (found,) = error.value.problems
        assert found.startswith(line)


def test_what_is_printed_and_written(folder: Path) -> None:
    done = command(
        "--from", "own_nets.py:video", "--dim", "frames=3", "--repeats", "2", "--correct", "*.motion=cross", "--out",
        "sub/video.yaml",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "own_nets     temporal           9        1        3         3          16               1" in done.stdout
    assert "captured in " in done.stderr
    assert "peak memory" in done.stderr
    assert "wrote sub/video.yaml; in a scenario: `model: sub/video.yaml`" in done.stderr
    assert (folder / "sub/video.yaml").read_text(encoding="utf-8") == (
        "dims:\n  frames: 3\nstages:\n  own_nets:\n    module: ../own_nets.py:video\n    repeats: 2\n"
        "corrections:\n  '*.motion': cross\n"
    )
    again = json.loads(command("sub/video.yaml", "--dim", "frames=4", "--format", "json").stdout)
    assert again["request"] == {"frames": 4}
    assert again["components"][0]["repeats"] == 2
    assert again["capture_s"] > 0
    assert again["peak_rss_bytes"] > 10e6
    assert (again["unpriced"], again["notes"]) == ([], [])


def test_a_stored_trace_is_written_and_shown(folder: Path) -> None:
    assert command("net.yaml", "--out", "net.trace").exit_code == 0
    shown = CliRunner().invoke(framecast.commands(), ["trace", "net.trace", "--format", "json"])
    assert json.loads(shown.stdout)["components"][0]["repeats"] == 4
    assert sorted(path.name for path in folder.glob("net.*")) == ["net.trace", "net.yaml"]


def test_where_nothing_can_be_written(folder: Path) -> None:
    (folder / "x.yaml").mkdir()
    assert said("net.yaml", "--out", "x.yaml") == ("--out x.yaml: cannot be written (is a directory)",)
    assert said("net.yaml", "--out", "net.yaml/y.yaml") == ("--out net.yaml/y.yaml: cannot be written (file exists)",)
    assert not list(folder.glob("*.tmp"))


def test_a_run_says_what_was_assumed_and_what_has_no_model(folder: Path) -> None:
    text = "stages:\n  net: {module: 'own_nets.py:Looks', inputs: {x: '4,16:fp32'}}\n"
    (folder / "looks.yaml").write_text(text, encoding="utf-8")
    (folder / "scenario.yaml").write_text("model: looks.yaml\ndevice: a100-sxm-80gb\n", encoding="utf-8")
    for _ in range(2):  # captured, then from the cache
        done = CliRunner().invoke(framecast.commands(), ["run", "scenario.yaml"])
        assert "note: net: captured in a real run on the CPU" in done.stderr
        assert "note: without a cost model, priced as memory traffic: aten.sum (" in done.stderr


def test_a_scenario_that_names_no_file(folder: Path) -> None:
    (folder / "scenario.yaml").write_text("model: nt.yaml\ndevice: a100-sxm-80gb\n", encoding="utf-8")
    with pytest.raises(SpecError) as error:
        framecast.load("scenario.yaml")
    assert error.value.problems == ("scenario.yaml:1:8: model: nt.yaml: no such file; did you mean 'net.yaml'?",)
