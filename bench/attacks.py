"""Attacks of one client on a server of this machine, for `bench.health`.

Each attack is repeated for a number of seconds, and returns how often the server gave each answer.
"""

import gzip
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection

ENDPOINT = "fal-ai/ltxv-13b-098-distilled/extend"
SUBMIT = f"/queue/{ENDPOINT}"
MB = 1_000_000
ABORTED = "closed"
"""The answer to a request whose connection the server closed, or whose answer could not be read."""


@dataclass(frozen=True)
class Target:
    """A server on this machine, and how much it is attacked.

    port: the server's port.
    seconds: the time after which an attack is not repeated.
    share: the size of the attacks, relative to the largest that the limits of the server allow: 0..1.
    """

    port: int
    seconds: float
    share: float = 1.0

    def size(self, full: int) -> int:
        """Returns the share of a full size or number, at least 1."""
        return max(1, int(full * self.share))


Answers = Counter[str]
"""HTTP status, `closed`, or `opened` (connections on which no answer is awaited) -> number of answers."""


def connected(target: Target) -> socket.socket:
    return socket.create_connection(("127.0.0.1", target.port), 60)


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", "")).encode()


def sent(target: Target, data: bytes) -> str:
    """Sends bytes on a connection of their own. Returns the status of the answer."""
    with connected(target) as line:
        with suppress(OSError):  # the server may have answered already
            line.sendall(data)
        return status(line)


def status(line: socket.socket) -> str:
    """Returns the status of the answer that arrives at a connection."""
    received = b""
    with suppress(OSError):
        while len(received) < 12 and (piece := line.recv(4096)):
            received += piece
    return received[9:12].decode() or ABORTED


def repeated(target: Target, once: Callable[[], str]) -> Answers:
    """Calls a function for the seconds of the target, at least once, and counts its results."""
    answers, end = Answers([once()]), time.monotonic() + target.seconds
    while time.monotonic() < end:
        answers[once()] += 1
    return answers


def posted(target: Target, body: bytes, *headers: str, path: str = SUBMIT, at_once: int = 1) -> Answers:
    """Sends a body again and again, on `at_once` connections at the same time."""
    data = head("POST", path, f"Content-Length: {len(body)}", *headers) + body
    with ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(lambda _: repeated(target, lambda: sent(target, data)), range(at_once)), Answers())


def valid(extra: bytes) -> bytes:
    """Returns the body of a valid submission with more text in its object."""
    return b'{"prompt":"x","video":{"video_url":"http://example.com/a.mp4"},' + extra + b"}"


def endless_header(target: Target) -> Answers:
    return repeated(target, lambda: sent(target, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * target.size(60 * MB)))


def many_headers(target: Target) -> Answers:
    headers = [f"X-{number}: {'a' * 50}" for number in range(target.size(990))]
    return repeated(target, lambda: sent(target, head("GET", "/health", *headers)))


def many_errors(number: int, target: Target) -> Answers:
    return posted(target, valid(b'"loras":[' + b"{}," * target.size(number) + b"{}]"))


def data_uri(at_once: int, target: Target) -> Answers:
    uri = b"data:video/mp4;base64," + b"A" * target.size(99 * MB)
    return posted(target, b'{"prompt":"x","video":{"video_url":"' + uri + b'"}}', at_once=at_once)


def many_keys(number: int, length: int, target: Target) -> Answers:
    """Sends objects of `number` keys with `length` characters each."""
    keys = (b'"%0*d":0' % (length, key) for key in range(target.size(number)))
    return posted(target, valid(b",".join(keys)))


def prompt(character: bytes, target: Target) -> Answers:
    text = character * target.size(96 * MB // len(character))
    return posted(target, b'{"video":{"video_url":"http://example.com/a.mp4"},"prompt":"' + text + b'"}')


def nested(target: Target) -> Answers:
    depth = target.size(499_000)
    return posted(target, valid(b'"seed":' + b"[" * depth + b"]" * depth))


def wide(number: int, target: Target) -> Answers:
    return posted(target, valid(b'"seed":[' + b"0," * target.size(number) + b"0]"))


def wide_elsewhere(target: Target) -> Answers:
    """Sends the widest JSON that a route other than a submission allows."""
    return posted(target, b'{"allowed_apps":[' + b"0," * target.size(32_000) + b"0]}", path="/rest/tokens/", at_once=4)


def compressed(target: Target) -> Answers:
    return posted(target, gzip.compress(bytes(target.size(99 * MB))), "Content-Encoding: gzip")


def random_bytes(target: Target) -> Answers:
    return posted(target, os.urandom(target.size(99 * MB)), "Content-Encoding: gzip")


def small_chunks(target: Target) -> Answers:
    chunks = b"1\r\n \r\n" * target.size(1_900)
    data = head("POST", SUBMIT, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"
    return repeated(target, lambda: sent(target, data))


def pipelined(target: Target) -> Answers:
    return repeated(target, lambda: sent(target, head("GET", "/health") * target.size(1000)))


def half_heads(target: Target) -> Answers:
    """Opens as many connections as possible, each with a head that does not end."""

    def once() -> str:
        with ExitStack() as stack:
            for _ in range(target.size(600)):
                stack.enter_context(connected(target)).sendall(b"GET / HTTP/1.1\r\nX: ")
        return "opened"

    return repeated(target, once)


def documents(target: Target) -> Answers:
    """Asks for the pages and documents that need no key, on 16 connections at the same time."""
    paths = ("/", f"/models/{ENDPOINT}", f"/api/openapi/queue/openapi.json?endpoint_id={ENDPOINT}", "/v1/models")

    def ask(path: str) -> Answers:
        line = HTTPConnection("127.0.0.1", target.port, timeout=60)

        def once() -> str:
            line.request("GET", path, headers={"Accept-Encoding": "gzip"})
            answer = line.getresponse()
            answer.read()
            return str(answer.status)

        try:
            return repeated(target, once)
        finally:
            line.close()

    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(ask, paths * 4), Answers())


def uploads(target: Target) -> Answers:
    return posted(target, bytes(target.size(100 * MB)), path="/cdn/files/upload", at_once=6)


def slow_readers(target: Target) -> Answers:
    """Asks for a large file on many connections, and reads nothing."""
    content = bytes(target.size(50 * MB))
    line = HTTPConnection("127.0.0.1", target.port, timeout=60)
    line.request("POST", "/cdn/files/upload", content)
    url = line.getresponse().read().decode().partition(f":{target.port}")[2].partition('"')[0]
    line.close()
    return held(target, url, 200)


def event_streams(target: Target) -> Answers:
    """Opens event streams of a request that waits in the queue."""
    line = HTTPConnection("127.0.0.1", target.port, timeout=60)
    line.request("POST", SUBMIT, valid(b'"seed":1'))
    url = line.getresponse().read().decode().partition('"status_url":"')[2].partition('"')[0]
    line.close()
    return held(target, url.partition(f":{target.port}")[2] + "/stream", 190)


def held(target: Target, path: str, number: int) -> Answers:
    """Sends requests on many connections, and reads no more than the status of each until the time is over."""
    with many(target, number) as lines:
        for line in lines:
            line.sendall(head("GET", path))
        time.sleep(target.seconds)
        return Answers(status(line) for line in lines)


@contextmanager
def many(target: Target, number: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connected(target)) for _ in range(target.size(number))]


ATTACKS: Mapping[str, Callable[[Target], Answers]] = {
    "a header of 60 MB": endless_header,
    "990 headers": many_headers,
    "330,000 errors": partial(many_errors, 330_000),
    "350,000 errors": partial(many_errors, 350_000),
    "data URI of 99 MB": partial(data_uri, 1),
    "six of them at once": partial(data_uri, 6),
    "190,000 keys, 96 MB": partial(many_keys, 190_000, 500),
    "4,900 keys, 4.9 MB": partial(many_keys, 4_900, 990),
    "prompt of 96 MB": partial(prompt, b"x"),
    "the same of escapes": partial(prompt, b"\\u00e9"),
    "499,000 nested lists": nested,
    "499,000 numbers": partial(wide, 499_000),
    "9,900 numbers": partial(wide, 9_900),
    "32,000 numbers elsewhere": wide_elsewhere,
    "99 MB as gzip": compressed,
    "99 MB at random": random_bytes,
    "chunks of 1 byte": small_chunks,
    "1000 requests at once": pipelined,
    "600 half heads": half_heads,
    "pages and documents": documents,
    "six uploads of 100 MB": uploads,
    "200 slow readers": slow_readers,
    "190 event streams": event_streams,
}
"""What is sent, in words -> the attack."""
