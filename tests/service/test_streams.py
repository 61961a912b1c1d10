"""Event streams: the number of open ones of each key."""

from pathlib import Path

import pytest

from tests.service.serving import INPUT, LTXV, serving, submit, wait_for


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
