"""Puts real output into the docs: `python -m benchmarks.docs` runs every `$ framecast …` of a console block and rewrites it.

A test runs the same and fails when a page shows something else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from benchmarks import notebooks

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```console\n\$ (framecast [^\n]*)\n.*?```", re.DOTALL)


def pages() -> list[Path]:
    """The pages that may show output."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def output(command: str) -> str:
    """What a framecast command prints on stdout, run in the repository's root."""
    from click.testing import CliRunner

    from framecast import commands

    result = CliRunner().invoke(commands(), shlex.split(command)[1:], catch_exceptions=False)
    return result.stdout


def refreshed(text: str) -> str:
    """The page with every console block's output replaced by what the command prints now."""
    return BLOCK.sub(lambda block: f"```console\n$ {block[1]}\n{output(block[1]).rstrip()}\n```", text)


def schemas() -> Iterator[tuple[Path, str]]:
    """The files of docs/schema, which editors read, and what has to be in them."""
    from explore.schema import KINDS

    for kind in KINDS:
        yield ROOT / f"docs/schema/{kind}.json", output(f"framecast schema {kind}")


def main() -> None:
    """Rewrite the pages, the schemas and the notebooks."""
    for path, text in schemas():
        path.write_text(text, encoding="utf-8")
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := refreshed(text)) != text:
            page.write_text(new, encoding="utf-8")
            print(f"updated {page.relative_to(ROOT)}")
    notebooks.main()


if __name__ == "__main__":
    main()
