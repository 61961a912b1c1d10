"""Benchmarks, one per module. Most figures are ratios of two things that are measured alternately in one run."""
