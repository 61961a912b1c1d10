"""The joint of a finished file, read back as a viewer's player would: its figures and a contact sheet."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from longtake.errors import InvalidRequest
from longtake.inspect.joint import JointFigures, joint_figures
from longtake.inspect.pitch import ToneFigures, tone_figures
from longtake.inspect.sheet import contact_sheet, stacked
from longtake.inspect.spectrogram import SPAN_S, spectrogram
from longtake.library import check_writable
from longtake.media.formats import SOUND_RATE
from longtake.media.source import SourceReader
from longtake.plans import Plan, frames_on_clock
from longtake.video import Span, VideoInfo

FRAMES_PER_SIDE = 9
LEAST_PER_SIDE = 2
_HEARD_S = Fraction(SPAN_S) + Fraction(1, 10)
"""Read on each side of the joint: what the spectrogram shows and its window."""


@dataclass(frozen=True)
class Joint:
    """Where in the file the source's own frames meet others (`frame` is the first behind), what is measured there,
    and the picture of it."""

    frame: int
    figures: JointFigures
    tone: ToneFigures
    sheet: Path

    def to_json(self) -> dict[str, Any]:
        return {"frame": self.frame, "sheet": str(self.sheet), **asdict(self.figures), **asdict(self.tone)}

    def rows(self) -> list[tuple[str, str]]:
        """The figures with what a joint that nobody sees or hears would show."""
        told = self.figures
        loudness = "no sound on one side" if told.loudness_step_db is None else f"{told.loudness_step_db:+.1f} dB"
        pitch, phase = self.tone.pitch_step_cents, self.tone.phase_jump_degrees
        return [
            ("joint", f"before frame {self.frame}"),
            ("colour shift", f"{told.colour_shift:.2f} of 255 (between neighbours {told.usual_colour_shift:.2f})"),
            ("sharpness", f"{told.sharpness_ratio:.2f} of what it was before"),
            ("frame difference", f"{told.difference_ratio:.2f} of that between neighbours"),
            ("motion", f"{told.motion_ratio:.2f} of what it was before"),
            ("loudness step", loudness),
            *([("pitch step", f"{round(pitch):+d} cents")] if pitch is not None else []),
            *([("phase jump", f"{phase:.0f} degrees")] if phase is not None else []),
            ("sheet", str(self.sheet)),
        ]


def sheet_path(asked: str, out: Path) -> Path:
    """Where the sheet goes: the PNG that is named, else beside the output or in the named folder by its name."""
    place = Path(asked) if asked else out.parent
    return place / f"{out.stem}-joint.png" if place.is_dir() else place


def check_sheet(sheet: Path, *, force: bool) -> None:
    """`check_writable` for the picture of the joint."""
    if sheet.suffix.lower() != ".png":
        raise InvalidRequest(
            f"{sheet} is neither a .png file nor a folder; --inspect takes either, or no value.",
            loc=("output",),
            value=str(sheet),
        )
    check_writable(sheet, "", overwrite=force, remedy="--force")


def inspect(file: SourceReader, plan: Plan, sheet: Path) -> Joint | None:
    """Measures the joint of the file that this plan made and writes the sheet; None where too few of the source's
    own frames are in it, or too few others, to have a joint."""
    joint = plan.num_frames - plan.source_frames if plan.new_first else plan.source_frames
    total = min(plan.num_frames, _frames_at(file.facts, plan.rate))
    start, stop = max(0, joint - FRAMES_PER_SIDE), min(total, joint + FRAMES_PER_SIDE)
    if min(joint - start, stop - joint) < LEAST_PER_SIDE:
        return None
    frames = np.concatenate(list(file.frames(Span(start, stop, plan.rate))))
    picture = contact_sheet(
        frames, joint - start, plan.rate, first_frame=start, new_first=plan.new_first, caption=plan.prompt[:120]
    )
    # Where the model's rendition of the context is shown, the source's sound may still go on beside it.
    sound_joint_s = (plan.new_frames if plan.new_first else plan.shown_frames) / plan.rate
    heard_from_s = max(Fraction(0), sound_joint_s - _HEARD_S)
    heard = file.sound(heard_from_s, min(sound_joint_s + _HEARD_S, total / plan.rate))
    heard_joint = round((sound_joint_s - heard_from_s) * SOUND_RATE)
    pictures, tone = [picture], ToneFigures(None, None)
    if heard is not None:
        tone = tone_figures(heard, heard_joint)
        first_s = float(heard_from_s)
        pictures.append(spectrogram(heard, heard_joint, picture.width, first_s=first_s, new_first=plan.new_first))
    stacked(pictures).save(sheet, "PNG")
    figures = joint_figures(
        frames[: joint - start], frames[joint - start :], heard, SOUND_RATE, heard_joint / SOUND_RATE
    )
    return Joint(joint, figures, tone, sheet)


def _frames_at(facts: VideoInfo, rate: Fraction) -> int:
    return frames_on_clock(facts.num_frames, facts.rate, rate)
