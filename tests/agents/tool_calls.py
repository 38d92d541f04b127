"""The tools as a team calls them: JSON comes back, or an error with a stable code."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from askstream.agents.insights.sql import ToolError
from askstream.agents.insights.tools import toolbox


async def call(path: Path, name: str, **arguments: Any) -> dict[str, Any]:
    return orjson.loads(await toolbox(path)[name](**arguments))


async def code_of(path: Path, name: str, **arguments: Any) -> str:
    """The error code of the call's result, read from its text as the team does."""
    with pytest.raises(ToolError) as caught:
        await toolbox(path)[name](**arguments)
    told = orjson.loads(str(caught.value))
    assert told["error"]["message"]
    assert "Traceback" not in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    return told["error"]["code"]
