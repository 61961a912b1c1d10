"""Monitoring: metrics, health and readiness."""

import re
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.endpoints import ENDPOINTS
from longtake.queue import engine as queue
from longtake.queue.requests import Outcome, Submission
from longtake.service.readiness import CACHE_S
from longtake.worker.messages import Done
from longtake.worker.slot import SlotStatus
from tests.service.serving import LTX2, LTXV, Served, serving


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as served:
        yield served


def submitted(served: Served, endpoint: str = LTXV, *, outcome: Outcome | None = None, webhook: bool = False) -> str:
    url = "https://example.com/hook" if webhook else None
    submission = Submission(endpoint, "default", "local", b"{}", served.queue, webhook_url=url, outcome=outcome)
    return queue.submit(served.engine, submission)[0].id


def scraped(served: Served) -> dict[str, float]:
    answer = served.client().get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = [line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_metrics_of_the_queue_and_of_outcomes(served: Served) -> None:
    for _ in range(3):
        submitted(served)
    served.finish(served.claim())
    served.claim()
    for status in (422, 504):
        submitted(served, LTX2, outcome=Outcome(status, {}), webhook=True)
    assert queue.cancel(served.engine, submitted(served)) == "cancelled"
    time.sleep(0.1)
    seen = scraped(served)
    assert seen['longtake_queue_depth{pool="default"}'] == 1
    assert seen['longtake_running{pool="default"}'] == 1
    assert seen['longtake_queue_oldest_seconds{pool="default"}'] >= 0.1
    assert {name: count for name, count in seen.items() if name.startswith("longtake_requests_total") and count} == {
        f'longtake_requests_total{{endpoint="{LTXV}",outcome="done"}}': 1,
        f'longtake_requests_total{{endpoint="{LTXV}",outcome="cancelled"}}': 1,
        f'longtake_requests_total{{endpoint="{LTX2}",outcome="refused"}}': 1,
        f'longtake_requests_total{{endpoint="{LTX2}",outcome="failed"}}': 1,
    }
    assert seen['longtake_webhooks{state="waiting"}'] == 2
    assert seen['longtake_webhooks{state="given_up"}'] == 0
    assert seen["longtake_database_up"] == 1
    assert seen["process_resident_memory_bytes"] > 1e6


def test_what_has_not_happened_yet_is_a_zero(served: Served) -> None:
    """Prometheus sees no increase where a series begins with 1, and an autoscaler no queue where there is no series."""
    served.state.metrics.pools = {"default", "small"}
    seen = scraped(served)
    kinds = ("done", "refused", "failed", "cancelled")
    expected = {
        f'longtake_requests_total{{endpoint="{name}",outcome="{kind}"}}' for name in ENDPOINTS for kind in kinds
    }
    expected |= {f'longtake_webhooks{{state="{state}"}}' for state in ("waiting", "delivered", "given_up")}
    expected |= {
        f'longtake_{name}{{pool="{pool}"}}'
        for name in ("queue_depth", "queue_oldest_seconds", "running")
        for pool in ("default", "small")
    }
    assert {name for name, value in seen.items() if value == 0} >= expected


def done(**facts: Any) -> Done:
    """What a worker process reports of a finished video."""
    return Done(
        Path("/video.mp4"), "video/mp4", {}, Decimal(1), Decimal(1), returns_data_uri=False, model="ltxv-tiny", **facts
    )


def test_metrics_of_slots_and_videos(served: Served) -> None:
    metrics = served.state.metrics
    slots = [
        SlotStatus("slot 0", "default", "busy"),
        SlotStatus("slot 1", "default", "idle"),
        SlotStatus("slot 2", "ltx", "idle"),
    ]
    metrics.slots = lambda: slots
    timings = {"inference_time": 9.0, "sampling": 4.0, "frames": 2.0}
    metrics.count(done(timings=timings, new_frames=96, evaluations=30))
    metrics.count(done(timings=timings, new_frames=24, evaluations=60))
    metrics.count(done())
    seen = scraped(served)
    assert seen['longtake_slots{pool="default",state="busy"}'] == 1
    assert seen['longtake_slots{pool="ltx",state="idle"}'] == 1
    assert (
        seen['longtake_slots{pool="ltx",state="busy"}'] == seen['longtake_slots{pool="default",state="failing"}'] == 0
    )
    assert seen['longtake_queue_depth{pool="ltx"}'] == 0
    assert seen['longtake_stage_seconds_total{stage="sampling"}'] == 8
    assert 'longtake_stage_seconds_total{stage="inference_time"}' not in seen
    assert (seen["longtake_videos_total"], seen["longtake_frames_total"]) == (3, 120)
    assert seen["longtake_evaluations_total"] == 90
    assert seen["longtake_evaluations_per_second"] == 15


def test_with_keys_metrics_need_an_admins_key(served: Served) -> None:
    run, admin = served.state.keys.create("a", "run"), served.state.keys.create("b", "admin")
    for path in ("/metrics", "/page/requests"):
        assert served.client().get(path).status_code == 401
    assert served.client().get("/metrics", headers={"authorization": f"Key {run}"}).status_code == 403
    assert served.client().get("/metrics", headers={"authorization": f"Bearer {admin}"}).status_code == 200
    for path in ("/health", "/ready", "/"):
        assert served.client().get(path).status_code == 200


def test_metrics_work_without_the_database(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.state.metrics.count(done(new_frames=5))
    _away(served, monkeypatch)
    text = served.state.metrics.text(served.engine).decode()
    assert re.search(r"^longtake_database_up 0.0$", text, re.MULTILINE)
    assert re.search(r"^longtake_frames_total 5.0$", text, re.MULTILINE)


def test_health_and_readiness_while_draining_and_without_the_database(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = served.client()
    assert web.get("/health").json()["status"] == "ok"
    assert web.get("/ready").json() == {"status": "ready", "database": "works", "files": "works"}
    served.state.draining.set()
    assert (web.get("/ready").status_code, web.get("/ready").json()) == (503, {"status": "draining"})
    assert web.get("/health").status_code == 200
    served.state.draining.clear()
    _away(served, monkeypatch)
    time.sleep(CACHE_S)
    report = {"status": "not ready", "database": "it does not answer", "files": "works"}
    assert (web.get("/ready").status_code, web.get("/ready").json()) == (503, report)
    assert web.get("/health").status_code == 200


def _away(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("away"))

    monkeypatch.setattr(served.engine, "connect", refuse)
