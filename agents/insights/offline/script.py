"""An agent's work as a script: a generator that yields the tool calls it needs and gets their results.

It keeps nothing between two messages: it is played from its start, over the results that the
conversation has, up to the first call that has none. That call is the reply.
"""

from collections.abc import Generator, Sequence

from askstream.agents.insights.offline.conversation import Act, Call, Conversation, Reply, Result, Say

Script = Generator[Act, Sequence[Result], str]  # ends with the agent's statement


def play(script: Script, conversation: Conversation) -> Reply:
    """The next reply. A call of a tool that the agent doesn't have gets the error `no_tool`."""
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
