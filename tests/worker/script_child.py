"""A worker process that does what the request's body says, in the protocol of the real one.

    python script_child.py [a folder that makes starting up go wrong while it holds a file `broken`]

The body: `windows` and `window_s`; `effects`: a file to which a line is added for each beginning, each window that is
done, and each result; `lines` of the log; `more`: what the response has besides; `at` a window, or `start`, `planned`,
`end`, it does what `do` says: crash, hang, fail. `once`: only if the request has not got so far before. `do` ignore:
goes on though it is cancelled.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

asked: "queue.SimpleQueue[dict[str, Any]]" = queue.SimpleQueue()
unwanted: set[str] = set()
out = os.fdopen(os.dup(1), "w")


def listen() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message["do"] == "cancel":
            unwanted.add(message["id"])
        asked.put(message)
    os._exit(0)


def say(kind: str, **facts: Any) -> None:
    try:
        out.write(json.dumps({"say": kind, **facts}) + "\n")
        out.flush()
    except BrokenPipeError:
        os._exit(0)


def note(body: dict[str, Any], *words: object) -> None:
    if "effects" in body:
        fd = os.open(body["effects"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, (" ".join(map(str, words)) + "\n").encode())
        os.close(fd)


def failed(status: int, error_type: str) -> None:
    say("failed", status=status, body={"detail": error_type}, error=error_type, error_type=error_type)


def act(body: dict[str, Any], here: object, folder: Path) -> bool:
    """Does the body's deed if this is the place; False where the request has failed by it."""
    if body.get("at") != here:
        return True
    done_before = folder / f"deed-{here}"
    if body.get("once") and done_before.exists():
        return True
    done_before.touch()
    match body.get("do"):
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(3600)
        case "fail":
            failed(422, "file_download_error")
            return False
    return True


def run(order: dict[str, Any]) -> None:
    body, folder = order["body"], Path(order["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    note(body, "began", order["id"], os.getpid())
    for line in body.get("lines", []):
        say("log", level="a level that is too long", message=line)
    if not act(body, "start", folder):
        return
    plan = order["plan"]
    if plan is None:
        plan = {"seed": time.time_ns()}
        say("plan", plan=plan)
        while True:
            message = asked.get()
            if message["do"] == "go":
                break
            if message["do"] == "cancel" and message["id"] == order["id"]:
                failed(499, "client_cancelled")
                return
    if not act(body, "planned", folder):
        return
    for window in range(body.get("windows", 1)):
        kept = folder / f"window-{window}"
        if kept.exists():
            continue
        if not act(body, window, folder):
            return
        say("progress", message="Sampling new frames", stage="sampling", step=0, steps=1, window=window + 1)
        until = time.monotonic() + body.get("window_s", 0.0)
        while time.monotonic() < until:
            time.sleep(min(0.01, body["window_s"]))
            if order["id"] in unwanted and body.get("do") != "ignore":
                failed(499, "client_cancelled")
                return
        kept.write_text(str(plan["seed"]))
        note(body, "window", order["id"], window)
    if not act(body, "end", folder):
        return
    result = folder / "result.mp4"
    result.write_text(" ".join((folder / f"window-{i}").read_text() for i in range(body.get("windows", 1))))
    note(body, "made", order["id"], plan["seed"])
    say(
        "done",
        file=str(result),
        content_type="video/mp4",
        response={"video": {"file_name": "result.mp4"}, "seed": plan["seed"]} | body.get("more", {}),
        billable_units="1",
        price_usd="0.02",
        sync=bool(body.get("sync")),
        timings={"inference_time": 0.1},
        notes=[],
    )


def main() -> None:
    threading.Thread(target=listen, daemon=True).start()
    if len(sys.argv) > 1 and Path(sys.argv[1], "broken").exists():
        sys.exit(3)
    say("ready")
    while True:
        message = asked.get()
        if message["do"] == "run":
            run(message)


if __name__ == "__main__":
    main()
