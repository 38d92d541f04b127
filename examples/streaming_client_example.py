#!/usr/bin/env python3
"""Asks a question over SSE and prints its events, with aiohttp alone; `test` streams the mock events instead.

    python examples/streaming_client_example.py ["question"]
    python examples/streaming_client_example.py test

ASKSTREAM_URL names the server, http://localhost:8000 by default.
"""

import asyncio
import json
import os
import sys
from typing import Any

import aiohttp

URL = os.environ.get("ASKSTREAM_URL", "http://localhost:8000")
QUESTION = "Generate a monthly business report for our sales performance"


async def show(response: aiohttp.ClientResponse) -> None:
    """Print each event as it arrives, and the answer at the end."""
    response.raise_for_status()
    async for raw in response.content:
        line = raw.decode("utf-8").strip()
        if line.startswith("data: "):
            event: dict[str, Any] = json.loads(line[6:])["event"]
            print(f"{event['agent_name']}: {event['message']}", flush=True)
            if event["event_type"] == "completed":
                print(f"\n{event['data']['final_response']}")


async def stream_question(question: str) -> None:
    timeout = aiohttp.ClientTimeout(total=None)  # a run may take minutes
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{URL}/ask-stream", json={"question": question}) as response,
    ):
        await show(response)


async def test_stream() -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{URL}/test-stream") as response:
        await show(response)


if __name__ == "__main__":
    asked = " ".join(sys.argv[1:])
    try:
        asyncio.run(test_stream() if asked == "test" else stream_question(asked or QUESTION))
    except aiohttp.ClientConnectorError:
        sys.exit(f"No server answers at {URL}. Start one with `python3 dev.py run`, or name another in ASKSTREAM_URL.")
