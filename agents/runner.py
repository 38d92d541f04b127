"""Drives a team through one run: turn by turn if its kind allows it, else in one go.

Turn by turn means one `run_stream` a turn; in between the team's state is saved and its termination condition called
here. Such a run can be resumed exactly, while a state saved during `run_stream` is a race. Between turns a run also
stops to wait for a person: `TeamRunner.run` returns, and another one, with a fresh team, resumes from the checkpoint.
"""

import asyncio
import contextlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from autogen_agentchat.base import Handoff, TaskResult, Team
from autogen_agentchat.messages import (
    BaseChatMessage,
    HandoffMessage,
    MultiModalMessage,
    SelectorEvent,
    SelectSpeakerEvent,
    TextMessage,
    ThoughtEvent,
    UserInputRequestedEvent,
)
from autogen_agentchat.teams import BaseGroupChat, Swarm
from autogen_core import CancellationToken

from askstream.agents import (
    autogen_internals,
    checkpoint,
    console,
    failures,
    human,
    media,
    memory,
    model_answer,
    nesting,
)
from askstream.agents.answer import AnswerRule, Said
from askstream.agents.checkpoint import ExternalMessage, TeamCheckpoint, Waiting
from askstream.agents.chunk_buffer import ChunkBuffer
from askstream.agents.human import MessageLimits, TeamProfile
from askstream.agents.memory import ContextWindow, SessionState, TeamShape
from askstream.agents.progress import Progress
from askstream.agents.tap import ModelCalls
from askstream.agents.translate import TeamMessage, Translator
from askstream.server.events import AgentChunk, AgentResponse, Draft
from askstream.server.events.errors import AskstreamError, RunFailed
from askstream.server.foreign import Contained
from askstream.server.runs.orchestrator import Answer, Inquiry, Task

log = logging.getLogger(__name__)

_MANAGER_EVENTS = (SelectSpeakerEvent, SelectorEvent)

# Seconds to wait for the event that announces a question. It comes at once, unless a tool or a custom agent keeps it.
ANNOUNCED_SECONDS = 0.5

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
        limits: MessageLimits,
        window: ContextWindow | None = None,
    ) -> None:
        self._buffer, self._model_calls, self._progress, self._profile = buffer, model_calls, progress, profile
        self._translator = Translator(progress, model_calls.message_id, model_calls.thought_id)
        self._limits, self._window = limits, window or ContextWindow()
        self._checkpoint = TeamCheckpoint()
        self._stepping = self._resumed = False
        self._answer_rule = AnswerRule()
        self._members: frozenset[str] = frozenset()
        self._people: set[str] = set()  # agents that stand for a person
        self._announced: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._replies: list[str] = []
        self._left_state: Mapping[str, Any] = {}  # of a team that has ended
        # The question for which the team is stopped; None if it is stopped because nobody answers.
        self._stopped: asyncio.Future[Waiting | None] = asyncio.get_running_loop().create_future()

    @property
    def in_first_turn_of_session_state(self) -> bool:
        """Whether the team has gone on from the session's state, and no turn has ended yet."""
        at = self._checkpoint
        return not self._resumed and bool(at.state) and at.turns == 0

    async def run(self, team: Team, task: Task, start: TeamCheckpoint | None, save: Save) -> Answer | Inquiry:
        """Run the team. Raises RunFailed, or any error that AutoGen raises."""
        self._resumed = start is not None
        self._checkpoint = start or memory.first_checkpoint(
            task, self._profile.answerer, _shape(team), self._window.characters
        )
        self._answer_rule = autogen_internals.answer_rule(team, self._profile.author)
        self._people.update(autogen_internals.serve_inputs(team, suspend=self._suspend, wait=self._wait))
        console.serve_input(self._input)
        self._observe(team, task)
        if isinstance(team, BaseGroupChat) and autogen_internals.can_step(team):
            return await self._run_by_turns(team, task, save)
        if task.attempt > 1 or start is not None:
            raise _interrupted("its kind of team can't be resumed")
        return await self._run_whole(team, review=task.review)

    async def _run_whole(self, team: Team, *, review: bool) -> Answer:
        """Run the team in one go; and again, in the same place, with what a person says at its end."""
        while not self._checkpoint.ended:
            turn = asyncio.ensure_future(self._turn(team, await _messages(team, self._checkpoint.unheard)))
            await asyncio.wait((turn, self._stopped), return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                self._checkpoint = checkpoint.concluded(self._checkpoint)
                return self._answer()
            result = turn.result()
            at = replace(self._checkpoint, ended=True, unheard=(), stop_reason=result.stop_reason)
            handed_over = _handed_over(team, result.messages)
            self._checkpoint = human.after_turn(at, self._profile, handed_over=handed_over, review=review)
            if self._checkpoint.waiting is not None:
                reply = await self._buffer.ask(human.inquiry(self._checkpoint))
                self._checkpoint = human.after_reply(self._checkpoint, reply)
        return self._answer()

    def _observe(self, team: Team, task: Task) -> None:
        self._members = autogen_internals.names(team)
        for agent in nesting.agents(team):
            autogen_internals.report_turns(
                agent, self._turn_begins, self._yields, self._agent_failed, partial(self._tool_failed, task)
            )
            autogen_internals.report_tool_ends(agent)
        for inner in nesting.teams(team)[1:]:
            autogen_internals.silence_manager(inner)
        if isinstance(team, BaseGroupChat):
            autogen_internals.report_sent(team, self._buffer.order.sent)

    async def _run_by_turns(self, team: BaseGroupChat, task: Task, save: Save) -> Answer | Inquiry:
        self._stepping = True
        if self._checkpoint.waiting is not None:
            if task.reply is None:
                return human.inquiry(self._checkpoint)
            self._checkpoint = human.after_reply(self._checkpoint, task.reply)
        if self._checkpoint.ended:
            return self._answer(team)
        termination = autogen_internals.Termination.of(team)
        await self._restore(team, termination)
        while not self._checkpoint.ended:
            await self._step(team, termination, review=task.review)
            await self._buffer.emit_held()
            await save(checkpoint.dump(self._checkpoint))
            if self._checkpoint.waiting is not None:
                return self._inquiry()
            if not self._checkpoint.ended and (most := self._limits.reached(self._checkpoint)) is not None:
                raise _limit_exceeded(most)
        return self._answer(team)

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
            with Contained():
                await team.load_state(state)
            messages = autogen_internals.thread(team, state)
        except Exception as problem:
            if not self._resumed:
                raise memory.StateRefused(f"the team can't load the state that it saved ({problem!r})") from problem
            log.warning("the team can't load the state that it saved", exc_info=problem)
            raise _interrupted("its team has changed since") from problem
        for message in messages[at.remembered :]:
            if isinstance(message, BaseChatMessage):
                self._progress.finished(message.source)
        await termination.replay(messages[at.skipped :], at.shown)

    async def _step(self, team: BaseGroupChat, termination: autogen_internals.Termination, *, review: bool) -> None:
        """Run one turn, or the part of it before it waits for a person."""
        before = self._checkpoint
        new_messages = await _messages(team, before.unheard)
        counted = new_messages if before.state else new_messages[before.skipped :]
        if counted and (reason := await termination.ends(counted)) is not None:
            ended = replace(before, ended=True, stop_reason=reason)
            self._checkpoint = human.after_turn(ended, self._profile, handed_over=None, review=review)
            return
        turn = asyncio.ensure_future(self._turn(team, new_messages))
        await asyncio.wait((turn, self._stopped), return_when=asyncio.FIRST_COMPLETED)
        if not turn.done():
            self._checkpoint = self._stopped_checkpoint(before, self._stopped.result(), review=review)
            return
        result = turn.result()
        reason = await _stop_reason(result, termination, before.turns + 1)
        self._checkpoint = replace(self._checkpoint, stop_reason=reason)
        ended = reason is not None
        final = ended and _handed_over(team, result.messages) is None and not review
        at = await self._checkpoint_after(team, new_count=len(counted), ended=ended, final=final)
        said = autogen_internals.thread(team, at.state) if at.state else result.messages
        self._checkpoint = human.after_turn(at, self._profile, handed_over=_handed_over(team, said), review=review)

    def _stopped_checkpoint(self, before: TeamCheckpoint, waiting: Waiting | None, *, review: bool) -> TeamCheckpoint:
        """The checkpoint of a turn that was stopped: it began at `before`, where it begins again with the reply."""
        if waiting is None:
            return human.given_up(replace(self._checkpoint, usage=self._model_calls.usage), review=review)
        at = replace(before, usage=self._model_calls.usage, introduced=self._checkpoint.introduced)
        return human.during_turn(at, waiting, review=review)

    async def _turn(self, team: Team, new_messages: list[BaseChatMessage]) -> TaskResult:
        """Run the team until it stops: with `new_messages`, or from its last turn if there are none."""
        result = TaskResult(messages=[])
        token = CancellationToken()
        sent_ids = {message.id for message in new_messages}  # MagenticOne repeats the question despite the option below
        for message_id in sent_ids:
            self._buffer.order.skips(message_id)
        stream = team.run_stream(task=new_messages or None, cancellation_token=token, output_task_messages=False)
        try:
            async for message in stream:
                if isinstance(message, TaskResult):
                    result = message
                    continue
                with self._buffer.order.handling(message.id):
                    if message.id not in sent_ids:
                        await self._handle(message)
        finally:
            _cancel(token)  # a tool's thread can't be cancelled, but may check the token
        return result

    async def _handle(self, message: TeamMessage) -> None:
        if self._is_repeated(message):
            return
        if isinstance(message, BaseChatMessage):
            self._count(message)
        spent = message.models_usage
        if spent and not self._model_calls.has_counted(spent, message.source):  # a client that isn't the run's
            self._model_calls.usage += model_answer.counted(spent)
        for draft in await self._drafts(message):
            await self._emit(draft)
        if (most := self._limits.passed(self._checkpoint)) is not None:
            raise _limit_exceeded(most)

    async def _drafts(self, message: TeamMessage) -> list[Draft]:
        if media.has_images(message):  # to encode them takes too long for the loop
            return await asyncio.to_thread(self._translator.drafts, message)
        return self._translator.drafts(message)

    def _is_repeated(self, message: TeamMessage) -> bool:
        """Whether viewers get `message` otherwise: as a choice emitted before the inquiry, or as the inquiry itself."""
        match message:
            case UserInputRequestedEvent():
                self._announced[message.request_id].set()
                return message.source in self._people
            case SelectSpeakerEvent():
                before, self._checkpoint = self._checkpoint, replace(self._checkpoint, introduced=True)
                return before.speaker is not None and before.introduced
            case _:
                return False

    def _count(self, message: BaseChatMessage) -> None:
        at = self._checkpoint
        at = replace(at, messages=at.messages + 1, alone=at.alone + 1)
        if message.source not in self._people:  # a person's text can't be the answer
            at = replace(at, final_response=message.to_text(), agent_name=message.source)
            if not isinstance(message, HandoffMessage):
                said = Said(message.source, message.to_text())
                at = replace(at, answer=self._answer_rule.after(at.answer, said))
        self._checkpoint = at

    async def _emit(self, draft: Draft) -> None:
        match draft.body:
            case AgentChunk(delta=delta, message_id=message_id):
                await self._buffer.write(draft.agent_name, message_id, delta)
            case AgentResponse() if self._stepping:
                # A turn's last response is emitted together with the turn's checkpoint. If it were emitted earlier and
                # the server died in between, a turn whose result viewers have seen would repeat.
                await self._buffer.hold(draft)
            case _:
                await self._buffer.emit(draft)

    def _yields(self, message: TeamMessage) -> None:
        self._buffer.order.yielded(message.id, message.source)

    def _agent_failed(self, agent_name: str, problem: Exception) -> None:
        """Keep the error itself: AutoGen passes on its text alone."""
        if not isinstance(problem, AskstreamError):
            self._model_calls.agent_problems[agent_name] = problem

    def _tool_failed(self, task: Task, agent_name: str, tool: str, problem: Exception) -> None:
        where = f"run={task.run_id} agent={agent_name} tool={tool}"
        failures.report(where, problem, hidden=self._model_calls.problems.values())

    async def _turn_begins(self, agent_name: str, description: str, heard: Sequence[BaseChatMessage]) -> None:
        for message in heard:
            if agent_name not in self._members and message.source == memory.USER:
                self._buffer.order.heard(message.id, message.source)
        await self._buffer.order.settled()
        if agent_name != self._checkpoint.speaker:
            await self._buffer.emit(self._translator.turn(agent_name, description))

    async def _suspend(self, agent_name: str, prompt: str) -> str:
        """Return the person's answer to `prompt`. Without one it never returns: the run stops here."""
        self._people.add(agent_name)
        if self._replies:
            return self._replies.pop(0)
        return await self._stop(Waiting(kind="input", agent_name=agent_name, prompt=prompt.strip() or human.NO_PROMPT))

    async def _wait(self, agent_name: str, prompt: str) -> str:
        """Return the person's answer to `prompt` to an agent that stands for a person. The team waits in memory."""
        self._people.add(agent_name)
        request_id = autogen_internals.input_request()
        if request_id is not None:  # what the agents said before comes first
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCED_SECONDS):
                    await self._announced[request_id].wait()
        return await self._ask(agent_name, prompt)

    async def _input(self, prompt: str) -> str:
        """Return the person's answer where anything else in the team calls `input`."""
        agent_name = autogen_internals.at_work() or self._checkpoint.agent_name or "System"
        return await self._ask(agent_name, prompt)

    async def _ask(self, agent_name: str, prompt: str) -> str:
        if self._checkpoint.unanswered:
            return await self._stop(None)
        reply = await self._buffer.ask(human.in_memory(agent_name, prompt.strip() or human.NO_PROMPT))
        self._checkpoint = human.heard(self._checkpoint, reply)
        return str(reply.value) if reply.answered else human.NO_REPLY

    async def _stop(self, waiting: Waiting | None) -> str:
        """Stop the team. Never returns: the run's scope cancels it."""
        if not self._stopped.done():
            self._stopped.set_result(waiting)
        return await asyncio.get_running_loop().create_future()

    async def _checkpoint_after(
        self, team: BaseGroupChat, *, new_count: int, ended: bool, final: bool
    ) -> TeamCheckpoint:
        """The checkpoint after a turn that began with `new_count` messages. A `final` one has no team state, the
        largest of the run: only the answer is left, and the session's state with it."""
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
        if final and not self._profile.keeps_state:
            return replace(at, state={})
        try:
            with Contained():
                state = await team.save_state()
            if final:
                self._left_state = state
                return replace(at, state={})
            said = len(autogen_internals.thread(team, state)) - at.skipped - sum(at.shown) - new_count
            whole = replace(at, state=state, shown=(*at.shown, *((new_count,) if new_count else ()), said))
            checkpoint.dump(whole)
        except Exception as problem:
            log.warning("the team's state can't be saved: this run can't be resumed after a crash", exc_info=problem)
            return replace(at, state={} if final else None)
        return whole

    def _inquiry(self) -> Inquiry:
        if self._checkpoint.state is None:
            raise RunFailed("team_unavailable", "The team can't wait for a person: its state can't be saved.")
        return human.inquiry(self._checkpoint)

    def _answer(self, team: BaseGroupChat | None = None) -> Answer:
        """The run's answer. A `team` that was run by turns leaves its state to the session."""
        final_response = self._checkpoint.final_response or ""
        if not final_response.strip():
            raise RunFailed("team_failed", "The team ended without an answer. Put the question another way.")
        return Answer(
            final_response=final_response,
            total_messages=self._checkpoint.messages,
            usage=self._model_calls.usage,
            agent_name=self._checkpoint.agent_name,
            stop_reason=None if team and autogen_internals.is_single_agent(team) else self._checkpoint.stop_reason,
            session_state=self._session_state(team) if team else None,
        )

    def _session_state(self, team: BaseGroupChat) -> bytes | None:
        state, shape = self._left_state or self._checkpoint.state, _shape(team)
        if not state or not self._profile.keeps_state or shape is None:
            return None
        try:
            said = autogen_internals.thread(team, state)
        except Exception as problem:  # such as a custom message without a `type`, which AutoGen can't load again
            log.warning("the team's state can't be kept for its session", exc_info=problem)
            return None
        left = SessionState(shape=shape, state=state, messages=len(said), target=_waits_for_person(said, shape.members))
        return memory.dump_state(left, self._window.state_bytes)


def _shape(team: Team) -> TeamShape | None:
    """None for a kind of team that can't go on from a saved state."""
    if not isinstance(team, BaseGroupChat) or not autogen_internals.can_step(team):
        return None
    return TeamShape(kind=type(team).__name__, members=sorted(autogen_internals.names(team)))


def _limit_exceeded(most: int) -> RunFailed:
    return RunFailed("message_limit", f"The team didn't end within {most} messages. Ask for less, or raise the limit.")


def _cancel(token: CancellationToken) -> None:
    """Cancel `token`. Its callbacks are foreign code: an error of theirs must not replace the turn's result.

    An MCP workbench links a coroutine instead of a future, which has no `cancel`.
    """
    try:
        with Contained():
            token.cancel()
    except Exception as problem:  # noqa: BLE001
        log.debug("a callback of the cancellation token failed: %s", failures.origin(problem))


def _interrupted(why: str) -> RunFailed:
    return RunFailed("interrupted", f"The run was interrupted, and {why}. Ask again.")


async def _messages(team: Team, said: Sequence[ExternalMessage]) -> list[BaseChatMessage]:
    found: list[BaseChatMessage] = []
    for one in said:
        if one.images:
            pictures = await asyncio.to_thread(media.read, one.images)
            found.append(MultiModalMessage(source=one.source, content=[one.text, *pictures]))
        if one.target or not one.images:
            found.append(_message(one, by_handoff=isinstance(team, Swarm)))
    return found


def _message(said: ExternalMessage, *, by_handoff: bool) -> BaseChatMessage:
    if by_handoff and said.target:
        return HandoffMessage(source=said.source, target=said.target, content=said.text)
    return TextMessage(source=said.source, content=said.text)


async def _stop_reason(result: TaskResult, termination: autogen_internals.Termination, turns: int) -> str | None:
    """The reason why the team has ended with this turn, or None if it goes on."""
    if result.stop_reason != autogen_internals.ONE_TURN:
        return result.stop_reason or "The team stopped."
    reason = await termination.ends(_of_thread(result.messages))
    return termination.out_of_turns(turns) if reason is None else reason


def _handed_over(team: Team, messages: Sequence[TeamMessage]) -> str | None:
    """The question to a person if the last message hands the turn to a name that isn't in the team, else None."""
    last = next((message for message in reversed(messages) if isinstance(message, BaseChatMessage)), None)
    if not isinstance(last, HandoffMessage) or last.target in autogen_internals.names(team):
        return None
    return _handoff_question(last, messages[: messages.index(last)])


def _waits_for_person(thread: Sequence[TeamMessage], members: Sequence[str]) -> str:
    """The agent that has handed the turn to a person who didn't answer, if any."""
    last = next((message for message in reversed(thread) if isinstance(message, HandoffMessage)), None)
    return last.source if last and last.target not in members else ""


def _handoff_question(handoff: HandoffMessage, before: Sequence[TeamMessage]) -> str:
    """The question of a handoff to a person: the thought before it, its own sentence, or the text that its agent wrote
    before. Without any of these it is AutoGen's sentence, which asks nothing."""
    turn = itertools.takewhile(lambda message: message.source == handoff.source, reversed(before))
    said = next((message for message in turn if isinstance(message, ThoughtEvent | TextMessage)), None)
    asks_itself = handoff.content.strip() not in ("", Handoff(target=handoff.target).message)
    if said is None or (asks_itself and isinstance(said, TextMessage)):
        return handoff.content
    return said.content.strip() or handoff.content


def _of_thread(messages: Sequence[TeamMessage]) -> list[TeamMessage]:
    """The messages of the conversation, without the manager's own on the next speaker and without tool ends."""
    return [
        message
        for message in messages
        if not isinstance(message, _MANAGER_EVENTS) and not autogen_internals.is_tool_end(message)
    ]
