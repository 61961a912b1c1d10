"""Compares the sampling loop with its model evaluations alone, on random weights. The loop should take at most 3 % more
time. The evaluations alone are computed by diffusers, with modulation per token.

    python -m bench.loop
"""

from collections import deque
from fractions import Fraction

import torch
from diffusers import LTXVideoTransformer3DModel

from bench.timing import in_turn, ratio, show
from longtake.families.ltxv.conditioning import ConditioningItem, place
from longtake.families.ltxv.guidance import Guide
from longtake.families.ltxv.profiles import DEV, NONE, Guidance
from longtake.families.ltxv.sampler import PassSetup, trajectory
from longtake.models.replicas import Replicas
from longtake.models.t5 import EncodedPrompt
from longtake.models.video_transformer import attach
from longtake.sampling.noise import seeded
from longtake.sampling.positions import Grid
from longtake.sampling.schedules import noise_levels

SHAPE = (1, 64, 16, 4, 4)
"""The shape of the latents of a 121-frame clip at 128x128 pixels: 256 tokens."""


def transformer() -> LTXVideoTransformer3DModel:
    """Returns a model with 100 M random parameters; one evaluation takes over 0.3 s on a CPU core."""
    torch.manual_seed(0)
    return LTXVideoTransformer3DModel(
        in_channels=64,
        out_channels=64,
        num_attention_heads=12,
        attention_head_dim=64,
        cross_attention_dim=768,
        num_layers=10,
        caption_channels=256,
    ).eval()


def main() -> None:
    model, plain = transformer(), transformer()
    attach(model)
    positive, negative = (EncodedPrompt(torch.randn(1, 32, 256), torch.ones(1, 32)) for _ in range(2))
    context = ConditioningItem(torch.randn(1, 64, 4, 4, 4))
    noise, grid = seeded(0), Grid(8, 32, Fraction(24))
    sequence = place([context], SHAPE, grid, noise)
    for name, guidance, steps in (("distilled, 8 steps", NONE, 8), ("dev bins, 3 steps", _within(DEV, 10), 3)):
        setup = PassSetup(Guide(Replicas(model), positive, negative, guidance), noise_levels(steps), grid, (128, 128))

        def loop(setup: PassSetup = setup) -> None:
            deque(trajectory(setup, sequence, noise), maxlen=0)

        evaluations = sum(guidance.evaluations(level) for level in setup.levels.tolist())

        def bare(evaluations: int = evaluations) -> None:
            for _ in range(evaluations):
                plain(
                    hidden_states=sequence.tokens,
                    encoder_hidden_states=positive.embeddings,
                    timestep=(1 - sequence.mask) * 500,
                    encoder_attention_mask=positive.mask,
                    video_coords=sequence.coords,
                    return_dict=False,
                )

        with torch.inference_mode():
            timings = in_turn(7, loop=loop, bare=bare)
        show(f"{name}: {evaluations} evaluations", timings)
        print(f"  one evaluation {min(timings['bare']) / evaluations:.3f} s")
        print(f"  loop / bare = {ratio(timings, 'loop', 'bare'):.3f} (aim: at most 1.03)\n")


def _within(guidance: Guidance, layers: int) -> Guidance:
    """Returns the guidance without the numbers of transformer blocks that a model of `layers` layers does not have."""
    blocks = tuple(tuple(sorted({block % layers for block in group})) for group in guidance.blocks)
    return Guidance(guidance.timesteps, guidance.cfg, guidance.stg, guidance.rescale, blocks, guidance.cfg_star)


if __name__ == "__main__":
    main()
