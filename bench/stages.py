"""Where the time of one request goes, stage by stage, for each endpoint at its defaults on the embedded models.

python -m bench.stages

From the request to the finished file of the example clip with 48 new frames; medians over the rounds, each with models
loaded anew. A stage lasts from its first word of progress to the next stage's; before the first it is `prepare`.
"""

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtake.cli.local import ask, carry_out, opened
from longtake.clip import Progress
from longtake.endpoints import ltx23, ltxv097, ltxv098
from longtake.settings import settings

PROMPT = "a red circle moving left quickly over a green clouds background"
CLIP = "examples/clip.mp4"
NEW_FRAMES = 48
ROUNDS = 5


def stages(endpoint: str, given: Mapping[str, Any], out: Path) -> dict[str, float]:
    """Seconds by stage of one request."""
    taken, stage, since = {"prepare": 0.0}, "prepare", time.perf_counter()

    def on_progress(progress: Progress | None) -> None:
        nonlocal stage, since
        now = time.perf_counter()
        taken[stage] = taken.get(stage, 0.0) + now - since
        stage, since = progress.stage.split()[0] if progress else "", now

    asked = ask(given, settings(), source=CLIP, endpoint_name=endpoint, new_frames=NEW_FRAMES, out=out)
    assert asked.recipe is not None
    with opened(asked, settings()) as ready:
        carry_out(ready, out, asked.recipe, settings(), asked.card, on_progress)
    on_progress(None)
    return taken


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for module in (ltx23, ltxv097, ltxv098):
            given = {"prompt": PROMPT, "seed": 1}
            stages(module.ENDPOINT, given, Path(folder) / "warm.mp4")
            rounds = [stages(module.ENDPOINT, given, Path(folder) / f"{number}.mp4") for number in range(ROUNDS)]
            whole = statistics.median(sum(taken.values()) for taken in rounds)
            print(f"{module.ENDPOINT}: {whole:.2f} s for {NEW_FRAMES} frames more")
            for stage in rounds[0]:
                seconds = statistics.median(taken[stage] for taken in rounds)
                print(f"  {stage:10s} {seconds:7.3f} s  {seconds / whole:6.1%}")


if __name__ == "__main__":
    main()
