"""The scripted model, and a server of all kinds of teams that asks it."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import ServerProcess, started
from tests.matrix import script
from tests.matrix.runs import INFO
from tests.matrix.script import Model

TEAM = ("--team", "tests.matrix.teams:served")


def environment(model: Model) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": model.fake.base_url,
        "OPENAI_API_KEY": "sk-matrix",
        "ASKSTREAM_MODEL": "fake",
        "ASKSTREAM_MODEL_INFO": json.dumps(INFO),
        "ASKSTREAM_ACTIVE_RUNS": "200",
    }


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with script.served() as served:
        yield served


@pytest.fixture(scope="module")
def server(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("data"), *TEAM, **environment(model)) as process:
        yield process
