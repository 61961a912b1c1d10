"""Deletes blobs so that one which cannot be deleted does not keep the others from it."""

import errno
import logging
from functools import lru_cache

from longtake.storage.blobs import Blobs

log = logging.getLogger(__name__)

OF_ONE_FILE = (errno.EIO, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EBUSY, errno.ESTALE)
"""Codes of operating system errors that may concern one file alone, such as one that its operator has protected."""

MOST_REMEMBERED = 1000
"""The number of blobs for which it is remembered that they cannot be deleted, so that this is logged once."""


def delete_blob(blobs: Blobs, key: str) -> None:
    """Deletes a blob that no row of the database needs any longer, if it exists.

    If this one cannot be deleted, logs it once and returns. Then `FileStore.sweep_strays` tries again each hour, when
    the blob is old enough. Raises OSError if the storage fails in another way, which would concern all blobs.
    """
    try:
        blobs.delete(key)
    except OSError as error:
        if error.errno not in OF_ONE_FILE:
            raise
        _report(key.partition(".")[0][-8:], str(error.strerror))


@lru_cache(maxsize=MOST_REMEMBERED)
def _report(end_of_name: str, reason: str) -> None:
    # Whoever knows a file's key may read the file, so the log has only a part of the blob's name.
    log.error("The stored file ...%s cannot be deleted: %s. The server tries again later.", end_of_name, reason)
