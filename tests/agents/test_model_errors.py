"""Servers say in their own words that a context is full, and most of them how large it is."""

import email.utils
import time
from typing import Any

import pytest

from askstream.agents import failures
from askstream.agents.model_errors import absence, is_context_full, window
from askstream.agents.models import ModelSettings, connect
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Reply, provider
from tests.agents.sample_teams import Recorder, orchestrator, task
from tests.agents.test_waits import tapped

Error = dict[str, Any]
FULL: dict[str, tuple[int, Error | str, int | None]] = {
    "OpenAI": (
        400,
        {
            "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 "
            "tokens. Please reduce the length of the messages.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        },
        8192,
    ),
    "OpenAI, newer": (
        400,
        {
            "message": "Input tokens exceed the configured limit of 272,000 tokens. Your messages resulted in 300,000.",
            "code": "context_length_exceeded",
        },
        272_000,
    ),
    "llama.cpp": (
        400,
        {
            "code": 400,
            "message": "the request exceeds the available context size. try increasing the context size or enable "
            "context shift",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 700,
            "n_ctx": 512,
        },
        512,
    ),
    "llama.cpp, newer": (
        400,
        {
            "code": 400,
            "message": "request (700 tokens) exceeds the available context size (512 tokens), try increasing it",
            "type": "exceed_context_size_error",
        },
        512,
    ),
    "llama.cpp, all slots": (
        500,
        {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"},
        None,
    ),
    "vLLM": (
        400,
        {
            "message": "This model's maximum context length is 512 tokens. However, you requested 600 tokens (500 in "
            "the messages, 100 in the completion). Please reduce the length of the messages or completion.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        512,
    ),
    "vLLM, prompt": (
        400,
        {"message": "The decoder prompt (length 600) is longer than the maximum model length of 512.", "code": 400},
        512,
    ),
    "Ollama": (400, {"message": "the input length exceeds the context length", "type": "invalid_request_error"}, None),
    "Ollama, plain": (400, '{"error": "input length exceeds maximum context length"}', None),
    "LM Studio": (
        400,
        '{"error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with '
        'context length of only 4096 tokens, which is not enough."}',
        4096,
    ),
    "Mistral": (
        400,
        {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"},
        32_768,
    ),
    "Gemini": (
        400,
        {"message": "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576)."},
        1_048_576,
    ),
    "Anthropic": (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}, 200_000),
}


def refusal(status: int, error: Error | str) -> Reply:
    if isinstance(error, str):
        return Reply(status=status, text_error=error)
    return Reply(status=status, error=error)


async def caught(reply: Reply) -> Exception:
    """The error that the real client raises for such an answer."""
    async with provider([reply]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        with pytest.raises(Exception) as problem:  # noqa: PT011 - the test looks at it
            await anext(client.create_stream([]))
        await client.close()
    return problem.value


@pytest.mark.parametrize(("status", "error", "size"), FULL.values(), ids=FULL)
async def test_a_full_context_is_known_in_each_servers_words(status: int, error: Error | str, size: int | None) -> None:
    """It has its own code, the size where it is named, and isn't waited for."""
    problem = await caught(refusal(status, error))
    assert is_context_full(problem)
    assert window(problem) == size
    assert absence(problem) is None
    assert failures.of_model(problem).code == "model_context_full"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=400, error={"message": "tools is not supported by this model"}),
        Reply(status=400, error={"message": "max_tokens is too large: 99999. This model supports at most 16384"}),
        Reply(status=401, error={"message": "context length"}),
        Reply(status=404, error={"message": "no model with this context size"}),
    ],
)
async def test_other_errors_are_not_taken_for_it(reply: Reply) -> None:
    assert not is_context_full(await caught(reply))


def test_the_text_of_an_error_is_enough() -> None:
    """AutoGen keeps nothing else of the errors of agents that call a model by themselves."""
    text = "BadRequestError: Error code: 400 - This model's maximum context length is 512 tokens."
    assert failures.of_text(text).code == "model_context_full"


def test_a_tools_words_are_not_taken_for_it() -> None:
    """Only a client library's error counts."""
    assert not is_context_full(ValueError("the context length is wrong"))
    assert failures.of_text("ValueError: the context length is wrong").code == "team_failed"


async def test_a_run_ends_with_the_code_and_a_sentence_on_what_to_do() -> None:
    status, error, _ = FULL["llama.cpp"]
    async with provider([refusal(status, error)]) as fake, orchestrator(fake, tapped) as team:
        with pytest.raises(RunFailed, match=r"more tokens than the model can read\. Ask for less") as problem:
            await team.run(task(), Recorder())
    assert problem.value.code == "model_context_full"


async def test_a_date_says_how_long_to_wait() -> None:
    """The header has two forms."""
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    for value, low, high in (("7", 7, 7), (date, 90, 101), ("soon", 0, 0)):
        absent = absence(await caught(Reply(status=503, headers={"Retry-After": value})))
        assert absent is not None
        assert low <= absent.retry_after <= high
