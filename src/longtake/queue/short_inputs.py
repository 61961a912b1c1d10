"""Reads the inputs of requests with their data URIs cut short, because a data URI can contain a whole video."""

import re
from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import requests
from longtake.errors import FileLost
from longtake.queue.payloads import checked
from longtake.storage.blobs import Blobs

SHOWN_BYTES = 64
"""Number of bytes of a data URI that are kept. The other bytes are replaced by `...`."""

_BEGINNING = re.compile(rb'(?<!\\)"data:[!#-\[\]-~]{%d}(?=[^"])' % (SHOWN_BYTES - len("data:")))
_ESCAPE_OR_END = re.compile(rb'\\.|"', re.DOTALL)


def short_input(engine: sa.Engine, blobs: Blobs, request_id: str, max_bytes: int) -> bytes | None:
    """Returns the input of a request as JSON, in which each data URI has at most 64 bytes (SHOWN_BYTES) and `...`.

    Returns None if there is no such request, if the blob that holds the input is deleted or damaged, or if the result
    would have more than `max_bytes` bytes.
    """
    query = sa.select(requests.c.body, requests.c.body_blob).where(requests.c.id == request_id)
    with reading(engine) as connection:
        found = connection.execute(query).first()
    if found is None:
        return None
    try:
        pieces = [found.body] if found.body_blob is None else checked(blobs, found.body_blob)
        short = bytearray()
        for piece in without_data(pieces):
            short += piece
            if len(short) > max_bytes:
                return None
    except (FileNotFoundError, FileLost):  # Without the blob, the payload is just being deleted.
        return None
    return bytes(short)


def without_data(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the pieces of a JSON text with each data URI cut after 64 bytes (SHOWN_BYTES) and `...` appended.

    `pieces`: the JSON text in pieces. A data URI may be spread over several of them.
    """
    text, is_inside = b"", False  # The part that was not handled yet, and whether it is the rest of a data URI
    for piece in pieces:
        text += piece
        while True:
            if is_inside:
                end = _end_of_string(text)
                if end is None:
                    text = b"\\" if _ends_in_escape(text) else b""  # The byte after it is in the next piece.
                    break
                yield b"..."
                text, is_inside = text[end:], False
            begin = _BEGINNING.search(text, 1)  # The first byte was looked at before, or begins the JSON text.
            if begin is None:
                break
            yield text[: begin.end()]
            text, is_inside = text[begin.end() :], True
        if not is_inside:
            # A data URI may begin in the last bytes. One byte before it is kept, which may be a backslash.
            rest = max(0, len(text) - SHOWN_BYTES - 2)
            yield text[:rest]
            text = text[rest:]
    yield text


def _end_of_string(text: bytes) -> int | None:
    """Returns the position of the quote that ends a JSON string; None if the string does not end in `text`.

    `text`: begins inside of the string. Escaped quotes do not end the string.
    """
    if b"\\" not in text:  # This is much faster, and data URIs hardly ever have one.
        end = text.find(b'"')
        return None if end < 0 else end
    return next((found.start() for found in _ESCAPE_OR_END.finditer(text) if found[0] == b'"'), None)


def _ends_in_escape(text: bytes) -> bool:
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
