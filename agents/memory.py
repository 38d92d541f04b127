"""A team's memory of its session: earlier questions and answers, as messages before the question."""

from collections.abc import Sequence
from dataclasses import replace

from askstream.agents import model_errors
from askstream.agents.checkpoint import ExternalMessage, TeamCheckpoint
from askstream.server.runs.orchestrator import Exchange, Task

# Characters, about four to a token. Every model call of a run, some twenty, reads all of it: 12,000 are 3,000 tokens a
# call, less than the tools return. A question may have 4,000, so the last exchange always fits, and mostly the last
# four.
MEMORY_CHARACTERS = 12_000
# The maximum for one answer. Its findings and figures come first; its SQL, which the team can write again, last.
ANSWER_CHARACTERS = 3_000
# The part of its end that stays: there it says how the question was understood.
END_CHARACTERS = 600

# Of a small context, the memory gets a quarter: so many characters for each of its tokens.
CHARACTERS_PER_TOKEN = 1

USER = "user"
_SQL = "\n## SQL"
_CUT = "\n\n[...]\n\n"


class ContextWindow:
    """The number of tokens that the model can read, None while unknown. All runs of a server share one."""

    def __init__(self, tokens: int | None = None) -> None:
        self.tokens = tokens

    def learn(self, problem: BaseException) -> None:
        """Remember the size that an error names, if it is smaller than the known one."""
        found = model_errors.window(problem)
        if found is not None and (self.tokens is None or found < self.tokens):
            self.tokens = found

    @property
    def characters(self) -> int:
        """The maximum of the memory's characters."""
        return MEMORY_CHARACTERS if self.tokens is None else min(MEMORY_CHARACTERS, self.tokens * CHARACTERS_PER_TOKEN)


def first_checkpoint(task: Task, answerer: str, characters: int = MEMORY_CHARACTERS) -> TeamCheckpoint:
    """The first checkpoint of a run: its first turn begins with the remembered messages, then the question."""
    earlier = remembered(task.history, answerer, characters)
    question = ExternalMessage(source=USER, text=task.question)
    return TeamCheckpoint(unheard=(*earlier, question), remembered=len(earlier), skipped=len(earlier))


def remembered(
    history: Sequence[Exchange], answerer: str, characters: int = MEMORY_CHARACTERS
) -> tuple[ExternalMessage, ...]:
    """The latest exchanges that fit into `characters`, oldest first. `answerer` is the source of the answers."""
    kept: list[Exchange] = []
    left = characters
    for exchange in reversed(history):
        short = replace(exchange, answer=_short(exchange.answer, ANSWER_CHARACTERS * characters // MEMORY_CHARACTERS))
        left -= len(short.question) + len(short.answer)
        if left < 0:
            break
        kept.insert(0, short)
    return tuple(
        said
        for exchange in kept
        for said in (
            ExternalMessage(source=USER, text=exchange.question),
            ExternalMessage(source=answerer, text=exchange.answer),
        )
    )


def _short(answer: str, most: int) -> str:
    """Cut an answer to `most` characters. A longer one loses its middle, from its SQL on if it has any. Whole
    paragraphs of its end stay, as many as fit into END_CHARACTERS, or into a fifth of a smaller maximum."""
    if len(answer) <= most:
        return answer
    tail = answer[-min(END_CHARACTERS, most // 5) :].partition("\n\n")[2]
    head = answer[: max(0, most - len(_CUT) - len(tail))]
    end = head.find(_SQL)
    if end < 0:
        end = head.rfind("\n")
    return (head[:end] if end > 0 else head).rstrip() + _CUT + tail
