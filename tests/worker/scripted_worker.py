"""A worker process without a model, which does what the body of its request says.

    python scripted_worker.py [FOLDER]

It speaks the JSON of the worker's messages without importing `longtake`, so that it starts in a few milliseconds. If
FOLDER holds a file `broken`, it exits at once.

The keys of the body:

- `windows`, `window_s`: how many windows to make, and the seconds of each.
- `effects`: a file that gets a line when the request begins, after each window and for the result.
- `wants`: a URL of which to ask the server. The key of its blob is in the response, as `blob`.
- `lines`: texts to print to standard output.
- `more`: keys to add to the response.
- `at`, `do`: at a window, or at `start`, `planned` or `end`, to `crash`, `hang`, `fail`, `wait` or have a `full`
  disk. With the `do` of `ignore` it ignores cancellations.
- `once`: do it only in the first attempt that comes so far.
- `gate`: the file for which `wait` waits.

It answers each message that a request is watched with a preview, whose picture is the four letters RIFF.
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

inbox: "queue.SimpleQueue[dict[str, Any]]" = queue.SimpleQueue()
cancelled: set[str] = set()
out = os.fdopen(os.dup(1), "wb")


def listen() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "cancel":
            cancelled.add(message["request_id"])
        if message["type"] == "watched":
            place = {"step": 3, "steps": 8, "window": 1, "windows": 2}
            send("previewed", request_id=message["request_id"], picture="UklGRg==", **place)
        inbox.put(message)
    os._exit(0)


def write(line: bytes) -> None:
    try:
        out.write(line + b"\n")
        out.flush()
    except BrokenPipeError:
        os._exit(0)


def send(kind: str, **fields: Any) -> None:
    write(json.dumps({"type": kind, **fields}).encode())


def record(body: dict[str, Any], *words: object) -> None:
    if "effects" in body:
        fd = os.open(body["effects"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, (" ".join(map(str, words)) + "\n").encode())
        os.close(fd)


def fail(status: int, error_type: str) -> None:
    send("failed", status=status, body={"detail": error_type}, error=error_type, error_type=error_type)


def act(body: dict[str, Any], here: object, folder: Path) -> bool:
    """Does what the body wants at this place. Returns False if the request has failed by it."""
    if body.get("at") != here:
        return True
    mark = folder / f"deed-{here}"
    if body.get("once") and mark.exists():
        return True
    mark.touch()
    match body.get("do"):
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(3600)
        case "wait":
            while not Path(body["gate"]).exists():
                time.sleep(0.01)
        case "fail":
            fail(422, "file_download_error")
            return False
        case "full":
            send("machine_failed", reason="No space left on device")
            return False
    return True


def run(message: dict[str, Any]) -> None:
    body, request_id, folder = json.loads(message["body"]), message["request_id"], Path(message["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    record(body, "began", request_id, os.getpid())
    for line in body.get("lines", []):
        write(line.encode("utf-8", "surrogatepass"))
    if not act(body, "start", folder):
        return
    if "wants" in body:
        send("file_wanted", url=body["wants"])
        body["more"] = {"blob": reply("file_found")["blob"]}
    plan = message["plan"] or stored_plan(request_id)
    if plan is None or not act(body, "planned", folder):
        return
    for window in range(body.get("windows", 1)):
        if not make_window(body, window, request_id, folder, plan):
            return
    if not act(body, "end", folder):
        return
    result = folder / "result.mp4"
    result.write_text(" ".join((folder / f"window-{i}").read_text() for i in range(body.get("windows", 1))))
    record(body, "made", request_id, plan["seed"])
    send(
        "done",
        path=str(result),
        content_type="video/mp4",
        response={"video": {"file_name": "result.mp4"}, "seed": plan["seed"]} | body.get("more", {}),
        billable_units="1",
        price_usd="0.02",
        returns_data_uri=bool(body.get("sync")),
        model="ltxv-tiny",
        stand_in="ltxv-tiny stands in.",
        timings={"inference_time": 0.1},
    )


def reply(kind: str) -> dict[str, Any]:
    while (message := inbox.get())["type"] != kind:
        pass
    return message


def stored_plan(request_id: str) -> dict[str, Any] | None:
    """Makes a plan and waits until the server has stored it. Returns None if the request is cancelled instead."""
    plan = {"seed": time.time_ns()}
    send("planned", plan=plan)
    while True:
        match inbox.get():
            case {"type": "proceed"}:
                return plan
            case {"type": "cancel", "request_id": cancelled_id} if cancelled_id == request_id:
                fail(499, "client_cancelled")
                return None


def make_window(body: dict[str, Any], window: int, request_id: str, folder: Path, plan: dict[str, Any]) -> bool:
    """Makes a window, unless an earlier attempt did. Returns False if the request ended here."""
    path = folder / f"window-{window}"
    if path.exists():
        return True
    if not act(body, window, folder):
        return False
    number = window + 1
    send("progress", sentence="Sampling new frames", stage="sampling", step=0, steps=1, window=number, windows=number)
    until = time.monotonic() + body.get("window_s", 0.0)
    while time.monotonic() < until:
        time.sleep(min(0.01, body["window_s"]))
        if request_id in cancelled and body.get("do") != "ignore":
            fail(499, "client_cancelled")
            return False
    path.write_text(str(plan["seed"]))
    record(body, "window", request_id, window)
    return True


def main() -> None:
    threading.Thread(target=listen, daemon=True).start()
    if len(sys.argv) > 1 and Path(sys.argv[1], "broken").exists():
        sys.exit(3)
    send("ready")
    while True:
        message = inbox.get()
        if message["type"] == "run":
            run(message)


if __name__ == "__main__":
    main()
