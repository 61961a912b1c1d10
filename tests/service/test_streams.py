"""Event streams: the number of open ones of each key, and their end when the key is revoked."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.tables import requests
from longtake.service import queue
from tests.service.serving import INPUT, LTXV, PATIENCE_S, Served, serving, submit, wait_for


@pytest.mark.parametrize("service", ["queue", "run"])
def test_a_key_has_so_many_open_streams_and_others_have_theirs(tmp_path: Path, service: str) -> None:
    with serving(tmp_path, max_streams_per_key=1) as served, served.client() as client:
        mine, other = ({"Authorization": f"Key {served.state.keys.create(name, 'run')}"} for name in "ab")
        first, second, theirs = (submit(client, headers=key)["request_id"] for key in (mine, mine, other))

        def path(request_id: str) -> str:
            return f"/queue/{LTXV}/requests/{request_id}/status/stream"

        with client.stream("GET", path(first), headers=mine) as stream:
            assert stream.status_code == 200
            if service == "queue":
                refused = client.get(path(second), headers=mine)
            else:
                refused = client.post(f"/run/{LTXV}/stream", json=INPUT, headers=mine)
            assert (refused.status_code, refused.json()["error_type"]) == (429, "concurrent_requests_limit")
            with client.stream("GET", path(theirs), headers=other) as another:
                assert another.status_code == 200

        def is_free() -> bool:
            with client.stream("GET", path(second), headers=mine) as stream:
                return stream.status_code == 200

        wait_for(is_free)


@pytest.mark.parametrize("credential", ["key", "token"])
@pytest.mark.parametrize("way", ["status", "stream", "run"])
def test_nobody_follows_a_request_after_the_key_was_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, credential: str
) -> None:
    monkeypatch.setattr(queue, "CHECK_EVERY_S", 0.05)
    with serving(tmp_path, ping_s=0.05) as served, served.client() as client:
        key = served.state.keys.create("mine", "run")
        headers = {"Authorization": f"Key {key}"}
        if credential == "token":
            headers = {"Authorization": f"Bearer {client.post('/rest/tokens', json={}, headers=headers).json()}"}
        address = f"/run/{LTXV}" + "/stream" * (way == "stream")
        with ThreadPoolExecutor(1) as threads:
            if way == "status":
                address = submit(client, headers=headers)["status_url"] + "/stream"
                answer = threads.submit(client.get, address, headers=headers)
            else:
                answer = threads.submit(client.post, address, json=INPUT, headers=headers)
            wait_for(lambda: states(served))
            row = served.claim()
            served.log(row, "Working")
            with pytest.raises(TimeoutError):
                answer.result(0.3)  # as long as the key is valid, it waits
            served.state.keys.revoke(key.partition(":")[0])
            assert answer.result(PATIENCE_S).status_code == (401 if way == "run" else 200)
        assert len(served.stopped) == (0 if way == "status" else 1)


def states(served: Served) -> list[str]:
    with served.engine.connect() as connection:
        return list(connection.scalars(sa.select(requests.c.state)))
