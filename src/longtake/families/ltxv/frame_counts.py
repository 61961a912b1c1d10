"""The frame counts of an LTX-Video 0.9.x plan, and its windows."""

from dataclasses import dataclass, replace

from longtake.families.ltxv.options import LTXVOptions
from longtake.models.registry import LTXVCard
from longtake.plans import clip_length, latent_length, padded_length
from longtake.video import Span

LEAST_NEW_FRAMES = 8
"""The least number of new frames if the request's frame count includes source frames. If the source frames leave fewer
new frames than this, the model sees fewer source frames."""


@dataclass(frozen=True)
class Window:
    """A part of the clip that is sampled at once: its latent frames from number `start` (from 0) to before `stop`."""

    start: int
    stop: int


@dataclass(frozen=True)
class FrameCounts:
    """The frame counts of a plan, and its windows.

    `shown_frames`: the number of source frames in the output.
    `context_frames`: the number of source frames that the model sees.
    `new_frames`: the number of new frames.
    `billed_frames`: the number of frames that the price is computed from.
    `sampled_frames`: the number of frames of the sampled clip, 8k+1: context, new frames, and frames that are cut off.
    `windows`: the windows of the clip, which are sampled one after the other.
    `notes`: sentences for the user about the numbers of source frames and new frames.
    """

    shown_frames: int
    context_frames: int
    new_frames: int
    billed_frames: int
    sampled_frames: int
    windows: tuple[Window, ...]
    notes: tuple[str, ...] = ()


def frame_counts(options: LTXVOptions, span: Span, card: LTXVCard) -> FrameCounts:
    """Returns the frame counts of a request. There are three cases:

    - The option `guide` is `depth`, `pose` or `canny`, so the source only guides a new video: all frames are new. Their
      number is the option `new_frames`, or `num_frames` if that is not set. See `guide_counts`.
    - The option `guide` is `rgb`, so the output continues the source, and `new_frames` is set: that many frames are
      added to all source frames. See `whole_source_counts`.
    - The option `guide` is `rgb`, and `new_frames` is not set: the option `num_frames` counts source frames and new
      frames together. See `total_counts`.

    `options`: the options of the request.
    `span`: the range of source frames that the request allows.
    `card`: the card of the model, which limits the number of frames of a window.
    """
    if options.guide != "rgb":
        return guide_counts(span, options.new_frames or options.num_frames, card)
    if options.new_frames is not None:
        return whole_source_counts(span, options.new_frames, card)
    return total_counts(span, options.num_frames, card, options.count_field)


def whole_source_counts(span: Span, new_frames: int, card: LTXVCard) -> FrameCounts:
    """Returns the frame counts of a request that shows all frames of `span` and adds `new_frames` frames to them.

    The context has the largest number 8k+1 of frames that `span` has. If context and new frames need several windows,
    it has at most the card's `max_context_frames`.

    `span`: the range of source frames that the request allows.
    `card`: the card of the model, which limits the context and the number of frames of a window.
    """
    return _counts(len(span), clip_length(len(span)), new_frames, len(span) + new_frames, card)


def total_counts(span: Span, num_frames: int, card: LTXVCard, count_field: str | None = "num_frames") -> FrameCounts:
    """Returns the frame counts of a request whose `num_frames` counts source frames and new frames together.

    The number of context frames is an 8k+1, and the number of new frames is `num_frames` minus it. There are two cases:
    - Normally, the context is the last frames of `span`, as many as the largest 8k+1 that is at most the length of
      `span`. The output shows the context and the new frames, `num_frames` in all.
    - If that leaves fewer than 8 (LEAST_NEW_FRAMES) new frames, the context is shorter: the largest 8k+1 that is at
      most half of `num_frames`. The output shows all frames of `span` and the new frames, so it may have more than
      `num_frames` frames.

    `span`: the range of source frames that the request allows.
    `card`: the card of the model, which limits the context and the number of frames of a window.
    `count_field`: the name of the request's field that holds `num_frames`, for the notes; None if no field does.
    """
    context = clip_length(len(span))
    new_frames = num_frames - context
    if new_frames < LEAST_NEW_FRAMES:
        context = clip_length(num_frames // 2)
        new_frames = num_frames - context
        count = f"{count_field} is {num_frames}" if count_field else f"{num_frames} frames are made"
        note = f"{count}, and the source has {len(span)}: all are shown, and {new_frames} are new."
        return replace(_counts(len(span), context, new_frames, num_frames, card), notes=(note,))
    counts = _counts(context, context, new_frames, num_frames, card)
    if new_frames * 4 < num_frames:
        of = f"{count_field} = {num_frames}" if count_field else f"{num_frames} frames"
        remedy = f"a larger {count_field}, or less of the source, makes" if count_field else "less of the source makes"
        note = f"Only {new_frames} of {of} are new, for the source fills {context} of them; {remedy} more."
        return replace(counts, notes=(note,))
    return counts


def guide_counts(span: Span, num_frames: int, card: LTXVCard) -> FrameCounts:
    """Returns the frame counts of a request whose source only guides the new video.

    The output shows no source frame; all its `num_frames` frames are new. The context is as many source frames as
    `span` has and the first window holds, rounded down to 8k+1. Later windows see none.

    `span`: the range of source frames that the request allows.
    `num_frames`: the requested number of frames.
    `card`: the card of the model, which limits the windows.
    """
    sampled = padded_length(num_frames)
    context = clip_length(min(len(span), sampled, card.window_frames))
    return FrameCounts(0, context, num_frames, num_frames, sampled, _card_windows(sampled, card))


def _counts(shown: int, context: int, new: int, billed: int, card: LTXVCard) -> FrameCounts:
    """Returns the frame counts of a plan, with its windows. The card limits the number of frames in a window.

    `shown`: the number of source frames in the output.
    `context`: the number of source frames that the model should see. If the context and the new frames do not fit into
        one window, the model sees at most the card's `max_context_frames` of them.
    `new`: the number of new frames.
    `billed`: the number of frames that the price is computed from.
    """
    if padded_length(context + new) > card.window_frames:
        context = min(context, card.max_context_frames)
    sampled = padded_length(context + new)
    return FrameCounts(shown, context, new, billed, sampled, _card_windows(sampled, card))


def _card_windows(sampled_frames: int, card: LTXVCard) -> tuple[Window, ...]:
    total = latent_length(sampled_frames, card.temporal_compression)
    return plan_windows(total, latent_length(card.window_frames, card.temporal_compression), card.overlap_latents)


def plan_windows(total: int, tile: int, overlap: int) -> tuple[Window, ...]:
    """Returns the overlapping windows that cover a clip, in order. Each is a range of latent frames.

    `total`: the number of latent frames of the clip.
    `tile`: the largest number of latent frames of a window. Only the last window may have fewer.
    `overlap`: the number of latent frames that a window shares with the window before it.

    Source: the chunk ranges of ComfyUI-LTXVideo's looping sampler.
    """
    starts = range(0, max(total - overlap, 1), tile - overlap)
    return tuple(Window(start, min(start + tile, total)) for start in starts)
