"""Alembic migrations of the history database. Revisions are written by hand and never edited
once released; tests/agent/test_history_schema.py holds them and agent/history/schema together.
"""
