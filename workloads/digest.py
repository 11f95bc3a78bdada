"""A digest of the code that decides what a stage's capture holds; comments, docstrings and spaces do not count."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from workloads.kind import kinds

# Beside what builds the module. Of the operator kinds only the capture rules.
OURS = "workloads"
SHARED = ("aten.py", "capture.py", "kept.py", "temporal.py", "dtypes.py")


def code_of(function: str) -> str:
    """The digest for a function 'package.module.name' that builds modules: of all that it names in modules of ours."""
    where, _, name = function.rpartition(".")
    return sha256("\0".join([_shared(), *map(bare, closure(where, name))]).encode()).hexdigest()[:16]


def closure(where: str, name: str) -> list[str]:
    """The code that a name of one of our modules needs: of that module, then of those that it takes names from, each once."""
    texts: list[str] = []
    wanted, met = [(where, name)], set()
    while wanted:
        now = wanted.pop()
        if now not in met:
            met.add(now)
            texts.append(needed(inspect.getsource(import_module(now[0])), now[1]))
            wanted += sorted(_taken(texts[-1]), reverse=True)
    return texts


def _taken(text: str) -> Iterator[tuple[str, str]]:
    """(module, name) that code takes from our modules: `from module import name`, or module.name of an imported module."""
    nodes = list(ast.walk(ast.parse(text)))
    read = [(n.value.id, n.attr) for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
    for node in nodes:
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(OURS):
            continue
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            if _is_module(node.module or "", alias.name):
                yield from ((whole, attribute) for of, attribute in read if of == (alias.asname or alias.name))
            else:
                yield node.module or "", alias.name


def _is_module(package: str, name: str) -> bool:
    return hasattr(import_module(package), "__path__") and find_spec(f"{package}.{name}") is not None


def needed(source: str, name: str) -> str:
    """The statements of a module that define a name, or a name in one of them, in the order of the module."""
    statements = ast.parse(source).body
    makes = [(statement, _defined(statement)) for statement in statements]
    wanted, chosen = [name], set()
    while wanted:
        now = wanted.pop()
        for i, (statement, names) in enumerate(makes):
            if now in names and i not in chosen:
                chosen.add(i)
                wanted += [n.id for n in ast.walk(statement) if isinstance(n, ast.Name)]
    lines = source.splitlines()
    return "\n".join("\n".join(lines[_first(s) - 1 : s.end_lineno]) for i, (s, _) in enumerate(makes) if i in chosen)


def _first(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(d.lineno for d in decorators)])


def _defined(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", ast.Pass())]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


@cache
def _shared() -> str:
    here = Path(__file__).parent
    texts = [bare(file.read_text()) for pattern in SHARED for file in sorted(here.glob(pattern))]
    rules = {(kind, name): rule for kind, found in kinds().items() for name, rule in found.capture.items()}
    texts += [f"{key} {kinds()[key[0]].dims} {bare(inspect.getsource(rule))}" for key, rule in rules.items()]
    return "\0".join(texts)


def bare(source: str) -> str:
    """Python source without comments, docstrings and white space."""
    lines = source.splitlines(keepends=True)
    drop = [
        (t.start, t.end) for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            drop.append(((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)))
    for (first, start), (last, end) in sorted(drop, reverse=True):
        tail = lines[last - 1].encode()[end:].decode() if last != first else lines[first - 1][end:]
        lines[first - 1 : last] = [lines[first - 1][:start] + tail, *["\n"] * (last - first)]
    return "".join("".join(lines).split())
