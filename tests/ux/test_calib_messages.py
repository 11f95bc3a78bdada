"""Every message of `framecast calib`, word for word; tables are in tests/calib/test_table.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import framecast
from tests.calib.plans import SMALL, write_plan


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command."""
    monkeypatch.setattr(sys, "argv", ["framecast", "calib", *words])
    with pytest.raises(SystemExit) as done:
        framecast.main()
    out = capsys.readouterr()
    return int(done.value.code or 0), out.out, out.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plan", "--sizes", "5o"), "--sizes: found '5o', expected whole numbers with commas, for example 256,512"),
        (("plan", "--frames", "0"), "--frames: found '0', expected whole numbers with commas, for example 256,512"),
        (
            ("plan", "--models", "stable-diffusion-1.6"),
            "unknown model 'stable-diffusion-1.6'; did you mean 'stable-diffusion-1.5'? (known: ",
        ),
        (
            ("plan", "--models", "stable-diffusion-1.5", "--sizes", "500"),
            "--sizes, --frames: stable-diffusion-1.5: request.height: found 500, expected a multiple of 8; nearest: 496, 504",
        ),
        (("table", "none.csv"), "none.csv: no such file"),
        (
            ("measure", "--plan", "none.csv", "--out", "out"),
            "none.csv: cannot read the plan: No such file or directory; `framecast calib plan` writes one",
        ),
        (("measure", "--plan", "a.csv"), "Missing option '--out'; see 'framecast calib measure --help'"),
    ],
)
def test_wrong_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    code, out, err = run(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(message)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("op,dtype\nadd,fp32\n", "PLAN:1: the plan lacks the column 'plan_id'; `framecast calib plan` writes it"),
        ("plan_id,op,dtype,condition\n", "PLAN: the plan has no rows"),
        ("\xff\xfe", "PLAN:1: the plan lacks the column 'plan_id'; `framecast calib plan` writes it"),
    ],
)
def test_a_plan_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str
) -> None:
    plan = tmp_path / "plan.csv"
    plan.write_text(text)
    code, _, err = run(
        monkeypatch, capsys, "measure", "--plan", str(plan), "--out", str(tmp_path / "out"), "--device", "cpu"
    )
    assert (code, err) == (2, message.replace("PLAN", str(plan)) + "\n")


def test_only_names_phases_or_operators(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = str(write_plan(tmp_path / "plan.csv", SMALL[:2]))
    words = ("measure", "--plan", plan, "--out", str(tmp_path / "out"), "--device", "cpu", "--only", "peeks")
    code, _, err = run(monkeypatch, capsys, *words)
    known = "peaks, operators, modules, streams, conv1d, conv2d"
    assert (code, err) == (2, f"--only: found 'peeks', expected phases or operators of the plan ({known})\n")


@pytest.mark.skipif("sys.platform == 'win32'")
def test_no_device_and_no_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plan = str(write_plan(tmp_path / "plan.csv", SMALL[:1]))
    code, _, err = run(monkeypatch, capsys, "measure", "--plan", plan, "--out", str(tmp_path / "out"))
    text = f"--device cuda: torch {torch.__version__} finds no CUDA device; use --device cpu\n"
    assert (code, err) == (2, text)
    monkeypatch.setattr(torch, "__version__", "2.3.1")
    code, _, err = run(monkeypatch, capsys, "measure", "--plan", plan, "--out", str(tmp_path / "out"))
    assert (code, err) == (2, "torch 2.3.1 is too old; the campaign needs torch 2.4 or later\n")


def test_a_folder_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    plan = str(write_plan(tmp_path / "plan.csv", SMALL[:1]))
    (tmp_path / "file").write_text("")
    out = tmp_path / "out"
    out.mkdir()
    words = ("measure", "--plan", plan, "--device", "cpu", "--only", "conv1d", "--minutes", "0.2", "--out")
    try:
        code, _, err = run(monkeypatch, capsys, *words, str(tmp_path / "file"))
        assert (code, err) == (2, f"{tmp_path}/file: cannot write here: File exists\n")
        (out / "campaign.json").write_text("{")
        code, _, err = run(monkeypatch, capsys, *words, str(out))
        assert (code, err) == (2, f"{out}/campaign.json: not the note of a campaign; use another --out\n")
        (out / "campaign.json").unlink()
        (out / "operators.csv").write_text("a,b\n")
        code, _, err = run(monkeypatch, capsys, *words, str(out))
        text = "the columns are not those that this version writes; use another --out"
        assert (code, err) == (2, f"{out}/operators.csv:1: {text}\n")
    finally:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)


def test_a_plan_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("calib.plan.suite", lambda *_: [])
    words = ("plan", "--models", "stable-diffusion-1.5", "--out", "/nowhere/plan.csv")
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 2
    assert err.splitlines()[-1] == "/nowhere/plan.csv: cannot write the plan: No such file or directory"


def test_what_a_table_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "a100.csv"
    rows = "".join(f"A100-SXM4-80GB,softmax,fp16,4096,4096,{t}\n" for t in [80, *[-1] * 22])
    table.write_text(f"device,op,dtype,rows,cols,latency_us\n{rows}")
    code, out, err = run(monkeypatch, capsys, "table", str(table))
    assert code == 0
    assert err.splitlines()[0] == f"{table}:3: latency is not positive (-1); the row was not used: fix or delete it"
    assert err.splitlines()[-1] == "and 2 more rows"
    assert "22 latency not positive" in out
    assert "a100-sxm-80gb  softmax     fp16     1       80.0" in out
