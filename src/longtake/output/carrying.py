"""Decides whether the source's fine detail is carried into the new frames, and writes the note to the user about it."""

from longtake.plans import Plan
from longtake.prepare import Job
from longtake.settings import Settings

DETAIL_NOTE = (
    "A small model cannot draw footage, so the source's fine detail and motion are carried into the new frames: steady "
    "motion goes on, other motion swings back and forth. LONGTAKE_CARRY_DETAIL=never shows the model's own frames."
)

ONE_FRAME_NOTE = (
    "A small model cannot draw footage, so the source's fine detail is carried into the new frames. It sees one frame, "
    "which shows no motion: it guesses how things move, and the picture decays. A source of more frames goes on better."
)


def carries_detail(job: Job, settings: Settings) -> bool:
    """Returns True if the source's fine detail and its motion are added to the new frames that the model generates.

    This is so if all of these conditions hold:
    - The setting `carry_detail` is "always", or it is "stand-in" and the job's model is a small one, in place of a
      published model that is not installed.
    - The model sees frames of the source, and the output shows these frames with their own pixels.
    - There is no end image, because with one the new frames must arrive at other content than the source's.
    """
    plan = job.plan
    asked = settings.carry_detail == "always" or (
        settings.carry_detail == "stand-in" and job.model.stands_in_for is not None
    )
    return asked and plan.keeps_source and plan.context_frames > 0 and job.end_image is None


def carrying_note(plan: Plan) -> str:
    """Returns the note for the user if the source's fine detail is added to the new frames."""
    return ONE_FRAME_NOTE if plan.context_frames == 1 else DETAIL_NOTE
