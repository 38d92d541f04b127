"""Drives a team through one run: turn by turn where its kind allows it, else in one go.

Turn by turn means one `run_stream` a turn, the team's state saved in between and its termination condition asked
here: that is exactly resumable, while a state saved during a run is a race.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from autogen_agentchat.base import TaskResult, Team, TerminationCondition
from autogen_agentchat.messages import BaseChatMessage, SelectorEvent, SelectSpeakerEvent, TextMessage
from autogen_agentchat.teams import BaseGroupChat
from autogen_core import CancellationToken

from agents import anatomy, checkpoint
from agents.checkpoint import Checkpoint
from agents.outlet import Outlet
from agents.progress import Progress
from agents.tap import Ledger
from agents.translate import Message, Translator
from server.events import AgentChunk, AgentResponse, Draft, Usage
from server.events.errors import RunFailed
from server.runs.orchestrator import Answer

log = logging.getLogger(__name__)

_ASIDE = (SelectSpeakerEvent, SelectorEvent)

Save = Callable[[bytes], Awaitable[None]]


class Drive:
    """One run of one team, which must be fresh and is used up afterwards."""

    def __init__(
        self,
        outlet: Outlet,
        ledger: Ledger,
        progress: Progress,
        *,
        max_messages: int,
        attempt: int = 1,
        start: Checkpoint | None = None,
    ) -> None:
        self._outlet, self._ledger, self._progress = outlet, ledger, progress
        self._translator = Translator(progress, ledger.message_id)
        self._limit = max_messages
        self._attempt, self._start = attempt, start
        begun = start or Checkpoint()
        self._shown = list(begun.shown)
        self._turns, self._messages = begun.turns, begun.messages
        self._final, self._agent_name = begun.final_response, begun.agent_name
        self._stepping = False
        self._held: Draft | None = None

    async def run(self, team: Team, question: str, save: Save) -> Answer:
        """Raises RunFailed, or what AutoGen raises, which is anything."""
        for agent in anatomy.members(team):
            anatomy.announce_turns(agent, self._turn_begins)
            anatomy.announce_ends(agent)
        if isinstance(team, BaseGroupChat) and anatomy.can_step(team):
            await self._step(team, question, save)
        elif self._attempt > 1 or self._start is not None:
            raise RunFailed("interrupted", "The run was interrupted, and its kind of team can't be resumed. Ask again.")
        else:
            await self._turn(team, TextMessage(content=question, source="user"))
        return self._answer()

    async def _step(self, team: BaseGroupChat, question: str, save: Save) -> None:
        self._stepping = True
        condition, max_turns = anatomy.take_rule(team)
        task: TextMessage | None = None
        if self._start is None:
            task = TextMessage(content=question, source="user")
            ended = await self._ends(condition, [task])
            self._shown.append(1)
        else:
            ended = await self._restore(team, condition, self._start)
        while not ended:
            result = await self._turn(team, task)
            task = None
            self._turns += 1
            ended = (
                result.stop_reason != anatomy.ONE_TURN
                or await self._ends(condition, _of_thread(result.messages))
                or self._turns == max_turns
            )
            await self._save(team, save, ended=ended)
            if not ended and self._messages >= self._limit:
                raise self._too_long()

    async def _turn(self, team: Team, task: TextMessage | None) -> TaskResult:
        """Lets the team go on until it stops: with `task`, or None to go on from where it was."""
        result = TaskResult(messages=[])
        token = CancellationToken()
        try:
            async for message in team.run_stream(task=task, cancellation_token=token, output_task_messages=False):
                if isinstance(message, TaskResult):
                    result = message
                elif not _repeats(message, task):
                    await self._hear(message)
        finally:
            token.cancel()  # for a tool in a thread, which can't be cancelled but may look at it
        return result

    async def _hear(self, message: Message) -> None:
        if isinstance(message, BaseChatMessage):
            self._messages += 1
            self._final, self._agent_name = message.to_text(), message.source
        if message.models_usage and message.source not in self._ledger.callers:  # an agent with a client of its own
            spent = message.models_usage
            self._ledger.usage += Usage(spent.prompt_tokens, spent.completion_tokens)
        for draft in self._translator.drafts(message):
            await self._tell(draft)
        if self._messages > self._limit:
            raise self._too_long()

    async def _tell(self, draft: Draft) -> None:
        await self._release()
        match draft.body:
            case AgentChunk(delta=delta, message_id=message_id):
                await self._outlet.write(draft.agent_name, message_id, delta)
            case AgentResponse() if self._stepping:
                self._held = draft
            case _:
                await self._outlet.emit(draft)

    async def _release(self) -> None:
        """Tells the response that was held back: the last of a turn goes out together with the turn's checkpoint.

        Told before, a server that dies in between would do a turn again whose result viewers have seen.
        """
        held, self._held = self._held, None
        if held is not None:
            await self._outlet.emit(held)

    async def _turn_begins(self, agent_name: str, description: str) -> None:
        await self._outlet.emit(self._translator.turn(agent_name, description))

    async def _ends(self, condition: TerminationCondition | None, messages: Sequence[Message]) -> bool:
        return condition is not None and bool(messages) and await condition(messages) is not None

    async def _save(self, team: BaseGroupChat, save: Save, *, ended: bool) -> None:
        try:
            state = await team.save_state()
            self._shown.append(len(anatomy.thread(team, state)) - sum(self._shown))
            saved = checkpoint.dump(self._reached(state, ended=ended))
        except Exception as problem:  # noqa: BLE001 - a member's own code, which may do anything
            log.warning("the team's state can't be saved (%s): this run would not survive a restart", type(problem))
            await self._release()
            return
        await self._release()
        await save(saved)

    def _reached(self, state: Any, *, ended: bool) -> Checkpoint:
        return Checkpoint(
            state=state,
            shown=tuple(self._shown),
            turns=self._turns,
            messages=self._messages,
            usage=self._ledger.usage,
            progress=self._progress.now,
            final_response=self._final,
            agent_name=self._agent_name,
            ended=ended,
        )

    async def _restore(self, team: BaseGroupChat, condition: TerminationCondition | None, start: Checkpoint) -> bool:
        """Puts a fresh team where `start` was reached; whether it has ended there."""
        if start.ended:
            return True
        await team.load_state(start.state)
        messages = anatomy.thread(team, start.state)
        for message in messages:
            if isinstance(message, BaseChatMessage):
                self._progress.finished(message.source)
        for count in start.shown:
            portion, messages = messages[:count], messages[count:]
            if await self._ends(condition, portion):
                return True
        return False

    def _answer(self) -> Answer:
        if self._final is None:
            raise RunFailed("team_failed", "The team came to an end without an answer. Put the question another way.")
        return Answer(
            final_response=self._final,
            total_messages=self._messages,
            usage=self._ledger.usage,
            agent_name=self._agent_name,
        )

    def _too_long(self) -> RunFailed:
        return RunFailed(
            "message_limit",
            f"The team didn't come to an end within {self._limit} messages. Ask for less, or raise the limit.",
        )


def _repeats(message: Message, task: TextMessage | None) -> bool:
    """Whether it is the question itself, which MagenticOne says again though it was told not to."""
    return isinstance(message, TextMessage) and task is not None and message.id == task.id


def _of_thread(messages: Sequence[Message]) -> list[Message]:
    """Those that a team's manager counts as said: what it says itself, about who comes next, it doesn't."""
    return [message for message in messages if not isinstance(message, _ASIDE) and not anatomy.tells_one_end(message)]
