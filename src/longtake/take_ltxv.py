"""A take of LTX-Video 0.9.x, hops 4 to 8: the footage is shown, and what the model makes after it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake import safety
from longtake.clip import OnProgress, Progress, ignore_progress
from longtake.extend.kept import NOTHING_KEPT, Kept
from longtake.extend.ltxv import extend
from longtake.footage import COLOUR_FADE_FRAMES, Listener, Pixels, Result, integers, show_footage, source_sound
from longtake.media import sound
from longtake.media.crf import compress
from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE, Recipe
from longtake.media.join import ReversedFrames, match_colour
from longtake.media.preprocess import preprocess
from longtake.media.sound import Samples
from longtake.models.loras import Adapter, applied
from longtake.models.ltxv import LTXV
from longtake.plan import LTXVPlan
from longtake.prepare import Prepared
from longtake.prompts import expand
from longtake.sampling.guidance import Text
from longtake.settings import Settings

CHUNK_FRAMES = 16


def take(
    prepared: Prepared,
    plan: LTXVPlan,
    models: LTXV,
    path: Path,
    recipe: Recipe,
    settings: Settings,
    *,
    adapters: Sequence[tuple[Adapter, float]] = (),
    kept: Kept = NOTHING_KEPT,
    on_progress: OnProgress = ignore_progress,
) -> Result:
    """See `longtake.take.take`."""
    source, hear = prepared.source, Listener(on_progress)
    hear(Progress("prompt", 0, 1))
    prompt, expansion_note = kept.prompt(
        lambda: expand(plan.prompt, settings) if plan.expand_prompt else (plan.prompt, None)
    )
    checker, safety_note = safety.checker(settings) if plan.check_safety else (None, None)
    kept_sound = source_sound(source, plan)
    sound_rate = None if kept_sound is None else SOUND_RATE
    with torch.inference_mode(), applied(models.transformer, adapters):
        positive = Text(*models.text.encode(prompt))
        heeds_negative = any(pass_.guidance.heeds_negative for pass_ in plan.passes)
        negative = Text(*models.text.encode(plan.negative_prompt)) if heeds_negative else None
        with Encoder(
            path, recipe, plan.width, plan.height, plan.rate, sound_rate=sound_rate, check=hear.again
        ) as encoder:
            if kept_sound is not None:
                encoder.write_sound(joined_sound(kept_sound, plan))
            with written_in_order(encoder, plan, recipe, hear) as write:
                context = show_footage(source, plan, write, hear)
                conditioning = compress(context, plan.constant_rate_factor)
                if plan.preprocess:
                    conditioning = preprocess(conditioning, plan.guide, settings)
                made = extend(models, plan, conditioning, positive, negative, kept=kept, on_progress=hear)
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


def joined_sound(kept: Samples, plan: LTXVPlan) -> Samples:
    """The whole track: the footage's sound, ended without a click, and silence for the new frames."""
    total = sound.num_samples(plan.num_frames, plan.rate)
    track = sound.join(kept, sound.silence(total - kept.shape[1]))
    return sound.reverse(track) if plan.reverse else track


@contextmanager
def written_in_order(
    encoder: Encoder, plan: LTXVPlan, recipe: Recipe, on_progress: OnProgress
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


def made_frames(made: Iterator[Tensor], plan: LTXVPlan, last_shown: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
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
