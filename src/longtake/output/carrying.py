"""Decides what of the source is carried into the new frames and their sound, and writes the notes about it."""

from longtake.carried.balance import HEARD_S, Balance
from longtake.carried.steady_sound import SteadySound
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import Samples, reverse
from longtake.plans import Plan
from longtake.prepare import Job
from longtake.settings import Settings

DETAIL_NOTE = (
    "A small model can draw little, so the new frames mostly show the source's own picture, moved on: what moves "
    "steadily goes on, other motion swings back and forth, and nothing new appears. LONGTAKE_CARRY_DETAIL=never shows "
    "the model's own frames."
)

ONE_FRAME_NOTE = (
    "A small model can draw little, so the new frames mostly show the source's own picture. The source has one frame, "
    "which shows no motion, so the picture of footage moves only as a whole. A source of more frames goes on better."
)

BALANCE_NOTE = "A small model makes sound that is equally loud on both sides; it is given the source's stereo balance."

STEADY_NOTE = (
    "A small model does not know the source's sound, so the new sound is the steady part of the source's: tones and "
    "noise that do not change. LONGTAKE_CARRY_DETAIL=never gives the model's own sound."
)

SILENT_NOTE = "The source's sound is silent where the new frames begin, so their sound is silent."


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


def carried_balance(job: Job, sound: Samples | None, settings: Settings) -> Balance | None:
    """Returns the stereo balance of the source's sound, with which the new sound goes on.

    It is None if the new sound keeps its own balance: if nothing is carried (see `carries_detail`), if the job's model
    is not a small one, and if both sides of the source are equally loud.

    sound: the sound of the source frames that the output shows, [2, n]; None if there is none.
    """
    if sound is None or not (job.plan.makes_sound and job.card.embedded and carries_detail(job, settings)):
        return None
    heard = round(HEARD_S * SOUND_RATE)
    balance = Balance.of(reverse(sound[:, :heard]) if job.plan.source_last else sound[:, -heard:])
    return None if balance.is_central else balance


def steady_sound(job: Job, sound: Samples | None, settings: Settings) -> SteadySound | None:
    """Returns the steady part of the source's sound, with which the new sound goes on if the model does not know it.

    It is None if nothing is carried (see `carries_detail`), if the job's model is not a small one or makes the source's
    sound anew, and if the source's sound is not steady.

    sound: the sound of the source frames that the output shows, [2, n]; None if there is none.
    """
    plan = job.plan
    if sound is None or not (plan.makes_sound and job.card.embedded and carries_detail(job, settings)):
        return None
    if plan.sound_strength < 1:
        return None
    return SteadySound.of(reverse(sound) if plan.source_last else sound)


def carrying_notes(plan: Plan, balance: Balance | None, steady: SteadySound | None) -> tuple[str, ...]:
    """Returns the notes for the user if the source's fine detail is added to the new frames.

    balance: the stereo balance that the new sound gets; None if it has its own.
    steady: the steady part of the source's sound if the new sound is made of it, and not by the model; otherwise None.
    """
    detail = ONE_FRAME_NOTE if plan.shown_frames == 1 else DETAIL_NOTE
    if steady is not None:
        return (detail, SILENT_NOTE if steady.is_silent else STEADY_NOTE)
    return (detail,) if balance is None else (detail, BALANCE_NOTE)
