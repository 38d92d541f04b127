"""The bundled team asks a person, obeys a remark, and has its report reviewed."""

from dataclasses import replace

import pytest

from askstream.agents.human import ASSUME, ASSUME_ALONE, MOST_QUESTIONS, NO_REPLY, UNREVIEWED
from askstream.agents.insights import team as insights
from askstream.agents.insights.team import ANALYST, DATA, NO_DATA, PLANNER, REPORTER
from askstream.server.events import AgentResponse
from askstream.server.runs.orchestrator import Exchange, Reply
from tests.agents.fake_provider import Provider, provider
from tests.agents.human_runs import APPROVED, NOBODY_THERE, insights_run, sent_back, staff
from tests.agents.sample_teams import task


def heard_by(fake: Provider, agent: str, nth: int = -1) -> list[tuple[str, str]]:
    """Source and text of each message in an agent's nth model call."""
    begins = f"You are {agent},"
    calls = [body["messages"] for body in fake.requests]
    calls = [messages for messages in calls if str(messages[0]["content"]).startswith(begins)]
    return [(message.get("name", message["role"]), str(message["content"])) for message in calls[nth][1:]]


async def test_the_planner_asks_and_continues_with_the_answer() -> None:
    """The team stops at the question; the reply is its next message, and the planner's turn follows."""
    async with provider(staff(questions=1)) as fake:
        play = insights_run(fake)
        answer = await play.run(task(), [Reply(value="Revenue")])
        assert heard_by(fake, PLANNER)[-1] == ("user", "Revenue")
        assert len(fake.requests) == 5
    asked = play.inquiries[0]
    assert (asked.agent_name, asked.prompt) == (PLANNER, "Which measure (0)?\n1) revenue")
    assert asked.schema == {"type": "string", "minLength": 1}
    assert [name for name, _ in play.sink.said()] == [PLANNER, PLANNER, DATA, ANALYST, REPORTER]
    assert answer.final_response == NO_DATA + "ReportAgent on Revenue"
    assert answer.total_messages == 5
    assert answer.usage.prompt_tokens == 50


async def test_without_a_reply_the_team_assumes() -> None:
    """It is notified with the text that the offline analyst recognises."""
    async with provider(staff(questions=1)) as fake:
        await insights_run(fake).run(task(), [NOBODY_THERE])
        assert heard_by(fake, PLANNER)[-1] == ("user", NO_REPLY)


async def test_a_run_asks_twice_at_most() -> None:
    """The third question is answered with a request to assume, and the planner's next message goes on to the others."""
    async with provider(staff(questions=9)) as fake:
        play = insights_run(fake)
        await play.run(task(), [Reply(value="One"), Reply(value="Two")])
        assert heard_by(fake, PLANNER)[-1] == ("user", ASSUME)
    assert len(play.inquiries) == MOST_QUESTIONS
    assert [name for name, _ in play.sink.said()] == [PLANNER] * 4 + [DATA, ANALYST, REPORTER]


async def test_a_client_that_cant_be_asked_isnt() -> None:
    """A planner that asks all the same is told to assume; nobody is waited for."""
    async with provider(staff(questions=1)) as fake:
        play = insights_run(fake)
        await play.run(replace(task(), asks=False))
        assert heard_by(fake, PLANNER)[-1] == ("user", ASSUME_ALONE)
    assert play.inquiries == []


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("ASK USER: Which?", "Which?"),
        ("So.\n  **ASK USER:** Which?\n- a\n- b\n", "Which?\n- a\n- b"),
        ("ASK USER:\nWhich?", "Which?"),
        ("ASK USER: ", None),
        ("I will not ASK USER: anything", None),
        ("A plan.", None),
    ],
)
def test_a_question_is_the_start_of_a_line(text: str, question: str | None) -> None:
    """With all text that follows; only the planner's counts."""
    assert insights.question_in(PLANNER, text) == question
    assert insights.question_in(ANALYST, text) is None


async def test_an_approved_report_is_the_answer() -> None:
    """Approval costs no model call and changes nothing in the report."""
    async with provider(staff()) as fake:
        play = insights_run(fake)
        answer = await play.run(replace(task(), review=True), [APPROVED])
        assert len(fake.requests) == 4
    assert play.inquiries[0].agent_name == REPORTER
    assert "pprove" in play.inquiries[0].prompt
    assert answer.final_response == NO_DATA + "ReportAgent on Why?"
    assert answer.total_messages == 4
    assert answer.usage.prompt_tokens == 40


async def test_a_remark_makes_the_team_work_again() -> None:
    """The planner gets it as a person's message, and the new report is reviewed again."""
    async with provider(staff()) as fake:
        play = insights_run(fake)
        answer = await play.run(replace(task(), review=True), [sent_back("Shorter."), APPROVED])
        assert heard_by(fake, PLANNER)[-1] == ("user", "REVIEW: Shorter.")
    assert [name for name, _ in play.sink.said()] == [PLANNER, DATA, ANALYST, REPORTER] * 2
    assert answer.final_response == NO_DATA + "ReportAgent on REVIEW: Shorter."


async def test_a_report_sent_back_without_a_remark_is_checked_again() -> None:
    """The team is notified that there was none."""
    async with provider(staff()) as fake:
        await insights_run(fake).run(replace(task(), review=True), [Reply(value={"approve": False}), APPROVED])
        assert "without a remark" in heard_by(fake, PLANNER)[-1][1]


async def test_after_three_rounds_the_report_is_final() -> None:
    """The team follows the last remark, and asks for no further review."""
    async with provider(staff()) as fake:
        play = insights_run(fake)
        answer = await play.run(replace(task(), review=True), [sent_back(f"No {i}") for i in range(3)])
    assert answer.final_response == NO_DATA + "ReportAgent on REVIEW: No 2"
    assert answer.total_messages == 16


async def test_a_report_that_nobody_reviewed_says_so() -> None:
    """It is still the answer."""
    async with provider(staff()) as fake:
        answer = await insights_run(fake).run(replace(task(), review=True), [NOBODY_THERE])
        assert len(fake.requests) == 4
    assert answer.final_response == NO_DATA + "ReportAgent on Why?" + UNREVIEWED


async def test_a_question_and_a_review_in_one_run() -> None:
    """Two questions and two reviews, and no more: each wait counts for the whole run."""
    async with provider(staff(questions=2)) as fake:
        play = insights_run(fake)
        replies = [Reply(value="a"), Reply(value="b"), sent_back("c"), APPROVED]
        answer = await play.run(replace(task(), review=True), replies)
    assert answer.final_response == NO_DATA + "ReportAgent on REVIEW: c"
    assert len(play.inquiries) == 4


async def test_earlier_exchanges_come_before_the_question() -> None:
    """As messages of the person and the reporter; a reporter's earlier message doesn't end this run."""
    history = (Exchange(question="Before?", answer="# So."),)
    async with provider(staff()) as fake:
        play = insights_run(fake)
        answer = await play.run(replace(task("And?"), history=history))
        before = [("user", "Before?"), ("ReportAgent", "# So."), ("user", "And?")]
        assert heard_by(fake, PLANNER) == before
        assert heard_by(fake, REPORTER)[:3] == before
    assert answer.total_messages == 4
    assert [body.progress for body in play.sink.bodies(AgentResponse)] == [25, 50, 75, 100]
