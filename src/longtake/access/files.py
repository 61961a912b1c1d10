"""Who may read which stored file."""

from urllib.parse import urlsplit

from longtake.storage.files import FileStore, StoredFile
from longtake.storage.lifecycle import Decision


def decide(file: StoredFile, key_id: str | None) -> Decision:
    """Returns the answer to a request for a file by the holder of an API key; None is a caller without a key."""
    if not file.access or key_id == file.owner:
        return "allow"
    for rule in file.access.get("rules", ()):
        if rule["user"] == key_id:
            found: Decision = rule["decision"]
            return found
    default: Decision = file.access.get("default", "allow")
    return default


def find_own(store: FileStore, url: str, key_id: str | None) -> str | None:
    """Returns the blob of the stored file that a URL names, so that it need not be downloaded.

    The URL's host does not matter, because a server may have several names and a file's key cannot be guessed. Returns
    None if the URL names no stored file, or one that `key_id` may not read.
    """
    try:
        address = urlsplit(url)
    except ValueError:
        return None
    folder, _, key = address.path.rpartition("/")
    if address.scheme not in ("http", "https") or not folder.endswith("/files"):
        return None
    file = store.find(key)
    return file.blob if file is not None and decide(file, key_id) == "allow" else None
