"""Requests that a test submits and carries out itself, with a video as their result."""

import json
import shutil
from pathlib import Path
from typing import Any

from longtake.queue import engine as queue
from longtake.queue.requests import Outcome, RequestRow, Submission
from longtake.storage.files import NewFile
from tests.service.serving import LTXV, Served

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"


def submit(served: Served, prompt: str, *, endpoint: str = LTXV, key_id: str = "local", **more: Any) -> RequestRow:
    body = json.dumps({"prompt": prompt, **more.pop("body", {})}).encode()
    row = queue.submit(served.engine, Submission(endpoint, "default", key_id, body, served.queue, **more))[0]
    served.state.statuses.mark_changed(row.id)
    return row


def finished(served: Served, row: RequestRow, clip: Path = CLIP) -> str:
    """Ends a claimed request with a copy of a video in the store. Returns the key of its file."""
    path = served.state.store.scratch_path()
    shutil.copyfile(clip, path)
    file = NewFile(row.key_id, "longtake-7.mp4", "video/mp4", row.lifecycle)
    key = served.state.store.add_result(row.id, file, path)
    video = {"url": f"{served.url}/cdn/files/{key}", "content_type": "video/mp4", "file_name": "longtake-7.mp4"}
    facts = {"width": 112, "height": 64, "fps": 24.0, "duration": 1.375, "num_frames": 33, "file_size": 1}
    body = {"video": video | facts, "seed": 7}
    headers = {"x-longtake-model": "ltxv-tiny", "x-longtake-stand-in": "ltxv-tiny stands in."}
    served.finish(row, Outcome(200, body, headers=headers, timings={"sampling": 2.0}))
    return key
