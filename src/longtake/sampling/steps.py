"""The loop of steps: from the placed sequence to latents."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from longtake.plan import Acceleration, asks_model
from longtake.profiles import Guidance
from longtake.sampling.caching import along
from longtake.sampling.conditioning import TokenSequence
from longtake.sampling.guidance import Text, guided_velocity
from longtake.sampling.noise import Noise

CONDITIONING_NOISE = 0.15
"""How much of t^2 noise the published models expect on given tokens."""

SLACK = 1e-6
"""Noise levels nearer than this are the same."""

OnStep = Callable[[int, int], None]
"""Called before step i of n; it stops the sampling by raising."""


def denoise(
    transformer: nn.Module,
    sequence: TokenSequence,
    levels: Tensor,
    positive: Text,
    negative: Text | None,
    guidance: Guidance,
    noise: Noise,
    *,
    conditioning_noise: float = CONDITIONING_NOISE,
    acceleration: Acceleration = "none",
    on_step: OnStep = lambda step, steps: None,
    on_state: Callable[[Tensor], None] = lambda tokens: None,
) -> Tensor:
    """The video's tokens [1, n, C] after all steps, extra tokens left out.

    At each level t of `levels` [n] (falling; the last step goes to 0): tokens of strength 1 are set to their start
    plus conditioning_noise * noise * t^2; a token's own time is min(t, 1 - strength); free tokens, and soft ones from
    t < 1 - strength on, go down to the next level by their velocity, which at the steps that `acceleration` leaves
    out is carried on from those before. `on_state` sees the sequence after each step.
    Source: LTX-Video's pipeline.
    """
    start, mask = sequence.tokens, sequence.mask
    tokens, hard = start, (mask > 1 - SLACK)[..., None]
    known: list[tuple[float, Tensor]] = []
    ends = torch.cat([levels[1:], levels.new_zeros(1)])
    for step, (level, end) in enumerate(zip(levels.tolist(), ends.tolist(), strict=True)):
        on_step(step, len(levels))
        if conditioning_noise and bool(hard.any()):
            disturbance = noise(f"step.{step:03d}", tuple(tokens.shape)).to(tokens.dtype)
            tokens = torch.where(hard, start + conditioning_noise * level**2 * disturbance, tokens)
        time = (1 - mask).clamp(max=level)
        if asks_model(step, len(levels), acceleration):
            speed = guided_velocity(transformer, tokens, time, sequence.coords, positive, negative, guidance, level)
            known = [*known[-1:], (level, speed)]
        else:
            speed = along(known, level)
        moves = (level - SLACK < 1 - mask)[..., None]
        tokens = torch.where(moves, tokens - (time - end)[..., None] * speed, tokens)
        on_state(tokens)
    return tokens[:, sequence.extra :]
