"""Budgets of keys: requests per minute and bytes per hour."""

from pathlib import Path

from longtake.service.budgets import Budget
from tests.service.serving import INPUT, LTXV, serving, submit


def test_a_budget_comes_back_evenly() -> None:
    now = 100.0
    budget = Budget(10, 60.0, clock=lambda: now)
    budget.use("a", 9)
    assert budget.seconds_left("a") == 0
    budget.use("a", 3)
    assert budget.seconds_left("a") == 18
    assert budget.seconds_left("b") == 0
    now += 17.5
    assert budget.seconds_left("a") == 1
    now += 0.5
    assert budget.seconds_left("a") == 0
    now += 1e6
    budget.use("a", 9)
    assert budget.seconds_left("a") == 0


def test_without_a_setting_there_is_no_limit() -> None:
    budget = Budget(None, 60.0)
    budget.use("a", 10**12)
    assert budget.seconds_left("a") == 0


def test_requests_above_the_budget_of_a_key_are_429s(tmp_path: Path) -> None:
    with serving(tmp_path, key_requests_per_minute=2) as served, served.client() as client:
        mine, other = ({"Authorization": f"Key {served.state.keys.create(name, 'run')}"} for name in "ab")
        ids = [submit(client, headers=mine)["request_id"] for _ in range(2)]
        for path in (f"/queue/{LTXV}", f"/run/{LTXV}", f"/run/{LTXV}/stream"):
            refused = client.post(path, json=INPUT, headers=mine)
            assert (refused.status_code, refused.json()["error_type"]) == (429, "concurrent_requests_limit")
            assert 0 < int(refused.headers["retry-after"]) <= 30
        assert client.get(f"/queue/{LTXV}/requests/{ids[0]}/status", headers=mine).status_code == 202
        submit(client, headers=other)


def test_bytes_above_the_budget_of_a_key_are_429s(tmp_path: Path) -> None:
    with serving(tmp_path, key_bytes_per_hour=10_000) as served, served.client() as client:
        mine, other = ({"Authorization": f"Key {served.state.keys.create(name, 'run')}"} for name in "ab")
        uploads = [
            client.post("/rest/storage/upload/initiate", json={"file_name": "a.bin"}, headers=mine).json()["upload_url"]
            for _ in range(2)
        ]
        assert client.put(uploads[0], content=b"x" * 11_000).status_code == 200
        refusals = [
            client.put(uploads[1], content=b"x"),
            client.post("/cdn/files/upload", content=b"x", headers=mine),
            client.post(f"/queue/{LTXV}", json=INPUT, headers=mine),
        ]
        assert [refused.status_code for refused in refusals] == [429, 429, 429]
        assert "bytes per hour" in refusals[0].json()["detail"]
        submit(client, {**INPUT, "prompt": "x" * 11_000}, headers=other)
        assert client.post(f"/queue/{LTXV}", json=INPUT, headers=other).status_code == 429
