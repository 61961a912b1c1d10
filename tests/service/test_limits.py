"""The table of limits in docs/server.md has the values of the program, and limits that no other test reaches hold."""

import json
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from longtake import errors, outbound, plans, prompts, temporary
from longtake.access import tokens
from longtake.database import connection as database
from longtake.derived import copies, program
from longtake.endpoints import fields, validation
from longtake.media import download, frame_reader, matroska, mpegts, probe, sandbox, tags
from longtake.media.limits import Limits
from longtake.models import (
    hub,
    hub_access,
    lora_check,
    lora_downloads,
    lora_files,
    lora_header,
    lora_hub,
    lora_names,
    safe,
    text,
)
from longtake.outbound import PublicTransport
from longtake.queue import engine, payloads, recent, requests, shares, short_inputs, status_cache, webhooks
from longtake.sampling import preview
from longtake.service import (
    app,
    auth,
    bodies,
    derivations,
    files,
    history,
    http_protocol,
    imports,
    logs,
    lora_checks,
    media,
    platform,
    ports,
    pulls,
    readiness,
    reports,
    state,
    uploads,
    usage,
)
from longtake.service import plans as service_plans
from longtake.service import preview as preview_route
from longtake.service.connections import MOST_FORWARDED, Bounds
from longtake.settings import Settings
from longtake.storage import derived, lifecycle
from longtake.storage import imports as stored_imports
from longtake.storage.uploads import MAX_PARTS, MAX_PARTS_OF_KEY
from longtake.worker import channel, machine, previews, request_log
from tests.service.serving import INPUT, LTXV, serving, wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "server.md").read_text()
LINES = PAGE.partition("## Limits")[2].partition("## ")[0].splitlines()
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in LINES if line.startswith("| ")][1:]
"""The cells of each row: limit, value, setting, what happens beyond it."""
BOUNDS, READING, SETTINGS = Bounds(), Limits(), Settings()

MIB, GIB, HOUR_S, DAY_S = 1024**2, 1024**3, 3600, 24 * 3600

VALUES: dict[str, tuple[float | None, ...]] = {
    "line and headers": (BOUNDS.head_bytes,),
    "parameters in the query of a URL": (app.MOST_PARAMETERS,),
    "headers of a request": (BOUNDS.headers,),
    "chunks of bodies": (BOUNDS.chunks, BOUNDS.chunks_per_s, BOUNDS.chunk_bytes),
    "duration of a TLS": (BOUNDS.handshake_s,),
    "time to the first byte": (BOUNDS.head_s,),
    "time between two requests": (BOUNDS.idle_s,),
    "rate at which a client sends": (BOUNDS.bytes_per_s, BOUNDS.period_s),
    "pieces of stored files": (state.READ_THREADS,),
    "time from the end of a request's head": (BOUNDS.body_s,),
    "rate at which a client reads": (BOUNDS.bytes_per_s, BOUNDS.period_s),
    "time to send the rest": (BOUNDS.head_s,),
    "requests on one connection": (http_protocol.MOST_QUEUED,),
    "bytes that a refused client": (BOUNDS.linger_bytes, BOUNDS.linger_s),
    "new connections that wait": (ports.BACKLOG,),
    "open connections |": (SETTINGS.max_connections,),
    "entries of `X-Forwarded-For`": (MOST_FORWARDED,),
    "open connections of one peer": (SETTINGS.max_connections_per_peer,),
    "part of a JSON body": (bodies.SPOOL_BYTES,),
    "JSON body of a request": (SETTINGS.max_body_bytes,),
    "any other JSON body": (bodies.SMALL_BYTES, files.PARTS_BYTES, bodies.MOST_VALUES),
    "bytes of a request's JSON body outside": (bodies.MOST_STRUCTURE_BYTES,),
    "uploaded file |": (SETTINGS.max_upload_bytes,),
    "characters of a prompt": (text.MAX_CHARACTERS, prompts.MAX_CHARACTERS),
    "parts of one upload": (MAX_PARTS,),
    "stored parts of one key": (MAX_PARTS_OF_KEY,),
    "time for which the address of an announced upload": (SETTINGS.upload_s,),
    "characters of an uploaded file's name": (uploads.MAX_NAME, uploads.MAX_NAME),
    "characters of an `Idempotency-Key`": (255,),
    "lifetime of a token": (tokens.MAX_LIFE_S,),
    "LoRAs of one request": (fields.MOST_LORAS,),
    "problems of one request": (validation.MOST_PROBLEMS,),
    "submitted requests per minute": (SETTINGS.key_requests_per_minute,),
    "bytes per hour": (SETTINGS.key_bytes_per_hour,),
    "requests with a wrong key": (auth.MOST_REFUSED, auth.MOST_REFUSED_OF_PROXY),
    "keys and tokens that are checked": (auth.CHECKS, auth.CHECKS // 2 + 1, state.SHORT_THREADS),
    "bodies and uploads that are received": (state.BODY_THREADS, state.BODY_THREADS // 2),
    "reports of one key": (reports.MOST_OPEN,),
    "reports that are made": (state.REPORT_THREADS, state.REPORT_THREADS // 2),
    "bytes of a body that is planned": (service_plans.MOST_BYTES,),
    "characters that the answer with a plan": (service_plans.MOST_PROMPT,),
    "files that are imported": (imports.PLACES, imports.PLACES // 2, imports.MOST_OPEN, stored_imports.FRESH_S),
    "time for which a failed import": (imports.FAILED_S,),
    "LoRAs that are checked": (lora_checks.PLACES, lora_checks.PLACES // 2, lora_check.ASKED_S, lora_checks.KNOWN_S),
    "pictures of a preview": (preview.MOST_PICTURES, preview.MOST_PIXELS),
    "prompts that the operator": (service_plans.EXPANDED_AT_ONCE, service_plans.EXPANDED_AT_ONCE // 2),
    "time between two previews": (
        1000 * previews.PAUSE_S,
        100 * previews.MOST_SHARE,
        channel.WATCHED_S + preview_route.ASK_EVERY_S,
    ),
    "other JSON bodies above 64 KiB": (1,),
    "large bodies that are checked": (1, bodies.PROCESS_S),
    "requests of one key that wait or run": (None,),
    "waiting requests of a pool": (SETTINGS.max_waiting,),
    "attempts at a request": (SETTINGS.max_attempts,),
    "time without progress": (SETTINGS.stall_s,),
    "log lines of a request": (request_log.MAX_LINES, logs.MAX_LENGTH),
    "open event streams": (SETTINGS.max_streams_per_key,),
    "length of a source video": (SETTINGS.max_source_duration_s, READING.max_frames),
    "pixels of a frame": (SETTINGS.max_source_pixels,),
    "sample rate of sound": (probe.HIGHEST_SOUND_RATE, probe.MOST_TRIED_TRACKS),
    "tags of a Matroska": (matroska.MOST_TAGS, mpegts.MOST_PROGRAMS),
    "pixels of the frames that are decoded again": (frame_reader.MOST_PIXELS_AGAIN,),
    "pixels of all stored frames": (READING.max_animation_pixels,),
    "bytes of a LoRA file |": (SETTINGS.max_lora_bytes,),
    "bytes of a LoRA file's header": (
        lora_header.MAX_HEADER_BYTES,
        lora_header.MAX_LORA_TENSORS,
        safe.MAX_NAME,
        safe.MAX_DIMENSIONS,
    ),
    "bytes of the hub's list": (lora_hub.MOST_LISTED, hub.MOST_LISTED, hub_access.LISTING_S),
    "bytes of all LoRAs": (lora_files.LARGEST_TOGETHER * SETTINGS.max_lora_bytes,),
    "characters of a LoRA's settings": (lora_header.MAX_METADATA,),
    "downloaded LoRAs": (SETTINGS.lora_disk_bytes,),
    "recently used LoRAs": (SETTINGS.lora_cache_bytes,),
    "hours from the last byte": (lora_downloads.ABANDONED_S / HOUR_S,),
    "processor time for opening": (READING.open_cpu_s,),
    "processor time and elapsed time": (READING.cpu_s, READING.wall_s),
    "characters of a request's path": (app.MAX_PATH,),
    "pixels of all frames of a source that": (plans.MOST_REPEATED_PIXELS, plans.MOST_REPEATED_ANIMATION_PIXELS),
    "memory of the process": (READING.memory_bytes, sandbox.MOST_THREADS),
    "downloads of files": (SETTINGS.fetch_places,),
    "requests of one key to one pool": (SETTINGS.fetch_ahead,),
    "disk space of downloaded files": (SETTINGS.fetched_bytes,),
    "rate of a download": (SETTINGS.fetch_min_rate, SETTINGS.fetch_window_s),
    "time of a download": (SETTINGS.fetch_s,),
    "time until a host": (download.ANSWER_S,),
    "time to resolve": (outbound.CONNECT_S, outbound.MAX_ADDRESSES, download._MAX_REDIRECTS),
    "size of a file": (SETTINGS.max_source_bytes,),
    "time without a change": (temporary.OLD_S,),
    "bytes of the head of an answer": (outbound.MAX_HEAD_BYTES,),
    "time until a client is told": (state.ANSWER_S, readiness.WAIT_S),
    "free disk space below": (machine.ROOM_BYTES, machine.PAUSE_S, machine.LONGEST_PAUSE_S),
    "characters of a URL": (outbound.MAX_URL_LENGTH,),
    "webhooks that are sent": (webhooks.SENDERS, 6, webhooks.SENDERS // 2),
    "time for one attempt at a webhook": (SETTINGS.webhook_timeout_s,),
    "attempts at a webhook": (1 + webhooks.RETRIES, engine.WEBHOOK_S, engine.WEBHOOK_S + webhooks.LAST_ATTEMPT_S),
    "pause of a receiver": (shares.LONGEST_PAUSE_S,),
    "age of a stored file": (SETTINGS.result_s,),
    "age of inputs": (SETTINGS.payload_s,),
    "age of a request": (SETTINGS.history_s,),
    "bytes of an input": (payloads.INLINE_BYTES,),
    "characters of the path of a LoRA that is no URL": (lora_names.MOST_PATH,),
    "characters of a wrong value": (errors.MOST_ECHOED_IN_ALL, errors.MOST_ECHOED),
    "bytes of SQLite's log": (database.JOURNAL_BYTES,),
    "memory of cached statuses": (status_cache.CAPACITY,),
    "past requests in one answer": (platform.MAX_PAGE_SIZE,),
    "requests in one answer to the server's pages": (history.PAGE_SIZE, history.MAX_READ_BYTES),
    "requests among which": (recent.SCANNED,),
    "characters of a text that the pages": (history.MOST_SEARCHED, requests.SEARCHED_CHARACTERS),
    "requests of a tree": (history.TREE_SIZE, history.MOST_LOGS, short_inputs.SHOWN_BYTES),
    "models that the server downloads": (pulls.MOST_PULLS,),
    "frames of a strip": (*(media.FRAMES[::2]), *(media.HEIGHT[::2]), *(media.POINTS[::2])),
    "strips and waveforms of a file": (derived.MOST_FORMS,),
    "width of a copy": (copies.MAX_WIDTH, copies.MAX_RATE),
    "programs that make": (
        derivations.PLACES,
        derivations.PLACES // 2,
        derivations.COPY_PLACES,
        derivations.COPY_PLACES // 2,
    ),
    "answers of one key that wait for such a program": (derivations.MOST_OPEN,),
    "time of such a program": (derivations.PROGRAM_S, derivations.COPY_S, program.MEMORY_BYTES),
    "time for which nobody asks for a copy": (derivations.UNASKED_S,),
    "time for which it is remembered": (derivations.FAILED_S,),
    "bytes of a comment": (tags.MOST_COMMENT_BYTES,),
    "buckets": (usage.MAX_BUCKETS,),
    "bytes of a page": (platform.PAGE_BYTES,),
    "bytes of a video inside": (payloads.MAX_VIDEO_INSIDE,),
}
"""The beginning of a row, with the next column's border if that is the whole cell -> the row's values in the program.

Sizes are in bytes and times in seconds, unless the row itself names another unit.
"""

UNITS = {
    "KiB": 1024,
    "KiB/s": 1024,
    "MB": 1_000_000,
    "MiB": MIB,
    "GiB": GIB,
    "minutes": 60,
    "hour": HOUR_S,
    "hours": HOUR_S,
    "days": DAY_S,
}


def shown_values(cell: str) -> tuple[float | None, ...]:
    """Returns the numbers in the cell of a row, each times its unit. `none` is None."""
    text = re.sub(r"\(.*?\)|(?<=\d),(?=\d{3})", "", cell)
    text = re.sub(r"(?:(\d+) x )?10\^(\d+)", lambda power: str(int(power[1] or 1) * 10 ** int(power[2])), text)
    found = re.findall(r"none|(\d+)(?: ([A-Za-z/]+))?", text)
    return tuple(float(number) * UNITS.get(unit, 1) if number else None for number, unit in found)


@pytest.mark.parametrize("beginning", VALUES)
def test_the_table_has_the_limit_of_the_program(beginning: str) -> None:
    (value,) = (value for limit, value, _, _ in ROWS if f"{limit} |".startswith(beginning))
    assert shown_values(value) == VALUES[beginning]


def test_each_row_of_the_table_is_compared() -> None:
    assert [row[0] for row in ROWS if not any(f"{row[0]} |".startswith(beginning) for beginning in VALUES)] == []


def test_each_setting_that_limits_something_is_in_the_table() -> None:
    limits = {name for name in Settings.model_fields if re.match(r"max_|key_|fetch_|lora_\w+_bytes", name)}
    named = set(re.findall(r"LONGTAKE_(\w+)", " ".join(setting for _, _, setting, _ in ROWS)))
    assert {name.upper() for name in limits} <= named


def test_longest_lifetime_of_a_file() -> None:
    assert "up to 100 years" in PAGE
    assert lifecycle.MAX_RETENTION_S == 100 * 365 * DAY_S


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/rest/storage/upload/initiate", {}),
        ("/rest/tokens/", {}),
        (
            "/v1/models/pricing/estimate",
            {"estimate_type": "historical_api_price", "endpoints": {LTXV: {"call_quantity": 1}}},
        ),
    ],
)
def test_other_json_bodies_have_limits_of_their_own(client: httpx.Client, path: str, value: dict[str, Any]) -> None:
    empty = json.dumps({**value, "x": ""})
    body = json.dumps({**value, "x": "x" * (bodies.SMALL_BYTES - len(empty))})
    assert client.post(path, content=body).status_code == 200
    assert client.post(path, content=body + " ").status_code == 413


def test_the_list_of_all_parts_of_an_upload_fits_and_one_with_more_values_does_not(client: httpx.Client) -> None:
    url = client.post("/rest/storage/upload/initiate-multipart", json={}).json()["upload_url"]
    parts = [{"partNumber": number, "etag": f'"{number:032}"'} for number in range(1, MAX_PARTS + 1)]
    assert client.post(f"{url}/complete", json={"parts": parts}).status_code == 400  # no part was sent
    for values, status in ((bodies.MOST_VALUES, 400), (bodies.MOST_VALUES + 1, 413)):
        body = json.dumps({"parts": [0] * (values - 1)})
        assert client.post(f"{url}/complete", content=body).status_code == status


def test_a_query_has_so_many_parameters(client: httpx.Client) -> None:
    for parameters, status in ((app.MOST_PARAMETERS, 200), (app.MOST_PARAMETERS + 1, 400)):
        assert client.get("/v1/models/pricing?" + "&".join("a" * parameters)).status_code == status


def test_a_page_has_so_many_past_requests(client: httpx.Client) -> None:
    path = "/v1/models/requests/by-endpoint"
    assert client.get(path, params={"limit": platform.MAX_PAGE_SIZE}).status_code == 200
    assert client.get(path, params={"limit": platform.MAX_PAGE_SIZE + 1}).status_code == 422


def test_an_idempotency_key_has_so_many_characters(client: httpx.Client) -> None:
    for length, status in ((255, 200), (256, 400)):
        headers = {"Idempotency-Key": "x" * length}
        assert client.post(f"/queue/{LTXV}", json=INPUT, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("refusing", "connects"), [(outbound.MAX_ADDRESSES - 1, True), (outbound.MAX_ADDRESSES, False)]
)
def test_so_many_addresses_of_a_host_are_tried(refusing: int, connects: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last address is the only one at which something listens."""
    monkeypatch.setattr(outbound, "is_public", lambda address: True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        addresses = [*(f"127.0.1.{number}" for number in range(1, refusing + 1)), "127.0.0.1"]

        def answer() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with httpx.Client(transport=PublicTransport(resolve=lambda host, port: addresses)) as client:
            if connects:
                assert client.get(f"http://many.example:{port}/").status_code == 204
            else:
                with pytest.raises(httpx.ConnectError):
                    client.get(f"http://many.example:{port}/")
                socket.create_connection(("127.0.0.1", port)).close()  # ends the thread


def test_the_time_to_connect_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "CONNECT_S", 0.05)
    end = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        end.wait(30)
        return []

    began = time.monotonic()
    with (
        httpx.Client(transport=PublicTransport(resolve=resolve), timeout=60) as client,
        pytest.raises(httpx.ConnectTimeout),
    ):
        client.get("http://slow.example/")
    assert time.monotonic() - began < 20
    end.set()


def test_names_and_types_of_uploaded_files_have_so_many_characters() -> None:
    name, kind = "a" * (uploads.MAX_NAME - 4) + ".mp4", "video/" + "x" * (uploads.MAX_NAME - 6)
    assert (uploads.file_name(name), uploads.media_type(kind)) == (name, kind)
    assert (uploads.file_name("bc" + name), uploads.media_type(f"{kind}x")) == (name, "application/octet-stream")


def test_a_refused_client_may_still_send_so_many_bytes(tmp_path: Path) -> None:
    few = replace(BOUNDS, linger_bytes=5000, linger_s=60)
    with serving(tmp_path, bounds=few) as served, socket.socket() as client:
        client.connect(("127.0.0.1", httpx.URL(served.url).port))
        client.sendall(b"nonsense\r\n\r\n")
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 400 ")
        for _ in range(4):
            client.sendall(bytes(1000))
        time.sleep(0.1)
        assert not is_closed(client)
        client.sendall(bytes(1000))
        wait_for(lambda: is_closed(client))


def is_closed(client: socket.socket) -> bool:
    """Sends one more byte. Returns True if the other side has closed the connection."""
    try:
        client.sendall(b"x")
    except OSError:
        return True
    return False
