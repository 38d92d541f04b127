"""An MCP server over stdio or HTTP with one tool, for tests: `python mcp_server.py [PORT]`."""

import sys

from mcp.server.fastmcp import FastMCP

port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
server = FastMCP("rooms", port=port, log_level="ERROR")


@server.tool()
def look(at: str) -> str:
    """Look at something."""
    return f"{at} seen"


if __name__ == "__main__":
    server.run("streamable-http" if port else "stdio")
