"""A model call blocks no other run."""

import subprocess
import sys
from pathlib import Path

from tests.agents.test_model_answer import both

# In a process of its own, where nothing has had an answer of a given structure before.
PROGRAM = """
import asyncio, sys, threading
from pydantic import BaseModel
from tests.agents.fake_provider import Reply
from tests.agents.test_model_answer import play

class Found(BaseModel):
    good: bool

class Recorder:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("openai.resources.beta"):
            imported.add(threading.current_thread() is threading.main_thread())

imported = set()
sys.meta_path.insert(0, Recorder())
own, streams = [argument == "True" for argument in sys.argv[1:]]
asyncio.run(play([Reply(text=['{"good": true}'])], own=own, streams=streams, output_content_type=Found))
print("in the loop:", *imported)
"""


@both
def test_a_first_structured_answer_imports_nothing_in_the_loop(own: bool, streams: bool) -> None:
    """The client's library imports hundreds of modules for it, which needs a second."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(own), str(streams)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.stdout == "in the loop: False\n", done.stderr
