"""Requests that survive anything: their rows, their states, who works on them, and what is told about them.

Nothing here imports torch or av; what does runs in the worker's process (`job.py`).
"""
