"""The live preview of a running request: who gets it, and how interest in it is stored."""

import httpx

from longtake.queue import previews
from longtake.queue.previews import StoredPreview
from longtake.queue.requests import RequestRow
from longtake.service.reports import MOST_OPEN
from tests.service.serving import FLAT, LTX2, Served, submit, wait_for

PICTURE = StoredPreview(b"RIFF....WEBP", 3, 8, 1, 2)


def asked(client: httpx.Client, request_id: str, **headers: str) -> httpx.Response:
    return client.get(f"/models/{LTX2}/requests/{request_id}/preview", headers=headers)


def running(served: Served, client: httpx.Client, **headers: str) -> RequestRow:
    submit(client, FLAT, endpoint=LTX2, headers=headers)
    return served.claim()


def test_a_preview_comes_with_its_step_and_window(served: Served) -> None:
    with served.client() as client:
        waiting = submit(client, FLAT, endpoint=LTX2)["request_id"]
        answer = asked(client, waiting)
        assert (answer.status_code, answer.content) == (204, b"")
        row = served.claim()
        assert asked(client, row.id).status_code == 204, "nothing is sampled yet"
        previews.store(served.engine, row, PICTURE)
        answer = asked(client, row.id)
        assert (answer.status_code, answer.content) == (200, PICTURE.picture)
        assert answer.headers["content-type"] == "image/webp"
        assert answer.headers["cache-control"] == "no-store"
        assert (answer.headers["x-longtake-step"], answer.headers["x-longtake-window"]) == ("3/8", "1/2")
        served.finish(row)
        assert asked(client, row.id).status_code == 204


def test_interest_is_stored_once_a_second(served: Served) -> None:
    with served.client() as client:
        row = running(served, client)
        for _ in range(5):
            asked(client, row.id)
        assert previews.num_questions(served.engine, row.id) == 1

        def is_counted_again() -> bool:
            asked(client, row.id)
            return previews.num_questions(served.engine, row.id) == 2

        wait_for(is_counted_again)


def test_only_the_owner_s_key_sees_a_preview(served: Served) -> None:
    keys = served.state.keys
    owner, other = ({"authorization": f"Key {keys.create(name, 'run')}"} for name in ("owner", "other"))
    admin = {"authorization": f"Key {keys.create('admin', 'admin')}"}
    with served.client() as client:
        row = running(served, client, **owner)
        asked(client, row.id, **owner)
        previews.store(served.engine, row, PICTURE)
        assert asked(client, row.id, **owner).status_code == 200
        assert asked(client, row.id, **other).status_code == 404
        assert asked(client, row.id, **admin).status_code == 404
        assert asked(client, row.id).status_code == 401
        apps = {"allowed_apps": [], "token_expiration": 60}
        token = client.post("/rest/tokens/", json=apps, headers=owner).json()
        assert asked(client, row.id, authorization=f"Bearer {token}").status_code == 403


def test_what_there_is_not_and_other_pages_get_nothing(served: Served) -> None:
    with served.client() as client:
        row = running(served, client)
        assert asked(client, "unknown").status_code == 404
        assert client.get(f"/models/some/app/requests/{row.id}/preview").status_code == 404
        assert asked(client, row.id, **{"sec-fetch-site": "cross-site"}).status_code == 403
        assert previews.num_questions(served.engine, row.id) == 0


def test_a_key_with_too_many_open_reports_is_refused(served: Served) -> None:
    with served.client() as client:
        row = running(served, client)
        reports = served.state.reports
        reports._open["local"] = MOST_OPEN
        answer = asked(client, row.id)
        assert (answer.status_code, answer.json()["error_type"]) == (429, "concurrent_requests_limit")
