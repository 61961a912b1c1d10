"""Compares this version with another checkout of the project. Each request runs as a whole in a process of its own.

    python -m bench.against CHECKOUT [ROUNDS]

Prints the seconds of both versions for each request, and the median of the ratios of all rounds. Below 1 this version
is faster.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.timing import in_turn, ratio, show

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "clip.mp4"
PROMPT = ("--prompt", "a red circle moving left quickly over a green clouds background", "--seed", "1", "--force")
REQUESTS: dict[str, Sequence[str]] = {
    "0.9.8, 48 new frames": ("--endpoint", "fal-ai/ltxv-13b-098-distilled/extend", "--resolution", "480p"),
    "0.9.7, 48 new frames": ("--endpoint", "fal-ai/ltx-video-v097/extend", "--resolution", "480p"),
    "2.3, 48 new frames with sound": ("--endpoint", "fal-ai/ltx-2.3-22b/extend-video"),
}


def extend(checkout: Path, out: Path, options: Sequence[str]) -> None:
    """Carries out one request with the code of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    arguments = ("extend", str(CLIP), "-o", str(out), "--new-frames", "48", *PROMPT, *options)
    subprocess.run([sys.executable, "-m", "longtake", *arguments], env=environment, check=True, capture_output=True)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("Name the folder of another checkout of the project: python -m bench.against CHECKOUT [ROUNDS]")
    other, rounds = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mp4"
        for name, options in REQUESTS.items():

            def here(options: Sequence[str] = options) -> None:
                extend(ROOT, out, options)

            def there(options: Sequence[str] = options) -> None:
                extend(other, out, options)

            timings = in_turn(rounds, here=here, there=there)
            show(name, timings)
            print(f"  here / there = {ratio(timings, 'here', 'there'):.3f}\n", flush=True)


if __name__ == "__main__":
    main()
