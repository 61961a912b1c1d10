"""Carries out requests: one slot and one worker process per device, their messages, the servers' leases, and outcomes.

A worker process runs `main`. Only there are torch and av loaded.
"""
