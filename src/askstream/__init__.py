"""Puts an AutoGen team of agents on the web, over SSE and WebSocket, and never loses a run.

The names in `__all__` are the public API. Everything else is private and may change. A name is imported when it is
first used: `import askstream` by itself costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, Draft, ToolExecution, Usage
    from askstream.server.events.errors import RunFailed
    from askstream.server.journal import Journal
    from askstream.server.runs import Answer, Exchange, Inquiry, Orchestrator, Reply, Sink, Task
    from askstream.server.settings import Settings
    from askstream.transports.base import Transport

__all__ = [
    "AgentChunk",
    "AgentResponse",
    "AgentThinking",
    "Answer",
    "Draft",
    "Exchange",
    "Inquiry",
    "Journal",
    "Orchestrator",
    "Reply",
    "RunFailed",
    "Settings",
    "Sink",
    "Task",
    "ToolExecution",
    "Transport",
    "Usage",
]

_HOMES = {
    "askstream.server.events": ("AgentChunk", "AgentResponse", "AgentThinking", "Draft", "ToolExecution", "Usage"),
    "askstream.server.events.errors": ("RunFailed",),
    "askstream.server.journal": ("Journal",),
    "askstream.server.runs": ("Answer", "Exchange", "Inquiry", "Orchestrator", "Reply", "Sink", "Task"),
    "askstream.server.settings": ("Settings",),
    "askstream.transports.base": ("Transport",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
