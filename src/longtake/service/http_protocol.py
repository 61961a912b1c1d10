"""HTTP/1.1 on one connection: uvicorn's protocol, with the parser httptools and the limits of `service.connections`."""

import asyncio
import time
from collections import deque
from typing import Any, cast

from starlette.responses import Response
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from longtake import system
from longtake.flow import Flow
from longtake.service.connections import (
    Connection,
    Connections,
    Network,
    forwarded_address,
    forwarded_scheme,
    is_in,
    peer_of,
)
from longtake.service.responses import request_error

BUSY = "The server has too many open connections. Ask again later."
MALFORMED = "This is not a valid HTTP request."
PIECE_BYTES = 8192
"""Number of received bytes of one connection that are parsed at once. If a connection has received more, the rest is
parsed later, in turn with the bytes of other connections."""
MOST_QUEUED = 1000
"""Maximum number of requests of one connection that wait until the ones before them are answered."""


class _Refused(Exception):
    """Raised by a callback of the HTTP parser to refuse a request before the ASGI application sees it.

    The response to the client is `HttpProtocol._refusal`. If that is None, it is a response with HTTP status 400.
    """


class _Reading(FlowControl):
    """uvicorn's flow control, but it resumes reading only if at most one request is queued and all bytes are parsed.

    A queued request has arrived, but earlier requests of its connection are not answered yet. While one is queued, the
    server still reads, because otherwise it would not notice that the client goes away.

    queued: the queued requests.
    unparsed: the received bytes that are not parsed yet.
    """

    def __init__(self, transport: asyncio.Transport, queued: deque[Any], unparsed: bytearray) -> None:
        super().__init__(transport)
        self._queued = queued
        self._unparsed = unparsed

    def resume_reading(self) -> None:
        if len(self._queued) <= 1 and not self._unparsed:
            super().resume_reading()


class HttpProtocol(HttpToolsProtocol):
    """The HTTP protocol of one connection. It closes the connection if the client exceeds a limit of `Bounds`.

    connections: all connections of the server, and their limits.
    proxies: the networks of the trusted proxies. A request from one of them has the client and the scheme that its
        headers X-Forwarded-For and X-Forwarded-Proto name. Then the ASGI scope has one more entry, `longtake.proxy`:
        the proxy's own name (see `peer_of`).
    opening: an object that counts as this connection in `connections` during the TLS handshake. After the handshake,
        the protocol takes its place there. None without TLS.
    uvicorn: the arguments of uvicorn's own protocol.
    """

    def __init__(
        self,
        connections: Connections,
        proxies: tuple[Network, ...],
        *,
        opening: Connection | None = None,
        **uvicorn: Any,
    ) -> None:
        super().__init__(**uvicorn)
        self._connections = connections
        self._bounds = connections.bounds
        self._proxies = proxies
        self._opening = opening
        self._peer = ""
        self._is_from_proxy = False
        self._refusal: Response | None = None
        self._is_refused = False
        self._dropped_bytes = 0
        self._is_busy = False  # A complete request is not yet answered.
        self._in_body = False  # The parser is between the end of a head and the end of its body.
        self._has_begun = False  # The next head has begun.
        self._had_request = False
        self._unanswered: deque[RequestResponseCycle] = deque()  # The request that is carried out is the first.
        self._is_chunked = False  # The present body comes in chunks.
        self._last_bytes = b""  # up to five
        self._waits_since = 0.0
        self._received = bytearray()  # What is not parsed yet
        self._unparsed_bytes = 0  # received since the parser finished a head, a piece of a body or a chunk's size
        self._body_bytes = 0
        self._body_since = 0.0
        self._chunks = 0.0  # received, less those that the time and the bytes since then allow
        self._received_at = 0.0
        self._body_flow = Flow(self._bounds.bytes_per_s, self._bounds.period_s)
        self._answer_flow = Flow(self._bounds.bytes_per_s, self._bounds.period_s)
        self._is_measured = False  # The present period of `_answer_flow` is about the present answer.

    # What the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Reading(transport, self.pipeline, self._received)
        self._peer = peer_of(self.client[0]) if self.client else "unknown"
        self._is_from_proxy = self.client is not None and is_in(self.client[0], self._proxies)
        self._waits_since = self.loop.time()
        if self._opening is not None:
            self._connections.remove(self._opening)
        if not self._connections.admit(self, self._peer):
            self._refuse(_error(503, BUSY))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        super().connection_lost(exc)
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > self._bounds.linger_bytes:
                self.abort()
            return
        now = self.loop.time()
        self._allow_chunks((now - self._received_at) * self._bounds.chunks_per_s)
        self._received_at = now
        self._last_bytes = (self._last_bytes + data[-5:])[-5:]
        if not self._has_begun and not self._in_body:
            self._has_begun, self._waits_since = True, now
        if len(data) <= PIECE_BYTES and not self._received:
            self._parse_piece(data)
            return
        if not self._received:
            self._connections.parse_in_turn(self)
        self._received += data
        self.flow.pause_reading()

    def _parse_piece(self, data: bytes) -> None:
        """Parses the next received bytes. Refuses the request if they belong to a head that is too large."""
        if self._in_body and self._is_chunked and self.cycle.response_complete:
            self._drop_rest()
            return
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > self._bounds.head_bytes and not self.transport.is_closing():
            self._refuse(self._too_large())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_measured = False

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= self._bounds.headers:
            self._refusal = _error(431, f"A request may have {self._bounds.headers} headers; this one has more.")
            raise _Refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unparsed_bytes = 0
        if len(self.pipeline) >= MOST_QUEUED:
            raise _Refused
        if sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url) > self._bounds.head_bytes:
            self._refusal = self._too_large()
            raise _Refused
        if self._is_from_proxy:
            self._believe_proxy()
        super().on_headers_complete()
        self._unanswered.append(self.cycle)
        self.flow.resume_reading()
        self._is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._in_body, self._had_request, self._body_bytes = True, True, 0
        self._body_since = self.loop.time()
        self._body_flow.restart(self._body_since, 0)

    def on_chunk_header(self) -> None:
        """Called by the parser when it has read the size of a body's next chunk. Resets the count of unparsed bytes.

        Refuses the request with status 400 if the connection has sent more chunks than `Bounds` allows.
        """
        # The parser makes progress. `data_received` refuses a request with more than `head_bytes` unparsed bytes.
        self._unparsed_bytes = 0
        # Even a chunk of one byte takes the event loop a few microseconds.
        self._chunks += 1
        if self._chunks > self._bounds.chunks:
            self._refusal = self._too_many_chunks()
            raise _Refused

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        self._body_bytes += len(body)
        self._allow_chunks(len(body) / self._bounds.chunk_bytes)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body, self._has_begun, self._unparsed_bytes = False, False, 0
        if self.cycle.response_complete:
            self._waits_since = self.loop.time()
        else:
            self._is_busy = True
            self._connections.begin(self)

    # What uvicorn calls

    def on_response_complete(self) -> None:
        now = self.loop.time()
        self._is_measured = False
        self._unanswered.popleft()
        super().on_response_complete()
        self.flow.resume_reading()
        if self.cycle.response_complete:
            self._is_busy, self._waits_since = False, now
            self._connections.wait(self, self._peer)

    def send_400_response(self, msg: str) -> None:
        """Answers a request that the parser could not read, or that one of the parser's callbacks has refused.

        The HTTP status is the one of the refusal, or 400 if the request could not be read. `msg` is not used.
        """
        self._refuse(self._refusal or _error(400, MALFORMED))

    # What `Connections` calls

    def parse(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._received:
            if self._is_refused or self.transport.is_closing():
                self._received.clear()
                break
            piece = bytes(self._received[:PIECE_BYTES])
            del self._received[:PIECE_BYTES]
            self._parse_piece(piece)
            if self._received and time.monotonic() > until:
                return True
        if not self.transport.is_closing() and not self._waits_for_application():
            self.flow.resume_reading()
        return False

    def close_if_late(self, now: float) -> None:
        if self._is_refused:
            if now - self._waits_since > self._bounds.linger_s:
                self.abort()
        elif self._is_unread():
            if not self._is_measured:
                self._is_measured = True
                self._answer_flow.restart(now, self._received_bytes())
            elif self._answer_flow.slow_period(now, self._received_bytes()):
                self.abort()
        elif self._in_body and not self.cycle.response_complete:
            if now - self._body_since > self._bounds.body_s:
                hours = self._bounds.body_s / 3600
                self._refuse(_error(408, f"A body must arrive within {hours:g} hours; this one has not."))
            elif self.flow.read_paused or self.cycle.waiting_for_100_continue:
                self._body_flow.restart(now, self._body_bytes)
            elif self._body_flow.slow_period(now, self._body_bytes):
                self._refuse(_error(408, "The body of the request arrives too slowly."))
        elif not self._is_busy and now - self._waits_since > self._patience_s():
            if self._has_begun and not self._in_body:
                self._refuse(_error(408, "The head of the request arrives too slowly."))
            else:
                self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    # Details

    def _believe_proxy(self) -> None:
        """Replaces the request's client and scheme by those that the headers of a trusted proxy name.

        Refuses the request with status 503 if that client has too many connections.
        """
        self.scope["scheme"] = forwarded_scheme(self.headers) or self.scope["scheme"]
        address = forwarded_address(self.headers, self._proxies)
        if address is None:
            return
        if not self._connections.move(self, peer_of(address)):
            self._refusal = _error(503, BUSY)
            raise _Refused
        cast(dict[str, Any], self.scope)["longtake.proxy"] = self._peer
        self.scope["client"] = (address, 0)

    def _allow_chunks(self, count: float) -> None:
        """Allows the client `count` more chunks of HTTP bodies, but never more than `Bounds.chunks` at once.

        The allowance grows with the time and with the received bytes, so `count` need not be whole.
        """
        self._chunks = max(0.0, self._chunks - count)

    def _drop_rest(self) -> None:
        """Drops the rest of a chunked body whose request was answered before the body's end. Closes the connection at
        the body's end.

        Must be called for each further piece of such a body.
        """
        # Parsing the rest would be slow if the chunks are small. The body has probably ended if the last received bytes
        # are a chunk of size 0.
        if self._last_bytes == b"0\r\n\r\n":
            self.transport.close()

    def _waits_for_application(self) -> bool:
        """Returns True if no more of the current body is received until the ASGI application has read what has
        arrived."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and len(cycle.body) > HIGH_WATER_LIMIT

    def _is_unread(self) -> bool:
        """Returns True if the server waits until the client has received what was sent: the connection is being closed,
        too much is waiting to be sent, or the answer is complete but not all of it is sent."""
        answered = self.cycle is not None and self.cycle.response_complete
        return (
            self.transport.is_closing()
            or self.flow.write_paused
            or (answered and self.transport.get_write_buffer_size() > 0)
        )

    def _received_bytes(self) -> int:
        """Returns a count that grows by 1 for each byte that the client receives. It does not begin at 0, so only the
        difference of two results has a meaning.
        """
        acknowledged = system.acknowledged_bytes(self.transport.get_extra_info("socket"))
        # Without the count of the system, the difference is right while the server writes nothing.
        return -self.transport.get_write_buffer_size() if acknowledged is None else acknowledged

    def _patience_s(self) -> float:
        """Returns how many seconds the connection may stay in its current state before it is closed:

        - between two requests: `idle_s` of the server's time limits (`Bounds`)
        - before the first request, in a request's head, or in the rest of a body whose request is already answered:
          `head_s` of these limits.
        """
        idle = self._had_request and not self._has_begun and not self._in_body
        return self._bounds.idle_s if idle else self._bounds.head_s

    def _too_large(self) -> Response:
        return _error(431, f"The headers of a request may have {self._bounds.head_bytes} bytes; these have more.")

    def _too_many_chunks(self) -> Response:
        return _error(
            400,
            f"The chunks of the body are too small: send at most {self._bounds.chunks_per_s:g} chunks per second, or "
            f"chunks of {self._bounds.chunk_bytes} bytes or more.",
        )

    def _refuse(self, response: Response) -> None:
        """Sends `response` in place of an answer by the ASGI application. Closes the connection when the client has
        closed its side.

        If another answer is under way, the connection is closed at once, and `response` is not sent.
        """
        if self.transport.is_closing() or self._is_refused:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            if self._is_busy or self.cycle.response_started:
                self.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._is_refused, self._waits_since = True, self.loop.time()
        headers = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
        head = STATUS_LINE[response.status_code] + headers + b"connection: close\r\n\r\n"
        self.transport.write(head + bytes(response.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


def _error(status: int, sentence: str) -> Response:
    return request_error(status, sentence, "bad_request" if status < 500 else "runner_connection_refused")
