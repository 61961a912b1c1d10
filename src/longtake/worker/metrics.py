"""How the queue and the slots are doing, in Prometheus' text format."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from longtake.database.connection import reading
from longtake.database.tables import deliveries, requests

SlotStates = Callable[[], Sequence[tuple[str, str, str, float]]]
"""Of each slot its name, pool, state, and since when."""

INFERENCE = "inference_time"
"""Of a message's timings what is the sum of the stages."""


class Metrics:
    """What one server counts, and what the database says of all. Safe to use from several threads."""

    def __init__(self) -> None:
        self.slots: SlotStates = tuple
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._stages = Counter(
            "longtake_stage_seconds", "Seconds that finished videos spent in each stage.", ["stage"],
            registry=self._registry,
        )  # fmt: skip
        self._videos = Counter("longtake_videos", "Videos that this server finished.", registry=self._registry)
        self._frames = Counter("longtake_frames", "New frames in those videos.", registry=self._registry)
        self._evaluations = Counter(
            "longtake_evaluations", "Evaluations of the model for those videos.", registry=self._registry
        )
        self._rate = Gauge(
            "longtake_evaluations_per_second", "Evaluations of the model per second of sampling, in the last video.",
            registry=self._registry,
        )  # fmt: skip

    def done(self, message: Mapping[str, Any]) -> None:
        """A worker process finished a video: its `timings`, `new_frames` and `evaluations`."""
        timings = {stage: seconds for stage, seconds in (message.get("timings") or {}).items() if stage != INFERENCE}
        for stage, seconds in timings.items():
            self._stages.labels(stage).inc(seconds)
        self._videos.inc()
        self._frames.inc(message.get("new_frames") or 0)
        evaluations = message.get("evaluations") or 0
        self._evaluations.inc(evaluations)
        if evaluations and timings.get("sampling"):
            self._rate.set(evaluations / timings["sampling"])

    def text(self, engine: sa.Engine) -> bytes:
        """Everything, as it is scraped."""
        stored = CollectorRegistry()
        stored.register(_Queue(engine, self.slots))
        return generate_latest(self._registry) + generate_latest(stored)


class _Queue(Collector):
    """What is read at each scrape: the database's requests, of all servers on it, and this server's slots."""

    def __init__(self, engine: sa.Engine, slots: SlotStates) -> None:
        self._engine = engine
        self._slots = slots

    def describe(self) -> Iterator[Metric]:
        """Nothing: what there is need not be read to be registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        slots = GaugeMetricFamily("longtake_slots", "Slots of this server.", labels=["pool", "state"])
        for (pool, state), count in Tally((pool, state) for _, pool, state, _ in self._slots()).items():
            slots.add_metric([pool, state], count)
        yield slots
        try:
            families = self._stored()
        except sa.exc.SQLAlchemyError:
            families = []
        up = GaugeMetricFamily("longtake_database_up", "Whether the database answers.")
        up.add_metric([], 1 if families else 0)
        yield up
        yield from families

    def _stored(self) -> list[Metric]:
        now = time.time()
        depth = GaugeMetricFamily("longtake_queue_depth", "Requests that wait.", labels=["pool"])
        oldest = GaugeMetricFamily("longtake_queue_oldest_seconds", "How long the first has waited.", labels=["pool"])
        running = GaugeMetricFamily("longtake_running", "Requests that are worked on.", labels=["pool"])
        ended = CounterMetricFamily("longtake_requests", "Requests that ended.", labels=["endpoint", "outcome"])
        webhooks = GaugeMetricFamily("longtake_webhooks", "Webhooks by state.", labels=["state"])
        with reading(self._engine) as connection:
            open_ones = connection.execute(
                sa.select(requests.c.pool, requests.c.state, sa.func.count(), sa.func.min(requests.c.created_at))
                .where(requests.c.state.in_(("IN_QUEUE", "IN_PROGRESS")))
                .group_by(requests.c.pool, requests.c.state)
            ).all()
            outcomes: Tally[tuple[str, str]] = Tally()
            for endpoint, state, status, count in connection.execute(
                sa.select(requests.c.endpoint, requests.c.state, requests.c.status_code, sa.func.count())
                .where(requests.c.status_code.is_not(None))
                .group_by(requests.c.endpoint, requests.c.state, requests.c.status_code)
            ):
                outcomes[endpoint, outcome(state, status)] += count
            for state, count in connection.execute(
                sa.select(deliveries.c.state, sa.func.count()).group_by(deliveries.c.state)
            ):
                webhooks.add_metric([state], count)
        for pool in {pool for pool, _, _, _ in open_ones} | {pool for _, pool, _, _ in self._slots()}:
            waiting = next(((count, first) for name, state, count, first in open_ones
                            if (name, state) == (pool, "IN_QUEUE")), (0, now))  # fmt: skip
            busy = sum(count for name, state, count, _ in open_ones if (name, state) == (pool, "IN_PROGRESS"))
            depth.add_metric([pool], waiting[0])
            oldest.add_metric([pool], max(now - waiting[1], 0.0))
            running.add_metric([pool], busy)
        for labels, count in outcomes.items():
            ended.add_metric(labels, count)
        return [depth, oldest, running, ended, webhooks]


def outcome(state: str, status: int) -> str:
    """How a request ended, in a word: done, refused (it was not right), failed, cancelled."""
    if state == "CANCELLED":
        return "cancelled"
    if status < 300:
        return "done"
    return "refused" if status < 500 else "failed"
