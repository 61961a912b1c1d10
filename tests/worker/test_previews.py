"""Previews on their way from the worker process to the database."""

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from longtake.queue import previews
from longtake.sampling.preview import Preview
from longtake.worker import channel as channels
from longtake.worker.channel import Channel, RequestChannel
from longtake.worker.messages import Previewed, Watched, decode_to_server, encode_to_worker
from longtake.worker.previews import MOST_SHARE, PreviewSender, animated_webp
from tests.database.fixtures import on_sqlite
from tests.no_threads import no_threads
from tests.worker.requests import current, end_of, eventually, submit
from tests.worker.server import Server

RAMP = np.linspace(0, 255, 3 * 20 * 31 * 3).reshape(3, 20, 31, 3).astype(np.uint8)
PREVIEW = Preview(RAMP, 0.16, 3, 8, 1, 2)


@contextmanager
def piped() -> Iterator[tuple[RequestChannel, IO[bytes], io.BytesIO]]:
    """The channel of a request, the stream of messages to it, and the messages that it has sent."""
    read_end, write_end = os.pipe()
    sent = io.BytesIO()
    with open(read_end, "rb") as incoming:
        with open(write_end, "wb", buffering=0) as server:
            channel = Channel(incoming, sent)
            yield channel.request("r"), server, sent
        list(channel.runs())


def test_pictures_become_an_animated_webp() -> None:
    with Image.open(io.BytesIO(animated_webp(PREVIEW))) as picture:
        assert (picture.format, picture.size, getattr(picture, "n_frames", 1)) == ("WEBP", (31, 20), 3)
        assert picture.info["loop"] == 0
        for number, wanted in enumerate(RAMP):
            picture.seek(number)
            assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - wanted).mean() < 8
            assert picture.info["duration"] == 160


def test_a_preview_is_due_while_its_request_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "WATCHED_S", 0.3)
    with piped() as (channel, server, sent), PreviewSender(channel) as sender:
        assert not sender.is_due()
        server.write(encode_to_worker(Watched("another")))
        server.write(encode_to_worker(Watched("r")))
        eventually(sender.is_due)
        sender.show(PREVIEW, 0.001)
        assert not sender.is_due(), "less than half a second has passed"
        eventually(lambda: sent.getvalue().endswith(b"\n"))
        message = decode_to_server(sent.getvalue())
        assert message == Previewed(animated_webp(PREVIEW), 3, 8, 1, 2, "r")
        eventually(lambda: not channel.is_watched())


def test_a_costly_preview_is_followed_by_a_long_pause() -> None:
    with piped() as (channel, server, _):
        server.write(encode_to_worker(Watched("r")))
        with PreviewSender(channel) as sender:
            eventually(sender.is_due)
            sender.show(PREVIEW, 3.0)
        assert sender._next_at - time.monotonic() > 3 / MOST_SHARE - 60


def test_a_preview_for_which_no_thread_can_start_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with piped() as (channel, _, sent), PreviewSender(channel) as sender:
        with no_threads(monkeypatch, "preview") as refused:
            sender.show(PREVIEW, 3.0)
        assert refused == ["preview"]
        assert sender._next_at - time.monotonic() > 3 / MOST_SHARE - 60
        sender.show(PREVIEW, 0.001)
    assert sent.getvalue().count(b"\n") == 1


def test_a_preview_that_cannot_be_sent_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with piped() as (channel, _, sent):
        sent.close()
        with PreviewSender(channel) as sender:
            sender.show(PREVIEW, 3.0)
    assert sender._next_at - time.monotonic() > 3 / MOST_SHARE - 60
    assert "A preview of request r could not be sent." in caplog.text


@on_sqlite
def test_previews_are_stored_while_somebody_asks(engine: sa.Engine, serve: Any, tmp_path: Path) -> None:
    """Whoever asks, asks the database: the client may be at another server."""
    server: Server = serve()
    row = submit(engine, at=0, do="wait", gate=str(tmp_path / "gate"))
    server.slots.wake("default")

    def ask() -> Any:
        previews.ask(engine, row.id)
        return previews.newest(engine, current(engine, row))

    found = eventually(ask)
    assert (found.picture, found.step, found.steps) == (b"RIFF", 3, 8)
    (tmp_path / "gate").touch()
    assert end_of(engine, row).status_code == 200
    assert previews.num_questions(engine, row.id) == 0
