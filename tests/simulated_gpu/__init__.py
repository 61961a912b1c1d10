"""Simulated GPUs, for tests of the code that runs on CUDA GPUs on machines without one.

Their tensors are true tensors of torch with the device `cuda`, whose memory is host memory. Kernels of the CPU compute,
so the bits must be those of the CPU. `simulated_gpus` shows the mistakes that are errors on a true GPU:

- operations on tensors of different devices, and work on another GPU than the chosen one;
- values in pinned memory that are changed before they are copied, or read before they have arrived;
- streams that use memory before other streams are done with it, and memory that is freed too early;
- work that cannot be in a CUDA graph, and graphs that do not compute what the work itself computes;
- memory that runs out.

It also counts the operations for which the host waits. What is compiled is captured by torch, and the captured work is
done by the CPU. It does not show the time that anything takes, what the kernels of a GPU need (such as alignment), and
how their results are rounded.
"""

from tests.simulated_gpu.gpu import Crossing, Gpus
from tests.simulated_gpu.machine import can_simulate, simulated_gpus

__all__ = ["Crossing", "Gpus", "can_simulate", "simulated_gpus"]
