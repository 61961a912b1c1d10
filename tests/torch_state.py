"""The state of torch on which the results of all later computations in the process depend."""

import torch
from torch.overrides import _get_current_function_mode_stack


def torch_state() -> dict[str, object]:
    """Returns this state by its names. It takes some microseconds.

    The random state and the number of threads are not in it: tests seed what they draw, and set the number they need.
    """
    return {
        "default dtype": torch.get_default_dtype(),
        "modes": _get_current_function_mode_stack(),  # of `set_default_device`, and of contexts that are still open
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "precision of products": torch.get_float32_matmul_precision(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "oneDNN": torch._C._get_mkldnn_enabled(),
    }
