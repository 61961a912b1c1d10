"""The place of the joint in a result, where source and new frames meet, as a plan decides it."""

from fractions import Fraction
from typing import Any

from longtake.plans import Plan


def first_frame_after(plan: Plan) -> int:
    """Returns the index of the output's first frame after the joint.

    The joint is where the source's own frames meet all other frames. These are the new frames and, if the output shows
    the context frames (the source's frames that the model sees) as the model renders them, also those.
    """
    return plan.num_frames - plan.source_frames if plan.new_first else plan.source_frames


def sound_joint_s(plan: Plan) -> Fraction:
    """Returns the time in seconds at which source and new sound meet.

    If the output shows the context as the model renders it, the source's sound continues during the context, so the
    sound's joint is at the end of the context.
    """
    return (plan.new_frames if plan.new_first else plan.shown_frames) / plan.rate


def joint_place(plan: Plan) -> dict[str, Any]:
    """Returns the place of the joint as a JSON object.

    frame: index of the first frame after the joint.
    seconds, sound_seconds: the times at which the frames and the sound of source and model meet.
    num_frames, fps: those of the output.
    new_first: True if the new frames come before the source's frames.
    """
    frame = first_frame_after(plan)
    return {
        "frame": frame,
        "seconds": float(frame / plan.rate),
        "sound_seconds": float(sound_joint_s(plan)),
        "num_frames": plan.num_frames,
        "fps": float(plan.rate),
        "new_first": plan.new_first,
    }
