"""The option `--inspect`: measures and draws the joint of a finished file (where source and new frames meet)."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longtake.errors import InvalidRequest
from longtake.inspect.joint import JointFigures
from longtake.inspect.pitch import ToneFigures
from longtake.inspect.report import JointPosition, joint_report
from longtake.library import check_writable
from longtake.media.source import SourceReader
from longtake.plans import Plan, frames_on_clock

_CAPTION_LENGTH = 120
"""Maximum number of characters of the prompt in the picture."""


@dataclass(frozen=True)
class InspectedJoint:
    """The measured joint of a file, where source and new frames meet.

    frame: index in the file of the first frame after the joint.
    figures: how much the picture changes at the joint.
    tone: how much the sound changes there.
    sheet: path of the picture of the joint, a PNG file.
    """

    frame: int
    figures: JointFigures
    tone: ToneFigures
    sheet: Path

    def to_json(self) -> dict[str, Any]:
        """Returns the value of the key `joint` in the JSON document that `extend --json` prints."""
        return {"frame": self.frame, "sheet": str(self.sheet), **asdict(self.figures), **asdict(self.tone)}

    def rows(self) -> list[tuple[str, str]]:
        """Returns the figures as rows (name, value) for a terminal. Pitch and phase are left out if not measured."""
        figures, pitch, phase = self.figures, self.tone.pitch_step_cents, self.tone.phase_jump_degrees
        loudness = "no sound on one side"
        if figures.loudness_step_db is not None:
            loudness = f"{figures.loudness_step_db:+.1f} dB"
        return [
            ("joint", f"before frame {self.frame}"),
            (
                "colour shift",
                f"{figures.colour_shift:.2f} of 255 (between neighbours {figures.usual_colour_shift:.2f})",
            ),
            ("sharpness", f"{figures.sharpness_ratio:.2f} of what it was before"),
            ("frame difference", f"{figures.difference_ratio:.2f} of that between neighbours"),
            ("motion", f"{figures.motion_ratio:.2f} of what it was before"),
            ("loudness step", loudness),
            *([("pitch step", f"{round(pitch):+d} cents")] if pitch is not None else []),
            *([("phase jump", f"{phase:.0f} degrees")] if phase is not None else []),
            ("sheet", str(self.sheet)),
        ]


def sheet_path(value: str, out: Path) -> Path:
    """Returns the path of the picture of the joint (where source and new frames meet).

    value: the value of the option `--inspect`:
        empty: the result is `<name of out>-joint.png` in the folder of `out`.
        a folder that exists: the result is `<name of out>-joint.png` in this folder.
        any other path: the result is this path.
    out: path of the output video.
    """
    path = Path(value) if value else out.parent
    return path / f"{out.stem}-joint.png" if path.is_dir() else path


def check_sheet(sheet: Path, *, force: bool) -> None:
    """Raises InvalidRequest if the picture of the joint cannot be written to the path `sheet`.

    This is so if the path does not end in .png, if its folder cannot be written, or if the file exists already and
    `force` is False.
    """
    if sheet.suffix.lower() != ".png":
        raise InvalidRequest(
            f"{sheet} is neither a .png file nor a folder; --inspect takes either, or no value.",
            loc=("output",),
            value=str(sheet),
        )
    check_writable(sheet, "", overwrite=force, remedy="--force")


def inspect_joint(file: SourceReader, plan: Plan, sheet: Path) -> InspectedJoint | None:
    """Measures the joint of a finished file, where source and new frames meet, and draws it.

    file: the finished file.
    plan: the plan from which the file was made.
    sheet: path of the PNG file into which the joint is drawn.

    Returns None and writes nothing if the file has fewer than two frames before the joint or after it.
    """
    position = joint_position(file, plan)
    report = joint_report(file, position, plan.prompt[:_CAPTION_LENGTH])
    if report is None:
        return None
    report.picture.save(sheet, "PNG")
    return InspectedJoint(position.frame, report.figures, report.tone, sheet)


def joint_position(file: SourceReader, plan: Plan) -> JointPosition:
    """Returns the joint of a finished file: the place where the source's own frames meet all other frames.

    The other frames are the new frames. If the file shows the context frames (the source's frames that the model sees)
    as the model renders them, they also count as other frames.

    file: the finished file.
    plan: the plan from which the file was made.
    """
    facts = file.facts
    # If the file shows the context as the model renders it, the picture's joint is at the start of the context. The
    # source's sound continues during the context, so the sound's joint is at its end.
    sound_joint = plan.new_frames if plan.new_first else plan.shown_frames
    return JointPosition(
        frame=plan.num_frames - plan.source_frames if plan.new_first else plan.source_frames,
        num_frames=min(plan.num_frames, frames_on_clock(facts.num_frames, facts.rate, plan.rate)),
        rate=plan.rate,
        sound_s=sound_joint / plan.rate,
        new_first=plan.new_first,
    )
