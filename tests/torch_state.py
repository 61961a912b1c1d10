"""The state of torch on which the results of all later computations in the process depend."""

from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack


def torch_state() -> dict[str, object]:
    """Returns this state by its names. It takes some microseconds.

    The random state and the number of threads are not in it: tests seed what they draw, and set the number they need.
    """
    backends: Any = torch.backends
    products = backends.cuda.matmul
    return {
        "default dtype": torch.get_default_dtype(),
        "modes": _get_current_function_mode_stack(),  # of `set_default_device`, and of contexts that are still open
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "precision of products": (_precision(backends.cuda.matmul), _precision(backends.mkldnn.matmul)),
        "precision of convolutions": (_precision(backends.cudnn.conv), _precision(backends.mkldnn.conv)),
        "precision of recurrent layers": (_precision(backends.cudnn.rnn), _precision(backends.mkldnn.rnn)),
        "sums in 16 bits": (
            products.allow_fp16_reduced_precision_reduction,
            products.allow_bf16_reduced_precision_reduction,
        ),
        "cuDNN": (backends.cudnn.enabled, backends.cudnn.benchmark, backends.cudnn.deterministic),
        "attention": (
            backends.cuda.flash_sdp_enabled(),
            backends.cuda.mem_efficient_sdp_enabled(),
            backends.cuda.math_sdp_enabled(),
            backends.cuda.cudnn_sdp_enabled(),
        ),
        "autocast": torch.is_autocast_enabled("cpu"),
        "oneDNN": torch._C._get_mkldnn_enabled(),
    }


def _precision(backend: Any) -> str:
    """Returns how float32 numbers are multiplied. "none", which nobody has changed yet, means "ieee"."""
    precision: str = backend.fp32_precision
    return "ieee" if precision == "none" else precision
