"""The output's sound: the source's own sound with new sound before or after it, cross-faded."""

from collections.abc import Sequence

from longtake.families.family import GeneratedClip
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import (
    CROSS_FADE_S,
    Samples,
    continue_sound,
    cross_fade,
    fit_length,
    num_samples,
    precede_sound,
    reverse,
    silence,
)
from longtake.plans import Plan

FADE_SAMPLES = round(CROSS_FADE_S * SOUND_RATE)
"""Samples at the end of a sound that a cross-fade with the next sound changes."""


def source_track(source_sound: Samples | None, plan: Plan) -> Samples:
    """Returns the source's part of the output's sound [2, n].

    If `sound_strength` is below 1, the context's part is left out, because the model's rendition replaces it. A source
    without sound gives silence. If the model makes no sound, silence for the new frames is included.
    """
    shown = num_samples(plan.shown_frames, plan.rate)
    if not plan.makes_sound:
        missing = silence(num_samples(plan.num_frames, plan.rate) - shown)
        if source_sound is None:
            return fit_length(missing, missing.shape[1] + shown)
        return (
            reverse(cross_fade(reverse(source_sound), missing))
            if plan.source_last
            else cross_fade(source_sound, missing)
        )
    if source_sound is None:
        return silence(shown)
    if plan.sound_strength == 1:
        return source_sound
    replaced = num_samples(plan.context_frames, plan.rate)
    return source_sound[:, replaced:] if plan.source_last else source_sound[:, : max(0, shown - replaced)]


def context_sound(source_sound: Samples | None, plan: Plan) -> Samples | None:
    """Returns the sound of the context's frames [2, n]; None if the source is silent or there is no context."""
    length = num_samples(plan.context_frames, plan.rate)
    if source_sound is None or length == 0:
        return None
    return source_sound[:, :length] if plan.source_last else source_sound[:, max(0, source_sound.shape[1] - length) :]


def append_sound(track: Samples, clip: GeneratedClip, plan: Plan, num_frames: int) -> Samples:
    """Returns `track` [2, n] followed by a clip's sound, as long as the first `num_frames` of the output."""
    if clip.sound is None:
        return track
    at_source = num_frames - clip.new_frames == plan.shown_frames
    longer = continue_sound(track, clip.sound, _overlap(clip, plan, at_source=at_source))
    return fit_length(longer, num_samples(num_frames, plan.rate))


def prepend_sound(track: Samples, clips: Sequence[GeneratedClip], plan: Plan) -> Samples:
    """Returns the sound of all clips, in playing order, followed by the source's `track` [2, n]."""
    num_frames = plan.shown_frames
    for clip in reversed(clips):
        num_frames += clip.new_frames
        if clip.sound is not None:
            at_source = num_frames - clip.new_frames == plan.shown_frames
            longer = precede_sound(clip.sound, track, _overlap(clip, plan, at_source=at_source))
            track = reverse(fit_length(reverse(longer), num_samples(num_frames, plan.rate)))
    return track


def _overlap(clip: GeneratedClip, plan: Plan, *, at_source: bool) -> int:
    """Number of samples of a clip's sound that repeat the track next to it, for aligning and cross-fading."""
    if at_source and plan.sound_strength < 1:
        return 0
    return num_samples(clip.context_frames, plan.rate)
