"""Fixtures of the server's tests."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.serving import Served, serving


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server without keys and without workers."""
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as one:
        yield one
