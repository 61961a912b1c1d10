"""The output's sound: the source's sound with new sound before or after it. The two are cross-faded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from longtake.carried.balance import Balance
from longtake.families.family import GeneratedClip
from longtake.media.sound import (
    FADE_SAMPLES,
    Samples,
    continue_sound,
    cross_fade,
    fit_length,
    num_samples,
    reverse,
    silence,
)
from longtake.plans import Plan


def source_track(source_sound: Samples | None, plan: Plan) -> Samples:
    """Returns the source's part of the output's sound, [2, n] at SOUND_RATE Hz. If the model makes sound, this part is
    shorter than the output, and the model's sound is joined to its end, or to its beginning, later.

    source_sound: the sound of the source frames that the output shows; None if the source has no sound.

    - If the model makes no sound: the result lasts as long as the whole output. It is silent during the new frames, and
      everywhere if `source_sound` is None.
    - If the model makes sound and `source_sound` is None: silence that lasts as long as the shown source frames.
    - If the model makes sound and `plan.sound_strength` is 1, so that it keeps all of the source's sound:
      `source_sound`.
    - If the model makes sound and `plan.sound_strength` is below 1: `source_sound` without the sound of the source
      frames that the model sees. The model makes that sound anew.
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
    """Returns the sound of the context, [2, n] at SOUND_RATE Hz.

    Returns None if `source_sound` is None or there is no context. `source_sound` is the sound of all source frames that
    the output shows; None if the source has no sound.
    """
    length = num_samples(plan.context_frames, plan.rate)
    if source_sound is None or length == 0:
        return None
    return source_sound[:, :length] if plan.source_last else source_sound[:, max(0, source_sound.shape[1] - length) :]


def balanced(clip: GeneratedClip, balance: Balance | None, plan: Plan, distance: int) -> GeneratedClip:
    """Returns a clip whose sound has the stereo balance of the source's sound, as it goes on in new frames.

    clip: a clip of a model that makes sound which is equally loud on both sides.
    balance: that of the source's sound where it meets the new frames. If it is None, `clip` is returned.
    distance: the number of new frames between the source and the clip.
    """
    if balance is None or clip.sound is None:
        return clip
    start_s = float((distance - clip.context_frames) / plan.rate)
    if plan.source_last:
        return replace(clip, sound=reverse(balance.applied(reverse(clip.sound), start_s)))
    return replace(clip, sound=balance.applied(clip.sound, start_s))


class Continued(Protocol):
    """A sound that goes on."""

    def continued(self, source: Samples, length: int) -> Samples:
        """Returns the source's sound [2, n] followed by `length` samples of the sound that goes on."""


def lasting_course(source_sound: Samples | None, sound: Continued, plan: Plan) -> Samples:
    """Returns the source's sound and, after it, what goes on of it for all new frames, [2, n].

    It is in the direction away from the source: if the source plays last, the sound is reversed. It is 15 ms longer
    than the output.

    source_sound: the sound of the source frames that the output shows, which is silence if it is None.
    sound: what goes on of it.
    """
    own = silence(0) if source_sound is None else source_sound
    source = fit_length(reverse(own) if plan.source_last else own, num_samples(plan.shown_frames, plan.rate))
    return sound.continued(source, num_samples(plan.num_frames, plan.rate) + FADE_SAMPLES - source.shape[1])


def with_course(clip: GeneratedClip, course: Samples, plan: Plan, distance: int) -> GeneratedClip:
    """Returns a clip whose sound is what goes on of the source's sound.

    course: what `lasting_course` returned.
    distance: the number of new frames between the source and the clip.
    """
    if clip.sound is None:
        return clip
    start = num_samples(plan.shown_frames + distance, plan.rate)
    stop = num_samples(plan.shown_frames + distance + clip.new_frames, plan.rate) + FADE_SAMPLES
    overlap = min(start, num_samples(clip.context_frames, plan.rate))
    sound = course[:, start - overlap : stop]
    return replace(clip, sound=reverse(sound) if plan.source_last else sound)


def append_sound(end: Samples, clip: GeneratedClip, plan: Plan, num_frames: int, first: int = 0) -> Samples:
    """Returns the end of the output's sound, `end` [2, n], followed by the sound of `clip`, cross-faded. If the clip
    has no sound, returns `end`.

    end: the output's sound up to the clip, or as much of it as the clip's sound is for, and 15 ms more (FADE_SAMPLES).
    num_frames: the number of the output's frames from its start to the clip's end. The result ends with these frames.
    first: the number of samples of the output before `end`.
    """
    if clip.sound is None:
        return end
    at_source = num_frames - clip.new_frames == plan.shown_frames
    longer = continue_sound(end, clip.sound, _overlap(clip, plan, at_source=at_source))
    return fit_length(longer, num_samples(num_frames, plan.rate) - first)


def prepend_sound(track: Samples, clips: Sequence[GeneratedClip], plan: Plan) -> Samples:
    """Returns the sound of all `clips`, which are in playing order, followed by the source's sound, `track` [2, n].

    They are cross-faded, as those of clips that play after a source, but reversed. Clips without sound are left out.
    """
    # Only the beginning of the track is compared and changed, so that the work does not grow with the source.
    used = num_samples(max(clip.context_frames for clip in clips), plan.rate) + FADE_SAMPLES
    first, num_frames = max(0, track.shape[1] - used), plan.shown_frames
    end = reverse(track[:, :used])
    for clip in reversed(clips):
        num_frames += clip.new_frames
        outwards = clip if clip.sound is None else replace(clip, sound=reverse(clip.sound))
        end = append_sound(end, outwards, plan, num_frames, first)
    return np.concatenate([reverse(end), track[:, used:]], axis=1)


def _overlap(clip: GeneratedClip, plan: Plan, *, at_source: bool) -> int:
    """Returns how many samples of the clip's sound are for the same time as sound that the output already has.

    at_source: True if the clip is next to the source, False if it is next to another clip.
    """
    # The clip's sound also covers the frames that the clip continues. The output has sound for them, unless they are
    # the source's frames and `source_track` has left out their sound.
    if at_source and plan.sound_strength < 1:
        return 0
    return num_samples(clip.context_frames, plan.rate)
