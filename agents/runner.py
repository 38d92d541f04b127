"""Drives a team through one run: turn by turn if its kind allows it, else in one go.

Turn by turn means one `run_stream` a turn; in between the team's state is saved and its termination condition called
here. Such a run can be resumed exactly, while a state saved during `run_stream` is a race. Between turns a run also
stops to wait for a person: `TeamRunner.run` returns, and another one, with a fresh team, resumes from the checkpoint.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from autogen_agentchat.base import TaskResult, Team
from autogen_agentchat.messages import (
    BaseChatMessage,
    HandoffMessage,
    SelectorEvent,
    SelectSpeakerEvent,
    TextMessage,
    UserInputRequestedEvent,
)
from autogen_agentchat.teams import BaseGroupChat, Swarm
from autogen_core import CancellationToken

from askstream.agents import answers, autogen_internals, checkpoint, human, memory
from askstream.agents.checkpoint import ExternalMessage, TeamCheckpoint, Waiting
from askstream.agents.chunk_buffer import ChunkBuffer
from askstream.agents.human import TeamProfile
from askstream.agents.progress import Progress
from askstream.agents.tap import ModelCalls
from askstream.agents.translate import TeamMessage, Translator
from askstream.server.events import AgentChunk, AgentResponse, Draft
from askstream.server.events.errors import RunFailed
from askstream.server.runs.orchestrator import Answer, Inquiry, Task

log = logging.getLogger(__name__)

_MANAGER_EVENTS = (SelectSpeakerEvent, SelectorEvent)

Save = Callable[[bytes], Awaitable[None]]


class TeamRunner:
    """One run of one team from `start` to its end, or until it waits for a person. The team must be fresh and can't be
    used again. The run's scope must end the tasks that it leaves behind."""

    def __init__(
        self,
        buffer: ChunkBuffer,
        model_calls: ModelCalls,
        progress: Progress,
        profile: TeamProfile,
        *,
        max_messages: int,
        memory_characters: int = memory.MEMORY_CHARACTERS,
    ) -> None:
        self._buffer, self._model_calls, self._progress, self._profile = buffer, model_calls, progress, profile
        self._translator = Translator(progress, model_calls.message_id, model_calls.thought_id)
        self._limit, self._memory_characters = max_messages, memory_characters
        self._checkpoint = TeamCheckpoint()
        self._stepping = False
        self._held_response: Draft | None = None
        self._inputs: frozenset[str] = frozenset()
        self._replies: list[str] = []
        self._waiting: asyncio.Future[Waiting] = asyncio.get_running_loop().create_future()

    async def run(self, team: Team, task: Task, start: TeamCheckpoint | None, save: Save) -> Answer | Inquiry:
        """Run the team. Raises RunFailed, or any error that AutoGen raises."""
        self._checkpoint = start or memory.first_checkpoint(task, self._profile.answerer, self._memory_characters)
        self._inputs = autogen_internals.intercept_inputs(team, self._ask)
        for agent in autogen_internals.members(team):
            autogen_internals.report_turns(agent, self._turn_begins)
            autogen_internals.report_tool_ends(agent)
        if isinstance(team, BaseGroupChat) and autogen_internals.can_step(team):
            return await self._run_by_turns(team, task, save)
        if task.attempt > 1 or start is not None:
            raise _interrupted("its kind of team can't be resumed")
        if task.review:
            raise RunFailed("team_unavailable", "This kind of team can't wait for a review. Ask without one.")
        await self._turn(team, _messages(team, self._checkpoint.unheard))
        return self._answer()

    async def _run_by_turns(self, team: BaseGroupChat, task: Task, save: Save) -> Answer | Inquiry:
        self._stepping = True
        if self._checkpoint.waiting is not None:
            if task.reply is None:
                return human.inquiry(self._checkpoint)
            self._checkpoint = human.after_reply(self._checkpoint, task.reply)
        if self._checkpoint.ended:
            return self._answer()
        termination = autogen_internals.Termination.of(team)
        await self._restore(team, termination)
        while not self._checkpoint.ended:
            await self._step(team, termination, review=task.review)
            await self._emit_held()
            await save(checkpoint.dump(self._checkpoint))
            if self._checkpoint.waiting is not None:
                return self._inquiry()
            if not self._checkpoint.ended and self._checkpoint.messages >= self._limit:
                raise self._limit_exceeded()
        return self._answer()

    async def _restore(self, team: BaseGroupChat, termination: autogen_internals.Termination) -> None:
        """Bring a fresh team and its termination to the state of the checkpoint."""
        at = self._checkpoint
        if at.state is None:
            raise _interrupted("its team's state couldn't be saved")
        self._replies = list(at.replies)
        state = at.state if at.speaker is None else autogen_internals.force_first_speaker(team, at.state, at.speaker)
        if not state:
            return
        try:
            await team.load_state(state)
            messages = autogen_internals.thread(team, state)
        except Exception as problem:
            log.warning("the team can't load the state that it saved (%s)", type(problem).__name__)
            raise _interrupted("its team has changed since") from problem
        for message in messages[at.remembered :]:
            if isinstance(message, BaseChatMessage):
                self._progress.finished(message.source)
        await termination.replay(messages[at.skipped :], at.shown)

    async def _step(self, team: BaseGroupChat, termination: autogen_internals.Termination, *, review: bool) -> None:
        """Run one turn, or the part of it before it waits for a person."""
        before = self._checkpoint
        new_messages = _messages(team, before.unheard)
        counted = new_messages if before.state else new_messages[before.skipped :]
        if counted and await termination.ends(counted):
            self._checkpoint = human.after_turn(
                replace(before, ended=True), self._profile, handed_over=False, review=review
            )
            return
        turn = asyncio.ensure_future(self._turn(team, new_messages))
        await asyncio.wait((turn, self._waiting), return_when=asyncio.FIRST_COMPLETED)
        if not turn.done():
            at = replace(before, usage=self._model_calls.usage, introduced=self._checkpoint.introduced)
            self._checkpoint = human.during_turn(at, self._waiting.result(), review=review)
            return
        result = turn.result()
        ended = (
            result.stop_reason != autogen_internals.ONE_TURN
            or await termination.ends(_of_thread(result.messages))
            or before.turns + 1 == termination.max_turns
        )
        handed_over = _handed_to(result.messages) not in (None, *autogen_internals.names(team))
        final = ended and not handed_over and not review
        at = await self._checkpoint_after(team, new_count=len(counted), ended=ended, final=final)
        self._checkpoint = human.after_turn(at, self._profile, handed_over=handed_over, review=review)

    async def _turn(self, team: Team, new_messages: list[BaseChatMessage]) -> TaskResult:
        """Run the team until it stops: with `new_messages`, or from its last turn if there are none."""
        result = TaskResult(messages=[])
        token = CancellationToken()
        sent_ids = {message.id for message in new_messages}  # MagenticOne repeats the question despite the option below
        stream = team.run_stream(task=new_messages or None, cancellation_token=token, output_task_messages=False)
        try:
            async for message in stream:
                if isinstance(message, TaskResult):
                    result = message
                elif message.id not in sent_ids:
                    await self._handle(message)
        finally:
            token.cancel()  # a tool's thread can't be cancelled, but may check the token
        return result

    async def _handle(self, message: TeamMessage) -> None:
        if self._is_repeated(message):
            return
        if isinstance(message, BaseChatMessage):
            self._count(message)
        if message.models_usage and message.source not in self._model_calls.callers:  # an agent's own client
            self._model_calls.usage += answers.counted(message.models_usage)
        for draft in self._translator.drafts(message):
            await self._emit(draft)
        if self._checkpoint.messages > self._limit:
            raise self._limit_exceeded()

    def _is_repeated(self, message: TeamMessage) -> bool:
        """Whether viewers get `message` otherwise: as a choice emitted before the inquiry, or as the inquiry itself."""
        match message:
            case UserInputRequestedEvent():
                return message.source in self._inputs
            case SelectSpeakerEvent():
                before, self._checkpoint = self._checkpoint, replace(self._checkpoint, introduced=True)
                return before.speaker is not None and before.introduced
            case _:
                return False

    def _count(self, message: BaseChatMessage) -> None:
        self._checkpoint = replace(self._checkpoint, messages=self._checkpoint.messages + 1)
        if message.source not in self._inputs:  # a person's text can't be the answer
            self._checkpoint = replace(self._checkpoint, final_response=message.to_text(), agent_name=message.source)

    async def _emit(self, draft: Draft) -> None:
        await self._emit_held()
        match draft.body:
            case AgentChunk(delta=delta, message_id=message_id):
                await self._buffer.write(draft.agent_name, message_id, delta)
            case AgentResponse() if self._stepping:
                self._held_response = draft
            case _:
                await self._buffer.emit(draft)

    async def _emit_held(self) -> None:
        """Emit the held response: a turn's last one is emitted together with the turn's checkpoint.

        If it were emitted earlier and the server died in between, a turn whose result viewers have seen would repeat.
        """
        held, self._held_response = self._held_response, None
        if held is not None:
            await self._buffer.emit(held)

    async def _turn_begins(self, agent_name: str, description: str) -> None:
        if agent_name != self._checkpoint.speaker:
            await self._buffer.emit(self._translator.turn(agent_name, description))

    async def _ask(self, agent_name: str, prompt: str) -> str:
        """Return the person's answer to `prompt`. Without one it never returns: the run stops here."""
        if self._replies:
            return self._replies.pop(0)
        if not self._waiting.done():
            self._waiting.set_result(Waiting(kind="input", agent_name=agent_name, prompt=prompt))
        return await asyncio.get_running_loop().create_future()

    async def _checkpoint_after(
        self, team: BaseGroupChat, *, new_count: int, ended: bool, final: bool
    ) -> TeamCheckpoint:
        """The checkpoint after a turn that began with `new_count` messages. A `final` one has no team state, the
        largest of the run: only the answer is left."""
        at = replace(
            self._checkpoint,
            turns=self._checkpoint.turns + 1,
            usage=self._model_calls.usage,
            progress=self._progress.now,
            ended=ended,
            unheard=(),
            speaker=None,
            replies=(),
            introduced=False,
        )
        if final:
            return replace(at, state={})
        try:
            state = await team.save_state()
            said = len(autogen_internals.thread(team, state)) - at.skipped - sum(at.shown) - new_count
            whole = replace(at, state=state, shown=(*at.shown, *((new_count,) if new_count else ()), said))
            checkpoint.dump(whole)
        except Exception as problem:  # noqa: BLE001 - a member's own code may raise anything
            log.warning("the team's state can't be saved (%s): this run can't be resumed after a crash", type(problem))
            return replace(at, state=None)
        return whole

    def _inquiry(self) -> Inquiry:
        if self._checkpoint.state is None:
            raise RunFailed("team_unavailable", "The team can't wait for a person: its state can't be saved.")
        return human.inquiry(self._checkpoint)

    def _answer(self) -> Answer:
        final_response = self._checkpoint.final_response or ""
        if not final_response.strip():
            raise RunFailed("team_failed", "The team ended without an answer. Put the question another way.")
        return Answer(
            final_response=final_response,
            total_messages=self._checkpoint.messages,
            usage=self._model_calls.usage,
            agent_name=self._checkpoint.agent_name,
        )

    def _limit_exceeded(self) -> RunFailed:
        return RunFailed(
            "message_limit",
            f"The team didn't end within {self._limit} messages. Ask for less, or raise the limit.",
        )


def _interrupted(why: str) -> RunFailed:
    return RunFailed("interrupted", f"The run was interrupted, and {why}. Ask again.")


def _messages(team: Team, said: Sequence[ExternalMessage]) -> list[BaseChatMessage]:
    return [_message(one, by_handoff=isinstance(team, Swarm)) for one in said]


def _message(said: ExternalMessage, *, by_handoff: bool) -> BaseChatMessage:
    if by_handoff and said.target:
        return HandoffMessage(source=said.source, target=said.target, content=said.text)
    return TextMessage(source=said.source, content=said.text)


def _handed_to(messages: Sequence[TeamMessage]) -> str | None:
    """The target if the last message is a handoff, else None."""
    last = next((message for message in reversed(messages) if isinstance(message, BaseChatMessage)), None)
    return last.target if isinstance(last, HandoffMessage) else None


def _of_thread(messages: Sequence[TeamMessage]) -> list[TeamMessage]:
    """The messages of the conversation, without the manager's own on the next speaker and without tool ends."""
    return [
        message
        for message in messages
        if not isinstance(message, _MANAGER_EVENTS) and not autogen_internals.is_tool_end(message)
    ]
