"""Benchmarks: one module and one command each. A figure is the ratio of two things that one run times in turn."""
