"""The order in which the transformer sees its training examples.

At first most clips show straight motion only. Then clips of all kinds follow. The last phases contain more of what the
model does worst.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

NAMES = ("square", "square_long", "wide", "tall", "landscape", "portrait", "double", "lasting", "lasting_wide", "walls")


def _shares(*shares: float, lasting: tuple[float, float] = (0.0, 0.0), walls: float = 0.0) -> Mapping[str, float]:
    return dict(zip(NAMES, (*shares, *lasting, walls), strict=True))


def _context(*shares: float) -> Mapping[int, float]:
    return dict(enumerate(shares))


@dataclass(frozen=True)
class Phase:
    """The mix of training examples from step `start` on.

    groups: group of latents (see `latents.GROUPS`) -> its share of the batches.
    context: number of known latent frames at the start -> its share of the examples; 5 latent frames are 17 frames.
    straight: the share of clips of the kind `straight`, in groups that have such clips.
    keyed: True if some examples have an end image or a known clip at their end (a suffix clip).
    moving_weight: the least weight in the loss of a latent cell in a clip with a moving camera. Apart from that, a cell
        has the weight 4 if it shows the object, and 1 otherwise.
    near: the share of examples whose noise level is drawn from 0.96 to 1, where the model decides where an object goes.
    """

    start: int = 0
    groups: Mapping[str, float] = field(default_factory=lambda: _shares(0.52, 0.22, 0.08, 0.08, 0.03, 0.03, 0.04))
    context: Mapping[int, float] = field(
        default_factory=lambda: _context(0.06, 0.07, 0.06, 0.09, 0.08, 0.52, 0.06, 0.06)
    )
    straight: float = 0.9
    keyed: bool = False
    moving_weight: float = 0.0
    near: float = 0.4


def _phases() -> tuple[Phase, ...]:
    plain = Phase()
    windowed = replace(plain, start=1200, context=_context(0.07, 0.08, 0.05, 0.07, 0.15, 0.48, 0.05, 0.05))
    wide = replace(windowed, start=1300, straight=0.45, keyed=True)
    longer = replace(wide, start=2000, groups=_shares(0.46, 0.28, 0.08, 0.08, 0.03, 0.03, 0.04))
    context = _context(0.14, 0.08, 0.04, 0.05, 0.14, 0.46, 0.05, 0.04)
    steered = replace(longer, start=2600, context=context, moving_weight=2.5)
    context = _context(0.06, 0.06, 0.03, 0.06, 0.16, 0.55, 0.04, 0.04)
    polish = replace(
        steered, start=4300, groups=_shares(0.54, 0.28, 0.05, 0.05, 0.02, 0.02, 0.04), context=context, straight=0.6
    )
    shares = _shares(0.18, 0.10, 0.04, 0.03, 0.01, 0.01, 0.03, lasting=(0.46, 0.14))
    context = _context(0.04, 0.05, 0.02, 0.03, 0.06, 0.34, 0.06, 0.40)
    lasting = replace(polish, start=4900, groups=shares, context=context, straight=0.3)
    shares = _shares(0.19, 0.10, 0.03, 0.02, 0.01, 0.01, 0.02, lasting=(0.18, 0.04), walls=0.40)
    walls = replace(lasting, start=6650, groups=shares, straight=0.6, near=0.6)
    shares = _shares(0.25, 0.10, 0.03, 0.02, 0.01, 0.01, 0.02, lasting=(0.15, 0.03), walls=0.38)
    together = replace(walls, start=13550, groups=shares, straight=0.4)
    shares = _shares(0.24, 0.10, 0.03, 0.02, 0.01, 0.01, 0.02, lasting=(0.13, 0.03), walls=0.41)
    again = replace(together, start=21250, groups=shares)
    shares = _shares(0.24, 0.09, 0.03, 0.02, 0.01, 0.01, 0.02, lasting=(0.13, 0.03), walls=0.42)
    fresh = replace(again, start=28850, groups=shares)
    context = _context(0.04, 0.05, 0.02, 0.02, 0.17, 0.26, 0.06, 0.38)
    requests = replace(fresh, start=33850, context=context, near=0.65)
    shares = _shares(0.24, 0.08, 0.03, 0.02, 0.01, 0.01, 0.02, lasting=(0.10, 0.02), walls=0.47)
    bounces = replace(requests, start=41250, groups=shares)
    return plain, windowed, wide, longer, steered, polish, lasting, walls, together, again, fresh, requests, bounces


PHASES = _phases()


def phase(step: int) -> Phase:
    """Returns the phase that a step belongs to."""
    return next(p for p in reversed(PHASES) if step >= p.start)
