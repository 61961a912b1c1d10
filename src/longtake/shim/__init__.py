"""The folder for PYTHONPATH: Python finds `sitecustomize` in it and imports that at its start."""
