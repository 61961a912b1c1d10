"""Reports on the joint of a finished video file, where source and new frames meet: its figures, and a picture of it."""

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
"""At most this many frames before the joint (where source and new frames meet), and as many after it, are drawn."""

MIN_FRAMES_PER_SIDE = 2
"""A joint (where source and new frames meet) can be measured if it has at least this many frames before it and after
it."""

_SOUND_PER_SIDE_S = Fraction(SPAN_S) + Fraction(1, 10)
"""Seconds of sound that are read before the joint (where source and new sound meet), and after it: the spectrogram's 2
s (SPAN_S), and 0.1 s more, because the Fourier transforms at its edges reach beyond them."""


@dataclass(frozen=True)
class JointPosition:
    """Where source and new frames meet in a video file (the joint).

    frame: index of the first frame after the joint.
    num_frames, rate: number of frames of the video, and frames per second.
    sound_s: time at which source and new sound meet, in seconds from the start of the video. It differs from `frame /
        rate` if generated frames have the source's sound.
    new_first: True if the new frames come before the source's frames.
    """

    frame: int
    num_frames: int
    rate: Fraction
    sound_s: Fraction
    new_first: bool


@dataclass(frozen=True)
class JointReport:
    """How much picture and sound change at a joint, where source and new frames meet, and a picture of the joint.

    figures: changes of colour, sharpness, motion and loudness.
    tone: changes of the pitch and the phase of the sound.
    has_sound: True if the video has sound.
    picture: the frames around the joint and, if there is sound, its spectrogram below them.
    """

    figures: JointFigures
    tone: ToneFigures
    has_sound: bool
    picture: Image.Image

    def rows(self) -> list[tuple[str, str]]:
        """Returns the figures as text for people, in rows (name, value)."""
        return figure_rows(self.figures, self.tone, has_sound=self.has_sound)


def figure_rows(figures: JointFigures, tone: ToneFigures, *, has_sound: bool) -> list[tuple[str, str]]:
    """Returns the figures of a joint (where source and new frames meet) as text for people, in rows (name, value).

    The rows of pitch and phase are left out if these are None in `tone`, that of loudness if the video has no sound.
    """
    pitch, phase, step = tone.pitch_step_cents, tone.phase_jump_degrees, figures.loudness_step_db
    loudness = "silence on one side or both" if step is None else f"{step:+.1f} dB"
    return [
        ("colour shift", f"{figures.colour_shift:.2f} of 255 (between neighbours {figures.usual_colour_shift:.2f})"),
        ("sharpness", f"{figures.sharpness_ratio:.2f} of what it was before"),
        ("frame difference", f"{figures.difference_ratio:.2f} of that between neighbours"),
        ("motion", f"{figures.motion_ratio:.2f} of what it was before"),
        *([("loudness step", loudness)] if has_sound else []),
        *([("pitch step", f"{round(pitch):+d} cents")] if pitch is not None else []),
        *([("phase jump", f"{phase:.0f} degrees")] if phase is not None else []),
    ]


def joint_report(file: SourceReader, joint: JointPosition, caption: str = "") -> JointReport | None:
    """Returns the figures and the picture of the joint in a finished video, where source and new frames meet.

    Returns None if there are fewer than two frames before the joint or after it.

    file: the finished video.
    joint: where the joint is in it.
    caption: the line of text under the picture's title.
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
        return JointReport(figures, ToneFigures(None, None), has_sound=False, picture=sheet)
    drawn_sound = spectrogram(sound, sample, sheet.width, first_s=float(sound_start_s), new_first=joint.new_first)
    picture = stacked([sheet, drawn_sound])
    return JointReport(figures, tone_figures(sound, sample), has_sound=True, picture=picture)
