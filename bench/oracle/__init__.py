"""The numeric oracle: cases with the results of the original implementations, and how this package computes each case.

The tests compute the cases in float32 on the CPU. `python -m bench.gpu oracles` computes them on a GPU.
"""
