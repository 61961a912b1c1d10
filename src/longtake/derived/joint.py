"""The joint of a result, where source and new frames meet: its place, its figures, and a picture of it."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longtake.inspect.report import JointPosition, joint_report
from longtake.media.source import SourceReader
from longtake.plans import Plan, frames_on_clock
from longtake.video import VideoInfo


def joint_position(facts: VideoInfo, plan: Plan) -> JointPosition:
    """Returns the joint of a finished file: the place where the source's own frames meet all other frames.

    The other frames are the new frames. If the file shows the context frames (the source's frames that the model sees)
    as the model renders them, they also count as other frames.

    facts: those of the finished file.
    plan: the plan from which the file was made.
    """
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


def inspected(source: SourceReader, out: Path, plan: Plan, caption: str) -> dict[str, Any]:
    """Measures the joint of a finished file and draws it. Returns the figures as a JSON object.

    frame: index of the first frame after the joint.
    seconds, sound_seconds: the times at which the frames and the sound of source and model meet.
    num_frames, fps: those of the file, as the plan counts them.
    new_first: True if the new frames come before the source's frames.
    rows: the figures for people, each as [name, text].
    The other entries are those of `inspect.joint.JointFigures` and `inspect.pitch.ToneFigures`, and None where JSON
    cannot represent them.

    If the file has fewer than two frames before the joint or after it, no picture is drawn, `rows` is empty, and the
    entries of the figures are left out.

    out: path of the picture, a PNG file.
    plan: the plan from which the file was made.
    caption: the line of text under the picture's title.
    """
    position = joint_position(source.facts, plan)
    place = {
        "frame": position.frame,
        "seconds": float(position.frame / position.rate),
        "sound_seconds": float(position.sound_s),
        "num_frames": position.num_frames,
        "fps": float(position.rate),
        "new_first": position.new_first,
    }
    report = joint_report(source, position, caption)
    if report is None:
        return place | {"rows": []}
    report.picture.save(out, "PNG")
    figures = asdict(report.figures) | asdict(report.tone)
    finite = {name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}
    return place | finite | {"rows": report.rows()}
