"""An MCP server over stdio or HTTP with two tools, for tests: `python mcp_server.py [PORT]`."""

import asyncio
import sys

from mcp.server.fastmcp import FastMCP

port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
server = FastMCP("rooms", port=port, log_level="ERROR")


@server.tool()
def look(at: str) -> str:
    """Look at something."""
    return f"{at} seen"


@server.tool()
async def stare(at: str) -> str:
    """Look at something for longer than any test."""
    await asyncio.sleep(600)
    return f"{at} seen"


if __name__ == "__main__":
    server.run("streamable-http" if port else "stdio")
