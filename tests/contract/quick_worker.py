"""A worker process that needs no model: it gives back the source it was given, or the example clip, as its result.

A word in the prompt says how it goes: `slow` takes six seconds, `told` says five things on the way, `wrong` and
`broken` fail.
"""

import json
import queue
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from longtake.storage.files import own_file

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"
WRONG = {
    "loc": ["body", "video", "video_url"],
    "msg": "Failed to download the file. Please check if the URL is accessible and try again.",
    "type": "file_download_error",
    "url": "https://docs.fal.ai/errors#file_download_error",
    "input": "https://example.com/gone.mp4",
}

mail: "queue.SimpleQueue[dict[str, Any]]" = queue.SimpleQueue()
cancelled: set[str] = set()


def listen() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message["do"] == "cancel":
            cancelled.add(message["id"])
        elif message["do"] == "run":
            mail.put(message)
    mail.put({})


def say(kind: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"say": kind, **facts}) + "\n")
    sys.stdout.flush()


def run(order: dict[str, Any]) -> None:
    body, folder = order["body"], Path(order["folder"])
    words = body["prompt"].split()
    steps, pause = (60, 0.1) if "slow" in words else (5, 0.05) if "told" in words else (1, 0.0)
    for step in range(1, steps + 1):
        say("progress", message=f"step {step}", stage="sampling", step=step, steps=steps, window=1, windows=1)
        time.sleep(pause)
        if order["id"] in cancelled:
            say("failed", status=499, body={}, error="Request was cancelled", error_type="client_cancelled")
            return
    if "wrong" in words:
        say("failed", status=422, body={"detail": [WRONG]}, error=WRONG["msg"], error_type=None)
    elif "broken" in words:
        body = {"detail": "The worker is broken", "error_type": "internal_error"}
        say("failed", status=500, body=body, error="The worker is broken", error_type="internal_error")
    else:
        give_back(order, folder)


def give_back(order: dict[str, Any], folder: Path) -> None:
    body = order["body"]
    url = body.get("video_url") or body["video"]["video_url"]
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.mp4"
    shutil.copyfile(own_file(url, Path(order["files"]), order["key_id"]) or CLIP, result)
    video = {"content_type": "video/mp4", "file_name": "result.mp4", "file_size": result.stat().st_size}
    say(
        "done",
        file=str(result),
        content_type="video/mp4",
        response={"video": video, "prompt": body["prompt"], "seed": 7},
        billable_units="1",
        price_usd="0.02",
        sync=bool(body.get("sync_mode")),
        timings={"inference_time": 0.1},
        notes=[],
    )


def main() -> None:
    threading.Thread(target=listen, daemon=True).start()
    say("ready")
    while order := mail.get():
        run(order)


if __name__ == "__main__":
    main()
