"""The option `--inspect`: measures and draws the joint of a finished file (where source and new frames meet)."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longtake.derived.joint import joint_position
from longtake.errors import InvalidRequest
from longtake.inspect.joint import JointFigures
from longtake.inspect.pitch import ToneFigures
from longtake.inspect.report import figure_rows, joint_report
from longtake.library import check_writable
from longtake.media.source import SourceReader
from longtake.plans import Plan

_CAPTION_LENGTH = 120
"""Maximum number of characters of the prompt in the caption of the picture that shows where source and new frames
meet."""


@dataclass(frozen=True)
class InspectedJoint:
    """The measured joint of a file, where source and new frames meet.

    frame: index in the file of the first frame after the joint.
    figures: how much the picture changes at the joint.
    tone: how much the sound changes there.
    has_sound: True if the file has sound.
    sheet: path of the picture of the joint, a PNG file.
    """

    frame: int
    figures: JointFigures
    tone: ToneFigures
    has_sound: bool
    sheet: Path

    def to_json(self) -> dict[str, Any]:
        """Returns the value of the key `joint` in the JSON document that `extend --json` prints: where source and new
        frames meet, and how much changes there."""
        return {"frame": self.frame, "sheet": str(self.sheet), **asdict(self.figures), **asdict(self.tone)}

    def rows(self) -> list[tuple[str, str]]:
        """Returns the place of the joint (where source and new frames meet), its figures and the picture's path as rows
        (name, value) for a terminal."""
        return [
            ("joint", f"before frame {self.frame}"),
            *figure_rows(self.figures, self.tone, has_sound=self.has_sound),
            ("sheet", str(self.sheet)),
        ]


def sheet_path(value: str, out: Path) -> Path:
    """Returns the path to which the picture of the joint (where source and new frames meet) is written.

    value: the value of the option `--inspect`. If it is empty, the picture is `<name of out>-joint.png` in the folder
        of `out`. If it is a folder that exists, the picture has the same name in this folder. Any other value is the
        picture's path itself.
    out: path of the output video.
    """
    path = Path(value) if value else out.parent
    return path / f"{out.stem}-joint.png" if path.is_dir() else path


def check_sheet(sheet: Path, *, force: bool) -> None:
    """Raises InvalidRequest if the picture of the joint (where source and new frames meet) cannot be written to
    `sheet`.

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
    position = joint_position(file.facts, plan)
    report = joint_report(file, position, plan.prompt[:_CAPTION_LENGTH])
    if report is None:
        return None
    report.picture.save(sheet, "PNG")
    return InspectedJoint(position.frame, report.figures, report.tone, report.has_sound, sheet)
