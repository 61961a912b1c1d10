"""Modules that redirect fal's unmodified clients to this server.

For a Python program, the user puts this folder in PYTHONPATH. Python then imports the folder's `sitecustomize` when it
starts. A Node program imports `fal_local.mjs`. docs/clients.md describes both.
"""
