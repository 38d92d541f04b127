"""Puts an AutoGen team of agents on the web, over SSE and WebSocket, and never loses a run.

The names in `__all__`, and what docs/extending.md imports, are the public API. Everything else may change. A name is
imported when it is first used: `import askstream` by itself costs nothing.
"""

import importlib

TYPE_CHECKING = False  # type checkers know the name; to import `typing` would take longer than all the rest
if TYPE_CHECKING:
    from askstream.server.app import create_app
    from askstream.server.auth import Access, RequestFacts
    from askstream.server.embedded import serve
    from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, Draft, ToolExecution, Usage
    from askstream.server.events.errors import RunFailed
    from askstream.server.journal import Journal
    from askstream.server.runs import Answer, Exchange, Inquiry, Orchestrator, Reply, Sink, Task
    from askstream.server.settings import Settings
    from askstream.transports.base import Transport

__all__ = [
    "Access",
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
    "RequestFacts",
    "RunFailed",
    "Settings",
    "Sink",
    "Task",
    "ToolExecution",
    "Transport",
    "Usage",
    "create_app",
    "serve",
]

_HOMES = {
    "askstream.server.app": ("create_app",),
    "askstream.server.auth": ("Access", "RequestFacts"),
    "askstream.server.embedded": ("serve",),
    "askstream.server.events": ("AgentChunk", "AgentResponse", "AgentThinking", "Draft", "ToolExecution", "Usage"),
    "askstream.server.events.errors": ("RunFailed",),
    "askstream.server.journal": ("Journal",),
    "askstream.server.runs": ("Answer", "Exchange", "Inquiry", "Orchestrator", "Reply", "Sink", "Task"),
    "askstream.server.settings": ("Settings",),
    "askstream.transports.base": ("Transport",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # so that they report a name that isn't there

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value


def __dir__() -> list[str]:
    return __all__
