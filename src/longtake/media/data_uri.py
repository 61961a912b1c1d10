"""Decodes data URIs, as RFC 2397 defines them and as browsers make them."""

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from longtake.errors import FileTooLarge, InvalidRequest

MAX_HEADER = 1000
"""The mark `;base64,` of a data URI is only looked for in this many characters from the URI's start."""

MIN_BARE = 64
"""A text that does not begin with `data:` is taken for base64 only if it has at least this many characters."""

MAX_LOOKED_AT = 10_000
"""Number of characters at the start of a text that decide whether it is base64."""

_SHOWN = 80
_MARK = re.compile(r";\s*base64\s*,", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"|%22.*?%22', re.DOTALL)
"""Matches the quoted value of a parameter in a data URI's media type, such as `"a,b"` in `text/plain;name="a,b"`.
Commas and semicolons in it are not separators."""
_MISPLACED_MARK = re.compile(r"[:;]\s*base64\s*(;|\Z)", re.IGNORECASE)
"""Matches `;base64` at the end of the text before a data URI's comma. It also matches two wrong forms that some
programs write: parameters after it (`;base64;a=b`), or a colon instead of its semicolon."""
_BLANKS = b" \t\n\r\f"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
"""Translates the alphabet of base64 in URLs (RFC 4648, section 5) to the usual one."""
_BARE_TYPE = re.compile(r"([\w.+-]++/[\w.+-]++)?+[\w=;. -]*+")
_BARE_DATA = re.compile(r"[A-Za-z0-9+/_\s-]++={0,2}+\s*+")
"""Matches the data of a data URI that lacks `data:`; _BARE_TYPE matches its type. Neither pattern backtracks, so that a
long text is read only once."""


def decode(uri: str, max_bytes: int) -> bytes:
    """Returns the data in a URI `data:[type][;base64],...`. The type in the URI is ignored.

    The type may have parameters that contain commas, with or without quotes (`codecs=vp8,opus`). Base64 may contain
    blanks and line breaks, use the alphabet for URLs, and lack its padding. A fragment (`#t=1`) is ignored.

    Raises InvalidRequest if the URI is malformed, FileTooLarge if the data has more than `max_bytes` bytes.
    """
    is_base64, body = _split(uri.partition("#")[0])
    if not is_base64:
        check_bytes((len(body) + 2) // 3, max_bytes)
        data = _unquoted(body)
        check_bytes(len(data), max_bytes)
        return data
    check_bytes(len(body) // 4 if "%" in body or _has_blanks(body) else len(body) * 3 // 4 - 2, max_bytes)
    text = _unquoted(body).translate(_URL_SAFE, _BLANKS)
    valid = _BASE64.match(text)
    if valid is not None and valid.end() < len(text):
        character = ascii(chr(text[valid.end()]))
        raise InvalidRequest(
            f"The data URI holds characters that base64 does not have, the first is {character}.", value=shortened(uri)
        )
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        reason = "The data URI's base64 ends too early or has wrong padding."
        raise InvalidRequest(reason, value=shortened(uri)) from None
    check_bytes(len(data), max_bytes)
    return data


def _unquoted(body: str) -> bytes:
    """Returns the bytes that percent-encoded text stands for.

    Raises InvalidRequest if the text has a character that UTF-8 cannot encode (a lone surrogate).
    """
    try:
        return unquote_to_bytes(body)
    except UnicodeEncodeError:
        raise InvalidRequest("The data URI has half a character in it (a lone surrogate).") from None


def _split(uri: str) -> tuple[bool, str]:
    """Returns (is_base64, data) for a data URI. `data` is the text after the comma that ends the type, not decoded yet.

    Raises InvalidRequest if there is no comma.
    """
    # Filling quoted values keeps the positions of all other characters.
    unquoted = _QUOTED.sub(lambda value: "_" * len(value[0]), uri[:MAX_HEADER])
    comma = unquoted.find(",") if "," in unquoted else uri.find(",", MAX_HEADER)
    if comma < 0:
        raise InvalidRequest("The data URI has no comma between its type and its data.", value=shortened(uri))
    header, body = unquoted[:comma], uri[comma + 1 :]
    if _MISPLACED_MARK.search(header):
        return True, body
    # The first comma may be one inside a parameter of the type.
    mark = _MARK.search(unquoted) if "=" in header else None
    return (False, body) if mark is None else (True, uri[mark.end() :])


def _has_blanks(text: str) -> bool:
    return any(chr(blank) in text for blank in _BLANKS)


def is_address(text: str) -> bool:
    """Returns True if the text begins like an http(s) URL or a data URI. Blanks before it are ignored."""
    return text.lstrip()[:8].lower().startswith(("http://", "https://", "data:"))


def address_error(text: str) -> InvalidRequest:
    """Returns the error for a text in a request that is neither an http(s) URL nor a data URI, but should be one."""
    bare = text.strip()
    if is_bare_base64(bare):
        return InvalidRequest(
            f"The value looks like {len(bare)} characters of base64 without `data:` before them. It must begin with "
            "`data:video/mp4;base64,` or be an http(s) address.",
            value=shortened(bare),
        )
    return InvalidRequest(
        f"{shortened(text)!r} is neither an http(s) address nor a data URI; upload the file or give such an address.",
        value=shortened(text),
    )


def is_bare_base64(text: str) -> bool:
    """Returns True if the text looks like a file in base64 that is not a complete data URI, because `data:` is missing.

    The text may be base64 alone or begin with a type, as `video/mp4;base64,AAAA...` does. It must have at least 64
    characters (MIN_BARE), so that a file name or a path is not taken for base64. Only its first 10,000 characters
    (MAX_LOOKED_AT) are examined.
    """
    beginning = text[:MAX_LOOKED_AT]
    kind, mark, data = beginning.partition("base64,")
    if mark and not _BARE_TYPE.fullmatch(kind):
        return False
    return len(text) >= MIN_BARE and _BARE_DATA.fullmatch(data if mark else beginning) is not None


def shortened(text: str) -> str:
    """Returns `text` for use in an error message: cut to 80 characters, with "..." at the end if it is longer."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def check_bytes(count: int, max_bytes: int) -> None:
    """Raises FileTooLarge if a file of `count` bytes is larger than `max_bytes`."""
    if count > max_bytes:
        raise FileTooLarge(
            f"The file is larger than {max_bytes} bytes, the most that is accepted.", ctx={"max_size": max_bytes}
        )
