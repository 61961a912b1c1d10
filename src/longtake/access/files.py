"""Decides who may read which stored file."""

from collections.abc import Mapping
from typing import Any

from longtake.storage.files import FileStore, StoredFile
from longtake.storage.keys import key_in_url
from longtake.storage.lifecycle import Decision


def decide(file: StoredFile, key_id: str | None) -> Decision:
    """Returns how a request for a file is answered: "allow" (it is sent), "forbid" (status 403) or "hide" (status 404).

    `key_id` is the id of the caller's API key, or None without a key. The first line that applies decides:
    1. The caller owns the file: "allow".
    2. The file has an access rule for this key: the decision in the first such rule.
    3. The file's access rules have a default: the default.
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


def may_everybody_read(access: Mapping[str, Any] | None) -> bool:
    """Returns True if a sender without a key may read a file with these access rules (see `lifecycle.access_rules`).
    None, no rules, lets everybody read it who knows its URL."""
    return not access or access.get("default", "allow") == "allow"


def find_own(store: FileStore, url: str, key_id: str | None) -> tuple[str, StoredFile] | None:
    """Returns the key of the file at `url` and the facts about it, if this server's store has the file.

    The server can then read the file from its store and need not download it. Returns None if the URL names no stored
    file, or a file that the caller may not read. Raises FileLost if the file's bytes are missing or damaged.

    `url`: only the end of its path counts. Its host is ignored, because a server may have several names, and the last
        part of the path cannot be guessed.
    `key_id`: the id of the caller's API key; None without a key.
    """
    key = key_in_url(url)
    file = None if key is None else store.facts(key)
    if key is None or file is None or decide(file, key_id) != "allow":
        return None
    return (key, file) if store.is_whole(key, file) else None
