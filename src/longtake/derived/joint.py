"""Measures and draws the joint of a finished video, where source and new frames meet, for the server's pages."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longtake.derived.place import first_frame_after, joint_place, sound_joint_s
from longtake.inspect.report import JointPosition, joint_report
from longtake.media.source import SourceReader
from longtake.plans import Plan, frames_on_clock
from longtake.video import VideoInfo


def joint_position(facts: VideoInfo, plan: Plan) -> JointPosition:
    """Returns where the joint of a finished file is: the place where the source's own frames and the new frames meet.

    If the output shows the model's version of the context (the source frames that the model sees), this version counts
    as new frames here.

    facts: the facts about the finished file.
    plan: the plan from which the file was made.
    """
    return JointPosition(
        frame=first_frame_after(plan),
        num_frames=min(plan.num_frames, frames_on_clock(facts.num_frames, facts.rate, plan.rate)),
        rate=plan.rate,
        sound_s=sound_joint_s(plan),
        new_first=plan.new_first,
    )


def inspect_joint(source: SourceReader, out: Path, plan: Plan, caption: str) -> dict[str, Any]:
    """Measures the joint of a finished video, where source and new frames meet, and draws it as a PNG file.

    source: the finished video.
    out: path of the PNG file.
    plan: the plan from which the video was made.
    caption: the line of text under the picture's title.

    Returns a JSON object:
    - frame, seconds: index of the first frame after the joint, and its time from the start.
    - sound_seconds: time from the start at which source and new sound meet.
    - num_frames, fps: number of frames and frame rate of the file.
    - new_first: True if the new frames come before the source's frames.
    - rows: the figures as text for people, each as (name, text).
    - the fields of `inspect.joint.JointFigures` and `inspect.pitch.ToneFigures`. Infinite values are None.

    If the file has fewer than two frames before the joint or after it, no picture is drawn, `rows` is empty, and the
    fields of the figures are left out.
    """
    position = joint_position(source.facts, plan)
    place = joint_place(plan) | {"num_frames": position.num_frames}
    report = joint_report(source, position, caption)
    if report is None:
        return place | {"rows": []}
    report.picture.save(out, "PNG")
    figures = asdict(report.figures) | asdict(report.tone)
    finite = {name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}
    return place | finite | {"rows": report.rows()}
