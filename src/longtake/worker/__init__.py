"""Carries out requests.

Each device has a slot, which is a thread of the server, and a worker process, which holds the model. A worker process
runs the module `main`. On a server, only worker processes load torch and av.
"""
