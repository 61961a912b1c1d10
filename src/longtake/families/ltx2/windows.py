"""The windows of an LTX-2 plan: how many frames each window continues, and how many it adds."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from longtake.families.ltx2.options import DEFAULT_CONTEXT, Direction
from longtake.models.registry import LTX2Card
from longtake.plans import clip_length, padded_length

POSITION_RANGE_S = 20
"""The length of the longest window in seconds. The model's position embedding has no later positions."""

LATENT_FRAMES = 8
"""The number of frames that one latent covers. Only the first latent of a window covers one frame."""


@dataclass(frozen=True)
class Window:
    """The frame counts of one window, at the plan's rate. A window is the stretch of video that is sampled at once.

    - A forward window begins with the context, which has 8k+1 frames and so fills whole latents. The new frames follow.
      Frames after the last new frame are cut off.
    - A backward window ends with the context, which has 8k frames. The new frames are directly before it. Frames before
      the first new frame are cut off. A short source may give a backward context of fewer than 8 frames. Its mirror
      image then follows it, fills the latent and is cut off.

    `context_frames`: the number of frames that the window continues.
    `new_frames`: the number of frames that it adds.
    `sampled_frames`: the number of frames that are sampled, 8k+1: context, new frames, and the frames that are cut off.
    """

    context_frames: int
    new_frames: int
    sampled_frames: int

    def context_start(self, direction: Direction) -> int:
        """Returns the number (from 0) of the context's first frame in the window."""
        return 0 if direction == "forward" else padded_length(self.new_frames)


def window_limit(rate: Fraction, card: LTX2Card) -> int:
    """Returns the largest number of frames, of the form 8k+1, that one window may have at `rate` frames per second.

    Two things limit it: the model's range of positions in time (POSITION_RANGE_S), and the card's `window_frames`.
    """
    return clip_length(min(int(POSITION_RANGE_S * rate + 4), card.window_frames))


def context_length(direction: Direction, frames: int) -> int:
    """Returns the length of the longest context that has at most `frames` frames. `frames` is 0 or more.

    Forward, the length is 8k+1, or 0 if `frames` is 0. Backward, it is 8k, or `frames` itself if that is less than 8.
    """
    return clip_length(frames) if direction == "forward" else frames // LATENT_FRAMES * LATENT_FRAMES or frames


def _in_latents(direction: Direction, context: int) -> int:
    """Returns the number of frames of the latents that `context` context frames occupy in a window.

    Forward, it is `context` itself. Backward, it is `context` rounded up to 8k.
    """
    return context if direction == "forward" else -(-context // LATENT_FRAMES) * LATENT_FRAMES


def plan_windows(direction: Direction, available: int, context: int, new_frames: int, limit: int) -> tuple[Window, ...]:
    """Returns the windows that add `new_frames` frames to a source of `available` frames. None has more than `limit`
    frames.

    - Each window continues `context` frames, or all that there are if they are fewer. A window after the first
      continues frames of the window before it, including that window's own context.
    - If the context and all new frames do not fit into one window, the context is shortened, but not below half a
      window.
    - If they still do not fit, several windows share the new frames as `shares` says.
    - If `context` is 0, the first window has no context, and each later window continues DEFAULT_CONTEXT frames.
    """
    beside = limit - (new_frames if direction == "forward" else padded_length(new_frames))
    wanted = min(context or DEFAULT_CONTEXT, max(beside, limit // 2))
    has_context = bool(context) or padded_length(new_frames) > limit
    room = limit - (_in_latents(direction, context_length(direction, wanted)) if has_context else 0)
    windows: list[Window] = []
    for new in shares(direction, new_frames, count=-(-new_frames // room)):
        held = context_length(direction, min(wanted, available)) if context or windows else 0
        windows.append(Window(held, new, padded_length(_in_latents(direction, held) + new)))
        available = held + new
    return tuple(windows)


def shares(direction: Direction, new_frames: int, count: int) -> tuple[int, ...]:
    """Returns the number of new frames of each of `count` windows, in the order of sampling. They add up to
    `new_frames`.

    The windows share the latents of the new frames evenly: their numbers of latents differ by at most 1. Every window
    but the last makes only full latents, so 8k new frames forward and 8k+1 backward.
    """
    first_latent = 0 if direction == "forward" else 1  # A window's first latent covers one frame.
    latents = -(-(new_frames - count * first_latent) // LATENT_FRAMES)
    ends = [latents * n // count * LATENT_FRAMES + n * first_latent for n in range(count)]
    return tuple(stop - start for start, stop in pairwise([*ends, new_frames]))
