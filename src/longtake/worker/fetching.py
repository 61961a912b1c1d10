"""Downloads the files that waiting requests name, before these requests can be claimed for a device.

A server has a number of places (`fetch_places`, a setting). Each place downloads the files of one request and stores
them as blobs, from which the worker process of any server reads them. The database says which server downloads what
(see `queue.fetches`).
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cachetools import LRUCache
from structlog.contextvars import bound_contextvars

from longtake.access.files import find_own
from longtake.database.connection import RetriesStopped, is_temporary, retry_until_stopped
from longtake.endpoints.validation import errors_at
from longtake.errors import Cancelled, LongtakeError, machine_error
from longtake.media.fetch import fetch_file, pace_of
from longtake.models.hub_access import hub_transport
from longtake.models.lora_downloads import public_folder
from longtake.models.lora_files import LoraSources, download_from_hub, needs_download
from longtake.models.lora_names import is_hub_url, lora_at
from longtake.outbound import PublicTransport
from longtake.periodic import Repeating
from longtake.queue import engine as queue
from longtake.queue import fetches
from longtake.queue.fetches import Fetch, Group
from longtake.queue.requests import Outcome, RemoteFile
from longtake.storage import imports
from longtake.storage.deletion import delete_blob
from longtake.temporary import temporary_folder
from longtake.threads import start
from longtake.worker import outcomes
from longtake.worker.context import SlotContext
from longtake.worker.leases import Lease
from longtake.worker.machine import has_room, pause_s
from longtake.worker.places import DownloadEnding, Place

log = logging.getLogger(__name__)

POLL_S = 0.25
"""Seconds between two looks into the database for waiting downloads, which other servers may have added."""

STOP_S = 2.0
"""Seconds that a stopping server waits for its downloads to stop. After that it goes on without them."""

MOST_PAUSES = 1000
"""Maximum number of requests whose pauses are counted. A request's download pauses after each error of this machine,
each time longer. If there are more requests, the count of the one that paused the longest time ago is forgotten."""

HEAR_S = 1.0
"""Seconds after which a stopped download has usually ended. If one has not, another download may be stopped, so that a
waiting one can start."""

Result = TypeVar("Result")


class FetchPlaces:
    """Downloads the files of waiting requests, for up to `fetch_places` (a setting) requests at a time.

    Each server has one such object. Each download has a thread of its own; another thread starts them.

    `context`: has the database, the settings and the file store.
    `lease`: has the id under which this server claims downloads.
    `wake`: called with the name of a pool (a named group of devices) when all files of a request of the pool are
        downloaded.
    """

    def __init__(self, context: SlotContext, lease: Lease, wake: Callable[[str], None]) -> None:
        self._context = context
        self._engine = context.engine
        self._lease = lease
        self._wake_slots = wake
        self._transport = PublicTransport(context.settings.trusted_hosts)
        self._hub_transport = hub_transport(context.settings)
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}  # request id -> place
        self._pauses: LRUCache[str, int] = LRUCache(MOST_PAUSES)  # request id -> how often it waited for this machine
        self._begun_at: dict[str, float] = {}  # key id -> when its last download began (monotonic clock)
        self._thread = Repeating(
            "fetch places", self._turn, failure="No files were downloaded", is_temporary=is_temporary, retry_s=POLL_S
        )

    def start(self) -> None:
        """Starts the thread that claims waiting downloads and starts them."""
        self._thread.start()

    def wake(self) -> None:
        """Looks for waiting downloads at once. Should be called after a request that names files was submitted."""
        self._thread.wake()

    def stop(self) -> None:
        """Stops all downloads, and waits at most about two seconds (STOP_S) until they have stopped.

        In the database, stopped downloads are waiting again, so that other servers can continue them.
        """
        self._thread.stop()
        for place in self._running():
            place.stop()
        until = time.monotonic() + STOP_S
        while self._running() and time.monotonic() < until:
            time.sleep(0.01)

    def _running(self) -> list[Place]:
        with self._lock:
            return list(self._places.values())

    def _turn(self) -> float:
        server = self._lease.server_id
        if server is not None:
            self._stop_lost(server)
            self._fill(server)
            self._delete_ended()
        return POLL_S

    def _stop_lost(self, server: str) -> None:
        """Corrects differences between the downloads that run here and those that the database assigns to this server.

        - A download that runs here, but is not assigned to this server, is stopped.
        - A download that is assigned to this server, but does not run here, waits again for any server.

        `server`: this server's id in the table `servers`.
        """
        running = {place.fetch.request_id: place for place in self._running()}
        held = fetches.held_by(self._engine, server)
        for request_id, place in running.items():
            # Its request has ended, or another server has claimed it.
            if request_id not in held or place.fetch.server != server:
                place.stop()
        # This happens if the connection fails while a claim is stored.
        for request_id in held - running.keys():
            fetches.put_back(self._engine, request_id, server, attempt_failed=False)

    def _fill(self, server: str) -> None:
        """Starts waiting downloads until `fetch_places` (a setting) of them run, or no other may start yet.

        `fetches.waiting_groups` says which may start.

        If that many run already, `_free_place` may stop one, so that a download of another API key can start.

        `server`: this server's id in the table `servers`.
        """
        settings = self._context.settings
        while groups := fetches.waiting_groups(self._engine, settings.fetch_ahead, settings.fetched_bytes):
            running = self._running()
            keys = Counter(place.key_id for place in running)
            if len(running) >= settings.fetch_places:
                if not any(time.monotonic() - HEAR_S < place.stopped_at < math.inf for place in running):
                    self._free_place(groups, running, keys)
                return
            fetch = fetches.claim(self._engine, next_group(groups, keys, self._begun_at), server)
            if fetch is None:
                return  # another server was faster
            self._begin(fetch)

    def _free_place(self, groups: Sequence[Group], running: Sequence[Place], keys: Mapping[str, int]) -> None:
        """Stops a download of the API key with the most running downloads, so that another key can start one.

        Does so only if another key with a waiting download has at least two running downloads fewer. Stops the key's
        newest download, which then waits again. A download that was stopped before but still runs counts as running,
        and is not stopped again.

        `groups`: each API key and pool (a named group of devices) with a waiting download.
        `running`: the running downloads.
        `keys`: key id -> the number of its running downloads.
        """
        going_on = [place for place in running if not place.stopped.is_set()]
        last = max(going_on, key=lambda place: (keys[place.key_id], place.began_at), default=None)
        if last is not None and keys[last.key_id] - min(keys.get(group.key_id, 0) for group in groups) >= 2:
            last.stop()

    def _begin(self, fetch: Fetch) -> None:
        """Starts the claimed download `fetch` in a thread.

        Raises OSError if the system allows no more threads. The next call of `_stop_lost` then makes the download wait
        again.
        """
        place = Place(fetch, time.monotonic())
        self._begun_at[place.key_id] = place.began_at
        with self._lock:
            self._places[fetch.request_id] = place
        try:
            start(threading.Thread(target=self._run, args=(place,), name=f"fetch {fetch.request_id}", daemon=True))
        except OSError:
            with self._lock:
                del self._places[fetch.request_id]
            raise

    def _run(self, place: Place) -> None:
        try:
            with bound_contextvars(request_id=place.fetch.request_id):
                self._settle(place, self._follow(place))
        except RetriesStopped:
            pass  # the database fails; `_stop_lost` puts the download back, or others do after the end of the lease
        finally:
            with self._lock:
                # The request's download may have been put back and begun again in another place meanwhile.
                if self._places.get(place.fetch.request_id) is place:
                    del self._places[place.fetch.request_id]
            self._context.on_change(place.fetch.request_id)
            self._thread.wake()

    def _follow(self, place: Place) -> DownloadEnding:
        """Downloads the files of a request. Returns how the download ended (see `DownloadEnding`).

        `place`: the running download of the request's files.

        Raises RetriesStopped if the download was stopped while the database did not answer. Its ending is then not
        stored.
        """
        try:
            self._download_all(place)
            return "done"
        except Cancelled:
            return "stopped"
        except LongtakeError as error:
            return outcomes.not_fetched(error)
        except RetriesStopped:
            raise
        except Exception as error:
            if is_temporary(error):
                return self._wait_for_machine(place, error)
            log.exception("The files of request %s could not be fetched: internal error.", place.fetch.request_id)
            return outcomes.FETCH_BROKE

    def _wait_for_machine(self, place: Place, error: Exception) -> DownloadEnding:
        """Waits some seconds after a temporary error in a download (`place`). Returns how the download ended:

        - "stopped": the database failed, or the disk is full even without the unfinished file. No attempt is counted.
        - "failed": this machine failed in another way. The attempt counts: the file may be too large for this machine.
        - An `Outcome`: the same as "failed", but in the last attempt that is allowed. It is returned without a wait.

        The disk is that of the path in `error`, or of the data folder if it has no path.
        """
        fetch, settings = place.fetch, self._context.settings
        log.warning("The files of request %s wait, because this machine failed: %s", fetch.request_id, error)
        ours = machine_error(error)
        counts = ours is not None and has_room(Path(ours.filename or settings.data_dir))
        if ours is not None and counts and fetch.downloads.attempt >= settings.max_attempts:
            return outcomes.download_failed(fetch.downloads.attempt, ours.strerror or "an error")
        with self._lock:
            earlier = self._pauses.get(fetch.request_id, 0)
            self._pauses[fetch.request_id] = earlier + 1
        place.stopped.wait(pause_s(earlier))
        return "failed" if counts else "stopped"

    def _settle(self, place: Place, ending: DownloadEnding) -> None:
        """Stores in the database how the download of a request's files ended.

        `place`: the running download.
        `ending`: how it ended:
        - "done": makes the request ready to be claimed.
        - "stopped" or "failed" (this machine failed): puts the download back, so that it can begin again. Only a
          "failed" attempt counts towards the maximum.
        - An `Outcome`: ends the request with this error.
        """
        fetch = place.fetch
        match ending:
            case "done":
                with self._lock:
                    self._pauses.pop(fetch.request_id, None)
                if self._retry(place, lambda: fetches.finish(self._engine, fetch)):
                    self._wake_slots(fetch.group.pool)
            case "stopped" | "failed":
                counts = ending == "failed"
                self._retry(
                    place,
                    lambda: fetches.put_back(self._engine, fetch.request_id, fetch.server, attempt_failed=counts),
                )
            case Outcome() as outcome:
                if self._retry(place, lambda: queue.fail_fetch(self._engine, fetch, outcome)):
                    log.info("Request %s ended with status %d.", fetch.request_id, outcome.status_code)

    def _download_all(self, place: Place) -> None:
        """Downloads those files of a request that were not downloaded yet, and stores in the database where they are.

        `place`: the running download of the request's files.

        Raises Cancelled if the download must stop, and LongtakeError if a file cannot be downloaded.
        """
        downloads = place.fetch.downloads
        blobs, hub_names = dict(downloads.blobs), dict(downloads.hub_names)
        num_bytes = sum(self._context.store.blobs.size(key) or 0 for key in blobs.values())
        for file in downloads.files:
            if file.url in blobs or not self._is_needed(place, file):
                continue
            with (
                errors_at(file.field, lora_at(file.url).path, in_message=file.kind == "end_image"),
                self._download(place, file, hub_names) as path,
            ):
                if path is not None:
                    num_bytes += path.stat().st_size
                    blobs[file.url] = self._store(place, path)
            if not self._record(place, blobs, hub_names, num_bytes):
                if file.url in blobs:
                    self._context.store.blobs.delete(blobs[file.url])
                raise Cancelled

    def _record(self, place: Place, blobs: Mapping[str, str], hub_names: Mapping[str, str], num_bytes: int) -> bool:
        """Records in the database where the files of the download `place` are, and their size.

        blobs, hub_names: URL -> key of the file's blob, and URL -> path in the folder for the Hugging Face hub's LoRAs.
        num_bytes: the size of all these blobs together.

        Returns False if this server no longer downloads the request's files.
        """
        return self._retry(place, lambda: fetches.store(self._engine, place.fetch, blobs, hub_names, num_bytes))

    def _is_needed(self, place: Place, file: RemoteFile) -> bool:
        """Returns True if a file must be downloaded before its request can be claimed. Returns False for these files:

        - A file in this server's own store that the request's API key may read.
        - A LoRA that is on this machine already. But if `file.must_be_stored` is True, the result is True: another
          machine lacks the LoRA, and needs it as a blob.
        - A LoRA with a URL that is not allowed. The request fails later, when it runs.

        `place`: the download of the request's files.
        """
        if self._retry(place, lambda: find_own(self._context.store, file.url, place.key_id)) is not None:
            return False
        is_elsewhere = file.kind != "lora" or needs_download(file.url, self._context.settings, place.key_id)
        return is_elsewhere or file.must_be_stored

    @contextmanager
    def _download(self, place: Place, file: RemoteFile, hub_names: dict[str, str]) -> Iterator[Path | None]:
        """Context manager that downloads one file of a request and yields its path, from which a blob is then made.

        A video or picture that the request's API key has just imported (see `storage.imports`) is not downloaded again.
        Yields None for a LoRA of the Hugging Face hub that needs no blob: this machine already has its newest version,
        and `file.must_be_stored` is False.

        `place`: the download of the request's files.
        `hub_names`: URL -> path in the folder for LoRAs of the hub. The file is added to it if it is a LoRA of the hub.

        Raises Cancelled if the download must stop, and LongtakeError if the file cannot be downloaded.
        """
        settings = self._context.settings
        if is_hub_url(file.url):
            sources = LoraSources(caller=place.key_id, check=place.check, hub_transport=self._hub_transport)
            found = download_from_hub(lora_at(file.url), settings, sources)
            hub_names[file.url] = found.path.relative_to(public_folder(settings)).as_posix()
            yield found.path if found.is_new or file.must_be_stored else None
            return
        store = self._context.store
        if file.kind != "lora":
            imported = self._retry(place, lambda: imports.find(store, place.key_id, file.url))
            if imported is not None:
                with store.blobs.local(imported[1].blob) as path:
                    yield path
                return
        with temporary_folder(settings) as folder:
            yield fetch_file(
                file.url,
                folder,
                max_bytes=settings.max_lora_bytes if file.kind == "lora" else settings.max_source_bytes,
                pace=pace_of(settings),
                transport=self._transport,
                check=place.check,
            )

    def _store(self, place: Place, path: Path) -> str:
        """Stores a file of the download `place` as a new blob. Returns the blob's key."""
        key = fetches.new_blob_key(place.fetch.request_id, path.stat().st_size)
        self._retry(place, lambda: self._context.store.blobs.put(key, path))
        return key

    def _delete_ended(self) -> None:
        """Deletes the files that were downloaded for requests that have ended, and the rows of these downloads.

        One call does this for up to 50 requests (ENDED_BATCH).
        """
        ended = fetches.ended(self._engine)
        for key in (key for keys in ended.values() for key in keys):
            delete_blob(self._context.store.blobs, key)
        if ended:
            fetches.delete(self._engine, list(ended))

    def _retry(self, place: Place, do: Callable[[], Result]) -> Result:
        return retry_until_stopped(do, place.stopped)


def next_group(groups: Sequence[Group], running: Mapping[str, int], begun_at: Mapping[str, float]) -> Group:
    """Returns the group (API key and pool, a named group of devices) whose download begins next.

    It is the first of the groups of the key with the fewest running downloads. If several keys have the fewest, a key
    that has not begun any download comes first, and then the key whose last download began earliest.

    `groups`: the groups with a waiting download.
    `running`: key id -> the number of its running downloads. A key without any may be missing.
    `begun_at`: key id -> when its last download began, in seconds of the monotonic clock. A key that has not begun any
        is missing.
    """
    return min(groups, key=lambda group: (running.get(group.key_id, 0), begun_at.get(group.key_id, 0.0)))
