"""The keys of stored files: their form, new ones, and their place in a file's URL."""

import mimetypes
import re
import secrets
from urllib.parse import urlsplit

KEY = re.compile(r"[A-Za-z0-9_-]{32}(\.[a-z0-9]{1,8})?")
"""A file's key: 32 random characters, and the suffix of the file's name (or of its MIME type) if it has one."""


SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")
"""The end of a file's name that may become the end of its key, in lower case."""


def new_key(name: str, content_type: str) -> str:
    """Returns a random key for a new file in the file store. The key is part of the file's URL.

    It ends with the suffix of the file's name, such as ".mp4". If `name` has no suffix, it ends with the usual suffix
    of the MIME type `content_type`, if there is one. `KEY` always matches the result.
    """
    return secrets.token_urlsafe(24) + suffix(name, content_type)


def key_in_url(url: str) -> str | None:
    """Returns the key in the URL of a file, which is the last part of a path `.../files/<key>`.

    Returns None for a URL of another form. The host is not looked at, and the file need not exist.
    """
    try:
        address = urlsplit(url)
    except ValueError:
        return None
    folder, _, key = address.path.rpartition("/")
    is_file = address.scheme in ("http", "https") and folder.endswith("/files") and key != ""
    return key if is_file else None


def suffix(name: str, content_type: str) -> str:
    """Returns the suffix of a file's name, or the usual one of its MIME type; an empty text if there is neither.

    A suffix that `KEY` does not allow, such as `.webmanifest`, counts as none.
    """
    usual = mimetypes.guess_extension(content_type.partition(";")[0].strip()) or ""
    found = SUFFIX.search(name) or SUFFIX.fullmatch(usual)
    return found[0].lower() if found else ""
