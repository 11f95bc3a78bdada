"""Where a user's torch module comes from: `package.module:name` or `file.py:name`, a class with a config or a function.

`source_key` says, without importing anything, what the source depends on: the version of an installed package, or the text
of a file of the user's and of the files beside it that it imports. torch is imported when called.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import inspect
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from hwspecs.errors import EXTRA, INSTALL, FramecastError, SpecError, closest, nearest, offered

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


class BuildError(SpecError):
    """A module could not be made, on the device on which it was tried."""


@dataclass(frozen=True)
class Source:
    """Where `target` ('package.module:name' or 'file.py:name') is looked for: beside `folder`, here, then as Python does."""

    target: str
    folder: Path

    @property
    def module(self) -> str:
        """What is imported: 'package.module', or the stem of the file."""
        where = self.target.rpartition(":")[0]
        return Path(where).stem if where.endswith(".py") else where

    @property
    def name(self) -> str:
        """The class or function in it."""
        return self.target.rpartition(":")[2]

    @property
    def path(self) -> list[str]:
        """Folders that are searched, in order."""
        where = self.target.rpartition(":")[0]
        if where.endswith(".py"):
            return [str((self.folder / where).parent), *sys.path]
        return [str(self.folder), str(Path.cwd()), *sys.path]

    @property
    def file(self) -> Path | None:
        """The file of the module's top package, None where there is none to be found (a built-in, or nothing)."""
        where = self.target.rpartition(":")[0]
        if where.endswith(".py"):
            return self.folder / where
        found = PathFinder.find_spec(self.module.partition(".")[0], self.path)
        return Path(found.origin) if found and found.origin and found.has_location else None


def source_key(source: Source) -> list[str]:
    """What decides the module beside its config: 'name version' of a distribution, or a digest of the user's own files."""
    top, file = source.module.partition(".")[0], source.file
    if file is None or not file.is_file() or _installed(file):
        return [f"{top} {_version(top)}"]
    digest = hashlib.sha256()
    for path in sorted(_own_files(file)):
        digest.update(path.read_bytes())
    return [f"{top} {digest.hexdigest()}"]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _installed(file: Path) -> bool:
    """Whether a file belongs to an installed package, whose version stands for its text."""
    homes = [
        *site.getsitepackages(),
        site.getusersitepackages(),
        *map(sysconfig.get_path, ("purelib", "platlib", "stdlib")),
    ]
    return any(file.resolve().is_relative_to(Path(home).resolve()) for home in homes)


def _own_files(file: Path) -> set[Path]:
    """A module's file, or all of a package's, and those beside it that they import, at any depth."""
    found: set[Path] = set()
    todo = [file]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        package = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
        found.update({path, *package})
        home = path.parent.parent if path.name == "__init__.py" else path.parent
        for name in {name for one in package for name in _imported(one)}:
            todo += [p for p in (home / f"{name}.py", home / name / "__init__.py") if p.is_file()]
    return found


def _imported(file: Path) -> set[str]:
    """Top names that a file imports; none where it is no Python, which the import then says."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            own = [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]
            names.update(own)
    return names


def found(source: Source, place: str = "module") -> Any:
    """The class or function itself, inside `searched`.

    SpecError: no such module or name (with the nearest), a module that cannot be imported.
    """
    module = _imported_module(source, place)
    if not hasattr(module, source.name):
        known = [name for name in dir(module) if not name.startswith("_")]
        hint = _nearest(source.name, known)
        raise SpecError(f"{place}: {source.target}: {source.module} has no '{source.name}'{hint}")
    thing = getattr(module, source.name)
    if not callable(thing):
        raise SpecError(f"{place}: {source.target}: found a {type(thing).__name__}, expected a class or a function")
    return thing


def _nearest(word: str, names: Iterable[str]) -> str:
    """`nearest` whatever the case, which names of classes have much of."""
    spelt = {name.lower(): name for name in names}
    return offered([spelt[name] for name in closest(word.lower(), spelt)])


def _imported_module(source: Source, place: str) -> Any:
    where = source.target.rpartition(":")[0]
    if where.endswith(".py") and not (source.folder / where).is_file():
        beside = [p.name for p in (source.folder / where).parent.glob("*.py")]
        raise SpecError(f"{place}: {source.folder / where}: no such file{nearest(Path(where).name, beside)}")
    try:
        return importlib.import_module(source.module)
    except ModuleNotFoundError as error:
        missing = error.name or source.module
        if source.module == missing or source.module.startswith(f"{missing}."):
            text = f"no module '{missing}' beside the file, in the current folder or installed"
        else:
            text = f"{source.module} imports '{missing}', which is not installed"
        mend = f": {INSTALL}" if missing in EXTRA else ""
        raise SpecError(f"{place}: {source.target}: {text}{mend}") from None
    except Exception as error:  # whatever a user's file does when it is imported
        raise SpecError(f"{place}: {source.target}: cannot be imported: {said(error)}") from None


@contextmanager
def searched(source: Source) -> Iterator[None]:
    """sys.path with the source's folders in front, and the user's own modules imported afresh, as their files are now.

    Afterwards the modules of those names are the ones that were there before.
    """
    path, file = list(sys.path), source.file
    mine = _names(_own_files(file)) if file and file.is_file() and not _installed(file) else set()
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in mine}
    for name in before:
        del sys.modules[name]
    sys.path[:] = source.path
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name.partition(".")[0] in mine]:
            del sys.modules[name]
        sys.modules.update(before)


def _names(files: set[Path]) -> set[str]:
    """Top names of modules in files of the user's; framecast's own packages are none of them."""
    home = Path(__file__).resolve().parents[1]
    apart = {path.parent.name if path.name == "__init__.py" else path.stem for path in files}
    return {name for name in apart if not (home / name / "__init__.py").is_file()}


def said(error: BaseException) -> str:
    """An error on one line: its type and the first line of what it says, at most 300 characters."""
    if isinstance(error, FramecastError):
        return "; ".join(error.problems)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


def made(
    source: Source, config: Mapping[str, Any], dims: Mapping[str, int], place: str = "stages"
) -> tuple[Any, Inputs | None]:
    """(module, its inputs, None where the function returned only a module), built on torch's default device, inside `searched`.

    A class is called with the config (diffusers' and transformers' configs included), a function with config and those
    dimensions that it has parameters for. SpecError: a field that it does not know (with the nearest). BuildError: whatever
    it raises.
    """
    thing = found(source, f"{place}.module")
    build: Callable[[], Any]
    if isinstance(thing, type):
        build = _constructor(thing, config, source, place)
    else:
        arguments = {**_accepted(thing, dims), **config}
        _check_fields(config, thing, source, place)
        build = lambda: thing(**arguments)  # noqa: E731
    try:
        result = build()
    except Exception as error:
        raise BuildError(f"{place}.module: {source.target}: {said(error)}{_how_to_give(error, thing)}") from None
    return split(result, f"{place}.module: {source.target}")


def _how_to_give(error: Exception, thing: Any) -> str:
    """What to do about arguments that a class or function misses; '' about any other error."""
    if not isinstance(error, TypeError) or "missing" not in str(error) or "argument" not in str(error):
        return ""
    return f"; give them in its config{'' if isinstance(thing, type) else ', or as dimensions'}"


def arguments(source: Source) -> frozenset[str] | None:
    """The dimensions that a function may be given, by name; None: any. A class is given none. SpecError as `found`."""
    thing = found(source)
    if isinstance(thing, type):
        return frozenset()
    parameters = _parameters(thing)
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else frozenset(parameters)


def _accepted(function: Any, dims: Mapping[str, int]) -> dict[str, int]:
    """The dimensions that a function has parameters for, all of them where it takes any."""
    parameters = _parameters(function)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(dims)
    return {name: value for name, value in dims.items() if name in parameters}


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _constructor(cls: type, config: Mapping[str, Any], source: Source, place: str) -> Callable[[], Any]:
    """How a class is made of a config; transformers' models take an object of their own config class."""
    import torch

    if not issubclass(cls, torch.nn.Module):
        raise SpecError(f"{place}.module: {source.target}: found a class that is no torch.nn.Module")
    kind = getattr(cls, "config_class", None)
    if isinstance(kind, type) and "transformers" in sys.modules:
        _check_fields(config, kind, source, place, known=vars(kind()))
        return lambda: cls(kind(**config))
    _check_fields(config, cls, source, place)
    return lambda: cls(**config)


def _check_fields(
    config: Mapping[str, Any], thing: Any, source: Source, place: str, known: Mapping[str, Any] | None = None
) -> None:
    parameters = _parameters(thing)
    if known is None and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    names = [n for n in {**parameters, **(known or {})} if not n.startswith("_")]
    problems = [
        f"{place}.config.{name}: {source.name} has no such field{nearest(name, names)}"
        for name in config
        if name not in names
    ]
    if problems:
        raise SpecError(problems)


def split(result: Any, place: str) -> tuple[Any, Inputs | None]:
    """(module, its inputs) of what a function returned: a module, (module, inputs) or (module, args, kwargs)."""
    import torch

    module, *rest = result if isinstance(result, tuple | list) else (result,)
    if not isinstance(module, torch.nn.Module) or len(rest) > 2:
        expected = "expected an nn.Module, (module, inputs) or (module, args, kwargs)"
        raise SpecError(f"{place}: returned {type(result).__name__}, {expected}")
    if len(rest) == 2:
        return module, (tuple(rest[0]), dict(rest[1]))
    return module, as_inputs(rest[0]) if rest else None


def as_inputs(inputs: Any) -> Inputs:
    """(args, kwargs) of what a user gives: a mapping, a tuple or list, or one value."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})
