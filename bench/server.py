"""Measures the HTTP server: submissions and statuses per second, delay of events, memory, time to the first answer.

    python -m bench.server

The server is `longtake serve` in a process of its own, with an SQLite file and without worker processes. For the
events, a thread does their work. The load is made by wrk if it is installed, otherwise by Python.

Aims on two cores:
- a median submission takes 5 ms at most, at 250 per second or more;
- 2,000 statuses per second or more while 100 clients poll ten times a second;
- an event reaches the client's stream within 100 ms;
- less than 150 MB of memory, and less than 2 s from start to first answer.
"""

import asyncio
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ENDPOINT = "fal-ai/ltxv-13b-098-distilled/extend"
BODY = json.dumps({"prompt": "a cat", "video": {"video_url": "data:video/mp4;base64,AAAA"}}).encode()
SECONDS = 5.0
POLLERS = 100
POLL_HZ = 10


def main() -> None:
    wrk = shutil.which("wrk")
    print(f"load by {'wrk' if wrk else 'Python'}")
    with _served(work=False) as server:
        print(f"  start to first answer          {server.started_s:8.2f} s     (aim: under 2)")
        print(f"  memory when idle               {_resident_mb(server.pid):8.0f} MB    (aim: under 150)")
        one = _load(wrk, server, "POST", f"/queue/{ENDPOINT}", clients=1)
        many = _load(wrk, server, "POST", f"/queue/{ENDPOINT}", clients=16)
        print(f"  submit, one client             {one.p50_ms:8.2f} ms    p50 (aim: at most 5)")
        print(f"  submit, 16 clients             {many.per_s:8.0f} /s    p50 {many.p50_ms:.1f} ms (aim: at least 250)")
        with ProcessPoolExecutor(1) as pool:
            polls = pool.submit(_poll_all, server.port, SECONDS + 1)
            time.sleep(0.5)
            status = _load(wrk, server, "GET", _status_path(server.port), clients=16)
            polled = polls.result()
        print(f"  status beside {POLLERS} at {POLL_HZ} Hz      {status.per_s:8.0f} /s    (aim: at least 2,000)")
        late = statistics.quantiles(polled, n=100)[98] * 1000
        print(f"    of these polls               {len(polled) / (SECONDS + 1):8.0f} /s    p99 {late:.1f} ms")
        print(f"  memory after that              {_resident_mb(server.pid):8.0f} MB")
    with _served(work=True) as server:
        delays = [asyncio.run(_first_event(server.port)) for _ in range(10)]
        worst, middle = max(delays) * 1000, statistics.median(delays) * 1000
        print(f"  progress to event              {middle:8.1f} ms    worst {worst:.1f} (aim: within 100)")


class Server:
    """A running server: its port, process id and seconds from start to first answer."""

    def __init__(self, port: int, pid: int, started_s: float) -> None:
        self.port = port
        self.pid = pid
        self.started_s = started_s


class Load:
    """The result of a load test: requests per second, and the median milliseconds of one request."""

    def __init__(self, per_s: float, p50_ms: float) -> None:
        self.per_s = per_s
        self.p50_ms = p50_ms


@contextmanager
def _served(*, work: bool) -> Iterator[Server]:
    """Context manager that runs a server in a process of its own. Yields it once it answers. With `work` a thread of
    the server carries out the requests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with subprocess.Popen(
            _command(folder, str(port), work=work), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                while not _answers(port):
                    time.sleep(0.02)
                yield Server(port, process.pid, time.perf_counter() - began)
            finally:
                process.terminate()


def _command(folder: str, port: str, *, work: bool) -> list[str]:
    if work:
        return [sys.executable, "-m", "bench.server", "serve", folder, port]
    longtake = str(Path(sys.executable).with_name("longtake"))
    return [longtake, "serve", "--slots", "none", "--data-dir", folder, "--port", port]


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _resident_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def _serve(folder: Path, port: int) -> None:
    """Runs a server in which a thread carries out the requests: it claims each request and reports the time as
    progress."""
    import logging

    import structlog
    import uvicorn

    from longtake.access.keys import Keys
    from longtake.database import connection as database
    from longtake.database.tables import metadata
    from longtake.queue import engine as queue
    from longtake.queue.requests import CANCELLED, LogLine
    from longtake.queue.status_cache import StatusCache
    from longtake.service.app import Application
    from longtake.service.state import ServerState
    from longtake.settings import settings
    from longtake.storage.files import open_store

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    engine = database.connect(database.file_url(folder / "longtake.db"))
    metadata.create_all(engine)
    status_cache = StatusCache(engine)
    status_cache.start()

    def work() -> None:
        while True:
            row = queue.claim(engine, "default", "bench")
            if row is None:
                time.sleep(0.01)
                continue
            status_cache.mark_changed(row.id)
            time.sleep(0.3)
            queue.add_log_lines(engine, row, [LogLine(time.time(), "INFO", "a step", {"at": repr(time.time())})])
            status_cache.mark_changed(row.id)
            time.sleep(0.2)
            queue.finish(engine, row, CANCELLED)
            status_cache.mark_changed(row.id)

    threading.Thread(target=work, daemon=True).start()
    chosen = settings(data_dir=folder, slots=())
    state = ServerState(
        chosen, engine, status_cache, open_store(engine, chosen), Keys(engine), lambda _: None, lambda _: None
    )
    uvicorn.run(Application(state), host="127.0.0.1", port=port, log_level="warning", access_log=False)


def _load(wrk: str | None, server: Server, method: str, path: str, *, clients: int) -> Load:
    """Makes as many requests with `clients` clients as they can in SECONDS, and returns the measured load."""
    if wrk is None:
        with ProcessPoolExecutor(1) as pool:
            return pool.submit(_load_by_python, server.port, method, path, clients).result()
    script = f'wrk.method = "{method}"\n' + (f"wrk.body = {json.dumps(BODY.decode())}\n" if method == "POST" else "")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(script)
        lua.flush()
        url = f"http://127.0.0.1:{server.port}{path}"
        output = subprocess.run(
            [wrk, "-t1", f"-c{clients}", f"-d{SECONDS:.0f}s", "--latency", "-s", lua.name, url],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    if "Non-2xx" in output:
        raise SystemExit(output)
    per_s = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p50 = re.search(r"50%\s+([\d.]+)(us|ms|s)", output)
    assert per_s, output
    assert p50, output
    return Load(float(per_s[1]), float(p50[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p50[2]])


def _load_by_python(port: int, method: str, path: str, clients: int) -> Load:
    took: list[float] = []

    async def client() -> None:
        end = time.perf_counter() + SECONDS
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            took.append(await _send(reader, writer, method, path))
        writer.close()

    async def all_clients() -> None:
        await asyncio.gather(*(client() for _ in range(clients)))

    asyncio.run(all_clients())
    return Load(len(took) / SECONDS, statistics.median(took) * 1000)


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str) -> float:
    """Sends one request on an open connection. Returns the seconds until its answer is complete."""
    body = BODY if method == "POST" else b""
    began = time.perf_counter()
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length, head
    await reader.readexactly(int(length[1]))
    assert head.startswith(b"HTTP/1.1 20"), head
    return time.perf_counter() - began


def _status_path(port: int) -> str:
    """Submits a request. Returns the URL path of its status."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/queue/{ENDPOINT}", BODY, method="POST")
    with urllib.request.urlopen(request) as answer:
        url = str(json.load(answer)["status_url"])
    return url.partition(str(port))[2] + "?logs=false"


def _poll_all(port: int, seconds: float) -> list[float]:
    """Lets POLLERS clients poll one request each for `seconds`. Returns the seconds that each poll took."""
    took: list[float] = []

    async def client(number: int) -> None:
        path = await asyncio.to_thread(_status_path, port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(number / POLLERS / POLL_HZ)
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            took.append(await _send(reader, writer, "GET", path))
            await asyncio.sleep(max(0, now + 1 / POLL_HZ - time.perf_counter()))
        writer.close()

    async def all_clients() -> None:
        await asyncio.gather(*(client(number) for number in range(POLLERS)))

    asyncio.run(all_clients())
    return took


async def _first_event(port: int) -> float:
    """Returns the seconds from the first progress report of a worker to its event on the client's stream."""
    path = _status_path(port).replace("/status?logs=false", "/status/stream?logs=1")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    while True:
        line = await reader.readline()
        assert line, "the stream ended without progress"
        if line.startswith(b"data:") and (logs := json.loads(line[5:])["logs"]):
            writer.close()
            return time.time() - float(logs[0]["labels"]["at"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
