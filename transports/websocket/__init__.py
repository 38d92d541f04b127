"""WebSocket: the protocol as a pure state machine, and the endpoint that performs it."""
