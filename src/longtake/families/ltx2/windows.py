"""The windows of an LTX-2 plan: how many frames each continues, and how many it adds."""

from dataclasses import dataclass
from fractions import Fraction

from longtake.families.ltx2.options import DEFAULT_CONTEXT, Direction
from longtake.models.registry import LTX2Card
from longtake.plans import clip_length, padded_length

POSITION_RANGE_S = 20
"""The longest window in seconds: the reach of LTX-2's positions in time."""

LATENT_FRAMES = 8
"""Frames of a latent; a window's first latent is one frame."""


@dataclass(frozen=True)
class Window:
    """One window, in frames at the plan's rate: it continues `context_frames` and adds `new_frames`; `sampled_frames`
    are sampled in all.

    Forward, the context is the first 8k+1 frames, and the window has 8m+1. Backward, the context is the last 8j frames,
    so that it fills whole latents, behind 8m+1 others, of which the last `new_frames` are used.
    """

    context_frames: int
    new_frames: int
    sampled_frames: int


def window_limit(rate: Fraction, card: LTX2Card) -> int:
    """Returns the most frames (8k+1) of one window at `rate` frames per second: what the model's positions reach, and
    what the card allows."""
    return clip_length(min(int(POSITION_RANGE_S * rate + 4), card.window_frames))


def context_length(direction: Direction, frames: int) -> int:
    """Returns the longest context of at most `frames`: 8k+1 forward, or 0 for none; 8j backward, but at least 8."""
    if frames <= 0:
        return 0 if direction == "forward" else LATENT_FRAMES
    return clip_length(frames) if direction == "forward" else max(frames // LATENT_FRAMES, 1) * LATENT_FRAMES


def plan_windows(direction: Direction, available: int, context: int, new_frames: int, limit: int) -> tuple[Window, ...]:
    """Returns the windows that add `new_frames` to a source of `available` frames, each of at most `limit` frames.

    Each window continues `context` frames, or as many as there are: a window after the first continues the frames of
    the one before, context included. The context is cut to what a window holds beside all new frames, or to half a
    window if that is more; and to whole latents. New frames that do not fit into one window are shared out about
    equally. A `context` of 0 applies to the first window only; later ones continue DEFAULT_CONTEXT frames.
    """
    beside = limit - (new_frames if direction == "forward" else padded_length(new_frames))
    wanted = min(context or DEFAULT_CONTEXT, max(beside, limit // 2))
    room = limit - (context_length(direction, wanted) if context or padded_length(new_frames) > limit else 0)
    count = -(-new_frames // room)
    share = _whole_latents(direction, -(-new_frames // count))
    windows: list[Window] = []
    for done in range(0, new_frames, share):
        held = context_length(direction, min(wanted, available)) if context or windows else 0
        new = min(share, new_frames - done)
        sampled = padded_length(held + new) if direction == "forward" else padded_length(new) + held
        windows.append(Window(held, new, sampled))
        available = held + new
    return tuple(windows)


def _whole_latents(direction: Direction, new_frames: int) -> int:
    """The smallest number of new frames from `new_frames` on that fills a window's last latent."""
    return padded_length(new_frames + 1) - 1 if direction == "forward" else padded_length(new_frames)
