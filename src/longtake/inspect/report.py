"""Reads the joint of a finished video file: measures it and draws the frames and the sound around it."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image

from longtake.inspect.joint import JointFigures, joint_figures
from longtake.inspect.pitch import ToneFigures, tone_figures
from longtake.inspect.sheet import contact_sheet, stacked
from longtake.inspect.spectrogram import SPAN_S, spectrogram
from longtake.media.formats import SOUND_RATE
from longtake.media.source import SourceReader
from longtake.video import Span

FRAMES_PER_SIDE = 9
"""Frames that are read and drawn on each side of the joint."""

MIN_FRAMES_PER_SIDE = 2
"""With fewer frames on a side there is no joint to measure."""

_SOUND_PER_SIDE_S = Fraction(SPAN_S) + Fraction(1, 10)
"""Seconds of sound that are read on each side of the joint: what the spectrogram shows, and its window."""


@dataclass(frozen=True)
class JointPosition:
    """Where a video file has its joint.

    `frame` is the index of the first frame after it, of `num_frames` at `rate` frames per second. `sound_s` is the
    joint of the sound in seconds: it differs if the source's sound continues during generated frames. With `new_first`
    the new frames come before the source's.
    """

    frame: int
    num_frames: int
    rate: Fraction
    sound_s: Fraction
    new_first: bool


@dataclass(frozen=True)
class JointReport:
    """The figures of a joint and the picture of the frames and the sound around it."""

    figures: JointFigures
    tone: ToneFigures
    picture: Image.Image


def joint_report(file: SourceReader, joint: JointPosition, caption: str = "") -> JointReport | None:
    """Returns the report on a joint, or None if one side has fewer than MIN_FRAMES_PER_SIDE frames.

    `caption` is a line of text in the picture.
    """
    start, stop = max(0, joint.frame - FRAMES_PER_SIDE), min(joint.num_frames, joint.frame + FRAMES_PER_SIDE)
    before = joint.frame - start
    if min(before, stop - joint.frame) < MIN_FRAMES_PER_SIDE:
        return None
    frames = np.concatenate(list(file.frames(Span(start, stop, joint.rate))))
    sheet = contact_sheet(frames, before, joint.rate, first_frame=start, new_first=joint.new_first, caption=caption)
    sound_start_s = max(Fraction(0), joint.sound_s - _SOUND_PER_SIDE_S)
    sound_stop_s = min(joint.sound_s + _SOUND_PER_SIDE_S, joint.num_frames / joint.rate)
    sound = file.sound(sound_start_s, sound_stop_s)
    sample = round((joint.sound_s - sound_start_s) * SOUND_RATE)
    figures = joint_figures(frames[:before], frames[before:], sound, SOUND_RATE, sample / SOUND_RATE)
    if sound is None:
        return JointReport(figures, ToneFigures(None, None), sheet)
    drawn_sound = spectrogram(sound, sample, sheet.width, first_s=float(sound_start_s), new_first=joint.new_first)
    return JointReport(figures, tone_figures(sound, sample), stacked([sheet, drawn_sound]))
