"""The sound track of a result: the source's own sound, and the new sound before or after it, without a click."""

from collections.abc import Sequence

from longtake.families.family import Piece
from longtake.media.formats import SOUND_RATE
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
from longtake.plans import Plan

FADE = round(CROSS_FADE_S * SOUND_RATE)
"""Samples at the end of a sound that what comes next may still change."""


def source_part(own: Samples | None, plan: Plan) -> Samples:
    """The part of the source's sound that the result keeps [2, n].

    That is all of it, but not the context's where the model's rendition takes its place (`sound_strength` below 1). A
    source without sound gives silence. Where no sound is made, silence for the new frames is added.
    """
    shown = num_samples(plan.shown_frames, plan.rate)
    if not plan.makes_sound:
        missing = silence(num_samples(plan.num_frames, plan.rate) - shown)
        if own is None:
            return fit(missing, missing.shape[1] + shown)
        return reverse(join(reverse(own), missing)) if plan.source_last else join(own, missing)
    sound = silence(shown) if own is None else own
    if plan.sound_strength == 1 or own is None:
        return sound
    replaced = num_samples(plan.context_frames, plan.rate)
    return sound[:, replaced:] if plan.source_last else sound[:, : max(0, shown - replaced)]


def context_part(own: Samples | None, plan: Plan) -> Samples | None:
    """The source's sound beside the context's frames [2, n]; None where it has none, and the model is left free."""
    length = num_samples(plan.context_frames, plan.rate)
    if own is None or length == 0:
        return None
    return own[:, :length] if plan.source_last else own[:, max(0, own.shape[1] - length) :]


def continued(track: Samples, piece: Piece, plan: Plan, num_frames: int) -> Samples:
    """The sound so far, carried on by a piece to `num_frames` of the output."""
    if piece.sound is None:
        return track
    at_source = num_frames - piece.new_frames == plan.shown_frames
    longer = continue_sound(track, piece.sound, _lead(piece, plan, at_source=at_source))
    return fit(longer, num_samples(num_frames, plan.rate))


def preceded(track: Samples, pieces: Sequence[Piece], plan: Plan) -> Samples:
    """The source's sound with that of the pieces before it, of which the last is the nearest."""
    done = plan.shown_frames
    for piece in reversed(pieces):
        done += piece.new_frames
        if piece.sound is not None:
            at_source = done - piece.new_frames == plan.shown_frames
            longer = precede_sound(piece.sound, track, _lead(piece, plan, at_source=at_source))
            track = reverse(fit(reverse(longer), num_samples(done, plan.rate)))
    return track


def _lead(piece: Piece, plan: Plan, *, at_source: bool) -> int:
    """The number of samples of a piece's sound that are its rendition of what is there already."""
    if at_source and plan.sound_strength < 1:
        return 0
    return num_samples(piece.context_frames, plan.rate)
