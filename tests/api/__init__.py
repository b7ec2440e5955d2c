"""Tests of what people and systems see: HTTP, WebSocket, commands."""
