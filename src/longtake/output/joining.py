"""Joins the source's frames and sound with the generated ones, in playing order."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from longtake.families.family import GeneratedClip, RGBFrames
from longtake.media.colour_match import match_colour
from longtake.media.sound import FADE_SAMPLES, Samples
from longtake.media.source import SourceReader
from longtake.output.soundtrack import append_sound, prepend_sound, source_track
from longtake.output.source_frames import context_frames, shown_frames
from longtake.output.writer import VideoWriter
from longtake.plans import Plan
from longtake.safety import SafetyChecker, checked_frames
from longtake.video import OnProgress, Progress

COLOUR_FADE_FRAMES = 24
"""The number of new frames, counted from the joint, over which the correction of the autoencoder's colour cast fades
out. They last about a second, so the change is too slow to be seen."""


@dataclass(frozen=True)
class Joiner:
    """Writes the source's frames and sound and the new ones to one file.

    Call `start` first. It returns the source frames that the model continues. Then pass the new clips to `finish`.

    `source_sound`: the sound of the source frames that the output shows, [2, n] at SOUND_RATE Hz; None if the source is
        silent.
    `writer`: takes the frames and the sound of the output file.
    `checker`: checks the new frames for unsafe content; None for no check.
    `on_progress`: receives the progress while the source is read.
    """

    plan: Plan
    source: SourceReader
    source_sound: Samples | None
    writer: VideoWriter
    checker: SafetyChecker | None
    on_progress: OnProgress

    @cached_property
    def track(self) -> Samples:
        """The source's part of the output's sound (see `source_track`), [2, n] at SOUND_RATE Hz. New sound is joined to
        it later.
        """
        return source_track(self.source_sound, self.plan)

    @cached_property
    def final_samples(self) -> int:
        """The number of samples at the beginning of `track` that stay the same when new sound is added after it. The
        later samples are cross-faded with the new sound."""
        return max(0, int(self.track.shape[1]) - FADE_SAMPLES)

    def start(self) -> RGBFrames:
        """Returns the source frames that the model continues (the context), [T, H, W, 3] at the output's size.

        T is at least 1: if the plan has no context, the result is the one source frame next to the new frames. If the
        source plays before the new frames, its frames and sound are also written.
        """
        self.on_progress(Progress("context", 0, 1))
        frames = context_frames(self.source, self.plan)
        if not self.plan.source_last:
            self.writer.write_sound(self.track[:, : self.final_samples])
            self._write_source()
        return frames

    def finish(self, clips: Iterator[GeneratedClip], joint: RGBFrames) -> None:
        """Writes the new clips and, if the source plays after them, the source.

        `clips` are in playing order. `joint` [H, W, 3] is the source's frame next to the new ones. Raises
        ContentPolicyViolation if the checker flags a new frame.
        """
        if not self.plan.source_last:
            self._write_after_source(clips, joint)
            return
        new = list(clips)
        self.writer.write_sound(prepend_sound(self.track, new, self.plan))
        for clip in new:
            self._write_frames(clip, joint)
        self._write_source()

    def _write_source(self) -> None:
        for chunk in shown_frames(self.source, self.plan, self.on_progress):
            self.writer.write_source(chunk)

    def _write_after_source(self, clips: Iterator[GeneratedClip], joint: RGBFrames) -> None:
        """Writes each clip's sound and then its frames. The source is already written.

        The end of a clip's sound is held back until the next clip is known, because it is cross-faded with that clip's
        sound. `joint` [H, W, 3] is the source's last frame.
        """
        plan, track, written, num_frames = self.plan, self.track, self.final_samples, self.plan.shown_frames
        for clip in clips:
            num_frames += clip.new_frames
            track = append_sound(track, clip, plan, num_frames)
            final = track.shape[1] - (0 if num_frames == plan.num_frames else FADE_SAMPLES)
            self.writer.write_sound(track[:, written:final])
            written = final
            self._write_frames(clip, joint)

    def _write_frames(self, clip: GeneratedClip, joint: RGBFrames) -> None:
        for frames in checked_frames(matched_frames(clip, self.plan, joint), self.checker):
            self.writer.write(frames)


def matched_frames(clip: GeneratedClip, plan: Plan, joint: RGBFrames) -> Iterator[NDArray[np.float32]]:
    """Yields a clip's frames, in chunks [t, H, W, 3] in 0..1, without the autoencoder's colour cast.

    The model's autoencoder changes colours slightly; this change is the cast. It is measured on the frame next to the
    clip, on the side that the clip continues. The cast is the difference in colour between two versions of this frame:
    - the frame that the output shows: `clip.neighbour` if the model generated it, else `joint` [H, W, 3], which is the
      source's frame next to the new ones;
    - the same frame, encoded and decoded by the autoencoder: `clip.rendition`. If this is None, nothing is changed.

    `match_colour` removes the cast. `plan` tells if the source plays before or after the clip.
    """
    shown = (joint if clip.neighbour is None else clip.neighbour).astype(np.float32) / np.float32(255)
    rendition = None if clip.rendition is None else clip.rendition.permute(1, 2, 0).cpu().numpy()
    done = 0
    for chunk in clip.frames:
        frames: NDArray[np.float32] = chunk.permute(0, 2, 3, 1).cpu().numpy()
        if not len(frames):
            continue
        done += len(frames)
        if rendition is None:
            yield frames
        elif plan.source_last:
            frames_left = clip.new_frames - done
            matched = match_colour(frames[::-1], shown, rendition, COLOUR_FADE_FRAMES, first=frames_left)
            yield np.ascontiguousarray(matched[::-1])
        else:
            yield match_colour(frames, shown, rendition, COLOUR_FADE_FRAMES, first=done - len(frames))
