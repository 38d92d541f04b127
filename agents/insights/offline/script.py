"""An agent's work, written as a script: a generator that yields the tool calls it needs and gets their results.

It holds no state between two messages. It is played from the start each time, over the results that the conversation
already has, up to the first call that has none: that call is the reply. So whoever has the messages, has the agent.
"""

from collections.abc import Generator, Sequence
from typing import TypeVar

from askstream.agents.insights.offline.conversation import Act, Call, Conversation, Reply, Result, Say

Script = Generator[Act, Sequence[Result], str]  # ends with what the agent says
T = TypeVar("T")


def play(script: Script, conversation: Conversation) -> Reply:
    """The next reply of the agent. A call of a tool that it hasn't got is answered with the error `no_tool`."""
    try:
        step = next(script)
        while True:
            missing = {c.key: c for c in step.calls if _is_missing(c, conversation)}
            if missing:
                return Act(step.thought, tuple(missing.values()))
            step = script.send([_result(call, conversation) for call in step.calls])
    except StopIteration as end:
        return Say(str(end.value))


def _is_missing(call: Call, conversation: Conversation) -> bool:
    return call.name in conversation.tools and call.key not in conversation.results


def _result(call: Call, conversation: Conversation) -> Result:
    refusal = Result(error="no_tool", message=f"There is no tool {call.name} here.")
    return conversation.results.get(call.key, refusal)


def together(scripts: Sequence[Generator[Act, Sequence[Result], T]]) -> Generator[Act, Sequence[Result], list[T]]:
    """Play scripts side by side: what they need next is asked for in one step."""
    done: dict[int, T] = {}
    steps: dict[int, Act] = {}

    def move(n: int, results: Sequence[Result] | None) -> None:
        try:
            steps[n] = scripts[n].send(results) if results is not None else next(scripts[n])
        except StopIteration as end:
            steps.pop(n, None)
            done[n] = end.value

    for n in range(len(scripts)):
        move(n, None)
    while steps:
        waiting = dict(steps)
        thoughts = " ".join(dict.fromkeys(step.thought for step in waiting.values()))
        results = list((yield Act(thoughts, tuple(call for step in waiting.values() for call in step.calls))))
        for n, step in waiting.items():
            own, results = results[: len(step.calls)], results[len(step.calls) :]
            move(n, own)
    return [done[n] for n in range(len(scripts))]
