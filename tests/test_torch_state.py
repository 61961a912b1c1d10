"""A change of torch's state that would last beyond a test is seen. The fixture `_same_torch_state` looks for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
import torch

from tests.torch_state import torch_state


@contextmanager
def _set(setter: Callable[[Any], None], value: object, before: object) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(before)


BACKENDS: Any = torch.backends
PRODUCTS, CONVOLUTIONS, RECURRENT = BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn

CHANGES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "default dtype": partial(_set, torch.set_default_dtype, torch.float64, torch.float32),
    "modes": partial(_set, torch.set_default_device, "meta", None),
    "gradients": torch.enable_grad,
    "inference mode": torch.inference_mode,
    "deterministic algorithms": partial(_set, torch._C._set_deterministic_algorithms, True, False),
    "precision of products": partial(_set, torch.set_float32_matmul_precision, "medium", "highest"),
    "precision of convolutions": partial(_set, partial(setattr, CONVOLUTIONS, "fp32_precision"), "ieee", "tf32"),
    "precision of recurrent layers": partial(_set, partial(setattr, RECURRENT, "fp32_precision"), "ieee", "tf32"),
    "sums in 16 bits": partial(_set, partial(setattr, PRODUCTS, "allow_bf16_reduced_precision_reduction"), False, True),
    "cuDNN": partial(_set, partial(setattr, torch.backends.cudnn, "benchmark"), True, False),
    "attention": partial(_set, torch.backends.cuda.enable_flash_sdp, False, True),
    "autocast": partial(torch.autocast, "cpu"),
    "oneDNN": partial(_set, torch._C._set_mkldnn_enabled, False, True),
}


def test_tf32_is_seen() -> None:
    """As `allow_tf32` sets it, for convolutions and recurrent layers together."""
    before = torch_state()
    with _set(partial(setattr, torch.backends.cudnn, "allow_tf32"), False, True):
        assert torch_state() != before
    assert torch_state() == before


@pytest.mark.parametrize("name", torch_state())
def test_each_change_is_seen(name: str) -> None:
    before = torch_state()
    with CHANGES[name]():
        assert {key for key, value in torch_state().items() if value != before[key]} == {name}
    assert torch_state() == before
