"""A job becomes a file: the only place that knows the whole way. Hops 4 to 8 of a request."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from longtake import safety, soundtrack
from longtake.clip import OnProgress, Progress, Source, ignore_progress
from longtake.endpoints import Endpoint
from longtake.families.family import Context, Frames, Parts, Piece, Samples, Work
from longtake.film import Film, Listener, film
from longtake.media.crf import compress
from longtake.media.join import match_colour
from longtake.media.source import open_source
from longtake.models.lora_files import Fetch
from longtake.models.loras import LoraCache, applied, load_adapters
from longtake.models.registry import ModelCard
from longtake.plans import Plan
from longtake.prepare import Job
from longtake.sampling.resume import NO_RESUME, Resume
from longtake.settings import Settings
from longtake.source_frames import first_frames, frames_after, source_sound, write_source

IMAGE_CRF = 33
"""The end image goes through H.264 at this constant rate factor: the model learned from frames of videos."""

COLOUR_FADE_FRAMES = 24
"""Over so many new frames the autoencoder's colour cast, taken off at the joint, comes back: too slowly to be seen."""


@dataclass(frozen=True)
class Result:
    """The finished video: the file, the plan it followed, `facts` as read back from the file, and `notes`, sentences on
    what differs from the request or was left out."""

    path: Path
    content_type: str
    file_size: int
    facts: Source
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
        from longtake.families import FAMILIES

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
        plan, family, hear = job.plan, job.family, Listener(on_progress)
        parts = self.load(job.card, hear)
        adapters = load_adapters(
            plan.adapters, job.card, self._settings, self._adapters, fetch=self._fetch, any_path=self._any_path
        )
        checker, safety_note = safety.checker(self._settings) if plan.check_safety else (None, None)
        own_sound = source_sound(job.source, plan)
        has_sound = plan.makes_sound or own_sound is not None
        with (
            applied(parts.transformer, adapters) as set_pass,
            torch.inference_mode(),
            film(path, plan, has_sound=has_sound, hear=hear) as writing,
        ):
            work: Work[Any, Any] = Work(plan, parts, self._settings, resume, hear, set_pass)
            track = soundtrack.source_part(own_sound, plan)
            if plan.source_last:
                early, frames = track[:, :0], first_frames(job.source, plan)
            else:
                early = track[:, : max(0, track.shape[1] - soundtrack.FADE)]
                writing.write_sound(early)
                frames = write_source(job.source, plan, writing.write, hear)
            hear(Progress("prompt", 0, 1))
            joint = frames[0 if plan.source_last else -1]
            prompt, expansion_note = resume.prompt(lambda: family.expand(work, joint))
            context = Context(
                frames if plan.context_frames else frames[:0],
                soundtrack.context_part(own_sound, plan),
                end_image(job),
            )
            pieces = family.generate(work, prompt, context)
            if plan.source_last:
                write_before(writing, list(pieces), plan, track, joint, checker)
                for rest in frames_after(job.source, plan, hear):
                    writing.write(rest)
            else:
                write_after(writing, pieces, plan, track, early.shape[1], joint, checker)
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


def write_after(
    writing: Film,
    pieces: Iterator[Piece],
    plan: Plan,
    track: Samples,
    written: int,
    joint: Frames,
    checker: safety.Checker | None,
) -> None:
    """Writes new frames after the source's, and the sound from sample `written` on, as soon as it is settled."""
    done = plan.shown_frames
    for piece in pieces:
        done += piece.new_frames
        track = soundtrack.continued(track, piece, plan, done)
        settled = track.shape[1] - (0 if done == plan.num_frames else soundtrack.FADE)
        writing.write_sound(track[:, written:settled])
        written = settled
        for frames in safety.watched(new_frames(piece, plan, joint), checker):
            writing.write(frames)


def write_before(
    writing: Film,
    pieces: list[Piece],
    plan: Plan,
    track: Samples,
    joint: Frames,
    checker: safety.Checker | None,
) -> None:
    """Writes the whole sound, and new frames before the source's."""
    writing.write_sound(soundtrack.preceded(track, pieces, plan))
    for piece in pieces:
        for frames in safety.watched(new_frames(piece, plan, joint), checker):
            writing.write(frames)


def new_frames(piece: Piece, plan: Plan, neighbour: Frames) -> Iterator[NDArray[np.float32]]:
    """A piece's frames [t, H, W, 3] in 0..1 without the autoencoder's colour cast at the joint, which is told by the
    frame that is shown there (the source's `neighbour` [H, W, 3], or one made before) and the model's rendition."""
    shown = (neighbour if piece.shown is None else piece.shown).astype(np.float32) / np.float32(255)
    rendition = None if piece.rendition is None else piece.rendition.permute(1, 2, 0).cpu().numpy()
    done = 0
    for chunk in piece.frames:
        frames: NDArray[np.float32] = chunk.permute(0, 2, 3, 1).cpu().numpy()
        if not len(frames):
            continue
        done += len(frames)
        if rendition is None:
            yield frames
        elif plan.source_last:
            left = piece.new_frames - done
            matched = match_colour(frames[::-1], shown, rendition, COLOUR_FADE_FRAMES, first=left)
            yield np.ascontiguousarray(matched[::-1])
        else:
            yield match_colour(frames, shown, rendition, COLOUR_FADE_FRAMES, first=done - len(frames))


def end_image(job: Job) -> Frames | None:
    """The picture to arrive at, covering the output's size [H, W, 3], with the traces of compression."""
    if job.end_image is None:
        return None
    covering = ImageOps.fit(Image.fromarray(job.end_image), job.plan.size)
    image: Frames = compress(np.asarray(covering)[None], IMAGE_CRF)[0]
    return image
