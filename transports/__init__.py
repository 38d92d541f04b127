"""Transports carry events to viewers, and commands back: SSE, WebSocket, and plug-ins."""
