"""Measures how a request slows down beside other processes, by the number of torch's threads and by how they wait.

    python -m bench.threads [ROUNDS]

Each request runs as a whole in a process of its own: on the machine as it is, and beside one endless loop for each
core. If the processor is shared fairly, the request gets half of its time there, and takes twice as long.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.timing import in_turn

CLIP = Path(__file__).parents[1] / "examples" / "clip.mp4"
OPTIONS = ("--prompt", "x", "--new-frames", "24", "--seed", "1", "--resolution", "480p", "--force")
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "one thread": {"LONGTAKE_THREADS": "1"},
    "one for each core, sleeping": {},
    "one for each core, spinning": {"GOMP_SPINCOUNT": "300000"},
}
"""The variables of each variant. Without OMP_WAIT_POLICY, GNU's OpenMP spins 300,000 times before it sleeps."""


def extend(variables: Mapping[str, str]) -> None:
    """Carries out one request."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "longtake", "extend", str(CLIP), "-o", f"{folder}/out.mp4", *OPTIONS]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        subprocess.run(command, env=environment | dict(variables), check=True, capture_output=True)


@contextmanager
def busy() -> Iterator[None]:
    """Keeps one endless loop for each core running."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    requests = {name: lambda variables=variables: extend(variables) for name, variables in VARIANTS.items()}
    alone = in_turn(rounds, **requests)
    with busy():
        beside = in_turn(rounds, **requests)
    for name in VARIANTS:
        quick, slow = statistics.median(alone[name]), statistics.median(beside[name])
        print(f"{name:30s} alone {quick:6.2f} s   beside busy processes {slow:6.2f} s   {slow / quick:5.2f} times")


if __name__ == "__main__":
    main()
