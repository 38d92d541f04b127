"""A model call blocks no other run."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, where nothing has had an answer of a given structure before.
PROGRAM = """
import asyncio, sys, threading
from pydantic import BaseModel
from autogen_agentchat.agents import AssistantAgent
from askstream.agents.models import ModelSettings, connect
from tests.agents.fake_provider import Reply, provider
from tests.agents.sample_teams import Recorder, answered, orchestrator, task

class Found(BaseModel):
    good: bool

class Imports:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("openai.resources.beta"):
            in_loop.add(threading.current_thread() is threading.main_thread())

async def main(own, streams):
    async with provider([Reply(text=['{"good": true}'])]) as fake:
        brought = connect(ModelSettings(base_url=fake.base_url, model="m", info={"structured_output": True}))
        options = {"model_client_stream": streams, "output_content_type": Found}
        async with orchestrator(fake, lambda given: AssistantAgent("A", brought if own else given, **options)) as team:
            answered(await team.run(task(), Recorder()))

in_loop = set()
sys.meta_path.insert(0, Imports())
asyncio.run(main(*(argument == "True" for argument in sys.argv[1:])))
print("in the loop:", *in_loop)
"""


@pytest.mark.parametrize(("own", "streams"), [(False, False), (True, False), (True, True)])
def test_a_first_structured_answer_imports_nothing_in_the_loop(own: bool, streams: bool) -> None:
    """The client's library imports hundreds of modules for it, which needs a second."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(own), str(streams)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.stdout == "in the loop: False\n", done.stderr
