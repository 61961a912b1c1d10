"""How Alembic runs these migrations: on the connection that `longtake.database.migrate` hands over."""

from alembic import context

from longtake.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
