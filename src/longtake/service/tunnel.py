"""An HTTPS proxy for unmodified programs: connections to fal's hosts become TLS connections to this server.

A program uses the proxy if its environment variable HTTPS_PROXY contains the proxy's URL. The proxy refuses all other
hosts: otherwise everybody who reaches it would have the network access of this machine. A program that needs other
hosts lists them in NO_PROXY.
"""

import asyncio
import re
import socket

from longtake.queue.addresses import HOSTS
from longtake.service.connections import Bounds

END = b"\r\n\r\n"
"""The bytes with which a request's head (its first line and its headers) ends."""

_REQUEST_LINE = re.compile(r"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.[01]")


async def connect(line: socket.socket, bounds: Bounds) -> bool:
    """Answers the CONNECT request of a new client. Returns True if the client may begin its TLS handshake.

    Returns False if the request is refused, its head is too large, or the client disconnects before the head's end. A
    refusal is sent to the client. The caller must close `line` then.

    line: the client's socket, which does not block.
    bounds: `head_bytes` limits the size of the head, and `head_s` the time until its end.

    Raises OSError if the connection fails or the client is too slow.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(bounds.head_s):
        head = await _read_head(line, bounds.head_bytes)
    if head is None:
        return False
    refused = refusal(head.partition(b"\r\n")[0].decode("latin-1"))
    answer = b"HTTP/1.1 200 Connection established\r\n\r\n" if refused is None else _refusal_response(*refused)
    await loop.sock_sendall(line, answer)
    return refused is None


async def _read_head(line: socket.socket, most_bytes: int) -> bytes | None:
    """Receives the head of a request from the socket `line`, and returns it.

    Returns None if it has more than `most_bytes` bytes or the client disconnects. Receives nothing of what follows the
    head, because that is for the TLS handshake.
    """
    head = bytearray()
    while not head.endswith(END):
        # This waits until something arrives. It receives one byte, because more could belong to the handshake.
        piece = await asyncio.get_running_loop().sock_recv(line, 1)
        if not piece or len(head) >= most_bytes:
            return None
        head += piece
        head += _arrived_part(line, bytes(head[-len(END) :]), most_bytes - len(head))
    return bytes(head)


def _arrived_part(line: socket.socket, last: bytes, most_bytes: int) -> bytes:
    """Receives from the socket `line` what has already arrived of a request's head, without waiting, and returns it.

    Receives nothing of what follows the head.

    last: the last bytes of the head that were received before, up to four.
    most_bytes: the largest number of bytes to receive.
    """
    try:
        arrived = line.recv(most_bytes, socket.MSG_PEEK)
    except BlockingIOError:
        return b""
    end = (last + arrived).find(END)
    count = len(arrived) if end < 0 else end + len(END) - len(last)
    return line.recv(count) if count else b""


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


def _refusal_response(status: str, sentence: str) -> bytes:
    body = sentence.encode() + b"\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
