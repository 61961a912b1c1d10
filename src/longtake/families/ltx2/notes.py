"""Notes for the user about a plan of LTX-2.3: repeated source frames, and parts of the request that have no effect.

The notes about the number of context frames are in `frame_counts`.
"""

from longtake.families.ltx2.options import LTX2Options
from longtake.plans import Plan, rate_note, unseen_source_note
from longtake.video import VideoInfo


def plan_notes(options: LTX2Options, source: VideoInfo, plan: Plan) -> tuple[str, ...]:
    """Returns the notes for the user about `plan`, except those that `context_notes` returns (about context frames).

    `options` are those of the request, and `source` has the facts of the source video.
    """
    return (*rate_notes(source, plan), *strength_notes(options, source, plan))


def rate_notes(source: VideoInfo, plan: Plan) -> tuple[str, ...]:
    """Returns a note if the source has less than one frame per second or more than 60: its frames are then repeated, or
    left out. Otherwise the tuple is empty."""
    note = rate_note(source.rate, plan.rate)
    return () if note is None else (note,)


def strength_notes(options: LTX2Options, source: VideoInfo, plan: Plan) -> tuple[str, ...]:
    """Returns a note for each part of the request that has no effect, because a strength or a number of frames is 0.

    - The context: the request has 0 context frames, or their strength is 0.
    - The context's sound: its strength is 0.
    - The end image: its strength is 0.
    """
    notes = []
    if options.context_frames == 0:
        notes.append(unseen_source_note(plan, "num_context_frames"))
    elif options.strength == 0:
        notes.append(unseen_source_note(plan, "video_strength"))
    if options.sound and options.audio_strength == 0 and options.context_frames and source.sound is not None:
        notes.append("audio_strength is 0: the model hears nothing of the source's sound.")
    if options.end_image is not None and options.end_image_strength == 0:
        notes.append("end_image_strength is 0: the end image has no effect.")
    return tuple(notes)
