"""Compares one job in this package and in diffusers' LTXConditionPipeline, with equal weights, size, steps and context
frames.

    python -m bench.pipeline

The loop should not be slower, and the whole job (from frames in memory to a finished file) should be faster.
"""

import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from diffusers.utils import export_to_video, logging
from PIL import Image

from bench.timing import in_turn, ratio, show
from longtake.endpoints.ltxv098 import ENDPOINT
from longtake.endpoints.validation import parse
from longtake.families import FAMILIES
from longtake.families.family import Context, PlanRun
from longtake.families.ltxv.generate import generate
from longtake.families.ltxv.model import LTXVModel
from longtake.families.ltxv.plan import LTXVPlan
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.media.pixels import as_rgb
from longtake.models.parts import load_parts
from longtake.models.registry import card
from longtake.sampling.resume import NO_RESUME
from longtake.settings import settings
from longtake.video import VideoInfo, ignore_progress

SIDE, CONTEXT, TOTAL, STEPS = 128, 17, 41, 8
PROMPT = "a red circle moving right over a plain blue background"


def make_plan() -> LTXVPlan:
    request = parse(
        ENDPOINT.Request,
        {"prompt": PROMPT, "num_frames": TOTAL, "seed": 1, "video": {"video_url": "x"}, "constant_rate_factor": 0},
    )
    source = VideoInfo("mp4", "h264", SIDE, SIDE, Fraction(24), CONTEXT)
    plan = ENDPOINT.plan(ENDPOINT.options(request, source), source, card("ltxv-tiny"), 1, {})
    assert isinstance(plan, LTXVPlan)
    canvas = replace(plan.passes[0], canvas=(SIDE, SIDE))
    return replace(plan, width=SIDE, height=SIDE, passes=(canvas,))


def make_pipeline() -> Any:
    """Returns diffusers' pipeline with the parts of the model as they were loaded, without this package's forward
    pass."""
    logging.set_verbosity_error()
    loaded = load_parts(card("ltxv-tiny"), settings(), ignore_progress)
    vae, encoder, transformer = (loaded.parts[name] for name in ("vae", "text_encoder", "transformer"))
    pipeline = LTXConditionPipeline(FlowMatchEulerDiscreteScheduler(), vae, encoder, loaded.tokenizer, transformer)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def random_frames() -> Any:
    """Returns the frames of the context, [t, H, W, 3] uint8."""
    return np.random.default_rng(0).integers(0, 256, (CONTEXT, SIDE, SIDE, 3), np.uint8)


def main() -> None:
    torch.set_grad_enabled(False)
    models: Any = FAMILIES["ltxv"].recipe.load(card("ltxv-tiny"), settings(), ignore_progress)
    pipeline, frames = make_pipeline(), random_frames()
    plan, loops = make_plan(), {"ours": [0.0], "diffusers": [0.0]}

    with tempfile.TemporaryDirectory() as folder:

        def ours() -> None:
            loops["ours"].append(by_longtake(models, plan, frames, Path(folder) / "ours.mp4"))

        def diffusers() -> None:
            loops["diffusers"].append(by_diffusers(pipeline, frames, Path(folder) / "diffusers.mp4"))

        whole = in_turn(9, ours=ours, diffusers=diffusers)
    show(f"end to end, {SIDE}x{SIDE}, {CONTEXT} context and {TOTAL - CONTEXT} new frames, {STEPS} steps", whole)
    print(f"  ours / diffusers = {ratio(whole, 'ours', 'diffusers'):.3f} (aim: under 1)\n")
    steps = {name: seconds[2:] for name, seconds in loops.items()}
    show("of that, the loop from the first step's start to the last's", steps)
    print(f"  ours / diffusers = {ratio(steps, 'ours', 'diffusers'):.3f} (aim: at most 1)")


def by_longtake(models: LTXVModel, plan: LTXVPlan, frames: Any, path: Path) -> float:
    """Does the job with this package. Returns the seconds from the start of the first sampling step to the start of the
    last one."""
    starts: list[float] = []

    def on_progress(progress: Any) -> None:
        if progress.stage == "sampling":
            starts.append(time.perf_counter())

    run = PlanRun(plan, models, settings(), NO_RESUME, on_progress)
    with Encoder(path, output_format("X264 (.mp4)", "medium", "fast"), SIDE, SIDE, plan.rate, sound_rate=None) as video:
        video.write(frames)
        for piece in generate(run, PROMPT, Context(frames)):
            for chunk in piece.frames:
                video.write(as_rgb(chunk))
    return starts[-1] - starts[0]


def by_diffusers(pipeline: Any, frames: Any, path: Path) -> float:
    """Does the job with diffusers. Returns the seconds from the end of the first sampling step to the end of the last
    one."""
    ends: list[float] = []

    def on_step(*step: Any) -> dict[str, Any]:
        ends.append(time.perf_counter())
        return {}

    pictures = [Image.fromarray(frame) for frame in frames]
    made = pipeline(
        conditions=[LTXVideoCondition(video=pictures, frame_index=0, strength=1.0)],
        prompt=PROMPT,
        height=SIDE,
        width=SIDE,
        num_frames=TOTAL,
        frame_rate=24,
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        image_cond_noise_scale=0.0,
        max_sequence_length=32,
        generator=torch.Generator().manual_seed(1),
        output_type="np",
        callback_on_step_end=on_step,
    ).frames[0]
    export_to_video(list(made), str(path), fps=24)
    return ends[-1] - ends[0]


if __name__ == "__main__":
    main()
