"""A take of LTX-2.3, hops 4 to 8: the source, and picture and sound of what comes after it, or before it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from longtake import safety
from longtake.clip import OnProgress, Progress, Span, ignore_progress
from longtake.extend.given import Context, Frames
from longtake.extend.kept import NOTHING_KEPT, Kept
from longtake.extend.ltx2 import Piece, extend
from longtake.footage import COLOUR_FADE_FRAMES, Listener, Pixels, Result, integers, show_footage, source_sound
from longtake.media.crf import compress
from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE, Recipe
from longtake.media.join import match_colour
from longtake.media.sound import (
    CROSS_FADE_S,
    Samples,
    continue_sound,
    fit,
    join,
    num_samples,
    precede_sound,
    reverse,
    silence,
)
from longtake.media.source import SourceReader
from longtake.models.audiovisual import Words
from longtake.models.gemma import GemmaText
from longtake.models.loras import Adapter, applied, rescale
from longtake.models.ltx2 import LTX2
from longtake.plan import LTX2Plan
from longtake.prepare import Prepared
from longtake.prompts import expand
from longtake.settings import Settings

IMAGE_CRF = 33
"""The end image goes through H.264 at this constant rate factor: the model learned from frames of videos."""


def take(
    prepared: Prepared,
    plan: LTX2Plan,
    models: LTX2,
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
    checker, safety_note = safety.checker(settings) if plan.check_safety else (None, None)
    own_sound = source_sound(source, plan)
    has_sound = plan.sound or own_sound is not None
    own_track = kept_sound(own_sound, plan)

    with (
        torch.inference_mode(),
        Encoder(
            path,
            recipe,
            plan.width,
            plan.height,
            plan.rate,
            sound_rate=SOUND_RATE if has_sound else None,
            check=hear.again,
        ) as encoder,
    ):

        def write(frames: Pixels) -> None:
            encoder.write(integers(frames, deep=recipe.pix_fmt.endswith("10le")))

        def write_sound(samples: Samples) -> None:
            if has_sound and samples.shape[1]:
                encoder.write_sound(samples)

        early = own_track[:, : 0 if plan.new_first else max(0, own_track.shape[1] - FADE)]
        if plan.new_first:
            context = first_frames(source, plan)
        else:
            write_sound(early)
            context = show_footage(source, plan, write, hear)
        hear(Progress("prompt", 0, 1))
        prompt, expansion_note = kept.prompt(lambda: expanded(plan, models.text, context, settings))
        positive = Words(*models.text.encode(prompt))
        heeded = "negative" in plan.predictions
        negative = Words(*models.text.encode(plan.negative_prompt)) if heeded else None
        models.text.release()
        with applied(models.transformer, adapters):
            given = Context(context, context_sound(own_sound, plan), end_image(prepared, plan))

            def adapt(number: int) -> None:
                rescale(models.transformer, strengths(plan, number))

            pieces = extend(models, plan, given, positive, negative, adapt=adapt, kept=kept, on_progress=hear)
            if plan.new_first:
                made = list(pieces)
                write_sound(preceded(own_track, made, plan))
                for piece in made:
                    for frames in safety.watched(new_frames(piece, plan, context[0]), checker):
                        write(frames)
            else:
                track, written, done = own_track, early.shape[1], plan.shown_frames
                for piece in pieces:
                    done += piece.extension.new_frames
                    track = continued(track, piece, plan, done)
                    settled = track.shape[1] - (0 if done == plan.num_frames else FADE)
                    write_sound(track[:, written:settled])
                    written = settled
                    for frames in safety.watched(new_frames(piece, plan, context[-1]), checker):
                        write(frames)
        if plan.new_first:
            for rest in kept_after(source, plan, hear):
                write(rest)
    return Result(
        path=path,
        content_type=recipe.content_type,
        file_size=path.stat().st_size,
        plan=plan,
        prompt=prompt,
        has_sound=has_sound and recipe.sound is not None,
        notes=tuple(note for note in (expansion_note, safety_note) if note),
    )


FADE = round(CROSS_FADE_S * SOUND_RATE)
"""Samples at the end of a sound that what comes next may still change."""


def strengths(plan: LTX2Plan, number: int) -> list[float]:
    """The scales of a plan's adapters in pass `number`: the user's LoRAs, the camera's, and the distilled one."""
    scales = [lora.scale for lora in plan.loras]
    if plan.camera is not None:
        scales.append(plan.camera_scale)
    if any(scale.distill for scale in plan.scales):
        scales.append(plan.scales[number].distill)
    return scales


def expanded(plan: LTX2Plan, text: GemmaText, context: Frames, settings: Settings) -> tuple[str, str | None]:
    """The prompt to use, and a sentence where it is still the user's own: by the configured language model, else by
    the model's own, which sees the frame at the joint."""
    if not plan.expand_prompt:
        return plan.prompt, None
    if settings.expansion_url is None and text.can_write:
        return text.expand(plan.prompt, context[0 if plan.new_first else -1], plan.seed), None
    return expand(plan.prompt, settings)


def end_image(prepared: Prepared, plan: LTX2Plan) -> Frames | None:
    """The picture to arrive at, covering the output's size [H, W, 3], with the traces of compression."""
    if prepared.end_image is None:
        return None
    covering = ImageOps.fit(Image.fromarray(prepared.end_image), (plan.width, plan.height))
    image: Frames = compress(np.asarray(covering)[None], IMAGE_CRF)[0]
    return image


def first_frames(source: SourceReader, plan: LTX2Plan) -> Frames:
    """The context of what comes before the source: its first frames [context_frames, H, W, 3]."""
    span = Span(plan.context.start, plan.context.start + plan.context_frames, plan.context.rate)
    return np.concatenate(list(source.frames(span, (plan.width, plan.height))))


def kept_after(source: SourceReader, plan: LTX2Plan, on_progress: OnProgress) -> Iterator[Frames]:
    """The source's own frames that follow on new ones."""
    span = Span(plan.context.stop - plan.kept_frames, plan.context.stop, plan.context.rate)
    done = 0
    for chunk in source.frames(span, (plan.width, plan.height)) if len(span) else ():
        on_progress(Progress("footage", done, len(span)))
        done += len(chunk)
        yield chunk


def new_frames(piece: Piece, plan: LTX2Plan, neighbour: Frames) -> Iterator[NDArray[np.float32]]:
    """A piece's frames [t, H, W, 3] in 0..1 without the autoencoder's colour cast at the joint, which is told by the
    frame that is shown there (the source's `neighbour` [H, W, 3], or one made before) and the model's rendition."""
    if piece.rendition is None:
        for chunk in piece.frames:
            yield chunk.permute(0, 2, 3, 1).cpu().numpy()
        return
    shown = (neighbour if piece.shown is None else piece.shown).astype(np.float32) / np.float32(255)
    rendition: NDArray[np.float32] = piece.rendition.permute(1, 2, 0).cpu().numpy()
    left = piece.extension.new_frames
    done = 0
    for chunk in piece.frames:
        frames: NDArray[np.float32] = chunk.permute(0, 2, 3, 1).cpu().numpy()
        left -= len(frames)
        if plan.new_first:
            frames = match_colour(frames[::-1], shown, rendition, COLOUR_FADE_FRAMES, first=left)[::-1]
        else:
            frames = match_colour(frames, shown, rendition, COLOUR_FADE_FRAMES, first=done)
        done += len(frames)
        yield np.ascontiguousarray(frames)


def kept_sound(own: Samples | None, plan: LTX2Plan) -> Samples:
    """What of the source's sound stays as it is [2, n]: all of it; where new sound is made and the context's is not
    held in full, all but that. Silence for a source without sound, and for the new frames where no sound is made."""
    shown = num_samples(plan.shown_frames, plan.rate)
    if not plan.sound:
        missing = silence(num_samples(plan.num_frames, plan.rate) - shown)
        if own is None:
            return fit(missing, missing.shape[1] + shown)
        return reverse(join(reverse(own), missing)) if plan.new_first else join(own, missing)
    sound = silence(shown) if own is None else own
    if plan.audio_strength == 1 or own is None:
        return sound
    replaced = num_samples(plan.context_frames, plan.rate)
    return sound[:, replaced:] if plan.new_first else sound[:, : max(0, shown - replaced)]


def context_sound(own: Samples | None, plan: LTX2Plan) -> Samples | None:
    """The source's sound beside the context's frames [2, n]; None where it has none, and the model is left free."""
    if own is None:
        return None
    length = num_samples(plan.context_frames, plan.rate)
    return own[:, :length] if plan.new_first else own[:, max(0, own.shape[1] - length) :]


def _lead(piece: Piece, plan: LTX2Plan, *, at_source: bool) -> int:
    """How many samples of a piece's sound are its rendition of what is there already."""
    if at_source and plan.audio_strength < 1:
        return 0
    return num_samples(piece.extension.context_frames, plan.rate)


def continued(track: Samples, piece: Piece, plan: LTX2Plan, num_frames: int) -> Samples:
    """The sound so far, carried on by a piece to `num_frames` of the output."""
    if piece.sound is None:
        return track
    at_source = num_frames - piece.extension.new_frames == plan.shown_frames
    longer = continue_sound(track, piece.sound, _lead(piece, plan, at_source=at_source))
    return fit(longer, num_samples(num_frames, plan.rate))


def preceded(kept: Samples, pieces: Sequence[Piece], plan: LTX2Plan) -> Samples:
    """The kept sound with that of the pieces before it, of which the last is the nearest."""
    track, done = kept, plan.shown_frames
    for piece in reversed(pieces):
        done += piece.extension.new_frames
        if piece.sound is not None:
            at_source = done - piece.extension.new_frames == plan.shown_frames
            longer = precede_sound(piece.sound, track, _lead(piece, plan, at_source=at_source))
            track = reverse(fit(reverse(longer), num_samples(done, plan.rate)))
    return track
