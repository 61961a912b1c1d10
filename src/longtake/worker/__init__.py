"""Carries out requests: a slot and a worker process for each device, the messages between them, leases, and outcomes.

A worker process runs the module `main`. On a server, only worker processes load torch and av.
"""
