"""Loads teams, orchestrators, journals and transports by name: `package.module:attribute`.

The current folder is searched first, before PYTHONPATH and what is installed, as `python -m` does: a console script
starts with its own folder there instead. So a project's own package `agents` goes before one of the same name that
another distribution has installed.
"""

import importlib
import logging
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

from askstream.server.foreign import Contained, ForeignExit

log = logging.getLogger(__name__)


def load(spec: str) -> Any:
    """Return the attribute that `spec` names; it may have dots. Runs the module's code.

    Raises ValueError with the reason, which doesn't repeat `spec`.
    """
    module, _, attribute = spec.partition(":")
    if not (module and attribute):
        raise ValueError("it must read package.module:attribute")
    _search_current_folder_first()
    _prefer_folder_without_init(module)
    return _attribute(_imported(module), module, attribute)


def named(name: str, table: Mapping[str, str], what: str) -> Any:
    """Return the attribute that `table` has for `name`, or else the one that `name` itself names.

    Raises ValueError with the names of the table, the name that came, and the reason why it can't be loaded.
    """
    try:
        return load(table.get(name, name))
    except ValueError as problem:
        expected = f"one of {sorted(table)} or package.module:attribute" if table else "package.module:attribute"
        raise ValueError(f"expected the name of {what}, {expected}, got {name!r}: {problem}") from problem


def checked(made: Any, protocol: Any, spec: str) -> Any:
    """Return `made`, which `spec` gave. Raises ValueError if it lacks a member of the protocol."""
    lacking = [name for name in _members(protocol) if not hasattr(made, name)]
    if lacking:
        got = f"a {type(made).__name__}, which has no {', '.join(lacking)}"
        raise ValueError(f"expected the protocol {protocol.__name__} of {spec!r}, got {got}")
    return made


def _members(protocol: Any) -> Iterable[str]:
    names: list[str] = [*protocol.__annotations__, *vars(protocol)]
    return [name for name in names if not name.startswith("_")]


def _search_current_folder_first() -> None:
    here = str(Path.cwd())
    if sys.path[:1] not in ([here], [""]):
        sys.path.insert(0, here)


def _prefer_folder_without_init(module: str) -> None:
    """Register a subfolder of the current folder as a package, if it has the module but no `__init__.py`.

    Python prefers a package with an `__init__.py` anywhere on the path: an installed `agents` would hide the
    project's own folder.
    """
    top, *rest = module.split(".")
    folder = Path.cwd() / top
    if not rest or top in sys.modules or (folder / "__init__.py").exists():
        return
    wanted = folder.joinpath(*rest)
    holds_it = wanted.with_suffix(".py").is_file() or (wanted / "__init__.py").is_file()
    if holds_it and not _is_found_in(folder, top):
        spec = ModuleSpec(top, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[top] = module_from_spec(spec)


def _is_found_in(folder: Path, package: str) -> bool:
    """Whether Python itself would look for the package's modules in this folder."""
    found = find_spec(package)
    return found is not None and str(folder) in (found.submodule_search_locations or ())


def _imported(module: str) -> Any:
    try:
        with Contained():
            return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name is None or not f"{module}.".startswith(f"{problem.name}."):  # one that the module imports
            log.error("importing %s failed", module, exc_info=problem)
        raise ValueError(f"there is no module {problem.name}") from problem
    except Exception as problem:
        log.error("importing %s failed", module, exc_info=problem)
        what = problem if isinstance(problem, ForeignExit) else f"{type(problem).__name__}: {problem}"
        raise ValueError(f"importing {module} raised {what}") from problem


def _attribute(found: Any, module: str, path: str) -> Any:
    for name in path.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{module} has no {path}")
        found = getattr(found, name)
    return found
