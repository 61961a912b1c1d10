"""The windows of LTX-2: how many frames a window continues, and how many it adds."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from longtake.families.ltx2.options import DEFAULT_CONTEXT, Direction
from longtake.models.registry import LTX2Card
from longtake.plans import clip_length, padded_length

POSITION_RANGE_S = 20
"""The largest number of seconds that are sampled together. The model's position embedding has no later positions."""

LATENT_FRAMES = 8
"""The number of frames that one latent of the published models covers; the first latent of a window covers one frame. A
latent of the embedded model covers 4 frames, so lengths in whole latents of 8 frames suit it, too."""


@dataclass(frozen=True)
class Window:
    """One window. The numbers are frames at the plan's rate.

    `context_frames`: the number of frames that the window continues.
    `new_frames`: the number of frames that it adds.
    `sampled_frames`: the number of frames that are sampled, 8k+1: context, new frames, and spare frames, which only
        make the number 8k+1 and are cut off.

    The parts of a window in playing order:
    - Forward: the context, the new frames, spare frames. The context has 8k+1 frames, which fill whole latents.
    - Backward: spare frames, the new frames, the context. The context has 8k frames, which fill whole latents.
    - Backward, if the source has fewer than 8 frames: spare frames, the new frames, the context, spare frames. The
      spare frames at the end fill the latent that the context does not fill.
    """

    context_frames: int
    new_frames: int
    sampled_frames: int

    def context_start(self, direction: Direction) -> int:
        """Returns the number (from 0), in the window, of the first context frame."""
        return 0 if direction == "forward" else padded_length(self.new_frames)


def window_limit(rate: Fraction, card: LTX2Card) -> int:
    """Returns the largest number of frames, 8k+1, of a window at `rate` frames per second. The model's positions
    (POSITION_RANGE_S) and the card's `window_frames` limit it."""
    return clip_length(min(int(POSITION_RANGE_S * rate + 4), card.window_frames))


def context_length(direction: Direction, frames: int) -> int:
    """Returns the largest number of context frames that is at most `frames` and fills whole latents.

    - Forward, the context begins the window, so the result is 8k+1, or 0 if `frames` is 0.
    - Backward, the context ends the window, so the result is 8k. If `frames` is less than 8, it is `frames`, although
      they do not fill a latent.
    """
    return clip_length(frames) if direction == "forward" else frames // LATENT_FRAMES * LATENT_FRAMES or frames


def _in_latents(direction: Direction, context: int) -> int:
    """Returns how many frames the whole latents have that hold `context` context frames. Forward these are 8k+1 frames,
    which fill whole latents; backward they are rounded up to a multiple of 8."""
    return context if direction == "forward" else -(-context // LATENT_FRAMES) * LATENT_FRAMES


def plan_windows(direction: Direction, available: int, context: int, new_frames: int, limit: int) -> tuple[Window, ...]:
    """Returns the windows, in the order of sampling, that add `new_frames` frames to a source of `available` frames.

    `context`: the largest number of frames that a window continues. It is rounded down to whole latents.
    `limit`: the largest number of frames in a window (context and new frames), 8k+1.

    The number of windows:
    - There is one, if the context and all new frames together are at most `limit` frames.
    - There is also one, if the context can be shortened so that they are at most `limit` frames, and the shortened
      context still has half of `limit` or more.
    - Otherwise there are several. The context of each is at most half of `limit`, and `shares` says how many new frames
      each one adds.

    The context of each window:
    - The first window continues the source. It has no context if `context` is 0.
    - A later window continues up to `context` frames of the window that was sampled before it, or up to 25 frames
      (DEFAULT_CONTEXT) if `context` is 0.
    - No window continues more frames than there are: the source's frames, or the context and the new frames of the
      window before it.
    """
    beside = limit - (new_frames if direction == "forward" else padded_length(new_frames))
    wanted = min(context or DEFAULT_CONTEXT, max(beside, limit // 2))
    has_context = bool(context) or padded_length(new_frames) > limit
    room = limit - (_in_latents(direction, context_length(direction, wanted)) if has_context else 0)
    windows: list[Window] = []
    for new in shares(direction, new_frames, count=-(-new_frames // room)):
        continued = context_length(direction, min(wanted, available)) if context or windows else 0
        windows.append(Window(continued, new, padded_length(_in_latents(direction, continued) + new)))
        available = continued + new
    return tuple(windows)


def shares(direction: Direction, new_frames: int, count: int) -> tuple[int, ...]:
    """Returns how many new frames each of `count` windows adds, in the order of sampling.

    `new_frames`: the sum of these numbers; at least one latent of 8 frames for each window.

    - The new frames are shared evenly: the windows' numbers of latents differ by at most 1.
    - In every window but the last, the new frames fill whole latents: forward, where they come last, their number is a
      multiple of 8; backward, where they come first, it is a multiple of 8, plus 1.
    """
    first_latent = 0 if direction == "forward" else 1  # a window's first latent covers one frame
    latents = -(-(new_frames - count * first_latent) // LATENT_FRAMES)
    ends = [latents * n // count * LATENT_FRAMES + n * first_latent for n in range(count)]
    return tuple(stop - start for start, stop in pairwise([*ends, new_frames]))
