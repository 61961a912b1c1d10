"""A whole small model on disk, for the tests of this room."""

from pathlib import Path

import pytest
import torch

from tests.models import small


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small models gain nothing from more, and lose much where other work runs beside them."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_model(tmp_path_factory.mktemp("models") / "small")
