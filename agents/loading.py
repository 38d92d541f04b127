"""Turns the text of `--team` into a factory. It names one of:

    package.module:name    a factory, or a team or agent that exists once
    path/to/file.py:name   the same, in a file
    path/to/file.py        `make`, `team`, or the file's only team or factory
    path/to/team.json      a team that AutoGen or AutoGen Studio has written

A factory is called for each run. A team or agent that exists once is copied for each run.
"""

import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from askstream.agents import about, component, copying, failures, team_file
from askstream.agents.team_factory import TeamFactory, is_team, unavailable
from askstream.agents.threads import in_thread
from askstream.server import plugins
from askstream.server.events.errors import AskstreamError

_FILE = re.compile(r"(?P<file>.+\.py)(?::(?P<name>[\w.]+))?")
_FORMS = "it must read package.module:name, path/to/file.py, file.py:name or team.json"
_NOTEBOOK = "a notebook can't be loaded. Copy the cells that make the team into a file team.py, and name that file"


async def load(team: object) -> TeamFactory:
    """The factory for a `--team` text, or for a factory, a team or an agent itself.

    Runs the code that the text names, in a thread. Raises RunFailed `team_unavailable`, with what was expected and
    what was found.
    """
    if not isinstance(team, str):
        name = getattr(team, "__qualname__", type(team).__qualname__)
        return await in_thread(partial(_factory, name, name, team, inspect.getmodule(team)))
    try:
        return await in_thread(partial(_named, team))
    except AskstreamError:
        raise
    except ValueError as problem:
        raise unavailable(team, f"{problem}{_advice(team, problem.__cause__)}") from problem
    except BaseException as problem:  # its code may raise SystemExit, which would end the server
        failures.report(f"the team {team}", problem)
        raise unavailable(team, f"importing it raised {failures.kind(problem)}: {problem}") from problem


def _advice(spec: str, cause: BaseException | None) -> str:
    """A hint on how to install a module that the team's own code imports."""
    if not isinstance(cause, ModuleNotFoundError) or cause.name is None or spec.startswith(cause.name):
        return ""
    return (
        f". Install it where askstream is installed, or start with `dev.py run --with {cause.name.partition('.')[0]}`"
    )


def _named(spec: str) -> TeamFactory:
    label = Path(spec).name  # viewers see it, and must not see a path
    if spec.endswith(".json"):
        found = component.load(Path(spec))
        return TeamFactory(label, _copier(label, found), copying.clients(found))
    if spec.endswith(".ipynb"):
        raise ValueError(_NOTEBOOK)
    if file := _FILE.fullmatch(spec):
        module = team_file.import_file(Path(file["file"]))
        name = file["name"] or team_file.only_team(module)
        return _factory(label, name, team_file.attribute(module, name), module)
    module, colon, name = spec.partition(":")
    if not (module and colon and name):
        raise ValueError(_FORMS)
    return _factory(spec, name, plugins.load(spec), sys.modules[module])


def _factory(spec: str, name: str, found: Any, module: ModuleType | None) -> TeamFactory:
    if callable(found):
        return TeamFactory(spec, found, about=about.read(spec, found, module))
    if not is_team(found):
        raise unavailable(spec, f"{name} is a {type(found).__name__}: neither a factory, nor a team or agent")
    return TeamFactory(spec, _copier(spec, found), about=about.read(spec, module))


def _copier(spec: str, found: Any) -> Callable[[], Any]:
    from askstream.agents.autogen_internals import has_run

    if any(has_run(part) for part in copying.stateful(found)):
        why = "it has run already, and only an unused one can be copied. Leave out the code that runs it, such as"
        raise unavailable(spec, f"{why} Console(team.run_stream(…))")
    try:
        return copying.copier(found)
    except Exception as problem:
        kind = type(found).__name__
        why = (
            f"each run needs its own copy of this {kind}, and it can't be copied ({type(problem).__name__}: {problem})"
            ". Make it in a function, which is called for each run, and name that function:\n\n"
            f"    def make():\n        return {kind}(…)\n\n"
            "with all that it is made of inside of the function"
        )
        raise unavailable(spec, why) from problem
