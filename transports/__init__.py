"""Transports carry events to viewers, and commands back: SSE, WebSocket, and any that is plugged in."""
