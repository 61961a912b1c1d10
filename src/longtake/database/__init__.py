"""The database: connections, tables, migrations and shared secrets."""
