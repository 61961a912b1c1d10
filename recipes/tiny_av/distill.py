"""Trains the distill adapter. With it, a few steps give about the result of the model's many steps.

    python -m recipes.tiny_av.distill

For each training window the frozen model samples once from noise to the end, in many steps. At the four noise levels
`LEVELS` of that path, the adapter learns the velocity that leads straight to the path's end.
"""

import itertools
from dataclasses import replace

import torch
from torch import nn

from longtake.sampling.schedules import ltx2
from recipes.tiny import ranks
from recipes.tiny.optim import Plan
from recipes.tiny_av import adapters, sampler, sounds, text, transformer
from recipes.tiny_av.forward import Forward, Modality
from recipes.tiny_av.windows import Batch, Mix, Stream, Windows

SEED = 170_000_000
PLAN = Plan(((260, 180),), muon=3e-3, adam=3e-3, warmup=20, ema=0.98)
MIX = Mix(
    groups={"square": 0.7, "square_long": 0.3}, layouts={"forward": 0.8, "backward": 0.2}, apart=0.1, soft=0.0, mute=0.0
)
LEVELS = (1.0, *sampler.SECOND_PASS[:-1])
TEACHER = sorted({*LEVELS, *ltx2(12).tolist()}, reverse=True)
WINDOWS = 20


@torch.no_grad()
def ways(forward: Forward, family: nn.ModuleDict, batch: Batch) -> list[Batch]:
    """Returns a batch for each noise level in `LEVELS`: the windows that the frozen model sampled down to this level.

    The targets are the velocities that lead straight from there to the end of the frozen model's path.
    """
    streams = (batch.video, batch.audio)
    texts = [tokens.bfloat16() for tokens in text.encode(family, batch.ids, batch.mask)]
    free = [(stream.sigmas > 0)[..., None, None] for stream in streams]
    clean = [stream.x - stream.sigmas[..., None, None] * stream.target for stream in streams]
    x = [torch.where(f, c + s.target, c) for f, c, s in zip(free, clean, streams, strict=True)]
    passed = {}
    for level, lower in itertools.pairwise(TEACHER):
        passed[level] = x
        video, audio = (
            Modality(value.bfloat16(), level * f[..., 0, 0], torch.full((len(value),), level), words, stream.coords)
            for value, f, words, stream in zip(x, free, texts, streams, strict=True)
        )
        speeds = forward(video, audio, batch.linked)
        x = [value + f * (lower - level) * v.float() for value, f, v in zip(x, free, speeds, strict=True)]
    made = []
    for level in LEVELS:
        noised = [
            Stream(
                value, (value - end) / level, level * f[..., 0, 0], torch.full((len(end),), level), s.weight, s.coords
            )
            for value, end, f, s in zip(passed[level], x, free, streams, strict=True)
        ]
        made.append(replace(batch, video=noised[0], audio=noised[1]))
    return made


def main() -> None:
    """Trains the adapter. With `--resume` it continues from the checkpoint, if there is one."""
    parser = ranks.parser(__doc__)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    ranks.start()
    family = transformer.latest().requires_grad_(False).to(arguments.device).bfloat16()
    windows, forward = Windows(SEED, sounds.load(), sounds.silence()), Forward(family["transformer"])
    batches: list[Batch] = []
    for i in range(WINDOWS):
        batches += ways(forward, family, windows.batch_of(MIX, i, 0).to(arguments.device))
    adapters.train("distill", PLAN, family, lambda step: batches[step * 13 % len(batches)], arguments.resume)


if __name__ == "__main__":
    main()
