"""Webhooks to receivers that answer, refuse, redirect or hang, and their delivery after a crash of the server."""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import structlog

from longtake.access.signing import Signer
from longtake.database.tables import deliveries
from longtake.database.tables import requests as table
from longtake.queue import engine as queue
from longtake.queue import shares, webhooks
from longtake.queue.requests import CANCELLED, Outcome, RequestRow, Submission
from longtake.queue.webhooks import Deliverer, pause_s, payload
from longtake.settings import Settings
from tests.access.test_signing import accepted
from tests.database.fixtures import on_sqlite
from tests.processes import forked, kill
from tests.queue.receiver import Receiver, listening
from tests.queue.sender import send_webhooks
from tests.worker.requests import PATIENCE_S, eventually, whole_row

DONE = Outcome(200, {"video": {"url": "http://h/cdn/f"}, "prompt": "sea \u2603"}, price_usd=Decimal("0.02"))
INVALID = Outcome(422, {"detail": [{"msg": "no"}]}, error="no")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as here:
        yield here


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, trusted_hosts=("127.0.0.1", "localhost"), webhook_timeout_s=PATIENCE_S)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


@pytest.fixture
def start(engine: sa.Engine, settings: Settings, signer: Signer) -> Iterator[Callable[..., Deliverer]]:
    """A function that starts a deliverer, which the fixture stops at the end."""
    started: list[Deliverer] = []

    def make(timeout_s: float = PATIENCE_S) -> Deliverer:
        deliverer = Deliverer(engine, settings.model_copy(update={"webhook_timeout_s": timeout_s}), signer)
        deliverer.start()
        started.append(deliverer)
        return deliverer

    yield make
    for deliverer in started:
        deliverer.stop()


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "FIRST_PAUSE_S", 0.0002)
    monkeypatch.setattr(webhooks, "POLL_S", 0.02)


def ended(engine: sa.Engine, url: str | None, outcome: Outcome = INVALID, *, key: str = "user-1") -> RequestRow:
    """Stores a request of this API key that has ended with this outcome."""
    submission = Submission("a/b", "default", key, b"{}", "http://h/queue", webhook_url=url, outcome=outcome)
    return queue.submit(engine, submission)[0]


def state(engine: sa.Engine, request_id: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(sa.select(deliveries).where(deliveries.c.request_id == request_id)).one()


def settled(engine: sa.Engine, request_id: str) -> Any:
    """Returns the delivery's row once it is delivered or given up."""
    eventually(lambda: state(engine, request_id).state != "waiting")
    return state(engine, request_id)


def test_webhooks_go_on_after_the_database_refused_more_claims_than_there_are_senders(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer], quickly: None
) -> None:
    failures = iter(range(2 * webhooks.SENDERS))

    def refuse(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE webhook_deliveries") and next(failures, None) is not None:
            raise sa.exc.OperationalError(statement, None, Exception("the database is away"))

    sa.event.listen(engine, "before_cursor_execute", refuse)
    row = ended(engine, receiver.url)
    start()
    assert settled(engine, row.id).state == "delivered"
    assert next(failures, None) is None


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (DONE, {"status": "OK", "payload": DONE.body}),
        (INVALID, {"status": "ERROR", "error": "Invalid status code: 422", "payload": INVALID.body}),
        (CANCELLED, {"status": "ERROR", "error": "Invalid status code: 499", "payload": CANCELLED.body}),
    ],
)
def test_a_webhook_has_the_outcome_and_a_valid_signature(
    engine: sa.Engine,
    receiver: Receiver,
    start: Callable[..., Deliverer],
    signer: Signer,
    outcome: Outcome,
    expected: Any,
) -> None:
    row = ended(engine, receiver.url, outcome)
    start()
    receiver.wait(1)
    headers, content = receiver.got[0]
    assert json.loads(content) == {"request_id": row.id, "gateway_request_id": row.id} | expected
    assert list(json.loads(content))[:3] == ["request_id", "gateway_request_id", "status"]
    assert headers["Content-Type"] == "application/json"
    assert (headers["X-Fal-Webhook-Request-Id"], headers["X-Fal-Webhook-User-Id"]) == (row.id, "user-1")
    assert abs(int(headers["X-Fal-Webhook-Timestamp"]) - time.time()) < 60
    assert accepted(signer, headers, content)
    done = settled(engine, row.id)
    assert (done.state, done.attempts, done.last_error) == ("delivered", 1, None)


def test_a_deleted_payload_is_reported_as_missing(engine: sa.Engine) -> None:
    row = ended(engine, None, DONE)
    with engine.begin() as connection:
        connection.execute(sa.update(table).values(output=None))
    stored = whole_row(engine, row.id)
    assert stored is not None
    body = json.loads(payload(stored, stored.output))
    assert (body["status"], body["payload"]) == ("OK", None)
    assert body["payload_error"].startswith("Response payload is not JSON serializable. Either return")


def test_a_result_is_copied_into_the_webhook_as_it_is(engine: sa.Engine) -> None:
    result = b'{ "video": {"url": "data:video/mp4;base64,AAAA"}}'
    content = payload(ended(engine, None, DONE), result)
    assert content.endswith(b'"status":"OK","payload":' + result + b"}")
    assert json.loads(content)["payload"] == json.loads(result)


def test_a_result_is_in_memory_once_while_it_is_sent(engine: sa.Engine, settings: Settings, signer: Signer) -> None:
    in_memory = list[int]()

    def answer(request: httpx.Request) -> httpx.Response:
        in_memory.append(tracemalloc.get_traced_memory()[0])
        return httpx.Response(200)

    row = ended(engine, "http://localhost/", Outcome(200, {"text": "x" * 10**7}))
    deliverer = Deliverer(engine, settings, signer, transport=httpx.MockTransport(answer))
    tracemalloc.start()
    try:
        deliverer.start()
        assert settled(engine, row.id).state == "delivered"
    finally:
        deliverer.stop()
        tracemalloc.stop()
    assert 10**7 < in_memory[0] < 1.5 * 10**7


@pytest.mark.usefixtures("quickly")
def test_a_webhook_is_retried_until_it_succeeds_with_a_new_signature_each_time(
    engine: sa.Engine,
    receiver: Receiver,
    start: Callable[..., Deliverer],
    signer: Signer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver.statuses = [500, 302, 404, 204]
    ticks = iter(range(1_800_000_000, 1_900_000_000, 100))
    headers_at = signer.headers
    monkeypatch.setattr(signer, "headers", lambda *args: headers_at(*args, now=next(ticks)))
    row = ended(engine, receiver.url)
    start()
    done = settled(engine, row.id)
    assert (done.state, done.attempts, done.last_error) == ("delivered", 4, None)
    assert len(receiver.got) == 4
    assert len({headers["X-Fal-Webhook-Timestamp"] for headers, _ in receiver.got}) == 4
    assert all(accepted(signer, headers, content) for headers, content in receiver.got)


@pytest.mark.usefixtures("quickly")
def test_a_webhook_is_given_up_after_ten_retries(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer]
) -> None:
    receiver.statuses = [503]
    row = ended(engine, receiver.url)
    start()
    done = settled(engine, row.id)
    assert (done.state, done.attempts) == ("given_up", 11)
    assert done.last_error == "the receiver answered 503"
    time.sleep(0.1)  # An additional attempt would come within this time.
    assert len(receiver.got) == 11


def test_the_retries_fit_into_two_hours() -> None:
    for _ in range(50):
        pauses = [pause_s(attempts) for attempts in range(1, 11)]
        assert pauses == sorted(pauses)
        assert pauses[0] >= 6
        assert 1.5 * 3600 < sum(pauses) + 11 * 15 < queue.WEBHOOK_S


def test_an_overdue_webhook_is_attempted_once_more(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer]
) -> None:
    good, bad = ended(engine, receiver.url), ended(engine, receiver.url.replace("http:", "https:"))
    with engine.begin() as connection:
        connection.execute(sa.update(deliveries).values(next_at=1000, give_up_at=2000))
    start()
    assert settled(engine, good.id).state == "delivered"
    assert settled(engine, bad.id).state == "given_up"


def test_a_webhook_that_a_wrong_clock_has_put_off_for_a_day_is_sent(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer]
) -> None:
    row = ended(engine, receiver.url)
    with engine.begin() as connection:
        connection.execute(sa.update(deliveries).values(next_at=time.time() + 86_400, give_up_at=time.time() + 90_000))
    start()
    assert settled(engine, row.id).state == "delivered"


def test_a_hanging_receiver_times_out_and_delays_no_other_webhook(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer]
) -> None:
    receiver.statuses = [0, 200]
    slow = ended(engine, receiver.url)
    deliverer = start(timeout_s=0.4)
    receiver.wait(1)
    quick = ended(engine, receiver.url)
    deliverer.wake()
    assert settled(engine, quick.id).state == "delivered"
    eventually(lambda: state(engine, slow.id).last_error is not None)
    row = state(engine, slow.id)
    assert row.state == "waiting"
    assert row.next_at < time.time() + 7


def test_many_webhooks_to_a_hanging_receiver_delay_neither_other_keys_nor_other_hosts(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer]
) -> None:
    receiver.statuses = [0] * 6 + [200]
    hanging = [ended(engine, receiver.url) for _ in range(30)]
    deliverer = start(timeout_s=PATIENCE_S)
    receiver.wait(6)
    host = receiver.url.replace("127.0.0.1", "localhost")
    others = [ended(engine, host), ended(engine, host, key="user-2")]
    deliverer.wake()
    for other in others:
        assert settled(engine, other.id).state == "delivered"
    assert len(receiver.got) == 8
    assert {state(engine, row.id).state for row in hanging} == {"waiting"}
    receiver.release.set()
    for row in hanging[6:]:
        assert settled(engine, row.id).attempts == 1


def test_a_receiver_that_hangs_is_paused_and_then_gets_all_its_webhooks(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "FIRST_PAUSE_S", 0.3)
    monkeypatch.setattr(webhooks, "POLL_S", 0.02)
    receiver.statuses = [0] * 6 + [200]
    rows = [ended(engine, receiver.url) for _ in range(20)]
    now = time.time()
    times = {19: (3, now - 100), 18: (0, now - 90_000), 17: (0, now - 80_000)}  # the first two are over
    with engine.begin() as connection:
        for place, (attempts, give_up_at) in times.items():
            one = sa.update(deliveries).where(deliveries.c.request_id == rows[place].id)
            connection.execute(one.values(attempts=attempts, give_up_at=give_up_at))
    with structlog.testing.capture_logs() as log:
        start(timeout_s=0.6)
        for row in rows[6:18]:
            assert settled(engine, row.id).attempts == 1
    pauses = [line for line in log if line["event"] == "Webhooks wait because their receiver hangs"]
    assert {line["host"] for line in pauses} == {"127.0.0.1"}
    assert all(line["webhooks"] > 0 for line in pauses), "each webhook is postponed once"
    assert [settled(engine, row.id).state for row in rows[17:]] == ["delivered", "given_up", "given_up"]
    assert len(receiver.got) == 6 + 12


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(
    "url", ["http://[::ffff:127.0.0.1]:{}/", "http://169.254.169.254/", "http://[::1]:{}/", "http://2130706433:{}/"]
)
@on_sqlite
def test_no_webhook_is_sent_to_an_internal_address(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer], url: str
) -> None:
    port = receiver.url.partition("127.0.0.1:")[2].partition("/")[0]
    row = ended(engine, url.format(port))
    start()
    done = settled(engine, row.id)
    assert done.state == "given_up"
    assert done.last_error
    assert receiver.got == []


def test_each_attempt_is_made_by_one_of_several_servers(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer]
) -> None:
    rows = [ended(engine, receiver.url) for _ in range(40)]
    for _ in range(4):
        start()
    for row in rows:
        assert settled(engine, row.id).attempts == 1
    assert len(receiver.got) == 40
    assert {json.loads(content)["request_id"] for _, content in receiver.got} == {row.id for row in rows}


def test_a_killed_server_loses_no_webhook(
    engine: sa.Engine,
    database_url: str,
    receiver: Receiver,
    start: Callable[..., Deliverer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver.statuses = [0, 200]
    row = ended(engine, receiver.url)
    with forked(send_webhooks, database_url, tmp_path) as child:
        receiver.wait(1)
        kill(child)
    assert state(engine, row.id).state == "waiting"
    monkeypatch.setattr(webhooks, "POLL_S", 0.05)
    start()
    done = settled(engine, row.id)
    assert (done.state, done.attempts) == ("delivered", 2)


def test_a_request_without_a_url_has_no_webhook(engine: sa.Engine) -> None:
    ended(engine, None)
    with engine.connect() as connection:
        assert connection.execute(sa.select(deliveries)).all() == []


def test_a_short_database_outage_loses_no_webhook(
    engine: sa.Engine, receiver: Receiver, start: Callable[..., Deliverer], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ended(engine, receiver.url)
    failures = iter(range(5))

    def fail(*args: object) -> None:
        if next(failures, None) is not None:
            raise sa.exc.OperationalError("SELECT", {}, Exception("away"))

    sa.event.listen(engine, "begin", fail, insert=True)
    monkeypatch.setattr(webhooks, "POLL_S", 0.02)
    start()
    receiver.wait(1)
    assert settled(engine, row.id).state == "delivered"


@on_sqlite
def test_the_log_contains_no_secret(
    engine: sa.Engine,
    receiver: Receiver,
    start: Callable[..., Deliverer],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.statuses = [500]
    row = ended(engine, receiver.url)
    start()
    receiver.wait(1)
    log = ""

    def has_logged_the_failure() -> bool:
        nonlocal log
        log += "".join(capfd.readouterr())
        return row.id in log + caplog.text

    eventually(has_logged_the_failure)
    assert "secret" not in log + caplog.text
