"""The output's sound: the source's sound with new sound before or after it. The two are cross-faded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from longtake.carried.balance import Balance
from longtake.carried.repeated_sound import KNOWN_S
from longtake.families.family import GeneratedClip
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import (
    FADE_SAMPLES,
    Samples,
    continue_sound,
    fade_in,
    fade_out,
    fit_length,
    num_samples,
    reverse,
    silence,
)
from longtake.plans import Plan

PERIOD_SAMPLES = round((KNOWN_S[0] + 1) * SOUND_RATE)
"""The samples of the source's sound, next to the new frames, of which a sound that goes on is made."""


def source_track(source_sound: Samples | None, plan: Plan) -> Samples:
    """Returns the source's part of the output's sound, [2, n] at SOUND_RATE Hz, if the model makes sound. The model's
    sound is joined to its end, or to its beginning, later.

    source_sound: the sound of the source frames that the output shows; silence takes its place if it is None.

    If `plan.sound_strength` is below 1, the sound of the source frames that the model sees is left out, because the
    model makes that sound anew. Otherwise the result is all of `source_sound`.
    """
    if source_sound is None:
        return silence(num_samples(plan.shown_frames, plan.rate))
    if plan.sound_strength == 1:
        return source_sound
    replaced = num_samples(plan.context_frames, plan.rate)
    kept = max(0, num_samples(plan.shown_frames, plan.rate) - replaced)
    return source_sound[:, replaced:] if plan.source_last else source_sound[:, :kept]


def silent_track(source_sound: Samples | None, plan: Plan) -> list[Samples]:
    """Returns the output's sound if the model makes none, in pieces [2, n] in playing order: the source's sound, which
    fades within 15 ms (FADE_SAMPLES), and silence during the new frames.

    source_sound: the sound of the source frames that the output shows; None if the source has no sound.
    """
    total = num_samples(plan.num_frames, plan.rate)
    if source_sound is None:
        return [silence(total)]
    missing = silence(total - num_samples(plan.shown_frames, plan.rate))
    # The source may be hours long, so only what changes is copied.
    if plan.source_last:
        return [missing, fade_in(source_sound[:, :FADE_SAMPLES]), source_sound[:, FADE_SAMPLES:]]
    return [source_sound[:, :-FADE_SAMPLES], fade_out(source_sound[:, -FADE_SAMPLES:]), missing]


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


def course_start(plan: Plan) -> int:
    """Returns how many samples of the source's sound, away from the new frames, `lasting_course` leaves out."""
    needed = PERIOD_SAMPLES + num_samples(plan.context_frames, plan.rate)
    return max(0, num_samples(plan.shown_frames, plan.rate) - needed)


def lasting_course(source_sound: Samples | None, sound: Continued, plan: Plan) -> Samples:
    """Returns the end of the source's sound and, after it, what goes on of it for all new frames, [2, n].

    It is in the direction away from the source: if the source plays last, the sound is reversed. It is 15 ms longer
    than the output.

    source_sound: the sound of the source frames that the output shows, which is silence if it is None.
    sound: what goes on of it.
    """
    length = num_samples(plan.shown_frames, plan.rate) - course_start(plan)
    own = silence(length) if source_sound is None else source_sound
    end = reverse(own[:, :length]) if plan.source_last else own[:, own.shape[1] - length :]
    new = num_samples(plan.num_frames, plan.rate) - num_samples(plan.shown_frames, plan.rate)
    return sound.continued(end, new + FADE_SAMPLES)


def with_course(clip: GeneratedClip, course: Samples, plan: Plan, distance: int) -> GeneratedClip:
    """Returns a clip whose sound is what goes on of the source's sound.

    course: what `lasting_course` returned.
    distance: the number of new frames between the source and the clip.
    """
    if clip.sound is None:
        return clip
    first = course_start(plan)
    start = num_samples(plan.shown_frames + distance, plan.rate) - first
    stop = num_samples(plan.shown_frames + distance + clip.new_frames, plan.rate) + FADE_SAMPLES - first
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


class AppendedSound:
    """Joins the sound of new clips to the end of the source's, clip by clip.

    track: the source's sound [2, n]. Its last 15 ms (FADE_SAMPLES) are cross-faded with the first clip's sound; the
        samples before them are final, and are not returned.
    """

    def __init__(self, track: Samples, plan: Plan) -> None:
        self._plan = plan
        self._end, self._first = track, 0
        self._final = max(0, track.shape[1] - FADE_SAMPLES)
        self._num_frames = plan.shown_frames

    def append(self, clip: GeneratedClip) -> Samples:
        """Joins the sound of the next clip. Returns the samples that became final: those that no later clip changes."""
        self._num_frames += clip.new_frames
        # Only the end of the sound is compared and changed, so that the work does not grow with the source.
        used = num_samples(clip.context_frames, self._plan.rate) + FADE_SAMPLES
        done = max(0, min(self._final - self._first, self._end.shape[1] - used))
        self._first += done
        self._end = append_sound(self._end[:, done:], clip, self._plan, self._num_frames, self._first)
        start = self._final
        is_last = self._num_frames == self._plan.num_frames
        self._final = self._first + self._end.shape[1] - (0 if is_last else FADE_SAMPLES)
        return self._end[:, start - self._first : self._final - self._first]


def prepend_sound(track: Samples, clips: Sequence[GeneratedClip], plan: Plan) -> list[Samples]:
    """Returns the sound of all `clips`, which are in playing order, followed by the source's sound, `track` [2, n]. The
    result is in two pieces, of which the second one is the unchanged rest of `track`.

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
    return [reverse(end), track[:, used:]]


def _overlap(clip: GeneratedClip, plan: Plan, *, at_source: bool) -> int:
    """Returns how many samples of the clip's sound are for the same time as sound that the output already has.

    at_source: True if the clip is next to the source, False if it is next to another clip.
    """
    # The clip's sound also covers the frames that the clip continues. The output has sound for them, unless they are
    # the source's frames and `source_track` has left out their sound.
    if at_source and plan.sound_strength < 1:
        return 0
    return num_samples(clip.context_frames, plan.rate)
