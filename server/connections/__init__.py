"""Connections: one protocol for what the transports write to, with an implementation for ASGI and one for uvicorn's."""
