"""Failures of a run: a stable code, and a sentence that says what to do.

A provider's own words are never shown, and logged at DEBUG only: they may repeat a part of the key or of the question.
Errors of a team's own code are logged whole, and never shown.
Errors are recognised by class name: AutoGen passes on nothing else, and the OpenAI library need not be imported.
"""

import logging
import re
import traceback
from collections.abc import Collection, Iterator, Mapping

from askstream.agents import model_errors
from askstream.server.events.errors import FailureCode, RunFailed
from askstream.server.foreign import ForeignExit

log = logging.getLogger(__name__)

REFUSED = "The model refused to answer. Put the question another way."
FILTERED = "The provider's content filter stopped the answer. Put the question another way."
CUT_SHORT = "The model's answer broke off before its end. Ask again; if it happens often, look at the provider."
AT_LIMIT = "The model reached its output limit in the middle of its answer. Ask for less, or allow it more tokens."
EMPTY = "The model gave an empty answer: it may have thought, but it wrote no text. Ask again, or use another model."
CONTEXT_FULL = (
    "The conversation has more tokens than the model can read. Ask for less, start a new session, or use a model, or a "
    "setting of its server, with a larger context."
)
NO_STREAM = (
    "What answers at the model's address doesn't speak the chat completions API. Check OPENAI_BASE_URL: for most "
    "providers it ends in /v1."
)

_UNAVAILABLE: tuple[FailureCode, str] = (
    "model_unavailable",
    "The model's provider failed. Ask again later, or look at its status page.",
)

# By class of the error; an error is looked up by its class, then by the class's ancestors.
_BY_CLASS: Mapping[str, tuple[FailureCode, str]] = {
    "AuthenticationError": (
        "model_auth",
        "The model's provider didn't accept the API key (401). Check OPENAI_API_KEY, or AZURE_OPENAI_API_KEY.",
    ),
    "PermissionDeniedError": (
        "model_auth",
        "The API key may not use this model (403). Check the key's project and ASKSTREAM_MODEL.",
    ),
    "RateLimitError": (
        "model_rate_limited",
        "The model's provider is limiting requests (429). Ask again later.",
    ),
    "NotFoundError": (
        "model_rejected_request",
        "The provider doesn't know the model or the address (404). Check ASKSTREAM_MODEL and OPENAI_BASE_URL.",
    ),
    "BadRequestError": (
        "model_rejected_request",
        "The provider rejected the request (400). Check that ASKSTREAM_MODEL can use tools, and its settings.",
    ),
    "UnprocessableEntityError": (
        "model_rejected_request",
        "The provider rejected the request (422). Check that ASKSTREAM_MODEL can use tools, and its settings.",
    ),
    "APITimeoutError": ("model_unavailable", "The model's provider didn't answer in time. Ask again later."),
    "APIConnectionError": (
        "model_unreachable",
        "The model's provider can't be reached. Check the network and OPENAI_BASE_URL.",
    ),
    "APIResponseValidationError": ("model_bad_response", NO_STREAM),
    "LengthFinishReasonError": ("model_cut_short", AT_LIMIT),
    "ContentFilterFinishReasonError": ("model_refused", FILTERED),
    "InternalServerError": _UNAVAILABLE,
    "APIError": _UNAVAILABLE,
}
# Errors of reading an answer that doesn't keep to the API: a broken chunk, a missing field.
_UNREADABLE = ("JSONDecodeError", "ValidationError", "UnicodeDecodeError", "TypeError", "AttributeError", "LookupError")

# Errors whose class says less than the code that the provider put into its body.
_BY_PROVIDER_CODE: Mapping[str, tuple[FailureCode, str]] = {
    "content_filter": ("model_refused", FILTERED),
    "insufficient_quota": (
        "model_rate_limited",
        "The account at the model's provider has no credit left (429). Check its plan and billing.",
    ),
    "rate_limit_exceeded": (
        "model_rate_limited",
        "The model's provider is limiting requests. Ask again later.",
    ),
}
# The text of AutoGen's client, which checks this itself.
_NO_VISION = "does not support vision"
_SEES_NOTHING = (
    "The model can't read images. Ask without them, or use one that can; for an unknown model set vision in "
    "ASKSTREAM_MODEL_INFO."
)
_BAD_RESPONSE = "The model's provider sent something that can't be read. Ask again; if it stays, check OPENAI_BASE_URL."
_TEAM_FAILED = "The team failed while it was working on this question. The server's log has the traceback."


def of_model(problem: Exception) -> RunFailed:
    """The run's failure for an error of a model call."""
    if isinstance(problem, RunFailed):
        return problem
    if model_errors.is_context_full(problem):
        return context_full()
    if _NO_VISION in str(problem):
        return RunFailed("model_rejected_request", _SEES_NOTHING)
    names = [kind.__name__ for kind in type(problem).__mro__]
    found = _BY_PROVIDER_CODE.get(str(getattr(problem, "code", None))) or _by_class(names)
    if found is None and any(name in _UNREADABLE for name in names):
        return RunFailed("model_bad_response", _BAD_RESPONSE)
    return RunFailed(*found) if found else of_team()


def of_text(text: str) -> RunFailed:
    """The failure for an error that AutoGen passed on as the text `Type: message`; only the type counts."""
    found = _by_class([text.partition(":")[0].strip()])
    if found and model_errors.says_context_full(text):
        return context_full()
    return RunFailed(*found) if found else of_team()


def of_team() -> RunFailed:
    """The failure for an error in the team's own code."""
    return RunFailed("team_failed", _TEAM_FAILED)


# A line of a traceback that AutoGen has put into the text of an error.
_FRAME = re.compile(r'^  File "([^"\n]+)", line (\d+), in ', re.MULTILINE)
_PASSED_ON = "\nTraceback:\n"


def report(where: str, problem: BaseException, *, hidden: Collection[BaseException] = ()) -> None:
    """Log what foreign code raised, with its text and traceback. `where` says whose code it was.

    An error with one of `hidden` in its chain, those of model calls, is logged without words: they are a provider's.
    """
    if any(cause is each for cause in _chain(problem) for each in hidden):
        log.warning("%s raised %s", where, origin(problem))
        log.debug("%s failed", where, exc_info=problem)
    else:
        log.error("%s raised %s: %s", where, origin(problem), problem, exc_info=problem)


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:
        seen.add(id(problem))
        yield problem
        problem = problem.__cause__ or problem.__context__


def origin(problem: BaseException) -> str:
    """The error's type, and the file and line that raised it, for the log.

    AutoGen turns an agent's error into a RuntimeError whose text is `Type: message` and a traceback.
    """
    head, passed_on, trace = str(problem).partition(_PASSED_ON)
    if passed_on and (frames := _FRAME.findall(trace)):
        name = re.match(r"[\w.]*", head)
        return _place(name[0] if name else "", *frames[-1])
    if isinstance(problem, ForeignExit) and problem.__cause__ is not None:
        problem = problem.__cause__
    raised = traceback.extract_tb(problem.__traceback__)
    return _place(type(problem).__name__, raised[-1].filename, raised[-1].lineno) if raised else type(problem).__name__


def kind(problem: BaseException) -> str:
    """The name of the error's type, or of what a ForeignExit stands for."""
    return type(problem.__cause__ if isinstance(problem, ForeignExit) else problem).__name__


def _place(name: str, file: str, line: object) -> str:
    return f"{name} at {file}:{line}"


def context_full() -> RunFailed:
    return RunFailed("model_context_full", CONTEXT_FULL)


def still_away(what: str, seconds: float) -> RunFailed:
    """For a model's server that was waited for. `what` completes "The model's server …"."""
    return RunFailed(
        "model_unavailable",
        f"The model's server {what}, still after {seconds:.0f} s. Ask again later; check that the server runs, and "
        "OPENAI_BASE_URL.",
    )


def cut_short() -> RunFailed:
    return RunFailed("model_cut_short", CUT_SHORT)


def _by_class(names: list[str]) -> tuple[FailureCode, str] | None:
    return next((_BY_CLASS[name] for name in names if name in _BY_CLASS), None)
