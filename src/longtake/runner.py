"""A job becomes a file: the only place that knows the whole way. Hops 4 to 8 of a request."""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from longtake.endpoints import Endpoint
from longtake.families import FAMILIES
from longtake.families.family import Context, Frames, Parts, Work
from longtake.media.crf import compress
from longtake.media.source import open_source
from longtake.models.lora_files import Fetch
from longtake.models.loras import LoraCache, applied, load_adapters
from longtake.models.registry import ModelCard
from longtake.output.joining import Joining
from longtake.output.soundtrack import context_part
from longtake.output.source_frames import source_sound
from longtake.output.writer import ProgressRelay, video_writer
from longtake.plans import Plan
from longtake.prepare import Job
from longtake.safety import checker as safety_checker
from longtake.sampling.resume import NO_RESUME, Resume
from longtake.settings import Settings
from longtake.video import OnProgress, Progress, VideoInfo, ignore_progress

IMAGE_CRF = 33
"""The end image goes through H.264 at this constant rate factor: the model learned from frames of videos."""


@dataclass(frozen=True)
class Result:
    """The finished video: the file, the plan it followed, `facts` as read back from the file, and `notes`, sentences on
    what differs from the request or was left out."""

    path: Path
    content_type: str
    file_size: int
    facts: VideoInfo
    endpoint: Endpoint[Any, Any]
    plan: Plan
    prompt: str
    has_sound: bool
    notes: tuple[str, ...]

    def response(self, url: str) -> dict[str, Any]:
        """The endpoint's answer as JSON: the file under this address, and its facts."""
        facts = self.facts
        video = {
            "url": url,
            "content_type": self.content_type,
            "file_name": self.path.name,
            "file_size": self.file_size,
            "width": facts.width,
            "height": facts.height,
            "fps": float(facts.rate),
            "duration": facts.duration_s,
            "num_frames": facts.num_frames,
        }
        return self.endpoint.respond({"video": video, "prompt": self.prompt, "seed": self.plan.seed})


class Runner:
    """Carries out jobs, one after the other, and keeps the loaded model and the adapters read last.

    `fetch` downloads LoRA files that a request names by URL; `any_path`: they may lie anywhere on this machine.
    """

    def __init__(self, settings: Settings, *, fetch: Fetch | None = None, any_path: bool = False) -> None:
        self._settings = settings
        self._fetch = fetch
        self._any_path = any_path
        self._adapters = LoraCache(settings.lora_cache_bytes)
        self._parts: Parts | None = None

    def load(self, card: ModelCard, on_progress: OnProgress = ignore_progress) -> Parts:
        """The parts of a model, loaded where it is not the one in memory."""
        if self._parts is None or self._parts.card != card:
            self.release()
            on_progress(Progress("load", 0, 1))
            self._parts = FAMILIES[card.family].load(card, self._settings, on_progress)
        return self._parts

    def release(self) -> None:
        """Frees the memory of the loaded model."""
        self._parts = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def run(
        self, job: Job, path: Path, *, on_progress: OnProgress = ignore_progress, resume: Resume = NO_RESUME
    ) -> Result:
        """Carries out a job and writes the video to `path`, which appears whole or not at all.

        `on_progress` is called at every step, and cancels the work by raising. What is finished is saved in `resume`,
        and the same plan carried out again goes on from there, to the same bits.
        """
        plan, family, progress = job.plan, job.endpoint.family, ProgressRelay(on_progress)
        # Before the model: an adapter that is not to be had says so at once.
        adapters = load_adapters(
            plan.adapters, job.card, self._settings, self._adapters, fetch=self._fetch, any_path=self._any_path
        )
        parts = self.load(job.card, progress)
        checker, safety_note = safety_checker(self._settings) if plan.check_safety else (None, None)
        own_sound = source_sound(job.source, plan)
        has_sound = plan.makes_sound or own_sound is not None
        with (
            applied(parts.transformer, adapters) as set_pass,
            torch.inference_mode(),
            video_writer(path, plan, has_sound=has_sound, progress=progress) as writer,
        ):
            work: Work[Any, Any] = Work(plan, parts, self._settings, resume, progress, set_pass)
            joining = Joining(plan, job.source, own_sound, writer, checker, progress)
            frames = joining.begin()
            joint = frames[0 if plan.source_last else -1]
            progress(Progress("prompt", 0, 1))
            prompt, expansion_note = resume.prompt(lambda: family.expand(work, joint))
            context = Context(frames[: plan.context_frames], context_part(own_sound, plan), end_image(job))
            joining.end(family.generate(work, prompt, context), joint)
        with open_source(path) as file:
            facts = file.facts
        return Result(
            path=path,
            content_type=plan.recipe.content_type,
            file_size=path.stat().st_size,
            facts=facts,
            endpoint=job.endpoint,
            plan=plan,
            prompt=prompt,
            has_sound=has_sound and plan.recipe.sound is not None,
            notes=tuple(note for note in (*plan.notes, expansion_note, safety_note) if note),
        )


def end_image(job: Job) -> Frames | None:
    """The picture to arrive at, covering the output's size [H, W, 3], with the traces of compression."""
    if job.end_image is None:
        return None
    covering = ImageOps.fit(Image.fromarray(job.end_image), job.plan.size)
    image: Frames = compress(np.asarray(covering)[None], IMAGE_CRF)[0]
    return image
