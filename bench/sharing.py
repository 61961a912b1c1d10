"""Measures how long a device is free between two requests of a slot, if one is prepared and the other one's video is
written meanwhile, and if not.

    python -m bench.sharing

Both are measured in turns in one run, on a CPU that the worker process treats as a GPU. The encoder takes 25 ms more
for each new frame, as x264 does for one of 1280x720, because the frames of this bench are small.
"""

import base64
import json
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from longtake.database.migrate import open_database
from longtake.queue import engine as queue
from longtake.queue.requests import Submission
from longtake.settings import settings
from longtake.storage.files import open_store
from longtake.worker.leases import LeaseWatch
from longtake.worker.slots import Slots

CLIP = Path(__file__).parents[1] / "examples" / "clip.mp4"
REQUESTS = 5
ROUNDS = 2
FRAME_S = 0.025

WORKER = """
import sys, time
from longtake.media import encode
from longtake.turn import Turn
from longtake.worker import main
log, frame_s, from_rgb = open(sys.argv[1], "a"), float(sys.argv[2]), encode.from_rgb
def slowly(*arguments):
    time.sleep(frame_s)
    return from_rgb(*arguments)
class Logged(Turn):
    began_at = None
    def begin(self, on_progress):
        has_waited = super().begin(on_progress)
        self.began_at = time.perf_counter()
        return has_waited
    def end(self):
        if self.began_at is not None:
            print(self.began_at, time.perf_counter(), file=log, flush=True)
            self.began_at = None
        super().end()
encode.from_rgb, main.Turn = slowly, Logged
main.shares_device = lambda settings: sys.argv[3] == "shared"
main.main()
"""
"""The program of a worker process. It appends when each request began and ended its turn on the device, in seconds, to
the file in its first argument."""


def main() -> None:
    measured: dict[str, list[tuple[float, float]]] = {"alone": [], "shared": []}
    for _ in range(ROUNDS):
        for way, found in measured.items():
            found.append(in_a_row(way))
    for way, found in measured.items():
        free, each = (statistics.median(numbers) for numbers in zip(*found, strict=True))
        print(f"{way}: the device is free for {free * 1000:.1f} ms between two requests, which take {each:.2f} s each")


def in_a_row(way: str) -> tuple[float, float]:
    """Carries out requests with a new worker process. Returns the median time in seconds for which the device is free
    between two of them, and the time from one request to the next."""
    source = "data:video/mp4;base64," + base64.b64encode(CLIP.read_bytes()).decode()
    body = {
        "prompt": "a red circle moving left quickly over a green clouds background",
        "video": {"video_url": source},
        "num_frames": 65,
        "resolution": "480p",
        "aspect_ratio": "1:1",
    }
    with tempfile.TemporaryDirectory() as folder:
        configured = settings(data_dir=Path(folder), slots=("cpu",))
        engine, turns = open_database(configured), Path(folder) / "turns"
        command = (sys.executable, "-c", WORKER, str(turns), str(FRAME_S), way)
        slots = Slots(configured, open_store(engine, configured), lambda _: None, command=command)
        watch = LeaseWatch(engine, configured, lambda _: None, slots.wake)
        slots.start()
        watch.start()
        for seed in range(REQUESTS):
            one = json.dumps(body | {"seed": seed}).encode()
            queue.submit(
                engine, Submission("fal-ai/ltxv-13b-098-distilled/extend", "default", "local", one, "http://h")
            )
        while not turns.exists() or len(turns.read_text().splitlines()) < REQUESTS:
            time.sleep(0.2)
        slots.drain(60)
        watch.stop()
        engine.dispose()
        lines = [line.split() for line in turns.read_text().splitlines()]
    spans = [(float(began), float(ended)) for began, ended in lines][1:]  # the first one begins with a cold process
    free = statistics.median(after[0] - before[1] for before, after in pairwise(spans))
    return free, (spans[-1][0] - spans[0][0]) / (len(spans) - 1)


if __name__ == "__main__":
    main()
