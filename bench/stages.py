"""Measures the stages of one request, for each endpoint at its defaults on the embedded models.

python -m bench.stages

A request extends the example clip by 48 new frames. Models are loaded in every round; figures are medians over the
rounds. A stage lasts from its first progress report to that of the next stage; the time before the first is `prepare`.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from longtake import library
from longtake.endpoints import Endpoint, ltx23, ltxv097, ltxv098
from longtake.parameters import UserInput, local_request
from longtake.settings import settings
from longtake.video import Progress

PROMPT = "a red circle moving left quickly over a green clouds background"
CLIP = "examples/clip.mp4"
NEW_FRAMES = 48
ROUNDS = 5


def stages(endpoint: Endpoint[Any, Any], out: Path) -> dict[str, float]:
    """Carries out one request. Returns the seconds of each stage."""
    timings, stage, since = {"prepare": 0.0}, "prepare", time.perf_counter()

    def on_progress(progress: Progress | None) -> None:
        nonlocal stage, since
        now = time.perf_counter()
        timings[stage] = timings.get(stage, 0.0) + now - since
        stage, since = progress.stage.split()[0] if progress else "", now

    here = settings()
    user_input = UserInput(
        {"prompt": PROMPT, "seed": 1, "new_frames": NEW_FRAMES}, CLIP, output=library.output_type(out)
    )
    with library.open_job(local_request(endpoint, user_input, here), here) as job:
        library.local_runner(here).run(job, out, on_progress=on_progress)
    on_progress(None)
    return timings


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for endpoint in (ltx23.ENDPOINT, ltxv097.ENDPOINT, ltxv098.ENDPOINT):
            stages(endpoint, Path(folder) / "warm.mp4")
            rounds = [stages(endpoint, Path(folder) / f"{number}.mp4") for number in range(ROUNDS)]
            whole = statistics.median(sum(timings.values()) for timings in rounds)
            print(f"{endpoint.id}: {whole:.2f} s for {NEW_FRAMES} frames more")
            for stage in rounds[0]:
                seconds = statistics.median(timings[stage] for timings in rounds)
                print(f"  {stage:10s} {seconds:7.3f} s  {seconds / whole:6.1%}")


if __name__ == "__main__":
    main()
