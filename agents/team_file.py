"""A team in a Python file: imports it, and finds the one team or factory in it."""

import inspect
import re
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from askstream.agents import arguments

# The first of them that a module has is its team.
USUAL_NAMES = ("make", "team")
# Annotations of results that may be a team: they may be text.
_RESULTS = re.compile(r"(Team|GroupChat|Agent|Swarm|GraphFlow|Any|object|Generator|Iterator|ContextManager)\b")
_LISTS = re.compile(r"(list|tuple|dict|set|List|Tuple|Dict)\b")


def import_file(path: Path) -> ModuleType:
    """Import a file. Its folder is searched first, as if Python ran it; in a package, that of the package.

    Raises ValueError if there is no such file, or with the error that its code raised.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path.name} in {path.parent}")
    folder, name = _top(path.resolve())
    if str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))
    try:
        return import_module(name) if "." in name else _imported(path.resolve(), name)
    except ModuleNotFoundError as problem:
        raise ValueError(f"there is no module {problem.name}") from problem
    except Exception as problem:
        raise ValueError(f"importing {path.name} raised {type(problem).__name__}: {problem}") from problem


def only_team(module: ModuleType) -> str:
    """The name of `make` or `team`, or of the module's only other team or factory.

    Raises ValueError, with the names that were found, if there isn't exactly one.
    """
    usual = [name for name in USUAL_NAMES if hasattr(module, name)]
    if usual:
        return usual[0]
    from autogen_agentchat.base import ChatAgent, Team

    own = {name: found for name, found in vars(module).items() if not name.startswith("_")}
    teams = [name for name, found in own.items() if isinstance(found, Team)]
    agents = [name for name, found in own.items() if isinstance(found, ChatAgent)]
    factories = [name for name, found in own.items() if _may_be_factory(found, module)]
    named = [name for name in factories if "team" in name.lower()]
    for found in (teams + factories, teams + named, agents):
        if len(found) == 1:
            return found[0]
    if names := ", ".join(teams + factories + agents):
        raise ValueError(f"it has {names}; add the name that is meant, as in {Path(str(module.__file__)).name}:name")
    raise ValueError("it has no team, no agent, and no function that returns one; call such a function make")


def attribute(module: ModuleType, path: str) -> Any:
    """The attribute of this name, which may have dots. Raises ValueError."""
    try:
        return attrgetter(path)(module)
    except AttributeError as problem:
        raise ValueError(f"the file has no {path}") from problem


def _may_be_factory(found: Any, module: ModuleType) -> bool:
    """Whether it is a function of this module that may return a team, and whose parameters all have a value."""
    if not inspect.isfunction(found) or found.__module__ != module.__name__ or found.__name__ == "main":
        return False
    try:
        arguments.parameters(found)
    except ValueError:
        return False
    returned = inspect.signature(found).return_annotation
    return returned is inspect.Signature.empty or _may_be_team(str(returned))


def _may_be_team(annotation: str) -> bool:
    return _RESULTS.search(annotation) is not None and _LISTS.match(annotation) is None


def _top(path: Path) -> tuple[Path, str]:
    """The folder to search, and the module's dotted name in it."""
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").exists():
        folder, names = folder.parent, [folder.name, *names]
    return folder, ".".join(names)


def _imported(path: Path, name: str) -> ModuleType:
    """Import it by its path: its name may be no identifier, or be taken."""
    present = sys.modules.get(name)
    if present is not None and getattr(present, "__file__", None) == str(path):
        return present
    spec = spec_from_file_location(name if present is None else f"{name}_team", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module
