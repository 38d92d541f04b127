"""How bytes reach a viewer: SSE, WebSocket, and whatever is plugged in later."""
