"""A real worker process that a test drives by its messages."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import to_json

from longtake.endpoints import ltxv098
from longtake.storage.local import LocalBlobs
from longtake.worker.messages import (
    Done,
    Failed,
    FileFound,
    FileWanted,
    Planned,
    Printed,
    Proceed,
    ProgressReport,
    Ready,
    Run,
    ToServer,
    ToWorker,
    decode_to_server,
    encode_to_worker,
)
from tests.storage.memory_blobs import MemoryBlobs
from tests.worker.requests import PATIENCE_S

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"
OWN_URL = "http://anywhere:1/cdn/files/clip.mp4"
"""The URL that these tests, as the server, resolve to the blob of the example clip."""
GONE_URL = "http://anywhere:1/cdn/files/gone.mp4"
"""The URL of a file of the same server that is not stored any more."""
BLOB = "1b2c3d4e-clip.mp4"
ENDPOINT = ltxv098.ENDPOINT.id
BODY = {
    "prompt": "a red circle moving left quickly over a green clouds background",
    "video": {"video_url": OWN_URL, "start_frame_num": 24},
    "num_frames": 17,
    "resolution": "480p",
    "aspect_ratio": "1:1",
    "first_pass_num_inference_steps": 2,
    "seed": 3,
}
"""A short request of this endpoint for the example clip."""

ON_MEMORY_BLOBS = """
import sys
from longtake.worker import main, stored_files
from tests.storage.memory_blobs import MemoryBlobs
main.open_blobs = stored_files.open_blobs = lambda settings: MemoryBlobs(sys.argv[1])
main.main()
"""
"""The program of a worker process that opens files in the memory of the tests."""

MessageT = TypeVar("MessageT", bound=ToServer)


class Worker:
    """A worker process; this class plays its server, which finds the clip and stores every plan."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.process, self.folder = process, folder
        self.request_id = ""

    def send(self, message: ToWorker) -> None:
        """Sends a message. A reply is one to the request that was sent last."""
        assert self.process.stdin is not None
        if isinstance(message, Proceed | FileFound) and message.request_id is None:
            message = replace(message, request_id=self.request_id)
        self.process.stdin.write(encode_to_worker(message))
        self.process.stdin.flush()

    def run(
        self,
        endpoint: str,
        body: Mapping[str, Any],
        plan: dict[str, Any] | None = None,
        name: str = "r",
        *,
        is_labelled: bool = True,
    ) -> None:
        self.request_id = name
        run = Run(name, endpoint, to_json(body).decode(), plan, self.folder / name, "key", is_labelled=is_labelled)
        self.send(run)

    def receive(self) -> ToServer:
        """Returns the next message other than a file look-up, which is answered."""
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            assert line, "the worker process ended"
            match decode_to_server(line):
                case FileWanted(url):
                    self.send(FileFound(BLOB if url == OWN_URL else None, is_own=url == GONE_URL))
                case Printed(text):
                    raise AssertionError(f"{text!r} was printed to the worker's channel")
                case message:
                    return message

    def next(self, kind: type[MessageT], **fields: Any) -> MessageT:
        """Returns the next message of a kind with these fields. Fails if the request ends before."""
        while True:
            message = self.receive()
            if isinstance(message, kind) and all(getattr(message, name) == fields[name] for name in fields):
                return message
            assert not isinstance(message, Done | Failed), message
            if isinstance(message, Planned):
                self.send(Proceed())

    def end(self) -> tuple[Done | Failed, list[ProgressReport]]:
        """Returns the request's last message and the progress before it."""
        reports = []
        while True:
            match self.receive():
                case ProgressReport() as report:
                    reports.append(report)
                case Planned():
                    self.send(Proceed())
                case Done() | Failed() as end:
                    return end, reports


@contextmanager
def worker(folder: Path, blobs: MemoryBlobs | None = None, program: str | None = None) -> Iterator[Worker]:
    """A ready worker process. The clip is stored in its data folder, or in `blobs`.

    program: the Python program of the process; None for that of servers.
    """
    command = [sys.executable, *(["-m", "longtake.worker.main"] if program is None else ["-c", program])]
    if blobs is not None:
        command[1:] = ["-c", ON_MEMORY_BLOBS, blobs.address]
    (blobs or LocalBlobs(folder / "data" / "files")).put(BLOB, CLIP)
    environment = os.environ | {"LONGTAKE_DATA_DIR": str(folder / "data")}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        started = Worker(process, folder)
        started.next(Ready)
        yield started
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_S) in (0, -9)
