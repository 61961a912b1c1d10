"""Sends webhooks, and repeats failed attempts for up to two hours after the end of the request."""

import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import sqlalchemy as sa
import structlog

from longtake import clock
from longtake.access.signing import Signer
from longtake.database.connection import RetriesStopped, is_temporary, reading, retry_until_stopped
from longtake.database.tables import deliveries
from longtake.outbound import PublicTransport
from longtake.periodic import Repeating
from longtake.printable import printable
from longtake.queue import engine as queue
from longtake.queue import payloads
from longtake.queue.requests import RequestRow
from longtake.queue.shares import Receiver, SenderShares
from longtake.settings import Settings
from longtake.storage import open_blobs
from longtake.version import __version__

RETRIES = 10
"""Maximum number of attempts to send a webhook after the first one failed."""
FIRST_PAUSE_S = 6.0
"""Seconds between the first and the second attempt to send a webhook.

Each pause is twice as long as the one before; their sum is 1.7 hours.
"""
JITTER = 0.1
"""Largest share (0..1) by which the pause before a further attempt is randomly extended, so that retries are spread."""
SENDERS = 16
"""Maximum number of webhooks that are sent at the same time."""
POLL_S = 1.0
"""Seconds between two queries for due webhooks."""
LAST_ATTEMPT_S = 24 * 3600.0
"""Seconds for which a webhook that was never attempted is kept after the usual two hours (WEBHOOK_S).

It was not attempted because its receiver (API key and host) is paused: it did not answer other webhooks in time.
"""
POSTPONED = 500
"""Maximum number of webhooks that are postponed in one transaction."""

NO_PAYLOAD = (
    "Response payload is not JSON serializable. Either return a JSON serializable object or use the queue endpoint to "
    "retrieve the response."
)
"""The error message in a webhook without a payload, word for word as fal sends it."""

log = structlog.get_logger("longtake.webhooks")


def pause_s(attempts: int) -> float:
    """Returns the seconds from a failed attempt to send a webhook until the next one.

    `attempts` is the number of failed attempts so far, at least 1. The first pause is about 6 seconds; each further one
    is about twice as long.
    """
    return FIRST_PAUSE_S * 2.0 ** (attempts - 1) * (1 + JITTER * random.random())


def payload(row: RequestRow, result: bytes | None) -> bytes:
    """Returns the JSON body of an ended request's webhook, in fal's form.

    `result` is the JSON body of the request's result, or None if it was deleted or lost before its webhook was sent.
    """
    body: dict[str, Any] = {"request_id": row.id, "gateway_request_id": row.id}
    if row.status_code is not None and 200 <= row.status_code < 300:
        body["status"] = "OK"
    else:
        body |= {"status": "ERROR", "error": f"Invalid status code: {row.status_code}"}
    if result is None:
        body |= {"payload": None, "payload_error": NO_PAYLOAD}
    envelope = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    # The result is copied and not parsed: it can contain a video, and the JSON parser stops all other threads.
    return envelope if result is None else b"".join((envelope[:-1], b',"payload":', result, b"}"))


class Deliverer:
    """Sends the webhooks in the database that are due, from background threads.

    `engine`: the engine of the database.
    `signer`: signs the webhooks.
    `transport`: sends the HTTP requests. With None, webhooks are sent only to public addresses and to the hosts in the
        setting `trusted_hosts`.

    Several servers may send the webhooks of one database. A server claims each attempt before it makes it, so that no
    other server makes the same attempt. If the server dies, the webhook becomes due again.

    API keys and hosts share the sending threads fairly. Webhooks of an API key to a host that does not answer in time
    are postponed (see `queue.shares`).
    """

    def __init__(
        self, engine: sa.Engine, settings: Settings, signer: Signer, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._engine = engine
        self._timeout_s = settings.webhook_timeout_s
        self._signer = signer
        self._blobs = open_blobs(settings)
        self._transport = transport or PublicTransport(settings.trusted_hosts)
        self._shares = SenderShares(SENDERS)
        self._senders = ThreadPoolExecutor(SENDERS, "webhook")
        self._loop = Repeating(
            "webhooks", self._send_due, failure="Due webhooks cannot be read", is_temporary=is_temporary, retry_s=POLL_S
        )

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """Starts no more attempts to send webhooks, and waits until the running ones have ended."""
        self._loop.stop()
        self._senders.shutdown()

    def wake(self) -> None:
        """Makes the background thread look for due webhooks at once. Should be called after a request has ended."""
        self._loop.wake()

    def _send_due(self) -> float:
        """Claims due webhooks and starts to send them. Returns the seconds until the next call of this method."""
        while not self._loop.stopping.is_set() and self._shares.free() > 0:
            due = self._due()
            postponed = set[Receiver]()
            for delivery in due:
                receiver = Receiver(delivery.key_id, delivery.host)
                pause_s = self._shares.pause_s(receiver)
                if receiver in postponed:
                    continue
                if pause_s > 0:
                    self._postpone(receiver, pause_s)
                    postponed.add(receiver)
                elif not self._loop.stopping.is_set() and self._shares.reserve(receiver):
                    self._start(delivery, receiver)
            if not due:
                break
        return POLL_S

    def _due(self) -> Sequence[Any]:
        """Returns the rows of due webhooks, at most 16 (SENDERS). Those that became due first come first.

        Webhooks that may not be sent now are left out: their API key, host or receiver (a key and a host) keeps as many
        senders (threads that send webhooks) busy as it may. Webhooks to paused receivers are in the result, so that the
        caller can postpone them.
        """
        busy = self._shares.busy()
        paired = (
            sa.and_(deliveries.c.key_id == each.key_id, deliveries.c.host == each.host) for each in busy.receivers
        )
        with reading(self._engine) as connection:
            return connection.execute(
                sa.select(deliveries)
                .where(
                    _is_due(),
                    deliveries.c.key_id.not_in(busy.keys),
                    deliveries.c.host.not_in(busy.hosts),
                    sa.not_(sa.or_(sa.false(), *paired)),
                )
                .order_by(deliveries.c.next_at)
                .limit(SENDERS)
            ).all()

    def _postpone(self, receiver: Receiver, pause_s: float) -> None:
        """Postpones the due webhooks to a paused receiver (API key and host) by `pause_s` seconds, or gives them up.

        - A webhook that was attempted before is given up two hours after the end of its request.
        - A webhook that was never attempted is given up 26 hours after the end of its request.

        One call changes at most 500 webhooks (POSTPONED).
        """
        mine = sa.and_(_is_due(), deliveries.c.key_id == receiver.key_id, deliveries.c.host == receiver.host)
        now = clock.now()
        with self._engine.begin() as connection:
            ids = connection.scalars(sa.select(deliveries.c.request_id).where(mine).limit(POSTPONED)).all()
            these = sa.and_(deliveries.c.request_id.in_(ids), mine)
            more_s = sa.case((deliveries.c.attempts > 0, 0.0), else_=LAST_ATTEMPT_S)
            is_over = sa.and_(deliveries.c.give_up_at + more_s < now, sa.literal(clock.is_steady()))
            given_up = connection.execute(sa.update(deliveries).where(these, is_over).values(state="given_up"))
            connection.execute(sa.update(deliveries).where(these).values(next_at=now + pause_s))
        waiting = len(ids) - given_up.rowcount
        log.warning(
            "Webhooks wait because their receiver hangs", host=receiver.host, webhooks=waiting, s=round(pause_s)
        )
        if given_up.rowcount:
            log.error("Webhooks given up because their receiver hangs", host=receiver.host, webhooks=given_up.rowcount)

    def _start(self, delivery: Any, receiver: Receiver) -> None:
        """Claims the next attempt to send a webhook, and starts it in a background thread.

        `delivery`: the webhook's row in the table `deliveries`.
        `receiver`: its API key and host. The caller has reserved a sender (a thread) for it with
            `SenderShares.reserve`.

        If another server has claimed the attempt first, starts nothing and releases the sender.
        """
        is_claimed = False
        try:
            is_claimed = self._claim(delivery)
        finally:  # without a claimed attempt the sender is free again, even if the database failed
            if not is_claimed:
                self._shares.release(receiver)
        if is_claimed:
            self._senders.submit(self._attempt, delivery, receiver)

    def _claim(self, delivery: Any) -> bool:
        """Claims the next attempt to send a webhook. Returns False if another server has claimed it first.

        The webhook's next due time is set to a time after this attempt's time limit. So if this server dies, another
        one repeats the attempt.

        `delivery`: the webhook's row in the table `deliveries`.
        """
        next_at = clock.now() + 2 * self._timeout_s + POLL_S
        return self._update(delivery, {"attempts": delivery.attempts + 1, "next_at": next_at}, delivery.attempts)

    def _attempt(self, delivery: Any, receiver: Receiver) -> None:
        try:
            try:
                failure = self._send(delivery)
                self._shares.report(receiver, hung=False)
            except httpx.TimeoutException as error:
                failure = str(error) or type(error).__name__
                self._shares.report(receiver, hung=True)
            except RetriesStopped:
                raise
            except Exception as error:
                log.exception(
                    "Sending a webhook raised an unexpected error",
                    request_id=delivery.request_id,
                )
                failure = f"{type(error).__name__}: {error}"
            reason = None if failure is None else printable(failure)
            retry_until_stopped(lambda: self._store_result(delivery, reason), self._loop.stopping)
        except RetriesStopped:
            pass  # The server stops. The webhook becomes due again, and the attempt is repeated.
        except Exception:
            log.exception("The result of a webhook cannot be stored", request_id=delivery.request_id)
        finally:
            self._shares.release(receiver)
            self._loop.wake()

    def _send(self, delivery: Any) -> str | None:
        """Sends a webhook. Returns None if the receiver accepted it, otherwise the reason of the failure as text.

        If the webhook's request is not in the database, sends nothing and returns None.

        `delivery`: the webhook's row in the table `deliveries`.

        Raises httpx.TimeoutException if the receiver does not answer in time.
        """
        request_id, stopping = delivery.request_id, self._loop.stopping
        row = retry_until_stopped(lambda: queue.get_without_payloads(self._engine, request_id), stopping)
        if row is None:
            return None
        # The result can be large. It gets no name here, so that only its copy in `content` stays in memory.
        content = payload(
            row, retry_until_stopped(lambda: payloads.result(self._engine, self._blobs, request_id), stopping)
        )
        headers = self._signer.headers(row.id, row.key_id, content)
        headers |= {"Content-Type": "application/json", "User-Agent": f"longtake/{__version__}"}
        try:
            with (
                httpx.Client(transport=self._transport, timeout=self._timeout_s, follow_redirects=False) as client,
                client.stream("POST", delivery.url, content=content, headers=headers) as response,
            ):
                return None if response.is_success else f"the receiver answered {response.status_code}"
        except httpx.TimeoutException:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return str(error) or type(error).__name__

    def _store_result(self, delivery: Any, failure: str | None) -> None:
        """Stores the result of an attempt: the webhook is delivered, will be sent again later, or is given up.

        `delivery` is the webhook's row before the attempt. `failure` is the reason of the failure, or None if the
        receiver accepted the webhook.
        """
        attempts = delivery.attempts + 1
        next_at = clock.now() + pause_s(attempts)
        values: dict[str, Any]
        if failure is None:
            values = {"state": "delivered", "last_error": None}
        elif attempts > RETRIES or (next_at > delivery.give_up_at and clock.is_steady()):
            values = {"state": "given_up", "last_error": failure}
        else:
            values = {"next_at": next_at, "last_error": failure}
        if not self._update(delivery, values, attempts):
            return  # The claim had expired, and another attempt has stored its result.
        this = log.bind(request_id=delivery.request_id, attempts=attempts)
        match values.get("state"):
            case "delivered":
                this.info("Webhook delivered")
            case "given_up":
                this.error("Webhook given up", reason=failure)
            case _:
                this.warning("Webhook failed and will be retried", reason=failure)

    def _update(self, delivery: Any, values: dict[str, Any], attempts: int) -> bool:
        """Writes values to a webhook's row. Returns True if it did.

        `delivery`: the row as it was read before.
        `values`: column -> value.
        `attempts`: the number of attempts that the row must have.

        Returns False, and writes nothing, if the row has another number of attempts, or the webhook is delivered or
        given up.
        """
        unchanged = sa.and_(
            deliveries.c.request_id == delivery.request_id,
            deliveries.c.state == "waiting",
            deliveries.c.attempts == attempts,
        )
        with self._engine.begin() as connection:
            return connection.execute(sa.update(deliveries).where(unchanged).values(values)).rowcount == 1


def _is_due() -> sa.ColumnElement[bool]:
    """Returns an SQL condition on the table `deliveries`, which selects the webhooks that should be sent now.

    A webhook whose next attempt is more than two hours away is selected, too. No pause is that long, so the time was
    stored while the clock was wrong.
    """
    now = clock.now()
    is_past = sa.or_(deliveries.c.next_at <= now, deliveries.c.next_at > now + queue.WEBHOOK_S)
    return sa.and_(deliveries.c.state == "waiting", is_past)
