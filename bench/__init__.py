"""Benchmarks, one per module. Most figures are ratios of two measurements that one run makes in turn."""
