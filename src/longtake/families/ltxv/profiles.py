"""The published guidance settings of each kind of 0.9.x checkpoint, by noise level."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guidance:
    """Guidance whose scales change with the noise level t in 0..1.

    The levels are divided into bins: t is in the first bin i with `timesteps[i] <= t`, or in the last. The other tuples
    have one entry for each bin. `cfg`: the classifier-free scale (1 = off). `stg`: the spatio-temporal scale (0 = off),
    and `blocks` the numbers of the transformer blocks whose self-attention it disturbs. `rescale`: the share by which
    the guided prediction's standard deviation is brought back to the conditional one's; it counts only where STG is on,
    and 1 means off, as in the published configurations. `cfg_star`: the negative prediction is projected onto the
    positive one. `nag`: the scale of normalised attention guidance (0 = off), by which a checkpoint without CFG heeds a
    negative prompt at no extra evaluation. Source: the LTX-Video 0.9.7 and 0.9.8 configurations; NAG: Chen et al. 2025.
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
        """True if the negative prompt counts at any noise level."""
        return self.nag > 0 or any(scale > 1 for scale in self.cfg)

    def bin(self, t: float) -> int:
        """Returns the index of the bin of noise level t."""
        return next((i for i, low in enumerate(self.timesteps) if low <= t), len(self.timesteps) - 1)

    def evaluations(self, t: float) -> int:
        """Returns the number of model evaluations of one step at noise level t: 1 to 3."""
        i = self.bin(t)
        return 1 + (self.cfg[i] > 1) + (self.stg[i] > 0)


NONE = Guidance()
"""No guidance: one evaluation a step."""

NAG_SCALE = 5.0
"""The scale of normalised attention guidance for a checkpoint that runs without CFG, as its paper advises."""

DEV = Guidance(
    timesteps=(1.0, 0.996, 0.9933, 0.985, 0.9767, 0.9008, 0.618),
    cfg=(1, 1, 6, 8, 6, 1, 1),
    stg=(0, 0, 4, 4, 4, 2, 1),
    rescale=(1, 1, 0.5, 0.5, 1, 1, 1),
    blocks=((), (11, 25, 35, 39), (22, 35, 39), (28,), (28,), (28,), (28,)),
    cfg_star=True,
)
"""The published guidance of the dev checkpoint's first pass."""

DEV_SECOND_PASS = Guidance(stg=(1.0,), blocks=((27,),), cfg_star=True)
"""The published guidance of the dev checkpoint's second pass."""

TINY = Guidance(
    timesteps=(1.0, 0.98, 0.9, 0.6),
    cfg=(1, 3, 3, 1),
    stg=(0, 0.5, 0.5, 0),
    rescale=(1, 0.7, 0.7, 1),
    blocks=((), (3,), (3,), ()),
    cfg_star=True,
)
"""The guidance of the embedded checkpoint; larger scales break so small a model."""


@dataclass(frozen=True)
class Profile:
    """The guidance of a checkpoint in its first and second pass."""

    first: Guidance
    second: Guidance


UNGUIDED = Profile(NONE, NONE)
"""No guidance in either pass."""

PROFILES = {"dev": Profile(DEV, DEV_SECOND_PASS), "distilled": UNGUIDED, "tiny": Profile(TINY, NONE)}
"""The guidance of each kind of checkpoint; model cards name the kind."""


def profile(kind: str, few_steps: bool) -> Profile:
    """Returns the guidance of a kind of checkpoint. The tiny one is guided, but not with a few-step schedule: it was
    trained for both."""
    return UNGUIDED if kind == "tiny" and few_steps else PROFILES[kind]
