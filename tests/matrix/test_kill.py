"""After kill -9 in mid-run each kind of team goes on from its last turn, or says honestly that it can't."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import ServerProcess, started
from tests.e2e.viewers import sse_lines
from tests.matrix import runs
from tests.matrix.conftest import TEAM, environment
from tests.matrix.runs import Seen
from tests.matrix.script import Model
from tests.matrix.teams import KINDS
from tests.timing import PATIENCE
