"""Runs jobs: generates the new frames, joins them to the source's frames and writes the file.

These are steps 4 to 8 of "The way of a request" in README.md.
"""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from longtake.endpoints import Endpoint
from longtake.errors import MemoryRanOut, is_out_of_memory
from longtake.families import FAMILIES
from longtake.families.family import Context, LoadedModel, PlanRun
from longtake.media.crf import compress
from longtake.media.limits import Limits
from longtake.media.planes import RGBFrames
from longtake.media.probe import probe
from longtake.media.sniff import sniff
from longtake.models.applying import applied
from longtake.models.budget import may_pin_adapters
from longtake.models.choice import ModelChoice
from longtake.models.lora_files import NO_SOURCES, LoraSources
from longtake.models.loras import LoraCache, open_adapters, read_adapters
from longtake.models.memory import choose_device, current_gpu, low_memory, memories
from longtake.models.registry import ModelCard
from longtake.output.background import Background
from longtake.output.joining import Joiner
from longtake.output.soundtrack import context_sound
from longtake.output.source_frames import source_sound
from longtake.output.writer import ProgressRelay, video_writer
from longtake.plans import Plan
from longtake.prepare import Job
from longtake.safety import configured_checker
from longtake.sampling.preview import Previews
from longtake.sampling.resume import NO_RESUME, Resume
from longtake.settings import Settings
from longtake.video import OnProgress, Progress, VideoInfo, ignore_progress

log = logging.getLogger(__name__)

IMAGE_CRF = 33
"""The constant rate factor (0..51) at which the end image is compressed with H.264, because the model was trained on
compressed video frames."""

DETAIL_NOTE = (
    "The source's fine detail and motion are carried into the new frames; LONGTAKE_CARRY_DETAIL=never shows the "
    "model's own frames."
)
"""The note to the user if the source's fine detail is added to the new frames (see `carries_detail`)."""

LOW_MEMORY_NOTE = (
    "The memory ran out once, so the video was made with smaller batches and tiles; with more memory its pixels may "
    "differ slightly."
)
"""The note to the user if a request ran out of memory and was made with less."""


@dataclass(frozen=True)
class Result:
    """A finished video.

    `path`: the video file.
    `content_type`: its media type, such as `video/mp4`.
    `file_size`: in bytes.
    `facts`: what was read back from the file, such as its size and rate.
    `endpoint`, `model`, `plan`: the endpoint, the model and the plan of the job.
    `prompt`: the prompt that the model used, after expansion.
    `has_sound`: True if the file has sound.
    `notes`: sentences for the user about what differs from the request or was left out.
    """

    path: Path
    content_type: str
    file_size: int
    facts: VideoInfo
    endpoint: Endpoint[Any, Any]
    model: ModelChoice
    plan: Plan
    prompt: str
    has_sound: bool
    notes: tuple[str, ...]

    def response(self, url: str) -> dict[str, Any]:
        """Returns the endpoint's response as JSON values. `url` is the address under which clients get the file."""
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


Load = Callable[[ModelCard, Settings, OnProgress], LoadedModel]
"""A function that loads the model that a model card describes onto the device that the setting `device` names, and
reports its progress."""


def load_installed(card: ModelCard, settings: Settings, on_progress: OnProgress) -> LoadedModel:
    """Loads a model whose files are on this machine.

    Raises BadCheckpoint if parts of the model are missing or do not fit. Raises NotSupported if the device is not
    available.
    """
    model: LoadedModel = FAMILIES[card.family].load(card, settings, on_progress)
    return model


class Runner:
    """Runs jobs one at a time. It keeps the loaded model and the adapters that were read last in memory for later jobs.

    `settings`: the settings of the process, such as the device and the size of the adapter cache. Where they name a
        number of threads, torch uses that many in the whole process.
    `lora_sources`: the sources of LoRAs besides the LoRA folder and the Hugging Face hub, such as URLs. By default, a
        LoRA at a URL can be used only if it was downloaded earlier.
    `load_model`: the function that loads models. By default it reads their files.
    """

    def __init__(
        self, settings: Settings, lora_sources: LoraSources = NO_SOURCES, load_model: Load = load_installed
    ) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._lora_sources = lora_sources
        self._load_model = load_model
        self._adapters = LoraCache(settings.lora_cache_bytes)
        self._model: LoadedModel | None = None

    def load(self, card: ModelCard, on_progress: OnProgress = ignore_progress) -> LoadedModel:
        """Returns the model that a model card describes, loaded. If another model is in memory, it is released first.

        `on_progress` receives the progress of loading.

        Raises BadCheckpoint if parts of the model are missing or do not fit. Raises NotSupported if the device is not
        available.
        """
        if self._model is None or self._model.card != card:
            if self._model is not None:
                self.release()
            on_progress(Progress("load", 0, 1))
            with current_gpu(choose_device(self._settings)):
                self._model = self._load_model(card, self._settings, on_progress)
        return self._model

    def release(self) -> None:
        """Frees the memory of the loaded model, if there is one."""
        self._model = None
        _free_memory()

    def run(
        self,
        job: Job,
        path: Path,
        *,
        on_progress: OnProgress = ignore_progress,
        resume: Resume = NO_RESUME,
        caller: str | None = None,
        previews: Previews | None = None,
    ) -> Result:
        """Runs a job and returns its result. The video appears at `path` only when it is complete.

        `on_progress`: called at every step. It can cancel the job by raising an exception.
        `resume`: saves the results of finished windows (groups of frames that are sampled together). A later run of the
            same plan with the same `resume` continues after these windows, and gives exactly the result of an
            uninterrupted run. By default nothing is saved.
        `caller`: the id of the API key that sent the job; None for the user of this machine. LoRAs that were downloaded
            for one caller are not used for another.
        `previews`: receives previews of the new frames. No previews are made if it is None, or if a safety checker
            checks the frames.

        If the memory runs out, the job is run once more, with the smallest batches and tiles. The result has a note
        about it, and `resume` remembers it, so that a later run gives the same bits.

        Raises LongtakeError if the request cannot be served, and MemoryRanOut if the memory runs out again.
        """
        if not resume.is_low_memory:
            try:
                return self._run(job, path, on_progress, resume, caller, previews)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # A kept log record must not refer to the error, which refers to the tensors of the run that failed.
                log.warning("The memory ran out; the request is made again with less memory. %s", str(error))
            # After the handler, nothing refers any more to the tensors of the run that failed.
            resume.set_low_memory()
            _free_memory()
        token = low_memory.set(True)
        try:
            result = self._run(job, path, on_progress, resume, caller, previews)
            return replace(result, notes=(*result.notes, LOW_MEMORY_NOTE))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("The memory ran out again. %s", str(error))
        finally:
            low_memory.reset(token)
        self.release()
        raise MemoryRanOut(_needs_less(self._settings))

    def _run(
        self,
        job: Job,
        path: Path,
        on_progress: OnProgress,
        resume: Resume,
        caller: str | None,
        previews: Previews | None,
    ) -> Result:
        """Runs a job once and returns its result. The video appears at `path` only when it is complete.

        `on_progress`: called at every step. It can cancel the job by raising an exception.
        `resume`: saves the results of finished windows (groups of frames that are sampled together), and has those that
            earlier runs of the plan saved.
        `caller`: the id of the API key that sent the job; None for the user of this machine.
        `previews`: receives previews of the new frames, unless a safety checker checks the frames; None for no
            previews.
        """
        job.model.check()
        plan, family, progress = job.plan, job.endpoint.family, ProgressRelay(on_progress, Progress("load", 0, 1))
        # Adapters are opened before the model is loaded, so that a request with a missing adapter fails at once.
        sources = replace(self._lora_sources, caller=caller, check=progress.repeat)
        with open_adapters(job.adapters, job.card, self._settings, sources) as opened:
            model = self.load(job.card, progress)
            for adapter in opened:
                progress.repeat()
                adapter.check_fit(model.transformer)
            resume = replace(resume, arithmetic=arithmetic(model, has_adapters=bool(opened)))
            other_note = other_arithmetic(resume)
            # Without room for copies of the weights, adapters that are made ready for streaming may be pinned instead.
            pinned = model.originals.home != "none" and may_pin_adapters(
                self._settings.lora_cache_bytes, memories(model.device)
            )
            adapters = read_adapters(opened, self._adapters, progress.repeat, pinned=pinned)
            checker, safety_note = configured_checker(self._settings) if plan.check_safety else (None, None)
            sound = source_sound(job.source, plan, progress)
            has_sound = plan.makes_sound or sound is not None
            carries = carries_detail(job, self._settings)
            with (
                current_gpu(model.device),
                applied(model.transformer, adapters, progress.repeat, model.originals) as set_pass,
                torch.inference_mode(),
                video_writer(path, plan, has_sound=has_sound, progress=progress, comment=job.label) as writer,
                Background() as background,
            ):
                # The source is written while the model works. If that fails, the work ends at its next report.
                watched = background.watched(progress)
                run: PlanRun[Any, Any] = PlanRun(
                    plan, model, self._settings, resume, watched, set_pass, previews if checker is None else None
                )
                joiner = Joiner(plan, job.source, sound, writer, checker, carries, progress, background)
                frames = joiner.start()
                joint = frames[0 if plan.source_last else -1]
                progress(Progress("prompt", 0, 1))
                prompt, expansion_note = resume.prompt(lambda: family.expand(run, joint))
                context = Context(frames[: plan.context_frames], context_sound(sound, plan), end_image(job))
                joiner.finish(family.generate(run, prompt, context), frames)
        detail_note = DETAIL_NOTE if carries else None
        # This process has written the file, so that reading it needs no sandboxed process.
        facts = probe(path, sniff(path), Limits()).facts
        return Result(
            path=path,
            content_type=plan.output_format.content_type,
            file_size=path.stat().st_size,
            facts=facts,
            endpoint=job.endpoint,
            model=job.model,
            plan=plan,
            prompt=prompt,
            has_sound=has_sound and plan.output_format.sound is not None,
            notes=tuple(note for note in (*plan.notes, detail_note, expansion_note, other_note, safety_note) if note),
        )


def _free_memory() -> None:
    """Gives back the memory of objects to which nothing refers any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        if hasattr(torch.accelerator, "empty_host_cache"):  # not in older versions, which keep pinned memory
            torch.accelerator.empty_host_cache()


def _needs_less(settings: Settings) -> str:
    """Returns a sentence for the user whose request ran out of memory. It names changes that need less memory, such as
    fewer frames."""
    changes = [
        *(["LONGTAKE_OFFLOAD=group"] if settings.offload != "group" else []),
        *(["LONGTAKE_QUANTISE=fp8"] if settings.quantise != "fp8" else []),
        "a lower resolution",
        "fewer frames",
    ]
    listed = f"{', '.join(changes[:-1])} or {changes[-1]}"
    return f"The memory ran out, also with the smallest batches and tiles. What needs less: {listed}."


def arithmetic(model: LoadedModel, *, has_adapters: bool) -> str:
    """Returns in words how a request is computed: the dtype, the device and so on. If this text differs between two
    runs of a plan, their videos may differ slightly.

    has_adapters: True if the request applies adapters. Whether these are merged into the weights or computed beside
        them, which depends on the memory, changes the video slightly.
    """
    beside = has_adapters and model.originals.home == "none"
    return f"{model.arithmetic}, adapters beside the weights" if beside else model.arithmetic


def other_arithmetic(resume: Resume) -> str | None:
    """Returns a note to the user if an interrupted run computed windows (groups of frames that are sampled together) on
    another device, in another dtype or in another way than this run; else None.

    resume: the windows that earlier runs of the plan have saved, each with a text that says how it was computed.
    """
    other = resume.other_arithmetic()
    if other is None:
        return None
    return (
        f"An interrupted attempt computed in {other}, this one in {resume.arithmetic}: the video may differ slightly "
        "from that of one attempt."
    )


def carries_detail(job: Job, settings: Settings) -> bool:
    """Returns True if the source's fine detail and its motion are added to the new frames that the model generates.

    This is so if all of these conditions hold:
    - The setting `carry_detail` is "always", or it is "stand-in" and the job's model is a small one, in place of a
      published model that is not installed.
    - The model sees frames of the source, and the output shows these frames with their own pixels.
    - There is no end image, because with one the new frames must arrive at other content than the source's.
    """
    plan = job.plan
    asked = settings.carry_detail == "always" or (
        settings.carry_detail == "stand-in" and job.model.stands_in_for is not None
    )
    return asked and plan.keeps_source and plan.context_frames > 0 and job.end_image is None


def end_image(job: Job) -> RGBFrames | None:
    """Returns the pixels of the job's end image, [H, W, 3]; None if the job has none.

    The image is scaled and cropped to the output's size, encoded with H.264 and decoded again. So it has the losses of
    a compressed video frame, as the pictures on which the model was trained.
    """
    if job.end_image is None:
        return None
    covering = ImageOps.fit(Image.fromarray(job.end_image), job.plan.size)
    image: RGBFrames = compress(np.asarray(covering)[None], IMAGE_CRF)[0]
    return image
