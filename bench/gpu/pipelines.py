"""diffusers' own pipelines for the same work as a request: the same random weights, context, sizes and steps.

They add no sound of the source, match no colours and expand no prompt. This package's encoder writes the frames.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplePipeline
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2ConditionPipeline, LTX2VideoCondition
from diffusers.utils import logging
from PIL import Image

from bench.gpu.jobs import Bench, Case
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltxv.plan import LTXVPlan
from longtake.media.encode import Encoder
from longtake.models.parts import Loaded, load_parts
from longtake.models.registry import ModelCard
from longtake.output.source_frames import context_frames
from longtake.plans import Plan, Size
from longtake.sampling.schedules import SECOND_PASS_LEVELS
from longtake.video import ignore_progress

Work = Callable[[], None]
"""A function that does the work of a request with a pipeline."""


@dataclass(frozen=True)
class Task:
    """The work of a request for a pipeline.

    card: the model's card.
    plan: the plan of the request.
    loaded: the model's parts as they were loaded, without this package's forward pass.
    pictures: the context's frames.
    path: the output file.
    """

    card: ModelCard
    plan: Plan
    loaded: Loaded
    pictures: Sequence[Image.Image]
    path: Path

    def part(self, name: str) -> Any:
        """Returns a part of the model."""
        return dict(self.loaded.parts)[name]  # type: ignore[index]

    def shared(self, size: Size) -> dict[str, Any]:
        """Returns the arguments that all pipelines have, for frames of `size` (width, height)."""
        return {
            "prompt": self.plan.prompt,
            "width": size[0],
            "height": size[1],
            "num_frames": self.plan.context_frames + self.plan.new_frames,
            "frame_rate": float(self.plan.rate),
            "generator": torch.Generator().manual_seed(1),
            "max_sequence_length": self.card.prompt_tokens,
        }

    def write(self, frames: Any) -> None:
        """Writes frames [t, H, W, 3] in 0..1."""
        codes = (np.asarray(frames) * 255).round().astype(np.uint8)
        height, width = codes.shape[1:3]
        with Encoder(self.path, self.plan.output_format, width, height, self.plan.rate, sound_rate=None) as video:
            video.write(codes)


@contextmanager
def task(bench: Bench, case: Case) -> Iterator[Task]:
    """Context manager that loads the model of a case and reads the context's frames."""
    logging.set_verbosity_error()
    with bench.job(case) as job:
        loaded = load_parts(job.card, bench.settings(), ignore_progress, bench.source)
        for part in loaded.parts.values():
            part.to(loaded.placement.device)  # the pipelines move no weights
        pictures = [Image.fromarray(frame) for frame in context_frames(job.source, job.plan)]
        yield Task(job.card, job.plan, loaded, pictures, bench.folder / "diffusers.mp4")


def ltxv(task: Task) -> Work:
    """Returns a function that does the work of a distilled LTX-Video model with diffusers' pipeline."""
    plan = task.plan
    assert isinstance(plan, LTXVPlan)
    parts = (task.part("vae"), task.part("text_encoder"), task.loaded.tokenizer, task.part("transformer"))
    pipeline = LTXConditionPipeline(FlowMatchEulerDiscreteScheduler(), *parts)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.enable_tiling()
    (single,) = plan.passes

    def work() -> None:
        condition = LTXVideoCondition(video=list(task.pictures), frame_index=0, strength=1.0)
        made = pipeline(
            conditions=[condition],
            num_inference_steps=single.steps,
            guidance_scale=1.0,
            decode_timestep=0.05,
            decode_noise_scale=0.025,
            output_type="np",
            **task.shared(single.canvas),
        )
        task.write(made.frames[0])

    return work


def ltx2(task: Task) -> Work:
    """Returns a function that does the work of LTX-2.3 in two passes with diffusers' pipelines."""
    plan = task.plan
    assert isinstance(plan, LTX2Plan)
    names = ("vae", "audio_vae", "text_encoder", "connectors", "transformer", "vocoder")
    parts = {name: task.part(name) for name in names}
    pipeline = LTX2ConditionPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), tokenizer=task.loaded.tokenizer, **parts
    )
    larger = LTX2LatentUpsamplePipeline(task.part("vae"), task.part("upsampler"))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.enable_tiling()
    unguided = {"guidance_scale": 1.0, "stg_scale": 0.0, "modality_scale": 1.0, "audio_guidance_scale": 1.0}
    unguided |= {"audio_stg_scale": 0.0, "audio_modality_scale": 1.0}

    def work() -> None:
        condition = LTX2VideoCondition(frames=list(task.pictures), index=0, strength=1.0)
        latents, sound = pipeline(
            conditions=[condition],
            negative_prompt=plan.negative_prompt,
            num_inference_steps=plan.steps,
            guidance_scale=plan.video.cfg,
            stg_scale=plan.video.stg,
            modality_scale=plan.video.modality,
            guidance_rescale=plan.video.rescale,
            audio_guidance_scale=plan.audio.cfg,
            audio_stg_scale=plan.audio.stg,
            audio_modality_scale=plan.audio.modality,
            audio_guidance_rescale=plan.audio.rescale,
            spatio_temporal_guidance_blocks=list(plan.stg_blocks),
            output_type="latent",
            return_dict=False,
            **task.shared(plan.canvases[0]),
        )
        latents = larger(latents=latents, output_type="latent", return_dict=False)[0]
        frames, _ = pipeline(
            conditions=[condition],
            latents=latents,
            audio_latents=sound,
            sigmas=list(SECOND_PASS_LEVELS[:-1]),
            num_inference_steps=len(SECOND_PASS_LEVELS) - 1,
            output_type="np",
            return_dict=False,
            **unguided,
            **task.shared(plan.canvases[1]),
        )
        task.write(frames[0])

    return work


PIPELINES: Mapping[str, Callable[[Task], Work]] = {"0.9.8": ltxv, "2.3": ltx2}
"""The pipelines by the name of their case. diffusers has no guidance by noise level as 0.9.7 needs."""
