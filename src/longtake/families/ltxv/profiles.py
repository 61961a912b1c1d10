"""The published guidance scales of each kind of LTX-Video 0.9.x model, by noise level."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guidance:
    """Guidance scales that change with the noise level t in 0..1.

    The levels are divided into bins, which `timesteps` defines. `cfg`, `stg`, `rescale` and `blocks` have one entry for
    each bin. `cfg_star` and `nag` apply to all levels.

    `timesteps`: the lower ends of the bins, in falling order. A level is in the first bin whose lower end is not above
        it; a level below all of them is in the last bin.
    `cfg`: the scale of classifier-free guidance; 1 is off.
    `stg`: the scale of spatio-temporal guidance; 0 is off.
    `rescale`: how far the standard deviation of the guided prediction is brought back to that of the unguided one, as a
        share: 0 is not at all, 0.5 is halfway, 0.9 is nearly all the way. But 1 switches it off, as in the published
        configurations. It has an effect only where `stg` is on.
    `blocks`: the numbers of the transformer blocks whose self-attention is switched off for `stg`.
    `cfg_star`: True if the prediction for the negative prompt is first scaled to fit the one for the positive prompt
        (see `guidance.project`).
    `nag`: the scale of normalised attention guidance; 0 is off. It lets a model without classifier-free guidance use a
        negative prompt without additional evaluations.

    Sources: the configurations of LTX-Video 0.9.7 and 0.9.8; for NAG Chen et al. 2025.
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
        """True if the negative prompt is used at any noise level."""
        return self.nag > 0 or any(scale > 1 for scale in self.cfg)

    def bin(self, t: float) -> int:
        """Returns the index of the bin (range of noise levels with the same scales) that noise level `t` is in.

        `cfg`, `stg`, `rescale` and `blocks` have the entry for this bin at this index.
        """
        return next((i for i, low in enumerate(self.timesteps) if low <= t), len(self.timesteps) - 1)

    def evaluations(self, t: float) -> int:
        """Returns the number of model evaluations in one step at noise level t.

        It is 1, plus 1 if `cfg` is on at this level, plus 1 if `stg` is on.
        """
        i = self.bin(t)
        return 1 + (self.cfg[i] > 1) + (self.stg[i] > 0)

    @property
    def most_evaluations(self) -> int:
        """The largest number of model evaluations in one step, at any noise level."""
        return max(map(self.evaluations, self.timesteps))


NONE = Guidance()
"""No guidance: each step evaluates the model once."""

NAG_SCALE = 5.0
"""The scale of normalised attention guidance for a model without classifier-free guidance. The paper recommends it."""

DEV = Guidance(
    timesteps=(1.0, 0.996, 0.9933, 0.985, 0.9767, 0.9008, 0.618),
    cfg=(1, 1, 6, 8, 6, 1, 1),
    stg=(0, 0, 4, 4, 4, 2, 1),
    rescale=(1, 1, 0.5, 0.5, 1, 1, 1),
    blocks=((), (11, 25, 35, 39), (22, 35, 39), (28,), (28,), (28,), (28,)),
    cfg_star=True,
)
"""The published guidance of the dev model's first pass."""

DEV_SECOND_PASS = Guidance(stg=(1.0,), blocks=((27,),), cfg_star=True)
"""The published guidance of the dev model's second pass, which refines the first one's result."""

TINY = Guidance(
    timesteps=(1.0, 0.98, 0.9, 0.6),
    cfg=(1, 3, 3, 1),
    stg=(0, 0.5, 0.5, 0),
    rescale=(1, 0.7, 0.7, 1),
    blocks=((), (3,), (3,), ()),
    cfg_star=True,
)
"""The guidance of the small model in the package. Its output breaks at the scales that suit larger models."""


@dataclass(frozen=True)
class Profile:
    """The guidance of a model in its first and second pass."""

    first: Guidance
    second: Guidance


UNGUIDED = Profile(NONE, NONE)
"""No guidance in either pass."""

PROFILES = {"dev": Profile(DEV, DEV_SECOND_PASS), "distilled": UNGUIDED, "tiny": Profile(TINY, NONE)}
"""The guidance of each kind of model. A model card names the kind in `LTXVCard.guidance`."""


def profile(kind: str, few_steps: bool) -> Profile:
    """Returns the guidance scales of a kind of model in its first and second pass.

    `kind`: `dev`, `distilled` or `tiny` (the small model in the package). A model card names it in `LTXVCard.guidance`.
    `few_steps`: True if the schedule is that of a distilled model. Then `tiny` runs without guidance. For the other
        kinds, `few_steps` changes nothing.
    """
    return UNGUIDED if kind == "tiny" and few_steps else PROFILES[kind]
