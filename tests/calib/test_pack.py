"""The campaign as one file runs without framecast beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from framecast import commands


def test_the_packed_campaign_starts_on_its_own(tmp_path: Path) -> None:
    file = tmp_path / "campaign.pyz"
    assert CliRunner().invoke(commands(), ["calib", "pack", "--out", str(file)]).exit_code == 0
    command = [
        sys.executable,
        "-I",
        str(file),
        "--plan",
        "nowhere.csv",
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "nowhere.csv" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    ran = CliRunner().invoke(commands(), ["calib", "pack", "--out", str(tmp_path / "no/where.pyz")])
    assert "cannot write the file: no such file or directory" in str(ran.exception)
