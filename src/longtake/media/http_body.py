"""Checks that the body of an HTTP response is a whole file, and decompresses the body."""

import errno
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx

from longtake.media.data_uri import check_bytes

MOST_DECODED = 2**18
"""A compressed body is decompressed in parts of at most this many bytes."""

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)

_WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""Encoding in the header `Content-Encoding` -> the argument `wbits` of zlib's decompressor."""


def check_declared(num_bytes: int, max_bytes: int, folder: Path) -> None:
    """Checks the size that a response states for its body, before the body is read.

    Raises FileTooLarge if it is more than `max_bytes`. Raises OSError (ENOSPC), as a full disk does, if the disk has
    less free space.

    num_bytes: the stated size.
    folder: the folder in which the body will be saved.
    """
    check_bytes(num_bytes, max_bytes)
    if num_bytes > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def is_whole(headers: httpx.Headers, start: int = 0) -> bool:
    """Returns True if a response with status 206 (partial content) holds the whole file from the byte `start` on.

    That is so if the range in its headers (`content-range`) goes from this byte to the last byte of the file. If the
    server does not state the file's size there (`bytes 0-99/*`), the range must be as long as the header
    `content-length` says.
    """
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    if found is None or int(found[1]) != start:
        return False
    if found[3] == "*":
        return str(headers.get("content-length", "")) == str(int(found[2]) + 1 - start)
    return int(found[3]) == int(found[2]) + 1


def decoded(response: httpx.Response) -> Iterator[bytes]:
    """Yields the body of a response, decompressed, in parts of limited size.

    httpx's own decompression has no limit: a few kilobytes that are compressed twice can become gigabytes at once.

    Raises ValueError if the body is broken, or if its `Content-Encoding` is not a single gzip or deflate. The message
    is a part of a sentence, such as "it is encoded as 'br'; ...".
    """
    header = response.headers.get("content-encoding", "")
    names = [name for name in re.split(r"[\s,]+", header.lower()) if name not in ("", "identity")]
    if not names:
        return response.iter_raw()
    if len(names) > 1 or names[0] not in _WINDOW_BITS:
        raise ValueError(f"it is encoded as {header[:80]!r}; at most one encoding, gzip or deflate, is decoded")
    return _decompressed(response.iter_raw(), names[0])


def _decompressed(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    for piece in pieces:
        rest = piece
        while True:
            if decompressor.eof:
                rest = rest.lstrip(b"\0")  # after a gzip file there may be zeros and another gzip file
                if not rest:
                    break
                decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
            try:
                data = decompressor.decompress(rest, MOST_DECODED)
            except zlib.error:
                raise ValueError(f"its {encoding} encoding is broken") from None
            yield data
            rest = decompressor.unused_data or decompressor.unconsumed_tail
            if not rest and len(data) < MOST_DECODED:
                break
    if not decompressor.eof:
        raise ValueError(f"its {encoding} encoding ends too early")
