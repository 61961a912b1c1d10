"""Computes where the joint of a finished video is, the place where source and new frames meet. The video's plan (what
was decided before its generation) says it."""

from fractions import Fraction
from typing import Any

from longtake.plans import Plan


def first_frame_after(plan: Plan) -> int:
    """Returns the index of the first frame after the joint in the finished video of a plan.

    The joint is where the source's own frames meet all other frames. The other frames are the new frames. If the output
    shows the model's version of the context (the source frames that the model sees), this version belongs to them, too.
    """
    return plan.num_frames - plan.source_frames if plan.new_first else plan.source_frames


def sound_joint_s(plan: Plan) -> Fraction:
    """Returns the time in seconds, from the start of a plan's finished video, at which source and new sound meet.

    It can differ from the time at which the frames meet: the output can show the model's version of the context (the
    source frames that the model sees) together with the source's sound.
    """
    return (plan.new_frames if plan.new_first else plan.shown_frames) / plan.rate


def joint_place(plan: Plan) -> dict[str, Any]:
    """Returns where the joint of a plan's finished video is, the place where source and new frames meet.

    The result is a JSON object:
    frame: index of the first frame after the joint.
    seconds: time from the start of the video at which the source's frames and the other frames meet.
    sound_seconds: time from the start of the video at which source and new sound meet.
    num_frames, fps: number of frames and frame rate of the video.
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
