"""Checks the LoRAs of a request before it is submitted: whether each file is there, without downloading it."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from cachetools import TTLCache
from starlette.requests import ClientDisconnect, Request

from longtake.access.files import find_own
from longtake.endpoints.validation import errors_at
from longtake.errors import Cancelled, LongtakeError
from longtake.models.hub_access import hub_transport
from longtake.models.lora_check import Transports, check_lora
from longtake.models.lora_names import Lora, may_be_repository, scheme_of
from longtake.outbound import PublicTransport
from longtake.plans import PlannedAdapter
from longtake.service.budgets import Budgets
from longtake.service.fair_semaphore import FairSemaphore
from longtake.settings import Settings
from longtake.storage.files import FileStore

PLACES = 4
"""Maximum number of LoRAs that are checked at the same time."""
KNOWN_S = 30.0
"""Seconds for which the outcome of a check is remembered."""

_Question = tuple[str, Lora]
"""The id of the API key that asks for a LoRA, and the LoRA."""


@dataclass
class LoraChecks:
    """Checks LoRAs. Its method may be called only in the thread of the event loop.

    store: the stored files.
    settings: name the folder of LoRAs, the hub, and the limits of downloads.
    budgets: a question to another host counts as a request of the API key.
    draining: set when the server begins to shut down. Checks then end.
    """

    store: FileStore
    settings: Settings
    budgets: Budgets
    draining: threading.Event
    _known: TTLCache[_Question, LongtakeError | None] = field(default_factory=lambda: TTLCache(1000, KNOWN_S))
    _asking: WeakValueDictionary[_Question, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _semaphore: FairSemaphore = field(default_factory=lambda: FairSemaphore(PLACES))
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(PLACES, "lora-check"))

    async def check(self, request: Request, key_id: str, adapters: Sequence[PlannedAdapter]) -> None:
        """Checks those of a plan's adapters that the request's field `loras` names.

        request: the client's HTTP request for the plan.
        key_id: the id of the client's API key.

        Raises LongtakeError, whose `loc` is the field at fault, for the first one that cannot be used. Raises
        RequestFailed with status 429 if the key may not submit a request now, and ClientDisconnect if the client has
        gone: slow hosts of many LoRAs could otherwise be asked for minutes, for nobody.
        """
        for adapter in adapters:
            if adapter.field[:2] != ("body", "loras"):
                continue
            with errors_at(adapter.field[1:], adapter.source):
                await self._check(request, key_id, Lora(adapter.source, adapter.weight_name))

    async def _check(self, request: Request, key_id: str, lora: Lora) -> None:
        question = (key_id, lora)
        # The plan has no more than the beginning of a data URI, and a server without devices has no folder of LoRAs.
        if scheme_of(lora.path) == "data" or not (_may_be_elsewhere(lora) or self.settings.slots):
            return
        # While one plan asks a host, another one with the same LoRA waits for the answer.
        async with self._asking.setdefault(question, asyncio.Lock()):
            if question not in self._known:
                await self._ask(request, key_id, lora)
        if (problem := self._known.get(question)) is not None:
            raise copy(problem)

    async def _ask(self, request: Request, key_id: str, lora: Lora) -> None:
        """Finds out whether a LoRA can be used, and stores the answer in `_known`, unless its file is stored on this
        server. Raises RequestFailed and ClientDisconnect as `check` does."""
        loop = asyncio.get_running_loop()
        async with self._semaphore.permit(key_id):
            if await request.is_disconnected():
                raise ClientDisconnect
            if scheme_of(lora.path):
                own = await loop.run_in_executor(self._threads, find_own, self.store, lora.path, key_id)
                if own is not None:
                    return
            if _may_be_elsewhere(lora):
                self.budgets.begin_request(key_id)
            self._known[key_id, lora] = await loop.run_in_executor(self._threads, self._problem, key_id, lora)

    def _problem(self, key_id: str, lora: Lora) -> LongtakeError | None:
        """Returns the error with which a request would fail that names this LoRA; None if none is known.

        lora: is no stored file of this server.
        """

        def check() -> None:
            if self.draining.is_set():
                raise Cancelled

        try:
            transports = Transports(PublicTransport(self.settings.trusted_hosts), hub_transport(self.settings))
            check_lora(lora, self.settings, key_id, transports, check)
        except LongtakeError as error:
            return copy(error)  # without the traceback, which would keep the answers of the hosts in memory
        return None


def _may_be_elsewhere(lora: Lora) -> bool:
    """Returns True if another host may have to be asked for a LoRA: its path is a URL or may name a repository."""
    return scheme_of(lora.path) != "" or may_be_repository(lora.path)
