"""The request queue: rows in a database that survive restarts, and what is read from them."""
