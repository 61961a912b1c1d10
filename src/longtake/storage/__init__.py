"""Uploads and results of the server: where their bytes are stored, and the facts about them in the database."""

from longtake.settings import Settings
from longtake.storage.blobs import Blobs
from longtake.storage.local import LocalBlobs


def open_blobs(settings: Settings) -> Blobs:
    """Returns the storage for the bytes of all files: the folder `files` in the data folder.

    Servers that share a database must share this folder, too.
    """
    return LocalBlobs(settings.data_dir / "files")
