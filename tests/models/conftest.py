"""Small models gain nothing from more threads than one."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """More threads lose much where other work runs beside them."""
    torch.set_num_threads(1)
