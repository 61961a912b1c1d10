"""Modules that redirect fal's unmodified clients to this server.

A Python program lists this folder in PYTHONPATH, and Python then imports the folder's `sitecustomize` when it starts. A
Node program imports `fal_local.mjs`. docs/clients.md describes both.
"""
