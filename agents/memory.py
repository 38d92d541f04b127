"""What a team is told of its session: earlier questions and answers, as messages before the question."""

from collections.abc import Sequence
from dataclasses import replace

from agents.checkpoint import Checkpoint, Said
from server.runs.orchestrator import Exchange, Task

# Characters, about four to a token. Every call of every agent's model reads all of it again, some twenty times a run:
# 12,000 are 3,000 tokens a call, less than the tools return. A question may have 4,000, so the last exchange always
# fits whole, and mostly the last four.
MEMORY = 12_000
# Of one answer: its findings and figures. What follows, the SQL behind them above all, the team can make again.
ANSWER = 3_000

USER = "user"
_SQL = "\n## SQL"
_CUT = "\n\n[...]"


def opening(task: Task, answerer: str) -> Checkpoint:
    """Where a run begins: what is remembered, then the question, all of it still to be heard."""
    earlier = remembered(task.history, answerer)
    question = Said(source=USER, text=task.question)
    return Checkpoint(unheard=(*earlier, question), remembered=len(earlier), skipped=len(earlier))


def remembered(history: Sequence[Exchange], answerer: str) -> tuple[Said, ...]:
    """The latest exchanges, oldest first, as many as fit into MEMORY. Answers are said by `answerer`."""
    kept: list[Exchange] = []
    left = MEMORY
    for exchange in reversed(history):
        short = replace(exchange, answer=_short(exchange.answer))
        left -= len(short.question) + len(short.answer)
        if left < 0:
            break
        kept.insert(0, short)
    return tuple(
        said
        for exchange in kept
        for said in (Said(source=USER, text=exchange.question), Said(source=answerer, text=exchange.answer))
    )


def _short(answer: str) -> str:
    """An answer of at most ANSWER characters: one that is longer goes without its SQL, else it ends with a line."""
    if len(answer) <= ANSWER:
        return answer
    head = answer[: ANSWER - len(_CUT)]
    end = head.find(_SQL)
    if end < 0:
        end = head.rfind("\n")
    return (head[:end] if end > 0 else head).rstrip() + _CUT
