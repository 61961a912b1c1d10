"""Reports, such as pages of past requests: keys share the threads for them, and a key has so many open ones."""

import asyncio
import socket
import threading
from collections.abc import Mapping

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request

from longtake.queue import history
from longtake.service import reports
from longtake.service.reports import report
from longtake.service.state import REPORT_THREADS
from tests.service.serving import INPUT, LTXV, PATIENCE_S, Served, submit, wait_for

USAGE = "/v1/models/usage"


def keys(served: Served) -> tuple[Mapping[str, str], Mapping[str, str]]:
    first, second = ({"Authorization": f"Key {served.state.keys.create(name, 'run')}"} for name in "ab")
    return first, second


def test_a_key_with_many_long_reports_delays_no_other(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a page, the status of a request and a submission of the other key are answered meanwhile."""
    many, other = keys(served)
    key_id = many["Authorization"].removeprefix("Key ").partition(":")[0]
    costs, started, end = history.costs, [], threading.Event()

    def slow(engine: object, selected: history.HistoryFilter, *args: object) -> object:
        if selected.key_id == key_id:
            started.append(key_id)
            assert end.wait(PATIENCE_S)
        return costs(engine, selected, *args)  # type: ignore[arg-type]

    monkeypatch.setattr("longtake.queue.history.costs", slow)
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(httpx.get(served.url + USAGE, headers=many, timeout=PATIENCE_S).status_code)

    asking = [threading.Thread(target=ask) for _ in range(REPORT_THREADS * 2)]
    for one in asking:
        one.start()
    wait_for(lambda: len(started) == REPORT_THREADS // 2)
    assert client.get(USAGE, headers=other).status_code == 200
    assert client.get("/v1/models/requests/by-endpoint?expand=payloads", headers=other).status_code == 200
    for key in (other, many):
        request_id = submit(client, INPUT, headers=key)["request_id"]
        assert client.get(f"/queue/{LTXV}/requests/{request_id}/status", headers=key).status_code == 202
    assert len(started) == REPORT_THREADS // 2
    end.set()
    for one in asking:
        one.join()
    assert statuses == [200] * len(asking)


def test_a_key_has_so_many_open_reports_until_its_client_has_read_them(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, other = keys(served)
    monkeypatch.setattr(reports, "MOST_OPEN", 1)
    monkeypatch.setattr("longtake.service.platform.PAGE_BYTES", 64 * 1024**2)
    for _ in range(8):
        submit(client, {**INPUT, "prompt": "x" * 2_000_000}, headers=many)
    address = served.url.removeprefix("http://").split(":")
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((address[0], int(address[1])))
        path = "/v1/models/requests/by-endpoint?expand=payloads"
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {many['Authorization']}\r\n\r\n"
        reader.sendall(head.encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        refused = client.get(USAGE, headers=many)
        assert (refused.status_code, refused.json()["error_type"]) == (429, "concurrent_requests_limit")
        assert client.get(USAGE, headers=other).status_code == 200
    wait_for(lambda: client.get(USAGE, headers=many).status_code == 200)


def test_the_report_of_a_client_that_has_gone_is_not_made(served: Served) -> None:
    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    made: list[bytes] = []

    async def ask() -> None:
        request = Request({"type": "http", "headers": []}, gone)
        with pytest.raises(ClientDisconnect):
            await report(served.state, request, "a", lambda: made.append(b"") or b"{}")  # type: ignore[func-returns-value]

    asyncio.run(ask())
    assert made == []
