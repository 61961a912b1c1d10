"""Receives and checks the JSON bodies of requests. Their size and structure are limited. Large ones are kept on the
disk.
"""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import Any

from starlette.requests import Request

from longtake import system
from longtake.endpoints import body_check
from longtake.endpoints.body_check import CheckedBody, check, json_problem, parse
from longtake.service.responses import CLOSE, ModelFailed, RequestFailed
from longtake.service.state import ServerState
from longtake.storage.files import disk_full_errors

MOST_STRUCTURE_BYTES = 1_000_000
"""Maximum number of bytes of a body outside of its JSON strings. The largest useful body has a few thousand."""
SMALL_BYTES = 64 * 1024
"""Default maximum size in bytes of a JSON body. Submissions and some other routes allow larger bodies."""
MOST_VALUES = 50_000
"""Maximum number of lists, objects and commas in a JSON body that is not a submission.

While the parser makes so many values, all threads of this process stop for about 20 ms. The largest useful body, the
list of an upload's 10,000 parts, has 30,000.
"""
THREAD_BYTES = 64 * 1024
"""Size in bytes above which a body is checked in a thread, so that the event loop stays free. One body is checked at a
time."""
SPOOL_BYTES = 256 * 1024
"""Size in bytes above which a received body is written to a file. A smaller one stays in memory."""
PROCESS_BYTES, PROCESS_STRUCTURE_BYTES = 5_000_000, 20_000
"""A body is checked in a child process if it has more bytes than the first number, or more bytes outside of JSON
strings than the second. In the server's own process the JSON parser would stop all threads for more than 100 ms."""
PROCESS_S = 120.0
"""Seconds that the check of a body in a child process may take."""


class Structure:
    """Counts the bytes of a JSON text that are outside of strings, piece by piece. The quotes count too.

    size: the number of these bytes so far.
    values: the number of commas, `[` and `{` among these bytes, which is about the number of JSON values in the text.
    """

    def __init__(self) -> None:
        self.size = 0
        self.values = 0
        self._is_in_string = False
        self._is_escaped = False  # The next byte follows a backslash.

    def add(self, piece: bytes) -> None:
        """Counts in the next piece of the JSON text: adds the number of its bytes outside of strings to `size`, and the
        number of its JSON values to `values`. The piece is not stored."""
        if not piece:
            return
        without_pairs = piece[self._is_escaped :].replace(b"\\\\", b"")
        self._is_escaped = without_pairs.endswith(b"\\")
        parts = without_pairs.replace(b'\\"', b"").split(b'"')
        outside = b"".join(parts[self._is_in_string :: 2])
        self.size += len(outside) + len(parts) - 1
        self.values += sum(outside.count(one) for one in (b",", b"[", b"{"))
        self._is_in_string ^= len(parts) % 2 == 0


@dataclass(frozen=True)
class ReceivedBody:
    """The body of a request, as it was received. It is not parsed yet.

    file: contains the body. The file is on the disk if the body has more than 256 KiB (SPOOL_BYTES), otherwise in
        memory.
    key_id: the id of the API key that has sent the body.
    folder: the folder for temporary files.
    size: the number of bytes of the body.
    structure: two counts that tell how long parsing will take: of the bytes outside of JSON strings, and of the values.
    """

    file: "SpooledTemporaryFile[bytes]"
    key_id: str
    folder: Path
    size: int
    structure: Structure

    def read(self) -> bytes:
        """Returns the whole body."""
        self.file.seek(0)
        return self.file.read()


def declared_bytes(request: Request) -> int:
    """Returns the number in the header Content-Length of a request, or 0 if this header is missing or not a number."""
    length = request.headers.get("content-length", "")
    return int(length[:20]) if length.isascii() and length.isdigit() else 0


@asynccontextmanager
async def received_body(request: Request, state: ServerState, key_id: str, limit: int) -> AsyncIterator[ReceivedBody]:
    """Receives the JSON body of a request, and yields it without parsing it.

    The file that contains the body is deleted at the end of the `async with` block.

    key_id: the id of the API key that sends the body. Each byte that arrives is taken from this key's budget.
    limit: the largest number of bytes that the body may have.

    Each of these errors becomes an answer with an HTTP status:
    - 413: raises RequestFailed if the body has more than `limit` bytes, or more than 1,000,000 (MOST_STRUCTURE_BYTES)
      outside of its JSON strings.
    - 429: raises RequestFailed if the key has sent as many bytes as it may.
    - 507: raises DiskFull if the disk is full.
    """
    too_large = _too_large(f"The body is larger than {limit} bytes; upload large files and send their URLs.")
    if declared_bytes(request) > limit:
        raise too_large
    state.budgets.check_bytes(key_id, declared_bytes(request))
    folder, size, structure = state.store.scratch, 0, Structure()
    with SpooledTemporaryFile(SPOOL_BYTES, dir=str(folder)) as file:

        def write(piece: bytes) -> None:
            with disk_full_errors():
                file.write(piece)

        async for piece in request.stream():
            size += len(piece)
            state.budgets.use_bytes(key_id, len(piece))
            structure.add(piece)
            if size > limit:
                raise too_large
            if structure.size > MOST_STRUCTURE_BYTES:
                raise _too_large(f"The body has more than {MOST_STRUCTURE_BYTES} bytes outside of its JSON strings.")
            if size > SPOOL_BYTES:
                await state.call_for(key_id, write, piece)
            else:
                write(piece)
        yield ReceivedBody(file, key_id, folder, size, structure)


async def read_json(request: Request, state: ServerState, key_id: str, limit: int = SMALL_BYTES) -> Any:
    """Returns the JSON value in the body of a request, or {} for an empty body. The content type does not matter.

    For all bodies but those of submissions, which may be much larger (see `checked_body`).

    key_id: the id of the API key that sends the body.
    limit: the largest number of bytes that the body may have.

    Each of these errors becomes an answer with an HTTP status:
    - 422: raises ModelFailed if the body is not valid JSON, or contains a number that is not finite.
    - 413: raises RequestFailed if the body has more than `limit` bytes, or more than 50,000 (MOST_VALUES) lists,
      objects and commas.
    - 429: raises RequestFailed if the key has sent as many bytes per hour as it may (a setting, `key_bytes_per_hour`).
    - 507: raises DiskFull if the body has more than 256 KiB, which are written to a file, and the disk is full.
    """
    async with received_body(request, state, key_id, limit) as body:
        if body.structure.values > MOST_VALUES:
            raise _too_large(f"The body has more than {MOST_VALUES} lists, objects and commas.")
        try:
            async with state.parsing.permit(key_id):
                return await state.call_long(lambda: parse(body.read()))
        except (ValueError, RecursionError) as error:
            raise ModelFailed([json_problem(error)]) from None


async def checked_body(state: ServerState, endpoint_id: str, body: ReceivedBody) -> CheckedBody:
    """Returns the body of a submission as compact JSON, with the problems of the input and the URLs of its files.

    An invalid input raises no error: the result's `problems` is then not empty. If the body is not valid JSON, the
    result is the JSON value `null` with one problem.

    endpoint_id: the endpoint whose input the body must be.
    body: the body as it was received. A large one is checked in a process of its own.

    Raises RequestFailed with status 503 if memory or time runs out in that process. Raises DiskFull if a large body
    cannot be written to the disk because it is full.
    """
    if body.size > PROCESS_BYTES or body.structure.size > PROCESS_STRUCTURE_BYTES:
        async with state.large_bodies.permit(body.key_id):
            return await state.call_long(_checked_apart, endpoint_id, body)
    if body.size > THREAD_BYTES:
        async with state.parsing.permit(body.key_id):
            return await state.call_long(lambda: check(endpoint_id, body.read()))
    return check(endpoint_id, body.read())


def _checked_apart(endpoint_id: str, body: ReceivedBody) -> CheckedBody:
    """Checks a body in a process of its own. Returns the result of `body_check.check(endpoint_id, body.read())`.

    Raises RequestFailed with status 503 if the process fails or takes more than two minutes (PROCESS_S). Raises
    DiskFull if the disk is full.
    """
    command = [sys.executable, "-m", "longtake.endpoints.body_check", endpoint_id]
    body.file.rollover()
    body.file.seek(0)
    with disk_full_errors(), TemporaryFile(dir=body.folder) as output:
        try:
            subprocess.run(
                command,
                stdin=body.file.fileno(),
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=PROCESS_S,
                check=True,
                **system.SEPARATE_PROCESS,
            )
        except subprocess.SubprocessError:
            raise RequestFailed(
                503, "The body could not be checked, because memory or time ran out; ask again.", "internal_error"
            ) from None
        output.seek(0)
        return body_check.read(output)


def _too_large(sentence: str) -> RequestFailed:
    return RequestFailed(413, sentence, "bad_request", CLOSE)
