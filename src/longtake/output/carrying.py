"""Decides what of the source is carried into the new frames and their sound, and writes the notes about it."""

from dataclasses import dataclass

from longtake.carried.balance import HEARD_S, Balance
from longtake.carried.repeated_sound import RepeatedSound
from longtake.carried.steady_sound import SteadySound
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import Samples, reverse
from longtake.output.soundtrack import Continued
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

REPEATED_NOTE = (
    "The source's sound repeats itself, and a small model does not know it, so the new sound repeats its last period. "
    "LONGTAKE_CARRY_DETAIL=never gives the model's own sound."
)

SILENT_NOTE = "The source's sound is silent where the new frames begin, so their sound is silent."

NO_TRACK_NOTE = "The source has no sound, so the sound of the new frames is silent."

MORE = 0.01
"""A sound that repeats itself and has steady tones is repeated if that explains this much more of it than the tones."""


@dataclass(frozen=True)
class LastingSound:
    """The part of a source's sound that goes on in the new frames, such as its tones or its beeps.

    sound: how it goes on.
    note: the note for the user.
    is_sure: True if it goes on in any case; otherwise only if the model does not know the source's picture.
    """

    sound: Continued
    note: str
    is_sure: bool = False

    @classmethod
    def of(cls, sound: Samples | None) -> "LastingSound | None":
        """Returns what goes on after a sound [2, n] at SOUND_RATE Hz; None if it is neither steady nor repeated.

        Sound that repeats itself can also be taken for steady: a tone repeats itself, and ten clicks a second are like
        noise. Steady tones go on more exactly, but all other sound is repeated, also beeps with silence of a second
        between them.

        sound: None if the source has no sound track. Then silence goes on, unless the model invents a sound for a
            picture that it knows.
        """
        if sound is None:
            return cls(SteadySound(None, None), NO_TRACK_NOTE)
        steady, repeated = SteadySound.of(sound), RepeatedSound.of(sound)
        if repeated and not (steady and steady.tonal + MORE >= repeated.likeness):
            return cls(repeated, REPEATED_NOTE)
        if steady is None:
            return None
        return cls(steady, SILENT_NOTE, is_sure=True) if steady.is_silent else cls(steady, STEADY_NOTE)


@dataclass(frozen=True)
class Carrying:
    """The parts of a job's source that are carried into its new frames and their sound.

    detail: True if the source's fine detail and its motion are added to the new frames that the model generates.
    balance: the stereo balance of the source's sound, with which the new sound goes on. None if it has its own.
    sound: the part of the source's sound of which the new sound is made. None if the new sound is the model's.
    """

    detail: bool = False
    balance: Balance | None = None
    sound: LastingSound | None = None

    @classmethod
    def of(cls, job: Job, sound: Samples | None, settings: Settings) -> "Carrying":
        """Returns what is carried. Sound is carried if picture is, the job's model is a small one, and it makes sound.

        sound: the sound of the source frames that the output shows, [2, n]; None if there is none.
        """
        plan = job.plan
        if not carries_detail(job, settings):
            return cls()
        if not (plan.makes_sound and job.card.embedded):
            return cls(detail=True)
        outwards = reverse(sound) if sound is not None and plan.source_last else sound
        # With a lower strength, the new sound is to be the model's.
        lasting = LastingSound.of(outwards) if plan.sound_strength == 1 else None
        if outwards is None:
            return cls(True, None, lasting)
        balance = Balance.of(outwards[:, -round(HEARD_S * SOUND_RATE) :])
        return cls(True, None if balance.is_central else balance, lasting)

    def notes(self, plan: Plan, *, is_sound_carried: bool) -> tuple[str, ...]:
        """Returns the notes for the user.

        is_sound_carried: True if the new sound is made of the source's, and not the model's.
        """
        if not self.detail:
            return ()
        detail = ONE_FRAME_NOTE if plan.shown_frames == 1 else DETAIL_NOTE
        if is_sound_carried and self.sound:
            return (detail, self.sound.note)
        return (detail,) if self.balance is None else (detail, BALANCE_NOTE)


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
