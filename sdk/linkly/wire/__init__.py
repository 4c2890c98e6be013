"""One conversation between a worker and its engine: messages, session, connection, WebSocket."""
