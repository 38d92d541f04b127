"""A run: one question being answered, from its first event to its terminal one."""

from askstream.server.runs.limits import Limits
from askstream.server.runs.mock import Mock
from askstream.server.runs.orchestrator import Answer, Exchange, Inquiry, Orchestrator, Reply, Sink, Task
from askstream.server.runs.runs import Question, Runs, random_id

__all__ = [
    "Answer",
    "Exchange",
    "Inquiry",
    "Limits",
    "Mock",
    "Orchestrator",
    "Question",
    "Reply",
    "Runs",
    "Sink",
    "Task",
    "random_id",
]
