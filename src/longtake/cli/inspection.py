"""The joint of a finished file, read back as a viewer's player would: its figures and a contact sheet."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from longtake.clip import Source, Span
from longtake.media.formats import SOUND_RATE
from longtake.media.joint import LOUDNESS_WINDOW_S, JointFigures, joint_figures
from longtake.media.sheet import contact_sheet
from longtake.media.source import SourceReader
from longtake.plan import Plan, frames_on_clock

FRAMES_PER_SIDE = 9
LEAST_PER_SIDE = 2


@dataclass(frozen=True)
class Joint:
    """Where in the file the source's own frames meet others (`frame` is the first behind), what is measured there,
    and the picture of it."""

    frame: int
    figures: JointFigures
    sheet: Path

    def to_json(self) -> dict[str, Any]:
        return {"frame": self.frame, "sheet": str(self.sheet), **asdict(self.figures)}

    def rows(self) -> list[tuple[str, str]]:
        """The figures with what a joint that nobody sees would show."""
        told = self.figures
        loudness = "no sound on one side" if told.loudness_step_db is None else f"{told.loudness_step_db:+.1f} dB"
        return [
            ("joint", f"before frame {self.frame}"),
            ("colour shift", f"{told.colour_shift:.2f} of 255 (between neighbours {told.usual_colour_shift:.2f})"),
            ("sharpness", f"{told.sharpness_ratio:.2f} of what it was before"),
            ("frame difference", f"{told.difference_ratio:.2f} of that between neighbours"),
            ("motion", f"{told.motion_ratio:.2f} of what it was before"),
            ("loudness step", loudness),
            ("sheet", str(self.sheet)),
        ]


def sheet_path(asked: str, out: Path) -> Path:
    """Where the sheet goes: the PNG that is named, else beside the output or in the named folder by its name."""
    place = Path(asked) if asked else out.parent
    return place / f"{out.stem}-joint.png" if place.is_dir() else place


def inspect(file: SourceReader, plan: Plan, sheet: Path) -> Joint | None:
    """Measures the joint of the file that this plan made and writes the sheet; None where too few of the source's
    own frames are in it, or too few others, to have a joint."""
    joint = plan.num_frames - plan.kept_frames if plan.reverse else plan.kept_frames
    total = min(plan.num_frames, _frames_at(file.facts, plan.rate))
    start, stop = max(0, joint - FRAMES_PER_SIDE), min(total, joint + FRAMES_PER_SIDE)
    if min(joint - start, stop - joint) < LEAST_PER_SIDE:
        return None
    frames = np.concatenate(list(file.frames(Span(start, stop, plan.rate))))
    joint_s = joint / plan.rate
    window = Fraction(LOUDNESS_WINDOW_S)
    heard_from = max(Fraction(0), joint_s - window)
    figures = joint_figures(
        frames[: joint - start],
        frames[joint - start :],
        file.sound(heard_from, joint_s + window),
        SOUND_RATE,
        float(joint_s - heard_from),
    )
    contact_sheet(
        frames, joint - start, sheet, plan.rate, first_frame=start, new_first=plan.reverse, caption=plan.prompt[:120]
    )
    return Joint(joint, figures, sheet)


def _frames_at(facts: Source, rate: Fraction) -> int:
    return frames_on_clock(facts.num_frames, facts.rate, rate)
