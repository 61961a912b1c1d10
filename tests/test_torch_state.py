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


CHANGES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "default dtype": partial(_set, torch.set_default_dtype, torch.float64, torch.float32),
    "modes": partial(_set, torch.set_default_device, "meta", None),
    "gradients": torch.enable_grad,
    "inference mode": torch.inference_mode,
    "deterministic algorithms": partial(_set, torch._C._set_deterministic_algorithms, True, False),
    "precision of products": partial(_set, torch.set_float32_matmul_precision, "medium", "highest"),
    "autocast": partial(torch.autocast, "cpu"),
    "oneDNN": partial(_set, torch._C._set_mkldnn_enabled, False, True),
}


@pytest.mark.parametrize("name", torch_state())
def test_each_change_is_seen(name: str) -> None:
    before = torch_state()
    with CHANGES[name]():
        assert {key for key, value in torch_state().items() if value != before[key]} == {name}
    assert torch_state() == before
