"""Counts the context frames, the new frames and the billed frames of an LTX-2 request, and writes notes about them."""

from dataclasses import dataclass

from longtake.errors import InvalidRequest
from longtake.families.ltx2.options import DEFAULT_CONTEXT, Direction, LTX2Options
from longtake.families.ltx2.windows import LATENT_FRAMES, Window, context_length
from longtake.plans import clip_length, padded_length

LEAST_NEW_FRAMES = 8
"""The least number of new frames if the request does not set the number of context frames. The context is shortened
where it would leave fewer."""


@dataclass(frozen=True)
class FrameCounts:
    """The frame counts of a request.

    `context_frames`: the number of source frames that the model should continue. It sees fewer if a window has no room
        for all of them beside new frames.
    `new_frames`: the number of frames to generate.
    `billed_frames`: the number of frames that the price is computed from. It stays the same if the model sees fewer
        context frames.
    """

    context_frames: int
    new_frames: int
    billed_frames: int


def frame_counts(options: LTX2Options, available: int) -> FrameCounts:
    """Returns the frame counts of a request to extend a source of `available` frames.

    The context has the requested number of frames, rounded and limited by `whole_latent_context`. For the other counts
    there are three cases:
    - If the option `new_frames` is set, that many frames are new. They and the context are billed.
    - Otherwise `num_frames` frames are billed, and those that are not context are new.
    - If that leaves fewer than 8 (LEAST_NEW_FRAMES) new frames, and the request does not set the context, the context
      is shortened so that at least 8 are new. `num_frames` frames are billed, even if context and new frames are more.

    Raises InvalidRequest if the request sets a context that leaves none of `num_frames` for new frames.
    """
    direction, num_frames = options.direction, options.num_frames
    context = whole_latent_context(direction, requested_context(options), available)
    if options.new_frames is not None:
        return FrameCounts(context, options.new_frames, context + options.new_frames)
    if options.context_field is None and num_frames - context < LEAST_NEW_FRAMES:
        # A backward context has 8 frames if the source has, so the sum can be more than `num_frames`.
        room = max(num_frames - LEAST_NEW_FRAMES, 1 if direction == "forward" else LATENT_FRAMES)
        context = min(context, context_length(direction, room))
        return FrameCounts(context, max(num_frames - context, LEAST_NEW_FRAMES), num_frames)
    if num_frames <= context:
        raise InvalidRequest(
            f"{options.context_field} is {options.context_frames}, which takes {context} of num_frames = {num_frames} "
            f"and leaves no room for new ones: num_frames must be at least {context + 1}, "
            f"{context + 1 - num_frames} more.",
            loc=("body", str(options.context_field)),
            value=options.context_frames,
            ctx={"context_frames": context, "least_num_frames": context + 1},
        )
    return FrameCounts(context, num_frames - context, num_frames)


def requested_context(options: LTX2Options) -> int:
    """Returns the number of context frames that the request asks for, rounded down to 8k+1 if the endpoint does so. It
    does not always fill whole latents (see `whole_latent_context`)."""
    return clip_length(options.context_frames) if options.context_rounds_down else options.context_frames


def whole_latent_context(direction: Direction, context_frames: int, available: int) -> int:
    """Returns `context_frames` rounded to a number of frames that fills whole latents.

    `available`: the number of source frames. The result is at most this number.

    - Forward, the context is at the window's start. Its length is rounded up to 8k+1: 24 becomes 25. If the source has
      fewer frames, the result is the largest 8k+1 that is at most `available`.
    - Backward, the context is at the window's end. Its length is rounded up to 8k+1 and then made 1 shorter, but not
      shorter than 8: 25 becomes 24, and 26 becomes 32. If the source has fewer frames, the result is the largest 8k
      that is at most `available`, or `available` if it is less than 8.
    - 0 stays 0.
    """
    if context_frames == 0:
        return 0
    whole = padded_length(context_frames)
    wanted = whole if direction == "forward" else max(whole - 1, LATENT_FRAMES)
    return min(wanted, context_length(direction, available))


def window_context(options: LTX2Options, counts: FrameCounts, available: int) -> int:
    """Returns the largest number of context frames that any window of the plan may have.

    - Normally it is the number that the request asks for (or the default), rounded by `whole_latent_context`. It may be
      more than the source has: a later window continues new frames, and there may be enough of those.
    - If `frame_counts` shortened the context to make room for new frames, it is the shortened number,
      `counts.context_frames`.

    `counts`: the frame counts of the request, as `frame_counts` returns them.
    `available`: the number of source frames.
    """
    wanted = requested_context(options)
    if counts.context_frames < whole_latent_context(options.direction, wanted, available):
        return counts.context_frames
    return whole_latent_context(options.direction, wanted, available=wanted + LATENT_FRAMES)


def context_notes(options: LTX2Options, counts: FrameCounts, available: int, first: Window) -> tuple[str, ...]:
    """Returns notes for the user about the number of context frames.

    There is a note in each of these cases; in all others the tuple is empty:
    - The context and the new frames are together more than `num_frames`.
    - The request does not set the number of context frames, and `num_frames` makes the context shorter.
    - The request sets the number of context frames, but the context has more or fewer.
    - The window next to the source has no room for the whole context. There is no such note if the request does not set
      the number of context frames.

    `counts`: the frame counts of the request, as `frame_counts` returns them.
    `available`: the number of source frames.
    `first`: the window next to the source.
    """
    requested, field = options.context_frames, options.context_field
    fitting = whole_latent_context(options.direction, requested_context(options), available)
    notes = []
    if counts.context_frames + counts.new_frames > counts.billed_frames:
        both = f"{counts.context_frames} frames of context and {counts.new_frames} new ones"
        notes.append(f"num_frames is {counts.billed_frames}; {both} are the least that there can be.")
    elif field is None and counts.context_frames < fitting:
        notes.append(
            f"num_frames is {counts.billed_frames}, of which the context has {counts.context_frames}, so that "
            f"{counts.new_frames} are new."
        )
    if field is not None and counts.context_frames != requested:
        reason = "the source has no more" if requested > available else "a context fills whole latents"
        notes.append(f"{field} asks for {requested} frames; the context has {counts.context_frames}, for {reason}.")
    if first.context_frames < counts.context_frames and (field is not None or requested > DEFAULT_CONTEXT):
        notes.append(
            f"The model sees {first.context_frames} of the context's {counts.context_frames} frames: its window holds "
            f"no more beside the new ones."
        )
    return tuple(notes)
