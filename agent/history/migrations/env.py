"""Run by Alembic: upgrades over the connection that agent.history.db hands in."""

from alembic import context

from agent.history.schema import METADATA

connection = context.config.attributes["connection"]
# SQLite rolls schema changes back too, as the engine begins its transactions itself: a kill in
# the middle of an upgrade leaves the old schema.
context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
