"""The windows of an LTX-2 plan: how many frames each window continues, and how many it adds."""

from dataclasses import dataclass
from fractions import Fraction

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

    A forward window begins with the context, which has 8k+1 frames and so fills whole latents. The new frames follow.
    Frames after the last new frame are cut off. A backward window ends with the context, which has 8k frames. The new
    frames are directly before it. Frames before the first new frame are cut off.

    `context_frames`: the number of frames that the window continues.
    `new_frames`: the number of frames that it adds.
    `sampled_frames`: the number of frames that are sampled, 8k+1: context, new frames, and the frames that are cut off.
    """

    context_frames: int
    new_frames: int
    sampled_frames: int


def window_limit(rate: Fraction, card: LTX2Card) -> int:
    """Returns the largest number of frames, of the form 8k+1, that one window may have at `rate` frames per second.

    Two things limit it: the model's range of positions in time (POSITION_RANGE_S), and the card's `window_frames`.
    """
    return clip_length(min(int(POSITION_RANGE_S * rate + 4), card.window_frames))


def context_length(direction: Direction, frames: int) -> int:
    """Returns the length of the longest context that has at most `frames` frames and fills whole latents.

    Forward, it is 8k+1, or 0 if `frames` is 0 or less. Backward, it is 8k and at least 8, even if `frames` is smaller.
    """
    if frames <= 0:
        return 0 if direction == "forward" else LATENT_FRAMES
    return clip_length(frames) if direction == "forward" else max(frames // LATENT_FRAMES, 1) * LATENT_FRAMES


def plan_windows(direction: Direction, available: int, context: int, new_frames: int, limit: int) -> tuple[Window, ...]:
    """Returns the windows that add `new_frames` frames to a source of `available` frames. None has more than `limit`
    frames.

    - Each window continues `context` frames, or all that there are if they are fewer. A window after the first
      continues frames of the window before it, including that window's own context.
    - If the context and all new frames do not fit into one window, the context is shortened, but not below half a
      window.
    - If they still do not fit, several windows share the new frames about equally.
    - If `context` is 0, the first window has no context, and each later window continues DEFAULT_CONTEXT frames.
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
    """Returns `new_frames` rounded up so that a window's new latents are full: to 8k forward, to 8k+1 backward."""
    return padded_length(new_frames + 1) - 1 if direction == "forward" else padded_length(new_frames)
