"""The bundled team: the order of its agents, their tools, and the run's progress."""

from pathlib import Path

import pytest
from autogen_agentchat.messages import TextMessage, ToolCallExecutionEvent, ToolCallRequestEvent
from autogen_core.models import FunctionExecutionResult

from askstream.agents.factory import BundledTeam
from askstream.agents.insights import team as insights
from askstream.agents.insights import warehouse
from askstream.agents.insights.team import (
    ANALYST,
    ASK_USER,
    DATA,
    MORE_DATA,
    NO_DATA,
    ORDER,
    PLANNER,
    REPORTER,
    has_data,
    next_speaker,
)
from askstream.agents.insights.tools import toolbox
from askstream.agents.models import ModelSettings, connect
from askstream.agents.orchestrator import AutoGenOrchestrator
from askstream.server.events import AgentResponse, AgentThinking, ToolExecution
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import Recorder, answered, task


def said(source: str, text: str = "...") -> TextMessage:
    return TextMessage(content=text, source=source)


@pytest.mark.parametrize(
    ("spoken", "speaker"),
    [([], PLANNER), ([PLANNER], DATA), ([PLANNER, DATA], ANALYST), ([PLANNER, DATA, ANALYST], REPORTER)],
)
def test_the_four_speak_in_order(spoken: list[str], speaker: str) -> None:
    """Plan, data, analysis, report; the question and tool calls are nobody's turn."""
    thread = [said("user"), *map(said, spoken), ToolCallRequestEvent(content=[], source=REPORTER)]
    assert next_speaker(thread) == speaker


@pytest.mark.parametrize("text", [f"{MORE_DATA} by region", f"So far:\n  {MORE_DATA} by region"])
@pytest.mark.parametrize(("rounds_before", "speaker"), [(0, PLANNER), (1, PLANNER), (2, REPORTER)])
def test_the_analyst_may_send_the_work_back_twice(text: str, rounds_before: int, speaker: str) -> None:
    """After that the report uses the data there is."""
    one_round = [said(PLANNER), said(DATA), said(ANALYST, text)]
    assert next_speaker([said("user"), *one_round * (rounds_before + 1)]) == speaker


@pytest.mark.parametrize("text", ["We need more data: none.", "I wrote MORE DATA: in a sentence", ""])
def test_only_the_start_of_a_line_sends_the_work_back(text: str) -> None:
    """Not the same words inside a sentence."""
    assert next_speaker([said(PLANNER), said(DATA), said(ANALYST, text)]) == REPORTER


def test_a_persons_message_goes_to_the_planner() -> None:
    """An answer or a remark; all four agents follow again."""
    asked = [said("user"), said(PLANNER, f"{ASK_USER} Which?")]
    assert next_speaker([*asked, said("user")]) == PLANNER
    assert next_speaker([*asked, said("user"), said(PLANNER)]) == DATA
    assert next_speaker([*asked, said("user"), *map(said, ORDER), said("user", "REVIEW: no")]) == PLANNER


def test_sending_back_is_counted_over_all_rounds() -> None:
    """A remark doesn't allow the analyst two more."""
    one_round = [said("user"), said(PLANNER), said(DATA), said(ANALYST, MORE_DATA)]
    assert next_speaker([*one_round * 2, said(PLANNER), said(DATA), said(ANALYST, MORE_DATA)]) == REPORTER


def test_an_earlier_report_is_nobodys_turn() -> None:
    """The session's earlier messages come before the question, and the planner begins."""
    assert next_speaker([said("user"), said(REPORTER), said("user")]) == PLANNER


def test_each_agent_introduces_itself_to_the_model() -> None:
    """The offline analyst needs it to know the agent."""
    for name in ORDER:
        assert insights._PROMPTS[name].startswith(f"You are {name},")  # pyright: ignore[reportPrivateUsage]


def test_each_agent_has_the_tools_of_its_task(tmp_path: Path) -> None:
    """And the tools that its prompt names exist."""
    assert {name for names in insights._TOOLS.values() for name in names} == set(toolbox(tmp_path))  # pyright: ignore[reportPrivateUsage]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("warehouse") / "warehouse.db"
    warehouse.build(path)
    return path


def model(body: Body, _: int) -> Reply:
    """Play all four agents: each calls one of its tools first; the analyst asks once for more data."""
    system, messages = str(body["messages"][0]["content"]), body["messages"]
    name = system.removeprefix("You are ").partition(",")[0]
    answered = messages[-1]["role"] == "tool"
    chart = '{"type": "bar", "title": "t", "labels": ["a"], "series": [{"name": "s", "values": [1]}]}'
    first = {
        PLANNER: ("describe_schema", "{}"),
        DATA: ("run_sql", '{"query": "SELECT count(*) FROM orders"}'),
        ANALYST: ("run_sql", '{"query": "DELETE FROM orders"}'),
        REPORTER: ("make_chart", chart),
    }
    if not answered:
        return Reply(calls=[first[name]])
    if name == ANALYST and "tool_calls" in str(messages) and str(messages).count(f"{MORE_DATA}") < 2:
        return Reply(text=[f"{MORE_DATA} everything"])
    return Reply(text=[f"{name} is done"])


async def run(base_url: str, database: Path, sink: Recorder, max_messages: int = 40) -> str:
    settings = ModelSettings(model="fake", base_url=base_url, names="field")
    source = BundledTeam(database.parent, database, max_messages)
    team = AutoGenOrchestrator(model="fake", client=lambda: connect(settings), source=source, max_messages=max_messages)
    try:
        return answered(await team.run(task(), sink)).final_response
    finally:
        await team.close()


async def test_progress_follows_the_four_steps(database: Path) -> None:
    """A quarter for each agent that has finished; going back for more data doesn't lower it."""
    sink = Recorder()
    async with provider(model) as fake:
        answer = await run(fake.base_url, database, sink)
    assert answer == "ReportAgent is done"
    assert [name for name, _ in sink.said()] == [PLANNER, DATA, ANALYST, PLANNER, DATA, ANALYST, REPORTER]
    assert [body.progress for body in sink.bodies(AgentResponse)] == [25, 50, 75, 75, 75, 75, 100]
    assert [body.progress for body in sink.bodies(AgentThinking)] == [0, 25, 50, 75, 75, 75, 75]


async def test_tools_are_real_and_the_run_survives_a_refused_one(database: Path) -> None:
    """Figures come from the database; hostile SQL is an error that the model reads."""
    sink = Recorder()
    async with provider(model) as fake:
        await run(fake.base_url, database, sink)
    ends = [body for body in sink.bodies(ToolExecution) if body.status != "started"]
    by_tool = {body.tool_name: body for body in ends}
    assert set(by_tool) == {"describe_schema", "run_sql", "make_chart"}
    counted = next(body for body in ends if "count(*)" in str(body.parameters))
    assert isinstance(counted.result, dict)
    assert counted.result["rows"][0][0] > 1000
    refused = next(body for body in ends if "DELETE" in str(body.parameters))
    assert refused.status == "failed"
    assert isinstance(refused.result, dict)
    assert refused.result["error"]["code"] == "sql_not_allowed"


async def test_it_keeps_to_a_small_limit_of_messages(database: Path) -> None:
    """With four messages allowed it doesn't go back for data; with fewer the run fails."""
    sink = Recorder()
    async with provider(model) as fake:
        await run(fake.base_url, database, sink, max_messages=4)
        assert [name for name, _ in sink.said()] == list(ORDER)
        with pytest.raises(RunFailed) as caught:
            await run(fake.base_url, database, Recorder(), max_messages=3)
    assert caught.value.code == "message_limit"


async def test_a_report_without_data_from_a_tool_says_so_at_its_top(database: Path) -> None:
    """A model that can't call tools makes them up, and a chart shows what it is given."""

    def invents(body: Body, number: int) -> Reply:
        name = str(body["messages"][0]["content"])[8:].split(",")[0]
        asked = body["messages"][-1]["role"] != "tool"
        chart = '{"title": "t", "type": "bar", "labels": ["a"], "series": [{"name": "s", "values": [1]}]}'
        calls = {DATA: ("run_sql", '{"query": "no SQL"}'), REPORTER: ("make_chart", chart)}
        if asked and name in calls:
            return Reply(calls=[calls[name]])
        return Reply(text=["Revenue fell ", f"by 12 %, says {name}."])

    sink = Recorder()
    async with provider(invents) as fake:
        report = await run(fake.base_url, database, sink)
    assert report == NO_DATA + "Revenue fell by 12 %, says ReportAgent."
    assert sink.said()[-1] == (REPORTER, report)
    assert sink.bodies(AgentResponse)[-1].message_id is not None
    assert not any(NO_DATA in text for name, text in sink.said() if name != REPORTER)


def test_only_a_tool_that_reads_the_database_counts() -> None:
    """And only if it has succeeded."""

    def ended(name: str, *, is_error: bool = False) -> ToolCallExecutionEvent:
        result = FunctionExecutionResult(content="x", name=name, call_id="1", is_error=is_error)
        return ToolCallExecutionEvent(content=[result], source=DATA)

    assert not has_data([said(PLANNER), ended("make_chart")])
    assert not has_data([ended("run_sql", is_error=True)])
    assert has_data([ended("run_sql", is_error=True), ended("break_down"), said(ANALYST)])
