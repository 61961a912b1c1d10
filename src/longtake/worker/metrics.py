"""Metrics of the queue and of this server's slots (devices with their worker processes) in Prometheus' text format."""

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Literal, get_args

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from longtake import clock
from longtake.database.connection import reading
from longtake.database.tables import deleted_requests, deliveries, requests
from longtake.endpoints import ENDPOINTS
from longtake.settings import DEFAULT_POOL
from longtake.worker.messages import Done
from longtake.worker.slot import SLOT_STATES, SlotStatus

SlotStates = Callable[[], Sequence[SlotStatus]]
"""A function that returns the current status of each slot of this server. A slot is a device with its worker
process."""

INFERENCE = "inference_time"
"""The key of `Done.timings` that is not a stage: its value is the seconds of the whole request."""


OutcomeKind = Literal["done", "refused", "failed", "cancelled"]
"""The kind of an ended request's outcome (see `outcome_kind`)."""
WEBHOOK_STATES = ("waiting", "delivered", "given_up")
"""The states of webhooks (see `database.tables.deliveries`)."""


class Metrics:
    """Counters of the videos that this server finished, and metrics of the queue, which are read from the database.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self.slots: SlotStates = tuple
        """A function that returns the status of each slot (a device with its worker process) of this server. A server
        that has slots sets it; otherwise it returns an empty tuple."""
        self.pools: Set[str] = {DEFAULT_POOL}
        """The pools (groups of devices) that have a value for each metric of the queue, also without requests."""
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

    def count(self, done: Done) -> None:
        """Adds a finished video to the counters."""
        seconds = {stage: seconds for stage, seconds in done.timings.items() if stage != INFERENCE}
        for stage, spent in seconds.items():
            self._stages.labels(stage).inc(spent)
        self._videos.inc()
        self._frames.inc(done.new_frames)
        self._evaluations.inc(done.evaluations)
        if done.evaluations and seconds.get("sampling"):
            self._rate.set(done.evaluations / seconds["sampling"])

    def text(self, engine: sa.Engine) -> bytes:
        """Returns all metrics in Prometheus' text format.

        `engine`: the engine of the database with the queue. If the database does not answer, the metrics of the queue
            are missing and `longtake_database_up` is 0.
        """
        queue = CollectorRegistry()
        queue.register(_QueueCollector(engine, self.slots, self.pools))
        return generate_latest(self._registry) + generate_latest(queue)


class _QueueCollector(Collector):
    """Collects metrics of all requests and webhooks in the database, and of this server's slots.

    `engine`: the engine of the database.
    `slots`: returns the status of each slot, which is a device with its worker process.
    `pools`: the pools that the settings name.

    A metric with labels has a value for each combination of labels that is known beforehand, also if it is 0. Otherwise
    Prometheus would not see the first failure as an increase.
    """

    def __init__(self, engine: sa.Engine, slots: SlotStates, pools: Set[str]) -> None:
        self._engine = engine
        self._slots = slots
        self._pools = pools

    def describe(self) -> Iterator[Metric]:
        """Yields nothing, so that registering this collector does not query the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        statuses = self._slots()
        slots = GaugeMetricFamily("longtake_slots", "Slots of this server.", labels=["pool", "state"])
        pools, counts = {slot.pool for slot in statuses}, Tally((slot.pool, slot.state) for slot in statuses)
        for pool in sorted(pools):
            for state in SLOT_STATES:
                slots.add_metric([pool, state], counts[pool, state])
        yield slots
        up = GaugeMetricFamily("longtake_database_up", "Whether the database answers.")
        try:
            with reading(self._engine) as connection:
                families = [
                    *open_requests(connection, pools | self._pools),
                    ended_requests(connection),
                    webhooks(connection),
                ]
            up.add_metric([], 1)
        except sa.exc.SQLAlchemyError:
            families = []
            up.add_metric([], 0)
        yield up
        yield from families


def open_requests(connection: sa.Connection, pools: Set[str]) -> list[Metric]:
    """Returns three metrics of the requests that have not ended, each with a value for every pool (group of devices).

    - The number of waiting requests.
    - The seconds that the oldest waiting request has waited; 0 if none waits.
    - The number of running requests.

    `pools` are pools that are included even if they have no requests.
    """
    now = clock.now()
    waiting: dict[str, tuple[int, float]] = {}
    running: dict[str, int] = {}
    for pool, state, count, oldest_at in connection.execute(
        sa.select(requests.c.pool, requests.c.state, sa.func.count(), sa.func.min(requests.c.created_at))
        .where(requests.c.state.in_(("IN_QUEUE", "IN_PROGRESS")))
        .group_by(requests.c.pool, requests.c.state)
    ):
        if state == "IN_QUEUE":
            waiting[pool] = (count, oldest_at)
        else:
            running[pool] = count
    depth = GaugeMetricFamily("longtake_queue_depth", "Requests that wait.", labels=["pool"])
    oldest = GaugeMetricFamily("longtake_queue_oldest_seconds", "How long the first has waited.", labels=["pool"])
    busy = GaugeMetricFamily("longtake_running", "Requests that are worked on.", labels=["pool"])
    for pool in sorted({*waiting, *running, *pools}):
        count, oldest_at = waiting.get(pool, (0, now))
        depth.add_metric([pool], count)
        oldest.add_metric([pool], max(now - oldest_at, 0.0))
        busy.add_metric([pool], running.get(pool, 0))
    return [depth, oldest, busy]


def ended_requests(connection: sa.Connection) -> Metric:
    """Returns the metric that counts the ended requests by endpoint and by kind of outcome (see `outcome_kind`).

    Requests whose rows were deleted because they were old are counted, too.
    """
    facts = (requests.c.endpoint, requests.c.state, requests.c.status_code)
    number = sa.func.count().label("count")
    stored = sa.select(*facts, number).where(requests.c.status_code.is_not(None)).group_by(*facts)
    counts = Tally({(endpoint, kind): 0 for endpoint in ENDPOINTS for kind in get_args(OutcomeKind)})
    for endpoint, state, status, count in connection.execute(sa.union_all(stored, sa.select(deleted_requests))):
        counts[endpoint, outcome_kind(state, status)] += count
    ended = CounterMetricFamily("longtake_requests", "Requests that ended.", labels=["endpoint", "outcome"])
    for labels, count in counts.items():
        ended.add_metric(labels, count)
    return ended


def webhooks(connection: sa.Connection) -> Metric:
    """Returns the metric that counts the webhooks by state (waiting, delivered or given_up)."""
    family = GaugeMetricFamily("longtake_webhooks", "Webhooks by state.", labels=["state"])
    stored = connection.execute(sa.select(deliveries.c.state, sa.func.count()).group_by(deliveries.c.state)).all()
    for state, count in {**dict.fromkeys(WEBHOOK_STATES, 0), **{row[0]: row[1] for row in stored}}.items():
        family.add_metric([state], count)
    return family


def outcome_kind(state: str, status: int) -> OutcomeKind:
    """Returns the kind of an ended request's outcome.

    "done": the request succeeded.
    "refused": it failed because of an error of the client.
    "failed": it failed because of an error of the server.
    "cancelled": a client cancelled it.

    `state` is the request's state, `status` is the HTTP status of its result.
    """
    if state == "CANCELLED":
        return "cancelled"
    if status < 300:
        return "done"
    return "refused" if status < 500 else "failed"
