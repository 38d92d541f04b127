"""A reasoning model's thoughts are separated from its answer, wherever the text is split."""

from itertools import pairwise

import pytest
from autogen_core.models import ChatCompletionClient
from hypothesis import given
from hypothesis import strategies as st

from askstream.agents.thoughts import ThoughtSplitter
from askstream.server.events import AgentResponse, AgentThinking
from tests.agents.fake_provider import Reply, provider
from tests.agents.sample_teams import Recorder, agent, answered, orchestrator, task

TEXTS = {
    "<think>hm</think>\n\nSo it is.": ("hm", "So it is."),
    "\n<think>\nhm\n</think>So": ("\nhm\n", "So"),
    "No thoughts <think>here</think>": ("", "No thoughts <think>here</think>"),
    "<thin air": ("", "<thin air"),
    "<think>a < b </thing></think>c": ("a < b </thing>", "c"),
    "<think>never ends</thi": ("never ends</thi", ""),
    "hm < </thing></think>\nSo </think>": ("hm < </thing>", "So </think>"),
    "</think>So": ("", "So"),
    "So it ends with </thi": ("", "So it ends with </thi"),
    "": ("", ""),
    " \n": ("", " \n"),
}


def split(pieces: list[str]) -> tuple[str, str]:
    splitter, found = ThoughtSplitter(), {"thought": "", "text": ""}
    for part, text in [each for piece in pieces for each in splitter.add(piece)] + list(splitter.end()):
        if part == "thought" and found["text"]:  # it has proved to be a thought
            found = {"thought": found["text"], "text": ""}
        found[part] += text
    assert (splitter.thought, splitter.text) == (found["thought"], found["text"])
    return splitter.thought, splitter.text


@pytest.mark.parametrize("text", TEXTS)
def test_thoughts_are_separated(text: str) -> None:
    """At once and letter by letter."""
    assert split([text]) == split(list(text)) == TEXTS[text]


@given(st.sampled_from(list(TEXTS)), st.lists(st.integers(0, 30), max_size=4))
def test_it_makes_no_difference_where_the_text_is_split(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert split([text[a:b] for a, b in pairwise(places)]) == TEXTS[text]


REPLIES = {
    "in the text": Reply(text=["<th", "ink>hm, ", "well</", "think>\n\n", "So it is."]),
    "without the first mark": Reply(text=["hm, ", "well</thi", "nk>\n", "So it is."]),
    "in reasoning": Reply(thoughts=["hm, ", "well"], text=["So it is."], reasoning="reasoning"),
    "in reasoning_content": Reply(thoughts=["hm, ", "well"], text=["So it is."]),
}


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_thoughts_of_any_model_are_thoughts(reply: Reply, streams: bool) -> None:
    """In whichever of these ways a server sends them: they are in no response, and a text of their own."""
    sink = Recorder()

    def make(client: ChatCompletionClient) -> object:
        return agent(client, "A", model_client_stream=streams)

    async with provider([reply]) as fake, orchestrator(fake, make) as team:
        answer = answered(await team.run(task(), sink))
    assert answer.final_response == "So it is."
    (said,) = sink.bodies(AgentResponse)
    assert sink.written(said.message_id) == "So it is."
    thoughts = [draft.message for draft in sink.drafts if isinstance(draft.body, AgentThinking)]
    assert thoughts == ["Is A.", "hm, well"]
