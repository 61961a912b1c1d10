"""The script that Alembic runs to migrate, on the connection that `longtake.database.migrate` passes to it."""

from alembic import context

from longtake.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
