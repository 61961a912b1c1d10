"""Both implementations of `Blobs`, for the tests of whatever touches bytes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.storage.blobs import Blobs
from longtake.storage.local import LocalBlobs
from tests.storage.memory_blobs import memory_blobs


@pytest.fixture(params=["local", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    """An empty place for bytes: one after the other a folder, and the memory of another process."""
    if request.param == "local":
        yield LocalBlobs(tmp_path / "files")
    else:
        with memory_blobs() as found:
            yield found


on_local_blobs = pytest.mark.parametrize("blobs", ["local"], indirect=True)
"""For tests of what does not depend on where bytes are stored."""

each_once = pytest.mark.parametrize(
    ("database_url", "blobs"), [("sqlite", "local"), ("postgresql", "memory")], indirect=True
)
"""For slow tests of both: each kind of database and each place for bytes once, not every combination."""


def read(blobs: Blobs, key: str) -> bytes:
    """Returns all bytes of a blob."""
    return b"".join(blobs.open(key))
