"""Puts an AutoGen team of agents on the web, over SSE and WebSocket, and never loses a run."""
