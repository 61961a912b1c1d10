"""Joins the source's frames and sound with the generated ones, in playing order."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.families.family import GeneratedClip
from longtake.media.colour_match import match_colour
from longtake.media.pixels import as_integers
from longtake.media.planes import RGBFrames, RGBPicture
from longtake.media.sound import FADE_SAMPLES, Samples
from longtake.media.source import SourceReader
from longtake.output.background import Background
from longtake.output.carrying import Carrying
from longtake.output.later_writer import LaterWriter
from longtake.output.soundtrack import (
    AppendedSound,
    balanced,
    lasting_course,
    prepend_sound,
    silent_track,
    source_track,
    with_course,
)
from longtake.output.source_frames import (
    OnFrames,
    context_frames,
    earlier_frames,
    ignore_frames,
    shown_frames,
)
from longtake.output.writer import ProgressRelay, VideoWriter
from longtake.plans import Plan
from longtake.safety import SafetyChecker, checked_frames
from longtake.video import OnProgress, Progress

if TYPE_CHECKING:  # only miniatures need its large library
    from longtake.carried.picture import CarriedPicture

COLOUR_FADE_FRAMES = 24
"""The number of new frames, counted from the joint (where source and new frames meet), over which the correction of the
autoencoder's colour cast fades out. They last about a second, so the change is too slow to be seen."""

PIECE_FRAMES = 8
"""The largest number of new frames that are corrected and written between two reports of the progress."""

NEAR_FRAMES = 49
"""Detail is carried on from at most this many source frames next to the new ones, or from those that the model sees."""

NEAR_BYTES = 200_000_000
"""The source frames that the model does not see may take this much memory, together with those that it sees."""


Correction = Callable[[Tensor, Sequence[int]], Tensor]
"""A function that corrects frames of a generated clip: correct(frames, distances) -> corrected frames.

`frames` are [t, 3, H, W] in 0..1. `distances` has for each of them how far it is from the clip's frame that is nearest
to the source: 0 for this frame itself, 1 for its neighbour, and so on.
"""


@dataclass(frozen=True)
class Joiner:
    """Writes the source's frames and sound and the new ones to one file.

    Call `start` first. It returns the source frames next to the new ones. Then pass the new clips to `add`. At last
    call `finish`, which does not use the device.

    `source_sound`: the sound of the source frames that the output shows, [2, n] at SOUND_RATE Hz; None if the source is
        silent.
    `writer`: takes the frames and the sound of the output file.
    `carrying`: what of the source is carried into the new frames and their sound.
    `on_progress`: receives the progress while the source is read and while frames are written.
    `background`: runs the writing of the source's frames while the model generates the new ones.
    `ahead_bytes`: the number of bytes of new frames and sound that may be held back until the source's frames are
        written. With more, `add` waits for these.
    """

    plan: Plan
    source: SourceReader
    source_sound: Samples | None
    writer: VideoWriter
    carrying: Carrying
    on_progress: OnProgress
    background: Background
    ahead_bytes: int = 0

    @cached_property
    def track(self) -> Samples:
        """The source's sound, to which that of the model is joined (see `source_track`), [2, n] at SOUND_RATE Hz."""
        return source_track(self.source_sound, self.plan)

    @cached_property
    def _later(self) -> LaterWriter:
        return LaterWriter(self.writer, self.background, self.ahead_bytes, self.on_progress)

    def start(self, on_frames: OnFrames = ignore_frames) -> RGBFrames:
        """Returns the source frames next to the new ones, [T, H, W, 3] at the output's size, in playing order.

        T is at least 1, and at least the number of frames that the model sees (see `seen`). It is more if detail is
        carried on. `on_frames` is called with each chunk of those that the model sees, as soon as it is read.

        If the source plays before the new frames, its sound is also written to the output file, and a thread begins to
        write its frames. Otherwise `finish` writes both. Until `finish` returns, nothing else may use the source or the
        writer of the output file.
        """
        # The sound of the source was read before, and the stage's progress does not go back.
        self.on_progress(Progress("context", 0 if self.source_sound is None else 1, 1))
        frames = context_frames(self.source, self.plan, on_frames)
        if self.carrying.detail:
            most = min(NEAR_FRAMES, NEAR_BYTES // (3 * self.plan.width * self.plan.height))
            more = earlier_frames(self.source, self.plan, most - len(frames))
            frames = np.concatenate([frames, more] if self.plan.source_last else [more, frames])
        if not self.plan.source_last:
            for sound in self._final_sound():
                self.writer.write_sound(sound)
            self.background.start(self._write_source)
        return frames

    def seen(self, near: RGBFrames) -> RGBFrames:
        """Returns those of the frames that `start` returned that the model sees (the context)."""
        count = self.plan.context_frames
        return near[:count] if self.plan.source_last else near[len(near) - count :]

    def add(self, clips: Iterator[GeneratedClip], near: RGBFrames, checker: SafetyChecker | None = None) -> bool:
        """Writes the new clips, or holds their last frames back for `finish`. Returns True if their sound is made
        of the source's.

        `clips` are in playing order. `near` are the frames that `start` returned. `checker` checks the new frames for
        unsafe content; None for no check. Raises ContentPolicyViolation if it flags one.
        """
        if not self.plan.source_last:
            return self._add_after_source(clips, near[::-1], checker)
        new = list(clips)
        total = sum(clip.new_frames for clip in new)
        far_sides = itertools.accumulate(clip.new_frames for clip in new)
        course = self._course(new[-1], near[0])
        sides = [self._sounding(clip, course, total - far) for clip, far in zip(new, far_sides, strict=True)]
        for sound in prepend_sound(self.track, sides, self.plan) if self.plan.makes_sound else self._final_sound():
            self.writer.write_sound(sound)
        detail = self._detail(new[-1], near)
        distance = total
        for clip in new:
            written = total - distance
            distance -= clip.new_frames
            frames = self._corrected(clip, correction(clip, near[0], detail, distance), checker)
            self._write_frames(self.writer.write, frames, written)
        return course is not None

    def finish(self) -> None:
        """Writes what `add` has held back and, if the source plays after the new frames, the source."""
        if self.plan.source_last:
            self._write_source(self.on_progress)
        else:
            self._later.flush()

    def _final_sound(self) -> list[Samples]:
        """Returns the sound that the model's clips do not change, in pieces: all of it if the model makes none."""
        if not self.plan.makes_sound:
            return silent_track(self.source_sound, self.plan)
        return [self.track[:, :-FADE_SAMPLES]]

    def _write_source(self, on_progress: OnProgress) -> None:
        progress = ProgressRelay(on_progress)
        for chunk in shown_frames(self.source, self.plan, progress):
            self.writer.write_source(chunk, progress.repeat)

    def _add_after_source(
        self, clips: Iterator[GeneratedClip], nearest_first: RGBFrames, checker: SafetyChecker | None
    ) -> bool:
        """Writes the new clips behind the source: each clip's sound and then its frames. Returns what `add` returns.

        `nearest_first` [T, H, W, 3] are the last frames of the source, in reverse order.
        """
        sound = AppendedSound(self.track, self.plan)
        detail, course, distance = None, None, 0
        for clip in clips:
            course = self._course(clip, nearest_first[0]) if distance == 0 else course
            if self.plan.makes_sound:
                self._later.write_sound(sound.append(self._sounding(clip, course, distance)))
            detail = self._detail(clip, nearest_first) if distance == 0 else detail
            frames = self._corrected(clip, correction(clip, nearest_first[0], detail, distance), checker)
            self._write_frames(self._later.write, frames, distance)
            distance += clip.new_frames
        return course is not None

    def _course(self, clip: GeneratedClip, joint: RGBFrames) -> Samples | None:
        """Returns the source's sound as it goes on (see `lasting_course`); None if the model's sound is taken.

        clip: the clip next to the source.
        joint: the source's frame next to it, [H, W, 3].
        """
        lasting = self.carrying.sound
        if lasting is None:
            return None
        if not lasting.is_sure and clip.rendition is not None:
            from longtake.carried.detail import is_of_own_world  # only miniatures need its large library

            if is_of_own_world(joint, _pictures(clip.rendition)):
                return None  # the model knows how the picture sounds
        return lasting_course(self.source_sound, lasting.sound, self.plan)

    def _sounding(self, clip: GeneratedClip, course: Samples | None, distance: int) -> GeneratedClip:
        """Returns a clip with the sound that the output gets. `distance` is its number of frames from the source."""
        if course is None:
            return balanced(clip, self.carrying.balance, self.plan, distance)
        return with_course(clip, course, self.plan, distance)

    def _detail(self, clip: GeneratedClip, nearest_first: RGBFrames) -> "CarriedPicture | None":
        """Returns what of the source's picture is carried into the new frames; None if nothing is.

        clip: the clip next to the source.
        nearest_first: the source's frames [T, H, W, 3] next to it, the nearest one first.
        """
        if clip.rendition is None or not self.carrying.detail:
            return None
        from longtake.carried.picture import carried_picture  # only miniatures need its large library

        return carried_picture(nearest_first, _pictures(clip.rendition))

    def _corrected(
        self, clip: GeneratedClip, correct: Correction, checker: SafetyChecker | None
    ) -> Iterator[RGBPicture]:
        """Yields a clip's frames as integers, after `correct` has corrected and `checker` has checked them."""
        frames = corrected_frames(clip, self.plan, correct)
        return checked_frames((as_integers(piece, self.plan.output_format.frame_format) for piece in frames), checker)

    def _write_frames(self, write: Callable[[RGBPicture], None], frames: Iterator[RGBPicture], written: int) -> None:
        """Writes a clip's frames with `write`. `written` is the number of new frames written before."""
        for pictures in frames:
            write(pictures)
            written += len(pictures)
            # A clip that also has the context, as the model renders it, has more frames than are new.
            self.on_progress(Progress("writing", min(written, self.plan.new_frames), self.plan.new_frames))


def correction(clip: GeneratedClip, joint: RGBFrames, detail: "CarriedPicture | None", distance: int) -> Correction:
    """Returns the function that corrects the frames of a clip: correct(frames, distances) -> corrected frames.

    The function adds `detail` to the frames. If `detail` is None, it removes the colour cast of the model's autoencoder
    instead.

    clip: the generated clip. If `clip.rendition` (the frame next to it, encoded and decoded by the autoencoder) is
        None, the function returns the frames unchanged.
    joint: the source's frame next to the new ones, [H, W, 3].
    detail: the fine detail of the source, which the model loses.
    distance: number of new frames between the source and the clip.
    """
    if clip.rendition is None:
        return lambda frames, distances: frames
    if detail is not None:
        return lambda frames, distances: _with_detail(frames, detail, [distance + each for each in distances])
    # The colour cast is the difference between two versions of the frame next to the clip: the one that the output
    # shows, which is the source's unless the model generated this frame, and the one that the autoencoder has encoded
    # and decoded.
    rendition = clip.rendition
    shown = torch.from_numpy(joint if clip.neighbour is None else clip.neighbour)
    shown = shown.to(rendition.device).permute(2, 0, 1).float() / 255
    return lambda frames, distances: match_colour(frames, shown, rendition, COLOUR_FADE_FRAMES, distances)


def corrected_frames(clip: GeneratedClip, plan: Plan, correct: Correction) -> Iterator[Tensor]:
    """Yields a clip's frames in playing order, with the source's fine detail or colours (as `correct` does it), in
    pieces [t, 3, H, W] in 0..1 of at most 8 frames (PIECE_FRAMES).

    plan: its `source_last` tells if the source plays before or after the clip.
    correct: the function that `correction` returned for the clip.
    """
    done = 0
    for piece in (piece for chunk in clip.frames for piece in chunk.split(PIECE_FRAMES) if len(piece)):
        numbers = range(done, done + len(piece))
        done = numbers.stop
        yield correct(piece, [clip.new_frames - 1 - each for each in numbers] if plan.source_last else numbers)


def _with_detail(frames: Tensor, detail: "CarriedPicture", distances: Sequence[int]) -> Tensor:
    """Returns frames [t, 3, H, W] in 0..1 with the source's fine detail, which the model loses, added to them.

    detail: what of the source is carried.
    distances: for each frame, the number of new frames between the source and this frame: 0 for the frame next to the
        source.
    """
    return torch.from_numpy(detail.carried(_pictures(frames), distances)).permute(0, 3, 1, 2)


def _pictures(pixels: Tensor) -> NDArray[np.float32]:
    """Returns pictures [..., 3, H, W] on any device as a NumPy array [..., H, W, 3]."""
    pictures: NDArray[np.float32] = pixels.movedim(-3, -1).cpu().numpy()
    return pictures
