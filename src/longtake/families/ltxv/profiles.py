"""The guidance of each kind of checkpoint by noise level: the published settings, as data."""

from dataclasses import dataclass


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
        """True if the negative prompt counts at any noise level."""
        return self.nag > 0 or any(scale > 1 for scale in self.cfg)

    def bin(self, t: float) -> int:
        """The index of the bin that holds noise level t."""
        return next((i for i, low in enumerate(self.timesteps) if low <= t), len(self.timesteps) - 1)

    def evaluations(self, t: float) -> int:
        """The number of model evaluations that one step at noise level t needs."""
        i = self.bin(t)
        return 1 + (self.cfg[i] > 1) + (self.stg[i] > 0)


NONE = Guidance()

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
