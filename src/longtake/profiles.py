"""How each kind of checkpoint is guided, by noise level: the published settings, as data."""

import struct
from dataclasses import dataclass
from typing import Protocol

THRESHOLD = 0.025
"""How much noise the linear half of the schedule takes away in all."""


def linear_quadratic(steps: int) -> list[float]:
    """The linear-quadratic schedule: `steps` + 1 noise levels, numbers of 32 bits, from 1 to 0.

    The first half goes down linearly to 1 - THRESHOLD; then a parabola leaves with the same slope and ends at 0.
    With 8 steps these are the distilled models' noise levels. Source: the schedule of Movie Gen (Polyak et al. 2024).
    """
    linear = steps // 2
    rest = steps - linear
    slope = THRESHOLD / linear if linear else 0.0
    curve = (1 - THRESHOLD - slope * rest) / rest**2 if linear else 1.0
    falls = [slope * i for i in range(linear)]
    falls += [THRESHOLD * (linear > 0) + slope * k + curve * k**2 for k in range(rest)]
    return [*struct.unpack(f"{steps}f", struct.pack(f"{steps}f", *(1 - fall for fall in falls))), 0.0]


@dataclass(frozen=True)
class Guidance:
    """Guidance that changes with the noise level t in [0, 1].

    Bin i is the first with `timesteps[i] <= t`, else the last; each list takes its i-th entry. `cfg` is the
    classifier-free scale (1 = off), `stg` the spatio-temporal one (0 = off; `blocks` are the transformer blocks
    whose self-attention it disturbs), `rescale` pulls the guided prediction's spread back to the conditional one's
    (1 = off; it counts only where STG is on). `cfg_star` projects the negative prediction onto the positive one.
    `nag` (0 = off) is the scale of normalised attention guidance, by which a checkpoint that runs without CFG heeds a
    negative prompt at no further evaluation. Source: the LTX-Video 0.9.7/0.9.8 configurations; NAG: Chen et al. 2025.
    """

    timesteps: tuple[float, ...] = (1.0,)
    cfg: tuple[float, ...] = (1.0,)
    stg: tuple[float, ...] = (0.0,)
    rescale: tuple[float, ...] = (1.0,)
    blocks: tuple[tuple[int, ...], ...] = ((),)
    cfg_star: bool = False
    nag: float = 0.0

    @property
    def heeds_negative(self) -> bool:
        """Whether the negative prompt counts at any noise level."""
        return self.nag > 0 or any(scale > 1 for scale in self.cfg)

    def bin(self, t: float) -> int:
        """The index of the bin that holds noise level t."""
        return next((i for i, low in enumerate(self.timesteps) if low <= t), len(self.timesteps) - 1)

    def evaluations(self, t: float) -> int:
        """How many model evaluations one step at noise level t needs."""
        i = self.bin(t)
        return 1 + (self.cfg[i] > 1) + (self.stg[i] > 0)


NONE = Guidance()

NAG_SCALE = 5.0
"""Of the negative prompt in a checkpoint that runs without CFG, as its paper advises."""

DEV = Guidance(
    timesteps=(1.0, 0.996, 0.9933, 0.985, 0.9767, 0.9008, 0.618),
    cfg=(1, 1, 6, 8, 6, 1, 1),
    stg=(0, 0, 4, 4, 4, 2, 1),
    rescale=(1, 1, 0.5, 0.5, 1, 1, 1),
    blocks=((), (11, 25, 35, 39), (22, 35, 39), (28,), (28,), (28,), (28,)),
    cfg_star=True,
)

DEV_SECOND_PASS = Guidance(stg=(1.0,), blocks=((27,),), cfg_star=True)

TINY = Guidance(
    timesteps=(1.0, 0.98, 0.9, 0.6),
    cfg=(1, 3, 3, 1),
    stg=(0, 0.5, 0.5, 0),
    rescale=(1, 0.7, 0.7, 1),
    blocks=((), (3,), (3,), ()),
    cfg_star=True,
)


@dataclass(frozen=True)
class Profile:
    """The guidance of a checkpoint in its first and second pass."""

    first: Guidance
    second: Guidance


UNGUIDED = Profile(NONE, NONE)
PROFILES = {"dev": Profile(DEV, DEV_SECOND_PASS), "distilled": UNGUIDED, "tiny": Profile(TINY, NONE)}


def profile(kind: str, few_steps: bool) -> Profile:
    """The guidance of a checkpoint of this kind. The tiny one can do both: unguided where an endpoint asks for few
    steps, guided elsewhere."""
    return UNGUIDED if kind == "tiny" and few_steps else PROFILES[kind]


class ModelFacts(Protocol):
    """What a plan must know of a model; the registry's cards say it.

    `native_short_side` in pixels (None: the asked size), `spatial_compression` and `temporal_compression` of the VAE,
    the longest clip sampled at once in `window_frames` (8k+1), how many latent frames windows share and how strongly
    they hold them, and how much context a take longer than one window gets.
    """

    @property
    def name(self) -> str: ...
    @property
    def guidance(self) -> str: ...
    @property
    def native_short_side(self) -> int | None: ...
    @property
    def spatial_compression(self) -> int: ...
    @property
    def temporal_compression(self) -> int: ...
    @property
    def window_frames(self) -> int: ...
    @property
    def overlap_latents(self) -> int: ...
    @property
    def overlap_strength(self) -> float: ...
    @property
    def max_context_frames(self) -> int: ...
