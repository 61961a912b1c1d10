"""Compares extending a 10-minute source and a 10-second one. The long one should take less than 1.5 times as long and
at most 10 % more peak memory.

    python -m bench.source_length

Each is a whole process of `longtake extend` with the last 97 frames as context and 24 new frames.
"""

import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from bench.timing import in_turn, ratio, show
from longtake.media.encode import Encoder
from longtake.media.formats import output_format


def make_clip(path: Path, seconds: int) -> None:
    """Writes a clip with sound in which the camera pans over a texture, 320x192 at 24 frames per second."""
    texture = np.random.default_rng(0).integers(0, 256, (192, 640, 3), np.uint8)
    with Encoder(path, output_format("X264 (.mp4)", "medium", "fast"), 320, 192, Fraction(24)) as video:
        for second in range(seconds):
            tone = np.sin(np.arange(48_000) * 0.03).astype(np.float32) * 0.1
            video.write_sound(np.stack([tone, tone]))
            shifts = (second * 24 + np.arange(24)) % 320
            video.write(np.stack([texture[:, shift : shift + 320] for shift in shifts]))


def extend(source: Path, out: Path) -> int:
    """Runs `longtake extend`. Returns the sum in KiB of the peak memory of its process and of its largest child."""
    command = [
        *(sys.executable, "-m", "bench.peak", "extend", str(source), "-o", str(out), "--force", "--json"),
        *("--prompt", "a pan", "--resolution", "480p", "--num-frames", "121", "--limit-num-frames"),
        *("--max-num-frames", "97", "--seed", "1"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stderr.strip().splitlines()[-1].removeprefix("peak KiB "))


def main() -> None:
    peaks: dict[str, list[int]] = {"ten minutes": [], "ten seconds": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, seconds in (("ten minutes", 600), ("ten seconds", 10)):
            started = time.perf_counter()
            make_clip(folder / f"{kind}.mp4", seconds)
            print(f"made the source of {kind} in {time.perf_counter() - started:.0f} s")

        def run(kind: str) -> None:
            peaks[kind].append(extend(folder / f"{kind}.mp4", folder / "out.mp4"))

        timings = in_turn(3, **{kind: lambda kind=kind: run(kind) for kind in peaks})
    show("longtake extend, last 97 frames as context, 24 new", timings)
    print(f"  time   ten minutes / ten seconds = {ratio(timings, 'ten minutes', 'ten seconds'):.3f} (aim: under 1.5)")
    long, short = (max(peaks[kind]) for kind in ("ten minutes", "ten seconds"))
    print(f"  memory {long / 1024:.0f} / {short / 1024:.0f} MiB = {long / short:.3f} (aim: within 10 %)")


def peak_kib() -> int:
    """Returns the sum of the peak resident memory of this process and of its largest child, in KiB."""
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own + children


if __name__ == "__main__":
    main()
