"""The folder that a client program names in PYTHONPATH, so that Python imports its `sitecustomize` at the start."""
