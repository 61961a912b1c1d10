"""A worker process without a model: its result is the source of the request, or the example clip.

A word in the prompt changes what it does: `slow` takes half a minute, `steps` reports five steps, `wrong` and `broken`
fail.
"""

import shutil
import sys
import time
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

from longtake.errors import Cancelled
from longtake.settings import settings
from longtake.storage.local import LocalBlobs
from longtake.worker.channel import Channel, RequestChannel
from longtake.worker.messages import Done, Failed, ProgressReport, Ready, Run
from longtake.worker.stored_files import open_stored_file, read_input

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"
WRONG = {
    "loc": ["body", "video", "video_url"],
    "msg": "Failed to download the file. Please check if the URL is accessible and try again.",
    "type": "file_download_error",
    "url": "https://docs.fal.ai/errors#file_download_error",
    "input": "https://example.com/gone.mp4",
}
BROKEN = "The worker is broken"


def carry_out(run: Run, channel: RequestChannel) -> Done | Failed:
    body = read_input(run, LocalBlobs(run.folder.parents[1] / "files"))
    words = body["prompt"].split()
    steps, pause_s = (300, 0.1) if "slow" in words else (5, 0.05) if "steps" in words else (1, 0.0)
    for step in range(1, steps + 1):
        channel.send(ProgressReport(f"step {step}", "sampling", step, steps, window=1, windows=1))
        time.sleep(pause_s)
        channel.check()
    if "wrong" in words:
        return Failed(422, {"detail": [WRONG]}, str(WRONG["msg"]), None)
    if "broken" in words:
        return Failed(500, {"detail": BROKEN, "error_type": "internal_error"}, BROKEN, "internal_error")
    return copy_source(run, body, channel)


def copy_source(run: Run, body: dict[str, Any], channel: RequestChannel) -> Done:
    """Returns the request's own source as its result. A source that is not on the server is replaced by the clip."""
    url = body.get("video_url") or body["video"]["video_url"]
    run.folder.mkdir(parents=True, exist_ok=True)
    result = run.folder / "result.mp4"
    with open_stored_file(url, channel, settings()) or nullcontext(CLIP) as source:
        shutil.copyfile(source, result)
    video = {"content_type": "video/mp4", "file_name": "result.mp4", "file_size": result.stat().st_size}
    return Done(
        path=result,
        content_type="video/mp4",
        response={"video": video, "prompt": body["prompt"], "seed": 7},
        billable_units=Decimal(1),
        price_usd=Decimal("0.02"),
        returns_data_uri=bool(body.get("sync_mode")),
        model="ltxv-tiny",
        timings={"inference_time": 0.1},
    )


def main() -> None:
    channel = Channel(sys.stdin.buffer, sys.stdout.buffer)
    channel.send(Ready())
    for run in channel.runs():
        request = channel.request(run.request_id)
        try:
            with request.working():
                end = carry_out(run, request)
        except Cancelled as cancelled:
            end = Failed.of(cancelled)
        request.send(end)


if __name__ == "__main__":
    main()
