"""Hops 4 to 8: a prepared request becomes a longer video in one file. The only place that knows the whole way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake import safety
from longtake.clip import OnProgress, Progress, ignore_progress
from longtake.extend.ltxv import extend
from longtake.media import sound
from longtake.media.crf import compress
from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE, Recipe
from longtake.media.join import ReversedFrames, match_colour
from longtake.media.preprocess import preprocess
from longtake.media.sound import Samples
from longtake.media.source import SourceReader
from longtake.media.tempo import stretch
from longtake.models.loras import Adapter, applied
from longtake.models.ltxv import LTXV
from longtake.plan import Plan
from longtake.prepare import Prepared
from longtake.prompts import expand
from longtake.sampling.guidance import Text
from longtake.settings import Settings

COLOUR_FADE_FRAMES = 24
"""Over so many new frames the autoencoder's colour cast, taken off at the joint, comes back: too slowly to be seen."""

CHUNK_FRAMES = 16

Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """The finished video: the file, the plan it followed, and `notes`, sentences on what was left out."""

    path: Path
    content_type: str
    file_size: int
    plan: Plan
    prompt: str
    has_sound: bool
    notes: tuple[str, ...]


def take(
    prepared: Prepared,
    models: LTXV,
    path: Path,
    recipe: Recipe,
    settings: Settings,
    *,
    adapters: Sequence[tuple[Adapter, float]] = (),
    on_progress: OnProgress = ignore_progress,
) -> Result:
    """Carries a plan out and writes the video to `path`, which appears whole or not at all.

    `adapters` are the plan's LoRAs, read. `on_progress` hears of every step, and cancels the work by raising.
    """
    source, plan = prepared.source, prepared.plan
    prompt, expansion_note = expand(plan.prompt, settings) if plan.expand_prompt else (plan.prompt, None)
    checker, safety_note = safety.checker(settings) if plan.check_safety else (None, None)
    last_heard = Progress("context", 0, 1)

    def hear(progress: Progress) -> None:
        nonlocal last_heard
        last_heard = progress
        on_progress(progress)

    kept_sound = source_sound(source, plan)
    sound_rate = None if kept_sound is None else SOUND_RATE
    with torch.inference_mode(), applied(models.transformer, adapters):
        positive = Text(*models.text.encode(prompt))
        heeds_negative = any(pass_.guidance.heeds_negative for pass_ in plan.passes)
        negative = Text(*models.text.encode(plan.negative_prompt)) if heeds_negative else None
        with Encoder(
            path,
            recipe,
            plan.width,
            plan.height,
            plan.rate,
            sound_rate=sound_rate,
            check=lambda: on_progress(last_heard),
        ) as encoder:
            if kept_sound is not None:
                encoder.write_sound(joined_sound(kept_sound, plan))
            with written_in_order(encoder, plan, recipe, hear) as write:
                context = show_footage(source, plan, write, hear)
                conditioning = compress(context, plan.constant_rate_factor)
                if plan.preprocess:
                    conditioning = preprocess(conditioning, plan.guide, settings)
                made = extend(models, plan, conditioning, positive, negative, on_progress=hear)
                for new in safety.watched(made_frames(made, plan, context[-1]), checker):
                    write(new)
    return Result(
        path=path,
        content_type=recipe.content_type,
        file_size=path.stat().st_size,
        plan=plan,
        prompt=prompt,
        has_sound=kept_sound is not None and recipe.sound is not None,
        notes=tuple(note for note in (expansion_note, safety_note) if note),
    )


def show_footage(
    source: SourceReader, plan: Plan, write: Callable[[Pixels], None], on_progress: OnProgress
) -> NDArray[np.uint8]:
    """Reads the footage at the output's size and writes what is shown of it as it is; returns the context, its last
    frames [context_frames, H, W, 3]."""
    context: NDArray[np.uint8] = np.empty((0, plan.height, plan.width, 3), np.uint8)
    done = 0
    for chunk in source.frames(plan.context, (plan.width, plan.height)):
        on_progress(Progress("context", done, len(plan.context)))
        shown = chunk[: max(0, plan.kept_frames - done)]
        if len(shown):
            write(shown)
        context = np.concatenate([context, chunk])[-plan.context_frames :]
        done += len(chunk)
    return context


def source_sound(source: SourceReader, plan: Plan) -> Samples | None:
    """The sound of the shown footage [2, n], at the speed its picture is shown; None where there is none."""
    if not plan.shown_frames:
        return None
    span = plan.context
    samples = source.sound(Fraction(span.start) / span.rate, Fraction(span.stop) / span.rate)
    if samples is None:
        return None
    if span.reverse:
        samples = sound.reverse(samples)
    return stretch(samples, plan.speed, sound.num_samples(plan.shown_frames, plan.rate))


def joined_sound(kept: Samples, plan: Plan) -> Samples:
    """The whole track: the footage's sound, ended without a click, and silence for the new frames."""
    total = sound.num_samples(plan.num_frames, plan.rate)
    track = sound.join(kept, sound.silence(total - kept.shape[1]))
    return sound.reverse(track) if plan.reverse else track


@contextmanager
def written_in_order(
    encoder: Encoder, plan: Plan, recipe: Recipe, on_progress: OnProgress
) -> Iterator[Callable[[Pixels], None]]:
    """A way to write frames in the order they are made: straight to the encoder, or, where the finished video is to
    run backwards, onto the disk, and to the encoder from there at the block's end."""

    deep = recipe.pix_fmt.endswith("10le")
    if not plan.reverse:
        yield lambda frames: encoder.write(integers(frames, deep))
        return
    dtype = np.uint16 if deep else np.uint8
    with ReversedFrames(encoder.path.parent, plan.height, plan.width, dtype) as spool:
        yield lambda frames: spool.write(integers(frames, deep))
        for chunk in spool.chunks(CHUNK_FRAMES):
            on_progress(Progress("reversing", encoder.num_frames, plan.num_frames))
            encoder.write(chunk)


def integers(frames: Pixels, deep: bool) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Frames as full-range integers: of 16 bits where the file keeps more than 8 (`deep`), else of 8, untouched where
    they are already. Floats are in 0..1."""
    if frames.dtype == np.uint8:
        return frames.astype(np.uint16) * 257 if deep else frames.astype(np.uint8, copy=False)
    return np.rint(frames * 65_535).astype(np.uint16) if deep else np.rint(frames * 255).astype(np.uint8)


def made_frames(made: Iterator[Tensor], plan: Plan, last_shown: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """The frames to add [t, H, W, 3] in 0..1. Where footage was shown before them, its last frame `last_shown` and
    the model's rendition of that, which comes first, tell the autoencoder's colour cast; it is taken off the joint."""
    shown = last_shown.astype(np.float32) / np.float32(255)
    rendition: NDArray[np.float32] | None = None
    done = 0
    for chunk in made:
        frames: NDArray[np.float32] = chunk.permute(0, 2, 3, 1).cpu().numpy()
        if plan.keeps_source:
            if rendition is None:
                rendition, frames = frames[0], frames[1:]
            frames = match_colour(frames, shown, rendition, COLOUR_FADE_FRAMES, first=done)
        done += len(frames)
        if len(frames):
            yield frames
