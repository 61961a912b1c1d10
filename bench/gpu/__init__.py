"""Measures the published models at their true size on a GPU, with random weights: `python -m bench.gpu`."""
