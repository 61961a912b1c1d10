"""A worker process without a model, which does what the body of its request says.

    python scripted_worker.py [FOLDER]

It speaks the JSON of the worker's messages without importing `longtake`, so that it starts in a few milliseconds. If
FOLDER holds a file `broken`, it exits at once.

The keys of the body:

- `windows`, `window_s`: how many windows to make, and the seconds of each.
- `effects`: a file that gets a line when the request begins, after each window and for the result, and when a request
  that hangs is cancelled.
- `wants`: a URL of which to ask the server. The key of its blob is in the response, as `blob`.
- `lines`: texts to print to standard output.
- `more`: keys to add to the response.
- `at`, `do`: at a window, or at `start`, `planned` or `end`, to `crash`, `hang`, `fail`, `wait` or have a `full`
  disk. With the `do` of `ignore` it ignores cancellations.
- `once`: do it only in the first attempt that comes so far.
- `gate`: the file for which `wait` waits.
- `shares`: use the device as a GPU's worker process does: wait until no other request uses it, and leave it after the
  last window. `at` may then be `turn`, when the request has the device, `last`, when it says that it soon leaves the
  device, or `tail`, when it has left it.

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

runs: "queue.SimpleQueue[dict[str, Any]]" = queue.SimpleQueue()
inboxes: "dict[str, queue.SimpleQueue[dict[str, Any]]]" = {}
cancelled: set[str] = set()
current = threading.local()
device = threading.Lock()
writing = threading.Lock()
out = os.fdopen(os.dup(1), "wb")


def listen() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "cancel":
            cancelled.add(message["request_id"])
        if message["type"] == "watched":
            place = {"step": 3, "steps": 8, "window": 1, "windows": 2}
            write(message["request_id"], "previewed", picture="UklGRg==", **place)
        elif message["type"] == "run":
            cancelled.discard(message["request_id"])
            inboxes[message["request_id"]] = queue.SimpleQueue()
            runs.put(message)
            continue
        if message["request_id"] in inboxes:
            inboxes[message["request_id"]].put(message)
    os._exit(0)


def print_line(line: bytes) -> None:
    try:
        with writing:
            out.write(line + b"\n")
            out.flush()
    except BrokenPipeError:
        os._exit(0)


def write(request_id: "str | None", kind: str, **fields: Any) -> None:
    print_line(json.dumps({"type": kind, "request_id": request_id, **fields}).encode())


def send(kind: str, **fields: Any) -> None:
    write(getattr(current, "request_id", None), kind, **fields)


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
            while current.request_id not in cancelled:
                time.sleep(0.01)
            record(body, "ignored", current.request_id)
            time.sleep(3600)
        case "wait":
            while not Path(body["gate"]).exists():
                time.sleep(0.01)
                if current.request_id in cancelled:
                    fail(499, "client_cancelled")
                    return False
        case "fail":
            fail(422, "file_download_error")
            return False
        case "full":
            send("machine_failed", reason="No space left on device")
            return False
    return True


def run(message: dict[str, Any]) -> None:
    body, request_id, folder = json.loads(message["body"]), message["request_id"], Path(message["folder"])
    current.request_id = request_id
    folder.mkdir(parents=True, exist_ok=True)
    record(body, "began", request_id, os.getpid())
    for line in body.get("lines", []):
        print_line(line.encode("utf-8", "surrogatepass"))
    if not act(body, "start", folder):
        return
    if "wants" in body:
        send("file_wanted", url=body["wants"])
        body["more"] = {"blob": reply("file_found")["blob"]}
    plan = message["plan"] or stored_plan(request_id)
    if plan is None or not act(body, "planned", folder):
        return
    if not (use_device if body.get("shares") else make_windows)(body, request_id, folder, plan):
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
    while (message := inboxes[current.request_id].get())["type"] != kind:
        pass
    return message


def stored_plan(request_id: str) -> dict[str, Any] | None:
    """Makes a plan and waits until the server has stored it. Returns None if the request is cancelled instead."""
    plan = {"seed": time.time_ns()}
    send("planned", plan=plan)
    while True:
        match inboxes[request_id].get():
            case {"type": "proceed"}:
                return plan
            case {"type": "cancel", "request_id": cancelled_id} if cancelled_id == request_id:
                fail(499, "client_cancelled")
                return None


def use_device(body: dict[str, Any], request_id: str, folder: Path, plan: dict[str, Any]) -> bool:
    """Makes all windows while no other request uses the device. Returns False if the request ended here."""
    if not device.acquire(blocking=False):
        send("device_use", state="waits")
        record(body, "waits", request_id)
        while not device.acquire(timeout=0.01):
            if request_id in cancelled:
                fail(499, "client_cancelled")
                return False
    try:
        send("device_use", state="uses")
        record(body, "uses", request_id)
        if not act(body, "turn", folder) or not make_windows(body, request_id, folder, plan):
            return False
        send("device_use", state="soon free")
        if not act(body, "last", folder):
            return False
    finally:
        device.release()
    return act(body, "tail", folder)


def make_windows(body: dict[str, Any], request_id: str, folder: Path, plan: dict[str, Any]) -> bool:
    """Makes all windows. Returns False if the request ended here."""
    return all(make_window(body, window, request_id, folder, plan) for window in range(body.get("windows", 1)))


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
        threading.Thread(target=run, args=(runs.get(),), daemon=True).start()


if __name__ == "__main__":
    main()
