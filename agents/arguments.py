"""The arguments that a team's factory gets, by the names or annotations of its parameters."""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from autogen_core import CancellationToken
    from autogen_core.models import ChatCompletionClient

InputFunc: TypeAlias = "Callable[[str, CancellationToken | None], Awaitable[str]]"
Value: TypeAlias = Literal["model_client", "input_func", "session_id", "principal"]

_BY_NAME: Mapping[str, Value] = {
    "model_client": "model_client",
    "user_input_func": "input_func",
    "input_func": "input_func",
    "session_id": "session_id",
    "principal": "principal",
}
_CLIENT = "ChatCompletionClient"
ALLOWED = f"model_client (or one annotated {_CLIENT}), user_input_func or input_func, session_id and principal"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArguments:
    """One run's values. `input_func` asks the person who asked the question. `asks`: the bundled team may ask back."""

    model_client: "ChatCompletionClient"
    input_func: InputFunc
    session_id: str
    principal: str
    asks: bool = True


@dataclass(frozen=True, slots=True)
class Parameter:
    """A factory's parameter and the value that it gets. `optional`: it has a default."""

    name: str
    value: Value
    positional: bool
    optional: bool


def parameters(make: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The parameters that get a value. Raises ValueError, with the reason, if another one has no default."""
    found: list[Parameter] = []
    unknown: list[str] = []
    for one in _signature(make):
        value = _value(one)
        if value is not None:
            found.append(
                Parameter(one.name, value, one.kind is one.POSITIONAL_ONLY, optional=one.default is not one.empty)
            )
        elif one.default is one.empty:
            unknown.append(one.name)
    if unknown:
        raise ValueError(f"its factory needs {', '.join(unknown)}; it may need {ALLOWED}. Give others a default")
    return tuple(found)


def bound(wanted: Iterable[Parameter], values: RunArguments) -> tuple[list[Any], dict[str, Any]]:
    """The positional and the named arguments of one call."""
    positional = [getattr(values, one.value) for one in wanted if one.positional]
    return positional, {one.name: getattr(values, one.value) for one in wanted if not one.positional}


def _signature(make: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(make, eval_str=True)
    except ValueError:  # a builtin without a signature
        return []
    except Exception:  # noqa: BLE001 - an annotation that is only there for type checkers can raise anything
        signature = inspect.signature(make)
    return [one for one in signature.parameters.values() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


def _value(one: inspect.Parameter) -> Value | None:
    """The value by the parameter's name, else by its annotation. A default client or other value stays in use."""
    default: object = one.default
    if default in (None, one.empty) and _is_client(one.annotation):
        return "model_client"
    value = _BY_NAME.get(one.name)
    return None if value == "model_client" and _is_client(type(default)) else value


def _is_client(annotation: object) -> bool:
    """Whether it is AutoGen's class, one derived from it, or a union with it; by name, so that nothing is imported."""
    if isinstance(annotation, str):
        return re.search(rf"{_CLIENT}\b", annotation) is not None
    kinds = get_args(annotation) or (annotation,)
    return any(base.__name__ == _CLIENT for kind in kinds if isinstance(kind, type) for base in kind.__mro__)
