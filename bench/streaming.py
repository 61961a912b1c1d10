"""Compares encoding frames while they are generated with generating all frames first and then encoding them.

    python -m bench.streaming

The embedded model makes a long extension in several windows, which is written at 480p.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.timing import in_turn, ratio, show
from longtake.endpoints.ltxv098 import ENDPOINT
from longtake.endpoints.validation import parse
from longtake.families import FAMILIES
from longtake.families.family import Context, PlanRun
from longtake.families.ltxv.generate import generate
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.media.pixels import as_rgb
from longtake.models.registry import card
from longtake.sampling.resume import NO_RESUME
from longtake.settings import settings
from longtake.video import VideoInfo, ignore_progress

NEW_FRAMES = 200


def main() -> None:
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    models = FAMILIES["ltxv"].recipe.load(card("ltxv-tiny"), settings(), ignore_progress)
    source = VideoInfo("mp4", "h264", 832, 480, Fraction(24), 17)
    request = parse(ENDPOINT.Request, {"prompt": "a pan", "resolution": "480p", "video": {"video_url": "x"}})
    options = replace(ENDPOINT.options(request, source), new_frames=NEW_FRAMES, constant_rate_factor=0)
    plan = ENDPOINT.plan(options, source, models.card, 1, {})
    frames = np.random.default_rng(0).integers(0, 256, (17, plan.height, plan.width, 3), np.uint8)
    run: PlanRun[Any, Any] = PlanRun(plan, models, settings(), NO_RESUME, ignore_progress)
    chosen = output_format("X264 (.mp4)", "high", "fast")
    most_held: dict[str, int] = {}

    def generated_chunks() -> Iterator[Any]:
        for piece in generate(run, plan.prompt, Context(frames)):
            for chunk in piece.frames:
                yield as_rgb(chunk)

    with tempfile.TemporaryDirectory() as folder:

        def write(chunks: Any, name: str, held: int) -> None:
            with Encoder(Path(folder) / "o.mp4", chosen, plan.width, plan.height, plan.rate, sound_rate=None) as video:
                for chunk in chunks:
                    held = max(held, chunk.nbytes)
                    video.write(chunk)
            most_held[name] = held

        def make_all_then_write() -> None:
            chunks = list(generated_chunks())
            write(chunks, "decode_then_encode", sum(chunk.nbytes for chunk in chunks))

        timings = in_turn(
            3,
            streaming=lambda: write(generated_chunks(), "streaming", 0),
            decode_then_encode=make_all_then_write,
        )
    show(f"{NEW_FRAMES} new frames at {plan.width}x{plan.height} in {plan.num_windows} windows", timings)
    print(f"  streaming / decode then encode = {ratio(timings, 'streaming', 'decode_then_encode'):.3f}")
    for name, held in most_held.items():
        print(f"  frames held at once, {name}: {held / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
