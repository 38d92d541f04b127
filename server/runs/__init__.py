"""A run: one question being answered, from its first event to its terminal one."""

from server.runs.limits import Limits
from server.runs.mock import Mock
from server.runs.orchestrator import Answer, Orchestrator, Sink, Task
from server.runs.runs import Question, Runs, random_id, response

__all__ = ["Answer", "Limits", "Mock", "Orchestrator", "Question", "Runs", "Sink", "Task", "random_id", "response"]
