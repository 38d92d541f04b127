"""Reads the errors of model clients: is the model's server away, is the model's context full, and how large is it?

Errors are recognised by the names of their classes, by status, and by the spellings of known servers. No client
library is imported: an agent may use any of them.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from askstream.server.events.errors import RunFailed


@dataclass(frozen=True, slots=True)
class Absence:
    """A model server can't answer for now. `what` completes "The model's server …"; `retry_after` is in seconds."""

    what: str
    retry_after: float = 0.0


# A request that failed with one of these has had no answer. A certificate or an address that is wrong stays wrong.
_NO_CONNECTION = frozenset({"NetworkError", "RemoteProtocolError", "ConnectTimeout", "ConnectionError"})
_STAYS_WRONG = frozenset({"SSLCertVerificationError", "InvalidURL", "UnsupportedProtocol", "ProxyError"})
_NO_CREDIT = "insufficient_quota"
# Servers that have sent the status 200 already put these into an error in the stream.
_PASSING_ERRORS = frozenset({"server_error", "overloaded", "overloaded_error", "unavailable_error", "api_error"})
_WAITED_FOR: Mapping[int, str] = {
    408: "took too long to accept the request (408)",
    409: "is busy with another request (409)",
    429: "is limiting requests (429)",
    503: "isn't ready (503)",
}

# OpenAI and Azure, llama.cpp, vLLM, Ollama, LM Studio, Mistral, Gemini, Anthropic.
_FULL = re.compile(
    r"context_length_exceeded|exceed_context_size_error|max_model_len"
    r"|context[ _]?(?:length|size|window)|maximum model length|context the overflows|prompt is too long"
    r"|exceeds? the maximum number of tokens|configured limit of [\d,]+ tokens|too large for model with",
    re.IGNORECASE,
)
_FIGURES = (
    r"'?n_ctx'?\D{1,4}(\d+)",
    r"maximum context length (?:is|of)?\s*\(?([\d,]+)",
    r"maximum model length of ([\d,]+)",
    r"max_model_len\D{0,12}([\d,]+)",
    r"context size (?:of |\()([\d,]+)",
    r"context length (?:of |is )?(?:only )?\(?([\d,]+)",
    r"([\d,]+) maximum context length",
    r"maximum number of tokens allowed \(([\d,]+)",
    r"configured limit of ([\d,]+)",
    r"tokens > ([\d,]+) maximum",
)
# Statuses with which servers reject a prompt that is too long; llama.cpp's 500 says so only in its text.
_REJECTIONS = frozenset({None, 400, 413, 422, 500})


def absence(problem: BaseException) -> Absence | None:
    """Whether the model's server is away, so that the same request may succeed soon."""
    if isinstance(problem, RunFailed) or is_context_full(problem) or getattr(problem, "code", None) == _NO_CREDIT:
        return None
    status = _status(problem)
    if status is None:
        return Absence("can't be reached") if _has_no_connection(problem) else _passing(problem)
    headers: Any = getattr(getattr(problem, "response", None), "headers", None) or {}
    if headers.get("x-should-retry") == "false":
        return None
    what = _WAITED_FOR.get(status) or (f"failed ({status})" if status >= 500 else None)
    return Absence(what, _retry_after(headers, time.time())) if what else None


def is_context_full(problem: BaseException) -> bool:
    """Whether a model's server rejected a request because its prompt has too many tokens."""
    status = _status(problem)
    return status in _REJECTIONS and _is_of_api(problem) and bool(_FULL.search(_words(problem)))


def says_context_full(text: str) -> bool:
    """The same for a client library's error of which only the text is left."""
    return bool(_FULL.search(text))


def window(problem: BaseException) -> int | None:
    """The size of the model's context, in tokens, if the error names it."""
    for pattern in _FIGURES:
        if found := re.search(pattern, _words(problem), re.IGNORECASE):
            return int(found[1].replace(",", "")) or None
    return None


def _status(problem: BaseException) -> int | None:
    status = getattr(problem, "status_code", None)
    return status if isinstance(status, int) and status > 0 else None


def _code(problem: BaseException) -> str:
    return str(getattr(problem, "code", None) or "")


def _words(problem: BaseException) -> str:
    """All that the server said: the error's own text may lack fields beside the message."""
    return f"{_code(problem)} {problem} {getattr(problem, 'body', '')}"


def _is_of_api(problem: BaseException) -> bool:
    """Whether a client library raised it, not a tool or an agent whose text happens to be alike."""
    return _status(problem) is not None or any(kind.__name__ == "APIError" for kind in type(problem).__mro__)


def _passing(problem: BaseException) -> Absence | None:
    """An error in a stream that had begun with the status 200. Its code may be a status."""
    if not _is_of_api(problem):
        return None
    code = _code(problem)
    if code.isdigit() and (int(code) in _WAITED_FOR or int(code) >= 500):
        return Absence(_WAITED_FOR.get(int(code), f"failed ({code})"))
    names = {code, str(getattr(problem, "type", None))}
    return Absence("failed") if names & _PASSING_ERRORS else None


def _has_no_connection(problem: BaseException) -> bool:
    names = {kind.__name__ for error in _chain(problem) for kind in type(error).__mro__}
    return bool(names & _NO_CONNECTION) and not names & _STAYS_WRONG


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    for _ in range(8):  # a chain may be a ring
        if problem is None:
            return
        yield problem
        problem = problem.__cause__ or problem.__context__


def _retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds, from the header's number or date; 0 if there is none that can be read."""
    for name, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(0.0, float(headers[name]) / divisor)
        except (KeyError, ValueError):
            continue
    date = parsedate_tz(headers.get("retry-after", ""))
    return max(0.0, mktime_tz(date) - now) if date else 0.0
