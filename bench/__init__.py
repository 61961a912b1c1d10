"""Measurements side by side, one command each; every figure is a ratio of two things timed in turn in one run."""
