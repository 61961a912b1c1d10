"""Who carries requests out: a slot and a worker process per device, their messages, leases and outcomes.

Only `main` runs in the worker process, where torch and av are loaded.
"""
