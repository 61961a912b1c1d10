"""The source's own frames and sound and the new ones, joined in the order of the result."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from longtake.families.family import Frames, Piece, Samples
from longtake.media.join import match_colour
from longtake.media.source import SourceReader
from longtake.output.soundtrack import FADE, continued, preceded, source_part
from longtake.output.source_frames import first_frames, frames_after, write_source
from longtake.output.writer import VideoWriter
from longtake.plans import Plan
from longtake.safety import Checker, watched
from longtake.video import OnProgress

COLOUR_FADE_FRAMES = 24
"""Over so many new frames the autoencoder's colour cast, taken off at the joint, comes back: too slowly to be seen."""


@dataclass(frozen=True)
class Joining:
    """Joins a source with its `own_sound` [2, n] and new frames in one file. `checker` looks at the new frames."""

    plan: Plan
    source: SourceReader
    own_sound: Samples | None
    writer: VideoWriter
    checker: Checker | None
    on_progress: OnProgress

    @cached_property
    def track(self) -> Samples:
        """The part of the source's sound that stays as it is."""
        return source_part(self.own_sound, self.plan)

    @cached_property
    def settled(self) -> int:
        """The number of samples of `track` that new sound does not change: all but a cross-fade at its end."""
        return max(0, int(self.track.shape[1]) - FADE)

    def begin(self) -> Frames:
        """Reads the context [n, H, W, 3], at least one frame; where the source comes first, writes all that is shown of
        it."""
        if self.plan.source_last:
            return first_frames(self.source, self.plan)
        self.writer.write_sound(self.track[:, : self.settled])
        return write_source(self.source, self.plan, self.writer.write, self.on_progress)

    def end(self, pieces: Iterator[Piece], joint: Frames) -> None:
        """Writes the rest; `joint` [H, W, 3] is the source's frame at the joint."""
        if not self.plan.source_last:
            self._write_after(pieces, joint)
            return
        made = list(pieces)
        self.writer.write_sound(preceded(self.track, made, self.plan))
        for piece in made:
            self._write_frames(piece, joint)
        for rest in frames_after(self.source, self.plan, self.on_progress):
            self.writer.write(rest)

    def _write_after(self, pieces: Iterator[Piece], joint: Frames) -> None:
        """Writes each piece's sound, as far as it is settled, and then its frames."""
        plan, track, written, done = self.plan, self.track, self.settled, self.plan.shown_frames
        for piece in pieces:
            done += piece.new_frames
            track = continued(track, piece, plan, done)
            settled = track.shape[1] - (0 if done == plan.num_frames else FADE)
            self.writer.write_sound(track[:, written:settled])
            written = settled
            self._write_frames(piece, joint)

    def _write_frames(self, piece: Piece, joint: Frames) -> None:
        for frames in watched(matched_frames(piece, self.plan, joint), self.checker):
            self.writer.write(frames)


def matched_frames(piece: Piece, plan: Plan, neighbour: Frames) -> Iterator[NDArray[np.float32]]:
    """A piece's frames [t, H, W, 3] in 0..1 without the autoencoder's colour cast at the joint.

    The cast is the difference between the frame that is shown there (the source's `neighbour` [H, W, 3], or one made
    before) and the model's rendition of it.
    """
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
