"""Webhooks: what they say, and the thread that delivers them, at least once, for up to two hours."""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import sqlalchemy as sa
import structlog

from longtake.access.signing import Signer
from longtake.database.connection import RetriesStopped, is_temporary, reading, retry_until_stopped
from longtake.database.tables import deliveries
from longtake.outbound import PublicTransport
from longtake.queue import engine as queue
from longtake.queue.requests import Row
from longtake.settings import Settings
from longtake.version import __version__

RETRIES = 10
FIRST_PAUSE_S = 6.0
"""Between the first try and the second; each further pause is twice as long, and all of them 1.7 hours."""
JITTER = 0.1
"""By so much of itself a pause may be longer, so that what failed together is not tried together."""
SENDERS = 16
"""Webhooks on their way at a time."""
POLL_S = 1.0
"""So often it looks for those that are due, where nobody wakes it."""

NO_PAYLOAD = (
    "Response payload is not JSON serializable. Either return a JSON serializable object or use the queue endpoint to "
    "retrieve the response."
)
"""fal's sentence for a result that cannot be sent along."""

log = structlog.get_logger("longtake.webhooks")


def pause_s(attempts: int) -> float:
    """How long to wait after so many failed tries."""
    return FIRST_PAUSE_S * 2.0 ** (attempts - 1) * (1 + JITTER * random.random())


def body(row: Row) -> bytes:
    """What a webhook says of a request that has ended."""
    said: dict[str, Any] = {"request_id": row.id, "gateway_request_id": row.id}
    if row.status_code is not None and 200 <= row.status_code < 300:
        said["status"] = "OK"
    else:
        said |= {"status": "ERROR", "error": f"Invalid status code: {row.status_code}"}
    if row.output is None:  # its payload was deleted since
        said |= {"payload": None, "payload_error": NO_PAYLOAD}
    else:
        said["payload"] = json.loads(row.output)
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


class Deliverer:
    """Delivers the due webhooks of a database. Several servers may: a try belongs to whoever claims it, and is due
    again where the claimer dies."""

    def __init__(
        self, engine: sa.Engine, settings: Settings, signer: Signer, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._engine = engine
        self._timeout_s = settings.webhook_timeout_s
        self._signer = signer
        self._transport = transport or PublicTransport(settings.trusted_hosts)
        self._ending = threading.Event()
        self._stirred = threading.Event()
        self._free = threading.BoundedSemaphore(SENDERS)
        self._senders = ThreadPoolExecutor(SENDERS, "webhook")
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begins no more tries and waits for those on their way, each bounded by its timeout."""
        self._ending.set()
        self._stirred.set()
        if self._thread.is_alive():
            self._thread.join()
        self._senders.shutdown()

    def wake(self) -> None:
        """A request with a webhook has ended."""
        self._stirred.set()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._stirred.clear()
            try:
                busy = self._send_due()
            except Exception as error:
                if not is_temporary(error):
                    log.exception("webhooks cannot be read")
                busy = False
            if not busy:
                self._stirred.wait(POLL_S)

    def _send_due(self) -> bool:
        """Claims what is due and sends it; whether there may be more."""
        now = time.time()
        with reading(self._engine) as connection:
            due = connection.execute(
                sa.select(deliveries)
                .where(deliveries.c.state == "waiting", deliveries.c.next_at <= now)
                .order_by(deliveries.c.next_at)
                .limit(SENDERS)
            ).all()
        for delivery in due:
            while not self._free.acquire(timeout=0.1):
                if self._ending.is_set():
                    return False
            if self._ending.is_set() or not self._claim(delivery):
                self._free.release()
            else:
                self._senders.submit(self._try, delivery)
        return len(due) == SENDERS

    def _claim(self, delivery: Any) -> bool:
        """Makes the next try ours. Until it has had its time and more nobody else makes another."""
        again_at = time.time() + 2 * self._timeout_s + POLL_S
        return self._update(delivery, {"attempts": delivery.attempts + 1, "next_at": again_at})

    def _try(self, delivery: Any) -> None:
        try:
            try:
                failure = self._post(delivery)
            except RetriesStopped:
                raise
            except Exception as error:
                log.exception("a webhook cannot be sent", request_id=delivery.request_id)
                failure = f"{type(error).__name__}: {error}"
            retry_until_stopped(lambda: self._keep(delivery, failure), self._ending)
        except RetriesStopped:
            pass  # the claim runs out, and it is tried again
        except Exception:
            log.exception("how a webhook went cannot be stored", request_id=delivery.request_id)
        finally:
            self._free.release()

    def _post(self, delivery: Any) -> str | None:
        """Sends it; what went wrong."""
        row = retry_until_stopped(lambda: queue.get(self._engine, delivery.request_id), self._ending)
        if row is None:
            return None
        content = body(row)
        headers = self._signer.headers(row.id, row.key_id, content)
        headers |= {"Content-Type": "application/json", "User-Agent": f"longtake/{__version__}"}
        try:
            with (
                httpx.Client(transport=self._transport, timeout=self._timeout_s, follow_redirects=False) as client,
                client.stream("POST", delivery.url, content=content, headers=headers) as response,
            ):
                return None if response.is_success else f"the receiver answered {response.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return str(error) or type(error).__name__

    def _keep(self, delivery: Any, failure: str | None) -> None:
        """Stores how the try ended."""
        tries, now = delivery.attempts + 1, time.time()
        at = now + pause_s(tries)
        values: dict[str, Any]
        if failure is None:
            values = {"state": "delivered", "last_error": None}
        elif tries > RETRIES or at > delivery.give_up_at:
            values = {"state": "given_up", "last_error": failure}
        else:
            values = {"next_at": at, "last_error": failure}
        if not self._update(delivery, values, tries=tries):
            return  # our time was over, and another's try counts
        told = log.bind(request_id=delivery.request_id, tries=tries)
        match values.get("state"):
            case "delivered":
                told.info("webhook delivered")
            case "given_up":
                told.error("webhook given up", reason=failure)
            case _:
                told.warning("webhook not delivered, to be tried again", reason=failure)

    def _update(self, delivery: Any, values: dict[str, Any], *, tries: int | None = None) -> bool:
        """Changes the row, where it waits and has been tried as often as we think."""
        ours = sa.and_(
            deliveries.c.request_id == delivery.request_id,
            deliveries.c.state == "waiting",
            deliveries.c.attempts == (delivery.attempts if tries is None else tries),
        )
        with self._engine.begin() as connection:
            return connection.execute(sa.update(deliveries).where(ours).values(values)).rowcount == 1
