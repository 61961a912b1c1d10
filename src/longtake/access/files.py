"""Decides who may read which stored file."""

from urllib.parse import urlsplit

from longtake.storage.files import FileStore, StoredFile
from longtake.storage.lifecycle import Decision


def decide(file: StoredFile, key_id: str | None) -> Decision:
    """Returns how a request for a file is answered: "allow", "hide" or "forbid".

    `key_id` is the id of the caller's API key, or None without a key. The first of these that applies decides:
    1. The caller is the owner of the file: "allow".
    2. The first of the file's access rules for this key id.
    3. The default of the access rules.
    4. Otherwise: "allow".
    """
    if not file.access or key_id == file.owner:
        return "allow"
    for rule in file.access.get("rules", ()):
        if rule["user"] == key_id:
            found: Decision = rule["decision"]
            return found
    default: Decision = file.access.get("default", "allow")
    return default


def find_own(store: FileStore, url: str, key_id: str | None) -> str | None:
    """Returns the blob key, under which the bytes are stored, of this server's file that `url` names.

    With it the server reads its own file from the store and need not download it. Returns None if the URL names no
    stored file, or a file that the holder of the API key `key_id` may not read. The host in the URL is ignored: a
    server may have several names, and a file's key cannot be guessed.
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
