"""The database that everything durable is in: connections, tables and migrations."""
