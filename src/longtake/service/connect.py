"""A CONNECT endpoint: with HTTPS_PROXY pointing here, what a program sends to fal's hosts comes to this server.

It tunnels to nothing else: a proxy that passed on would lend whoever reaches it this machine's place in the network.
Programs name the other hosts they need in NO_PROXY.
"""

import asyncio
import contextlib
import re

from longtake.queue.addresses import HOSTS

HEAD_BYTES = 128 * 1024
HEAD_S = 10.0
"""So much, and so long, the request for a tunnel may take."""

_LINE = re.compile(r"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.[01]")


async def serve(host: str, port: int, *, tls_host: str, tls_port: int) -> asyncio.Server:
    """Listens at host:port and tunnels to the TLS port of this server; the caller closes it."""

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await _tunnel(reader, writer, tls_host, tls_port)
        await _close(writer)

    return await asyncio.start_server(tunnel, host, port, limit=HEAD_BYTES)


def refusal(line: str) -> tuple[str, str] | None:
    """The status and the sentence for a request line that asks for no tunnel of ours; None for one that does."""
    found = _LINE.fullmatch(line)
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
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_S)
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
    outwards = asyncio.create_task(_pump(reader, inner_writer))
    try:
        await _pump(inner_reader, writer)  # when the server is done, so is the tunnel, whatever the client still holds
    finally:
        outwards.cancel()
        await asyncio.gather(outwards, return_exceptions=True)
        await _close(inner_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
