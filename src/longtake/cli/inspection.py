"""The `--inspect` option: measures the joint of a finished file, prints the figures and writes a picture of it."""

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


@dataclass(frozen=True)
class InspectedJoint:
    """The figures of a joint, whose first frame after it is `frame`, and the path of its picture."""

    frame: int
    figures: JointFigures
    tone: ToneFigures
    sheet: Path

    def to_json(self) -> dict[str, Any]:
        return {"frame": self.frame, "sheet": str(self.sheet), **asdict(self.figures), **asdict(self.tone)}

    def rows(self) -> list[tuple[str, str]]:
        """Returns the figures as lines of name and value."""
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
    """Returns the path of the picture for the option's value.

    The value is a file, a folder, or empty for the folder of the output `out`. In a folder the picture is named after
    the output.
    """
    path = Path(value) if value else out.parent
    return path / f"{out.stem}-joint.png" if path.is_dir() else path


def check_sheet(sheet: Path, *, force: bool) -> None:
    """Raises InvalidRequest if the picture is no PNG file or cannot be written; `force` allows to replace a file."""
    if sheet.suffix.lower() != ".png":
        raise InvalidRequest(
            f"{sheet} is neither a .png file nor a folder; --inspect takes either, or no value.",
            loc=("output",),
            value=str(sheet),
        )
    check_writable(sheet, "", overwrite=force, remedy="--force")


def inspect_joint(file: SourceReader, plan: Plan, sheet: Path) -> InspectedJoint | None:
    """Measures the joint of the file that the plan made and writes its picture to `sheet`.

    Returns None, and writes nothing, if the file has too few source frames or too few others.
    """
    position = joint_position(file, plan)
    report = joint_report(file, position, plan.prompt[:_CAPTION_LENGTH])
    if report is None:
        return None
    report.picture.save(sheet, "PNG")
    return InspectedJoint(position.frame, report.figures, report.tone, sheet)


def joint_position(file: SourceReader, plan: Plan) -> JointPosition:
    """Returns where the source's own frames meet others in the file that the plan made."""
    facts = file.facts
    # The model's rendition of the context can replace the source's frames while the source's sound continues.
    sound_joint = plan.new_frames if plan.new_first else plan.shown_frames
    return JointPosition(
        frame=plan.num_frames - plan.source_frames if plan.new_first else plan.source_frames,
        num_frames=min(plan.num_frames, frames_on_clock(facts.num_frames, facts.rate, plan.rate)),
        rate=plan.rate,
        sound_s=sound_joint / plan.rate,
        new_first=plan.new_first,
    )
