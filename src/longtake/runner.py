"""Runs jobs: generates the new frames, joins them to the source's frames and writes the file.

These are steps 4 to 8 of "The way of a request" in README.md.
"""

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from longtake.endpoints import Endpoint
from longtake.errors import MemoryRanOut, is_out_of_memory
from longtake.families import FAMILIES
from longtake.families.family import Context, PlanRun
from longtake.media.limits import Limits
from longtake.media.planes import RGBFrames
from longtake.media.probe import probe
from longtake.media.sniff import sniff
from longtake.models.applying import SetPass, applied
from longtake.models.budget import may_pin_adapters
from longtake.models.choice import ModelChoice
from longtake.models.lora_files import NO_SOURCES, LoraSources
from longtake.models.loras import LoraCache, OpenAdapter, open_adapters, read_adapters
from longtake.models.memory import choose_device, current_gpu, low_memory, memories, sharing_gpu
from longtake.models.parts import AnyModel
from longtake.models.registry import ModelCard
from longtake.output.background import Background
from longtake.output.carrying import Carrying
from longtake.output.context_compression import ContextCompression
from longtake.output.joining import Joiner
from longtake.output.later_writer import most_ahead_bytes
from longtake.output.soundtrack import context_sound
from longtake.output.source_frames import end_image, source_sound
from longtake.output.writer import ProgressRelay, video_writer
from longtake.plans import Plan
from longtake.prepare import Job
from longtake.safety import configured_checker
from longtake.sampling.preview import Previews
from longtake.sampling.resume import NO_RESUME, Resume
from longtake.settings import Settings
from longtake.turn import Turn
from longtake.video import Check, OnProgress, Progress, VideoInfo, ignore_progress

log = logging.getLogger(__name__)

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


Load = Callable[[ModelCard, Settings, OnProgress], AnyModel]
"""A function that loads the model that a model card describes onto the device that the setting `device` names, and
reports its progress."""


def load_installed(card: ModelCard, settings: Settings, on_progress: OnProgress) -> AnyModel:
    """Loads a model whose files are on this machine.

    Raises BadCheckpoint if parts of the model are missing or do not fit. Raises NotSupported if the device is not
    available.
    """
    model: AnyModel = FAMILIES[card.family].recipe.load(card, settings, on_progress)
    return model


class Runner:
    """Runs jobs. It keeps the loaded model and the adapters that were read last in memory for later jobs.

    Several threads may run jobs at the same time if the jobs share the device's lock (see `Turn`).

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
        self._model: AnyModel | None = None

    def load(self, card: ModelCard, on_progress: OnProgress = ignore_progress) -> AnyModel:
        """Returns the model that a model card describes, loaded. If another model is in memory, it is released first.

        `on_progress` receives the progress of loading.

        Raises BadCheckpoint if parts of the model are missing or do not fit. Raises NotSupported if the device is not
        available.
        """
        if self._model is not None and self._model.card != card:
            self.release()
        if self._model is None:
            on_progress(Progress("load", 0, 1))
            with sharing_gpu(self._settings), current_gpu(choose_device(self._settings)):
                self._model = self._load_model(card, self._settings, on_progress)
        return self._model

    def release(self) -> None:
        """Frees the memory of the loaded model, if any. This spoils a CUDA graph that another thread records."""
        self._model = None
        _free_memory()

    def pins_adapters(self, model: AnyModel) -> bool:
        """Returns True if adapters for a loaded model are kept in pinned host memory."""
        # Without room for copies of the weights, adapters that are made ready for streaming may be pinned instead.
        may_pin = may_pin_adapters(self._settings.lora_cache_bytes, memories(model.device, self._settings.slots))
        return model.originals.home != "none" and may_pin

    @contextmanager
    def adapted(self, model: AnyModel, opened: Iterable[OpenAdapter], check: Check) -> Iterator[SetPass]:
        """Context manager for evaluating a loaded model with adapters. Those that are not in memory are read.

        Yields the function that sets their strengths in a pass (see `applied`). `check` is called again and again, and
        may raise an exception to end the work.
        """
        adapters = read_adapters(opened, self._adapters, check, pinned=self.pins_adapters(model))
        replicas = [copy.transformer for copy in model.replicas.copies]
        with (
            sharing_gpu(self._settings),
            current_gpu(model.device),
            applied(model.transformer, adapters, check, model.originals, self._settings.slots, replicas) as set_pass,
            torch.inference_mode(),
        ):
            yield set_pass

    def run(
        self,
        job: Job,
        path: Path,
        *,
        on_progress: OnProgress = ignore_progress,
        resume: Resume = NO_RESUME,
        lora_sources: LoraSources | None = None,
        previews: Previews | None = None,
        turn: Turn | None = None,
    ) -> Result:
        """Runs a job and returns its result. The video appears at `path` only when it is complete.

        `on_progress`: called at every step. It can cancel the job by raising an exception.
        `resume`: saves the results of finished windows. A later run of the same plan with the same `resume` continues
            after these windows, and gives exactly the result of an uninterrupted run. By default nothing is saved.
        `lora_sources`: the sources of LoRAs for this job, if they are others than those of the runner.
        `previews`: receives previews of the new frames. No previews are made if it is None, or if a safety checker
            checks the frames.
        `turn`: the job's turn on the device, if it shares the device with other jobs. It begins when the source is
            read, and ends when the last new frame is in host memory. If the job fails, the caller must end it.

        If the memory runs out, the job is run once more, with the smallest batches and tiles. The result has a note
        about it, and `resume` remembers it, so that a later run gives the same bits.

        Raises LongtakeError if the request cannot be served, and MemoryRanOut if the memory runs out again.
        """
        run = _Run(
            job,
            path,
            ProgressRelay(on_progress, Progress("load", 0, 1)),
            lora_sources or self._lora_sources,
            previews,
            turn or Turn(),
        )
        if not resume.is_low_memory:
            try:
                return self._run(run, resume)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # A kept log record must not refer to the error, which refers to the tensors of the run that failed.
                log.warning("The memory ran out; the request is made again with less memory. %s", str(error))
            # After the handler, nothing refers any more to the tensors of the run that failed.
            resume.set_low_memory()
            run.turn.begin(run.progress)  # if it has ended: another job may use the device (see `release`)
            _free_memory()
        token = low_memory.set(True)
        try:
            result = self._run(run, resume)
            return replace(result, notes=(*result.notes, LOW_MEMORY_NOTE))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("The memory ran out again. %s", str(error))
        finally:
            low_memory.reset(token)
        if run.turn.is_mine or not run.turn.is_shared:  # else the model may be in use, and the job has nothing there
            self.release()
        raise MemoryRanOut(_needs_less(self._settings))

    def _run(self, run: "_Run", resume: Resume) -> Result:
        """Runs a job once and returns its result."""
        job, progress = run.job, run.progress
        job.model.check()
        plan = job.plan
        ahead_bytes = most_ahead_bytes() if run.turn.is_shared else 0
        sources = replace(run.lora_sources, check=progress.repeat)
        # Adapters are opened before the model is loaded, so that a request with a missing adapter fails at once.
        with open_adapters(job.adapters, job.card, self._settings, sources) as opened:
            sound = source_sound(job.source, plan, progress)
            has_sound = plan.makes_sound or sound is not None
            carrying = Carrying.of(job, sound, self._settings)
            with (
                video_writer(
                    run.path, plan, has_sound=has_sound, progress=progress, comment=job.label, ahead_bytes=ahead_bytes
                ) as writer,
                Background() as background,
                ContextCompression(plan) as compression,
            ):
                joiner = Joiner(plan, job.source, sound, writer, carrying, progress, background, ahead_bytes)
                frames = joiner.start(compression.add)
                image = end_image(job.end_image, plan)
                context = Context(joiner.seen(frames), context_sound(sound, plan), image, compression.frames)
                prompt, notes = self._generate(run, resume, opened, joiner, frames, context)
                run.turn.end()
                joiner.finish()
        # This process has written the file, so that reading it needs no sandboxed process.
        facts = probe(run.path, sniff(run.path), Limits()).facts
        return Result(
            path=run.path,
            content_type=plan.output_format.content_type,
            file_size=run.path.stat().st_size,
            facts=facts,
            endpoint=job.endpoint,
            model=job.model,
            plan=plan,
            prompt=prompt,
            has_sound=has_sound and plan.output_format.sound is not None,
            notes=tuple(note for note in (*plan.notes, *job.notes, *notes) if note),
        )

    def _generate(
        self,
        run: "_Run",
        resume: Resume,
        opened: Sequence[OpenAdapter],
        joiner: Joiner,
        frames: RGBFrames,
        context: Context,
    ) -> tuple[str, tuple[str | None, ...]]:
        """Begins the turn on the device, generates the new frames and passes them to the joiner.

        `opened`: the adapters of the plan.
        `frames`: what `joiner.start` returned.
        `context`: what the model sees and hears of the source.

        Returns the prompt that the model used, and notes for the user. When it returns, nothing refers to tensors of
        the job any more.
        """
        job, plan, recipe, progress = run.job, run.job.plan, run.job.endpoint.family.recipe, run.progress
        # The source is written while the model works. If that fails, the work ends at its next report.
        watched = run.turn.watched(joiner.background.watched(progress))
        has_waited = run.turn.begin(watched)
        progress.last = Progress("load", 0, 1)
        if has_waited:
            progress.repeat()  # so that what follows is not counted as waiting
        model = self.load(job.card, progress)
        for adapter in opened:
            progress.repeat()
            adapter.check_fit(model.transformer)
        resume = replace(resume, arithmetic=arithmetic(model, has_adapters=bool(opened)))
        other_note = resume.arithmetic_note()
        checker, safety_note = configured_checker(self._settings) if plan.check_safety else (None, None)
        with self.adapted(model, opened, progress.repeat) as set_pass:
            generation: PlanRun[Any, Any] = PlanRun(
                plan, model, self._settings, resume, watched, set_pass, run.previews if checker is None else None
            )
            joint = frames[0 if plan.source_last else -1]
            progress(Progress("prompt", 0, 1))
            prompt, expansion_note = resume.prompt(lambda: recipe.expand(generation, joint))
            is_sound_carried = joiner.add(recipe.generate(generation, prompt, context), frames, checker)
        carried = joiner.carrying.notes(plan, is_sound_carried=is_sound_carried)
        return prompt, (*carried, expansion_note, other_note, safety_note)


@dataclass(frozen=True)
class _Run:
    """The arguments of `Runner.run`, with a relay of the progress."""

    job: Job
    path: Path
    progress: ProgressRelay
    lora_sources: LoraSources
    previews: Previews | None
    turn: Turn


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


def arithmetic(model: AnyModel, *, has_adapters: bool) -> str:
    """Returns in words how a request is computed: the dtype, the device and so on. If this text differs between two
    runs of a plan, their videos may differ slightly.

    has_adapters: True if the request applies adapters. Whether these are merged into the weights or computed beside
        them, which depends on the memory, changes the video slightly.
    """
    beside = has_adapters and model.originals.home == "none"
    return f"{model.arithmetic}, adapters beside the weights" if beside else model.arithmetic
