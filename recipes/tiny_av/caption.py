"""Trains the text encoder's first weights. Its video tokens learn to encode the captions of the old transformer, which
is the one of the embedded LTX-Video model.

    python -m recipes.tiny_av.caption

The old transformer attends to caption tokens. Each of them is written as centre + basis @ z, where z is the new text
token. Like all outputs of a connector, z has a root mean square of 1. Its coordinates are the scaled principal
components of captions. The last coordinate only makes the norm right.
"""

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from recipes.tiny import ranks, sampler
from recipes.tiny import text as first
from recipes.tiny.world import prompt, sample
from recipes.tiny_av import configs, text

SEED = 140_000_000
CHECKPOINT = configs.WORK / "caption.pt"
STEPS = 1500
BATCH = 32


@dataclass(frozen=True)
class Code:
    """The code by which a new text token z `[D]` stands for a token of an old caption: centre + basis @ z.

    centre: `[D]`. basis: `[D, D]`.
    """

    centre: torch.Tensor
    basis: torch.Tensor

    def to(self, device: torch.device) -> "Code":
        """Returns the code on a device."""
        return Code(self.centre.to(device), self.basis.to(device))


def prompts(seed: int, count: int) -> list[str]:
    """Returns prompts of `count` scenes with seeds from `seed` on, each in a random variation."""
    rng = random.Random(seed)
    return [first.vary(prompt(sample(seed + i)), rng) for i in range(count)]


@torch.no_grad()
def captions(family: sampler.Family, lines: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the captions that the old transformer attends to, `[B, SEQUENCE, D]`, and their mask `[B, SEQUENCE]`."""
    ids, mask = first.tokens(family.tokenizer, lines)
    return family.transformer.caption_projection(family.text_encoder(ids, attention_mask=mask)[0]), mask


def code(family: sampler.Family) -> Code:
    """Returns the code of the old model's captions, computed from the captions of 800 prompts."""
    made, mask = captions(family, prompts(SEED, 800))
    tokens = made[mask.bool()]
    centre = tokens.mean(0)
    axes = torch.linalg.svd(tokens - centre, full_matrices=False).Vh[:-1]
    width = len(centre)
    reach = (tokens - centre).norm(dim=1).max() / width**0.5
    return Code(centre, torch.cat([axes.T * reach, torch.zeros(width, 1)], dim=1))


def train(device: torch.device) -> None:
    """Trains the text encoder. Where a prompt has padding, its tokens learn to encode the mean token of captions."""
    ranks.start()
    family = sampler.load()
    target, stack = code(family).to(device), text.stack().to(device)
    words = text.tokenizer()
    optimiser = torch.optim.AdamW(stack.parameters(), lr=3e-3, weight_decay=0.0)
    fall = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=STEPS)
    scale = captions(family, prompts(SEED, 200))[0].std()
    for step in range(STEPS):
        lines = prompts(SEED + 1000 * (step + 1), BATCH)
        old, old_mask = (part.to(device) for part in captions(family, lines))
        ids, mask = text.tokens(words, lines)
        video, _ = text.encode(stack, ids.to(device), mask.to(device))
        error = (
            target.centre + video @ target.basis.T - torch.where(old_mask.bool()[..., None], old, target.centre)
        ) / scale
        loss = (error.square() * torch.where(old_mask.bool(), 1.0, 0.1)[..., None]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        fall.step()
        if (step + 1) % 100 == 0:
            print(step + 1, f"loss {float(loss.detach()):.4f}", flush=True)
    torch.save(stack.cpu().state_dict(), CHECKPOINT)


def start(family: sampler.Family) -> tuple[nn.ModuleDict, Code]:
    """Returns the text encoder that `train` wrote, and the code of its tokens."""
    stack: Any = text.stack()
    stack.load_state_dict(torch.load(CHECKPOINT))
    return stack, code(family)


if __name__ == "__main__":
    train(ranks.parser(__doc__).parse_args().device)
