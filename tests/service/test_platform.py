"""The platform API: models, prices, usage, history, deletion."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from longtake.database.tables import requests
from longtake.endpoints import ENDPOINTS
from longtake.models.choice import stand_in
from longtake.models.registry import card
from longtake.queue import engine as queue
from longtake.queue.requests import Outcome
from tests.service.serving import INPUT, INPUTS, LTX2, LTXV, OLD, RESULT, Served, serving, submit
from tests.worker.requests import whole_row


def done(served: Served, client: httpx.Client, endpoint: str = LTXV, **headers: str) -> str:
    listed = client.post(f"/queue/{endpoint}", json=INPUTS[endpoint], headers=headers).json()
    served.finish(served.claim())
    return str(listed["request_id"])


def test_the_models_are_listed(client: httpx.Client) -> None:
    models = client.get("/v1/models").json()
    assert [one["endpoint_id"] for one in models["models"]] == list(ENDPOINTS)
    assert {OLD, LTXV, LTX2} <= set(ENDPOINTS)
    assert {one["endpoint_id"]: one["metadata"]["description"] for one in models["models"]} == {
        name: one.title for name, one in ENDPOINTS.items()
    }
    assert (models["next_cursor"], models["has_more"]) == (None, False)
    one = client.get("/v1/models", params={"endpoint_id": LTXV, "expand": "openapi-3.0"}).json()["models"]
    assert [model["openapi"]["openapi"] for model in one] == ["3.0.4"]
    assert client.get("/v1/models?endpoint_id=fal-ai/none").status_code == 404


def test_an_endpoint_that_is_named_often_is_described_once(client: httpx.Client) -> None:
    query = f"endpoint_id={LTXV},{OLD},/{LTXV}/,{LTXV}&endpoint_id={OLD}"
    for path in ("/v1/models?expand=openapi-3.0", "/v1/models/pricing?"):
        (listed,) = (value for value in client.get(f"{path}&{query}").json().values() if isinstance(value, list))
        assert [one["endpoint_id"] for one in listed] == [LTXV, OLD], path


def test_a_model_tells_who_answers(tmp_path: Path) -> None:
    none = tmp_path / "none"
    with serving(tmp_path / "data", models_dir=none) as served, served.client() as client:
        by_id = {one["endpoint_id"]: one["longtake"] for one in client.get("/v1/models").json()["models"]}
    assert by_id[LTX2] == {
        "model": "ltx2-tiny",
        "stands_in_for": "ltx-2.3",
        "installed": True,
        "note": stand_in(card("ltx-2.3"), card("ltx2-tiny")).note,
        "sound": True,
    }
    assert not by_id[LTXV]["sound"]
    with serving(tmp_path / "other", models_dir=none, stand_in="refuse") as served, served.client() as client:
        by_id = {one["endpoint_id"]: one["longtake"] for one in client.get("/v1/models").json()["models"]}
    assert (by_id[LTX2]["model"], by_id[LTX2]["installed"]) == ("ltx-2.3", False)
    assert "LONGTAKE_STAND_IN=refuse" in by_id[LTX2]["note"]


def test_prices_are_the_published_ones(client: httpx.Client) -> None:
    prices = client.get("/v1/models/pricing", params={"endpoint_id": f"{LTXV},{OLD},{LTX2}"}).json()["prices"]
    assert prices == [
        {"endpoint_id": LTXV, "unit_price": 0.02, "unit": "seconds", "currency": "USD"},
        {"endpoint_id": OLD, "unit_price": 0.12, "unit": "videos", "currency": "USD"},
        {"endpoint_id": LTX2, "unit_price": 0.001605, "unit": "megapixels", "currency": "USD"},
    ]


def test_configured_prices_replace_the_published_ones(tmp_path: Path) -> None:
    dear = {LTX2: {"usd": "0.5", "usd_with_lora": 1}, OLD: 3}
    with serving(tmp_path, prices=dear) as served, served.client() as client:
        prices = {one["endpoint_id"]: one for one in client.get("/v1/models/pricing").json()["prices"]}
        assert set(prices) == set(ENDPOINTS)
        assert [prices[name]["unit_price"] for name in (LTX2, OLD, LTXV)] == [0.5, 3, 0.02]
        assert [prices[name]["unit"] for name in (LTX2, OLD, LTXV)] == ["megapixels", "videos", "seconds"]


@pytest.mark.parametrize(
    ("kind", "quantity", "total"),
    [("unit_price", "unit_quantity", 1.4), ("historical_api_price", "call_quantity", 1.6)],
)
def test_estimates(served: Served, client: httpx.Client, kind: str, quantity: str, total: float) -> None:
    for price in ("0.02", "0.06"):
        client.post(f"/queue/{LTXV}", json=INPUT)
        served.finish(served.claim(), Outcome(200, RESULT, price_usd=Decimal(price)))
    body = {"estimate_type": kind, "endpoints": {LTXV: {quantity: 10}, OLD: {quantity: 10}}}
    answer = client.post("/v1/models/pricing/estimate", json=body)
    assert answer.json() == {"estimate_type": kind, "total_cost": pytest.approx(total), "currency": "USD"}


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"estimate_type": "unit_price"},
        {"estimate_type": "unit_price", "endpoints": {LTXV: {"unit_quantity": -1}}},
        {"estimate_type": "unit_price", "endpoints": {LTXV: {"unit_quantity": True}}},
        {"estimate_type": ["x"], "endpoints": {LTXV: {"unit_quantity": 1}}},
    ],
)
def test_an_invalid_estimate_is_a_422(client: httpx.Client, body: object) -> None:
    answer = client.post("/v1/models/pricing/estimate", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"


def test_usage_sums_the_costs_of_requests(served: Served, client: httpx.Client) -> None:
    for _ in range(3):
        done(served, client)
    client.post(f"/queue/{LTXV}", json={})
    used = client.get("/v1/models/usage?expand=time_series,summary").json()
    expected = {
        "endpoint_id": LTXV,
        "unit_price": 0.02,
        "unit": "seconds",
        "currency": "USD",
        "quantity": pytest.approx(3),
        "cost": pytest.approx(0.06),
    }
    assert used["summary"] == [expected]
    assert [one["results"] for one in used["time_series"]] == [[expected]]
    assert "summary" not in client.get("/v1/models/usage").json()
    assert client.get(f"/v1/models/usage?expand=summary&endpoint_id={OLD}").json()["summary"] == []
    assert client.get("/v1/models/usage?expand=summary&start=2100-01-01T00:00:00Z").json()["summary"] == []
    assert client.get("/v1/models/usage?start=yesterday").status_code == 422


def test_usage_has_a_default_span_and_pages(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for days in (0, 1, 2, 40):
        request_id = done(served, client)
        with served.engine.begin() as connection:
            change = sa.update(requests).where(requests.c.id == request_id).values(created_at=now - days * 86_400)
            connection.execute(change)

    def buckets(query: str) -> tuple[list[str], str | None]:
        answer = client.get(f"/v1/models/usage?{query}").json()
        assert answer["has_more"] is (answer["next_cursor"] is not None)
        return [one["bucket"][:10] for one in answer["time_series"]], answer["next_cursor"]

    days_ago = [datetime.fromtimestamp(now - days * 86_400, UTC).date().isoformat() for days in (40, 2, 1, 0)]
    assert buckets("") == (days_ago[1:], None)
    assert len(buckets("timeframe=minute")[0]) == 1
    old = "start=2020-01-01T00:00:00Z"
    assert buckets(old) == (days_ago, None)
    monkeypatch.setattr("longtake.service.usage.MAX_BUCKETS", 3)
    first, cursor = buckets(old)
    assert (first, buckets(f"{old}&cursor={cursor}")) == (days_ago[:3], (days_ago[3:], None))


def test_past_requests_are_listed_in_pages(served: Served, client: httpx.Client) -> None:
    made = [done(served, client) for _ in range(5)]
    made.append(client.post(f"/queue/{LTXV}", json={}).json()["request_id"])
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = client.get("/v1/models/requests/by-endpoint", params={"limit": "2", "cursor": cursor}).json()
        assert page["has_more"] is (page["next_cursor"] is not None)
        seen += [one["request_id"] for one in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert (seen, pages) == (made[::-1], 3)

    def count(query: str) -> int:
        return len(client.get(f"/v1/serverless/requests/by-endpoint?{query}").json()["items"])

    assert count("status=success") == 5
    assert count("status=user_error") == 1
    assert count(f"request_id={made[0]}") == 1
    assert count(f"endpoint_id={OLD}") == 0
    for bad in ("status=x", "limit=0", "limit=1000", "cursor=x", "end=1e9", "request_id=%00"):
        assert client.get(f"/v1/models/requests/by-endpoint?{bad}").status_code == 422


def test_payloads_are_listed_only_if_they_were_to_be_stored(served: Served, client: httpx.Client) -> None:
    done(served, client)
    done(served, client, **{"X-Fal-Store-IO": "0"})
    inside = client.post(f"/queue/{LTX2}", json={**INPUTS[LTX2], "sync_mode": True}).json()["request_id"]
    served.finish(served.claim(), Outcome(200, {"video": {"url": "data:video/mp4;base64,AAAA"}}))
    assert client.get(f"/queue/{LTX2}/requests/{inside}").json()["video"]["url"].startswith("data:")
    listed = client.get("/v1/models/requests/by-endpoint?expand=payloads").json()["items"]
    assert [(one["json_input"], one["json_output"]) for one in listed] == [
        ({**INPUTS[LTX2], "sync_mode": True}, None),
        (None, None),
        (INPUT, RESULT),
    ]
    plain = client.get("/v1/models/requests/by-endpoint").json()["items"][-1]
    assert "json_input" not in plain
    assert (plain["status_code"], plain["cost"], plain["endpoint_id"]) == (200, 0.02, LTXV)
    assert plain["duration"] >= 0


def test_a_page_with_payloads_ends_early_when_it_is_large(
    served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.service.platform.PAGE_BYTES", 150_000)
    prompts = ["b" * 60_000, "c" * 60_000, "d" * 145_000, "e" * 6000]  # the third one is large by itself, and a blob
    for prompt in prompts:
        submit(client, {**INPUT, "prompt": prompt})
    pages, cursor = [], ""
    while cursor is not None:
        query = {"expand": "payloads", "cursor": cursor}
        page = client.get("/v1/models/requests/by-endpoint", params=query).json()
        pages.append([one["json_input"]["prompt"] for one in page["items"]])
        cursor = page["next_cursor"]
    assert pages == [["e" * 6000], ["d" * 145_000], ["c" * 60_000, "b" * 60_000]]
    assert len(client.get("/v1/models/requests/by-endpoint").json()["items"]) == 4


def test_a_payload_that_is_larger_than_a_page_is_null(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.service.platform.PAGE_BYTES", 10_000)
    for prompt in ("a" * 20_000, "b" * 200_000, "c"):  # the first one is in the database, the second one is a blob
        submit(client, {**INPUT, "prompt": prompt})
    listed = client.get("/v1/models/requests/by-endpoint?expand=payloads").json()["items"]
    assert [one["json_input"] for one in listed] == [{**INPUT, "prompt": "c"}, None, None]


@pytest.mark.parametrize("legacy", [False, True])
def test_payloads_can_be_deleted(served: Served, client: httpx.Client, legacy: bool) -> None:
    request_id = client.post(f"/queue/{LTXV}", json=INPUT).json()["request_id"]

    def delete(one: str) -> httpx.Response:
        if legacy:
            return client.put(f"/rest/requests/delete_io/{one}")
        return client.delete(f"/v1/models/requests/{one}/payloads", headers={"Idempotency-Key": "x"})

    assert delete(request_id).status_code == 400
    row = served.claim()
    served.log(row, "a secret")
    served.finish(row)
    for _ in range(2):
        assert delete(request_id).json() == {"cdn_delete_results": []}
    assert delete("unknown").status_code == 404
    gone = client.get(f"/queue/{LTXV}/requests/{request_id}")
    assert (gone.status_code, gone.json()["error_type"]) == (404, "not_found")
    stored = whole_row(served.engine, request_id)
    assert stored is not None
    assert (stored.body, stored.output, stored.plan) == (b"null", None, None)
    assert queue.log_lines(served.engine, request_id) == []
    status = client.get(f"/queue/{LTXV}/requests/{request_id}/status?logs=1").json()
    assert (status["status"], status["logs"]) == ("COMPLETED", [])


def test_the_public_keys_of_webhooks_are_published(client: httpx.Client) -> None:
    for headers, path in (({}, "/rest/.well-known/jwks.json"), ({"host": "rest.fal.ai"}, "/.well-known/jwks.json")):
        answer = client.get(path, headers=headers)
        assert {(one["kty"], one["crv"]) for one in answer.json()["keys"]} == {("OKP", "Ed25519")}
        assert all(not one["x"].endswith("=") for one in answer.json()["keys"])
        assert "max-age" in answer.headers["cache-control"]
