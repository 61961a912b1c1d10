"""An HTTPS proxy for unmodified programs: it leads their connections to fal's hosts to this server's TLS port.

A program uses the proxy if its environment variable HTTPS_PROXY contains the proxy's URL. The proxy refuses all other
hosts: otherwise everybody who reaches it would have the network access of this machine. A program that needs other
hosts lists them in NO_PROXY.
"""

import asyncio
import contextlib
import re

from longtake.queue.addresses import HOSTS

MAX_HEAD_BYTES = 128 * 1024
"""Maximum size of a CONNECT request in bytes. The connection of a larger one is closed."""
MAX_HEAD_S = 10.0
"""Seconds within which a client must have sent its CONNECT request. After that its connection is closed."""

_REQUEST_LINE = re.compile(r"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.[01]")


async def serve(host: str, port: int, *, tls_host: str, tls_port: int) -> asyncio.Server:
    """Starts the proxy at `host` and `port`, and returns it. The caller must close it.

    port: the proxy's port; 0 selects a free one.
    tls_host, tls_port: the address of this server's TLS port, to which all connections lead.

    Raises OSError if the proxy cannot listen at its address.
    """

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await _tunnel(reader, writer, tls_host, tls_port)
        await _close(writer)

    return await asyncio.start_server(tunnel, host, port, limit=MAX_HEAD_BYTES)


def refusal(line: str) -> tuple[str, str] | None:
    """Returns None if a client may have the connection it asks for, else (HTTP status, sentence for the user).

    `line` is the first line of the client's request, such as `CONNECT fal.run:443 HTTP/1.1`. The HTTP status is a text
    such as `403 Forbidden`.
    """
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        return "400 Bad Request", "This is not an HTTP request."
    if found["method"] != "CONNECT":
        return (
            "405 Method Not Allowed",
            "This port tunnels https to fal's hosts by CONNECT, and does nothing else: set HTTPS_PROXY to it, not "
            "HTTP_PROXY.",
        )
    name, _, port = found["target"].rpartition(":")
    if name.lower() in HOSTS and port == "443":
        return None
    return (
        "403 Forbidden",
        f"This port tunnels to {', '.join(HOSTS)} at port 443, and not to {found['target'][:300]}: name the hosts that "
        "are not fal's in NO_PROXY.",
    )


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls_host: str, tls_port: int) -> None:
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), MAX_HEAD_S)
    except (asyncio.LimitOverrunError, TimeoutError):
        return
    refused = refusal(head.partition(b"\r\n")[0].decode("latin-1"))
    if refused is not None:
        await _refuse(writer, *refused)
        return
    try:
        inner_reader, inner_writer = await asyncio.open_connection(tls_host, tls_port)
    except OSError:
        await _refuse(writer, "502 Bad Gateway", "The server's TLS port does not answer.")
        return
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    to_server = asyncio.create_task(_copy(reader, inner_writer))
    try:
        # The tunnel ends when the server closes its side, even if the client would send more.
        await _copy(inner_reader, writer)
    finally:
        to_server.cancel()
        await asyncio.gather(to_server, return_exceptions=True)
        await _close(inner_writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies all bytes from `reader` to `writer`. At the end of `reader` it also ends the stream of `writer`."""
    try:
        while piece := await reader.read(256 * 1024):
            writer.write(piece)
            await writer.drain()
    finally:
        if writer.can_write_eof() and not writer.is_closing():
            with contextlib.suppress(OSError):
                writer.write_eof()


async def _refuse(writer: asyncio.StreamWriter, status: str, sentence: str) -> None:
    body = sentence.encode() + b"\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
