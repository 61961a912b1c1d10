"""Carries out requests: one slot and one worker process per device, their messages, the servers' leases, and outcomes.

Only `main` runs in the worker process, where torch and av are loaded.
"""
