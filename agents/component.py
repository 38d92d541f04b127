"""A team in a JSON file, as AutoGen's `dump_component` and AutoGen Studio write it. The file is the operator's own.

Only classes of PROVIDERS are loaded: AutoGen would import any module that the file names. A tool's source code in the
file is run, as that of a Python file would be.
"""

import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from askstream.agents.team_factory import is_team

_BY_MODULE: Mapping[str, str] = {
    "autogen_agentchat.teams": "RoundRobinGroupChat SelectorGroupChat Swarm MagenticOneGroupChat GraphFlow",
    "autogen_agentchat.agents": "AssistantAgent CodeExecutorAgent MessageFilterAgent SocietyOfMindAgent UserProxyAgent",
    "autogen_agentchat.base": "AndTerminationCondition OrTerminationCondition",
    "autogen_agentchat.conditions": "ExternalTermination FunctionCallTermination HandoffTermination "
    "MaxMessageTermination SourceMatchTermination StopMessageTermination TextMentionTermination "
    "TextMessageTermination TimeoutTermination TokenUsageTermination",
    "autogen_agentchat.messages": "StructuredMessageFactory",
    "autogen_agentchat.tools": "AgentTool TeamTool",
    "autogen_core.memory": "ListMemory",
    "autogen_core.model_context": "BufferedChatCompletionContext HeadAndTailChatCompletionContext "
    "TokenLimitedChatCompletionContext UnboundedChatCompletionContext",
    "autogen_core.tools": "FunctionTool StaticStreamWorkbench StaticWorkbench",
}
# The variable that has the key of each model client.
_KEYS: Mapping[str, str] = {
    "autogen_ext.models.openai.OpenAIChatCompletionClient": "OPENAI_API_KEY",
    "autogen_ext.models.openai.AzureOpenAIChatCompletionClient": "AZURE_OPENAI_API_KEY",
    "openai_chat_completion_client": "OPENAI_API_KEY",
    "OpenAIChatCompletionClient": "OPENAI_API_KEY",
    "azure_openai_chat_completion_client": "AZURE_OPENAI_API_KEY",
    "AzureOpenAIChatCompletionClient": "AZURE_OPENAI_API_KEY",
}
PROVIDERS = frozenset(f"{module}.{name}" for module, names in _BY_MODULE.items() for name in names.split()) | set(_KEYS)

_MASKED = re.compile(r"\*{6,}")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Any:
    """Load the team or agent of a file. Imports AutoGen. Raises ValueError with what is wrong with the file."""
    described = _read(path)
    providers = {str(one["provider"]) for one in _components(described)}
    if foreign := sorted(providers - PROVIDERS):
        raise ValueError(f"its provider {foreign[0]!r} isn't one of those that are loaded from a file; use Python")
    return _loaded(_with_secrets(described, environment))


def _read(path: Path) -> dict[str, Any]:
    try:
        described: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise ValueError(f"there is no file {path.name} in {path.parent}") from problem
    except (OSError, ValueError) as problem:
        raise ValueError(f"it can't be read as JSON ({problem})") from problem
    if isinstance(described, dict) and "provider" not in described:
        described = cast("dict[str, Any]", described).get("component", described)  # as Studio keeps it
    if not isinstance(described, dict) or "provider" not in described:
        raise ValueError("expected an object with a provider and a config, as team.dump_component() makes it")
    return cast("dict[str, Any]", described)


def _components(value: Any) -> Iterator[dict[str, Any]]:
    """All objects that AutoGen might load, at any depth."""
    if isinstance(value, dict):
        one = cast("dict[str, Any]", value)
        if "provider" in one:
            yield one
        value = list(one.values())
    if isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _components(inner)


def _with_secrets(described: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Put the environment's values in place of masks and of `${NAME}` in the configs of model clients."""
    for one in _components(described):
        variable = _KEYS.get(str(one["provider"]))
        if variable is not None and isinstance(one.get("config"), dict):
            one["config"] = _filled(one["config"], variable, environment)
    return described


def _filled(config: dict[str, Any], variable: str, environment: Mapping[str, str]) -> dict[str, Any]:
    return {name: _secret(name, value, variable, environment) for name, value in config.items()}


def _secret(name: str, value: Any, variable: str, environment: Mapping[str, str]) -> Any:
    if not isinstance(value, str):
        return value
    if named := _VARIABLE.fullmatch(value):
        return _required(named[1], environment)
    if not _MASKED.fullmatch(value):
        return value
    if name != "api_key":
        raise ValueError(f'its {name} is masked; write "${{NAME}}" there, and set the variable NAME')
    return _required(variable, environment)


def _required(variable: str, environment: Mapping[str, str]) -> str:
    if not environment.get(variable):
        raise ValueError(f"it needs the variable {variable}, which isn't set")
    return environment[variable]


def _loaded(described: dict[str, Any]) -> Any:
    from autogen_core import ComponentLoader

    try:
        with warnings.catch_warnings():  # that a tool's code is run, on which docs/teams.md has a sentence
            warnings.filterwarnings("ignore", r"[\s\S]*SECURITY WARNING")
            made: Any = ComponentLoader.load_component(described, object)
    except ModuleNotFoundError as problem:
        hint = "; for Azure, install autogen-ext[azure]"
        raise ValueError(f"it needs the module {problem.name}, which isn't installed{hint}") from problem
    except Exception as problem:
        raise ValueError(f"AutoGen can't load it: {type(problem).__name__}: {problem}") from problem
    if not is_team(made):
        raise ValueError(f"it describes a {type(made).__name__}, not a team or an agent")
    return made
