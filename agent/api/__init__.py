"""The HTTP API and its WebSocket: server, routes, shapes, and who may call."""
