"""Both implementations of `Blobs`, for the tests of whatever touches bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from longtake.storage.blobs import Blobs
from longtake.storage.local import LocalBlobs
from tests.storage.memory_blobs import MemoryBlobs, memory_blobs


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


def address_of(blobs: Blobs) -> str:
    """Returns the text from which another process opens these blobs with `blobs_at`."""
    return blobs.address if isinstance(blobs, MemoryBlobs) else str(cast(LocalBlobs, blobs).folder)


def blobs_at(address: str) -> Blobs:
    """Returns the blobs in a folder, or in the memory of another process if the address is a URL."""
    return MemoryBlobs(address) if address.startswith("http:") else LocalBlobs(Path(address))


def read(blobs: Blobs, key: str) -> bytes:
    """Returns all bytes of a blob."""
    return b"".join(blobs.open(key))
