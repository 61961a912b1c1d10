"""Training examples of the transformer: windows of latents, what of them is given, and how noisy the rest is."""

import random
from dataclasses import dataclass
from typing import Any, Literal

import torch

from recipes.tiny import configs, latents, text

Layout = Literal["plain", "image", "suffix"]

GROUP_SHARES = {
    "square": 0.52,
    "square_long": 0.22,
    "wide": 0.08,
    "tall": 0.08,
    "landscape": 0.03,
    "portrait": 0.03,
    "double": 0.04,
}
CONTEXT_SHARES = {0: 0.07, 1: 0.08, 2: 0.05, 3: 0.07, 4: 0.15, 5: 0.48, 6: 0.05, 7: 0.05}
"""How many latents are given: mostly 17 frames."""
FRAME_RATES = (12.0, 15.0, 20.0, 25.0, 30.0)
TOKENS = 2304
"""Tokens of one process's batch."""
SUFFIX_LATENTS = 5
SUFFIX_PREFIX = 2


@dataclass(frozen=True)
class Batch:
    """Noised tokens and their targets. `F` counts latent frames, extra conditioning frames first; `S` cells of a frame.

    x, target `[B, F, S, C]`; sigmas `[B, F]`; weight `[B, F, S]`, 0 where nothing is to be learnt; ids, mask `[B, L]`;
    coords `[1, 3, F * S]`.
    """

    x: torch.Tensor
    target: torch.Tensor
    sigmas: torch.Tensor
    weight: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    coords: torch.Tensor


def starts(count: int, offset: int = 0) -> list[float]:
    """First frame of each latent of a clip that begins at frame `offset`."""
    return [float(offset + max(configs.TEMPORAL * i - configs.TEMPORAL + 1, 0)) for i in range(count)]


def coordinates(frames: list[float], rows: int, columns: int, fps: float) -> torch.Tensor:
    """Start corner of every token in (seconds, y, x), `[1, 3, F * S]`, seconds and pixels."""
    t = torch.tensor(frames) / fps
    y = torch.arange(rows, dtype=torch.float32) * configs.SPATIAL
    x = torch.arange(columns, dtype=torch.float32) * configs.SPATIAL
    return torch.stack(torch.meshgrid(t, y, x, indexing="ij")).flatten(1)[None]


class Windows:
    """Draws batches from the encoded groups; every batch follows from (seed, step, rank) alone."""

    def __init__(self, seed: int, early: int) -> None:
        self.seed, self.early = seed, early
        self.mean, self.std = (v.view(1, 1, 1, -1) for v in torch.load(configs.WORK / "latents_statistics.pt"))
        self.words = text.tokenizer()
        self.tables: dict[str, dict[str, Any]] = {}
        self.straight: dict[str, list[int]] = {}
        self.other: dict[str, list[int]] = {}
        for group in latents.GROUPS:
            table = torch.load(configs.WORK / f"latents_{group.name}.pt")
            self.tables[group.name] = table
            self.straight[group.name] = [i for i, kind in enumerate(table["kinds"]) if kind == "straight"]
            self.other[group.name] = [i for i, kind in enumerate(table["kinds"]) if kind != "straight"]

    def batch(self, step: int, rank: int) -> Batch:
        """The batch of a process in a step; all processes get one shape."""
        shared = random.Random(self.seed + step)
        name = shared.choices(list(GROUP_SHARES), list(GROUP_SHARES.values()))[0]
        group = next(g for g in latents.GROUPS if g.name == name)
        layout: Layout = "plain"
        if group.keyed and step >= self.early:
            layout = shared.choices(("plain", "image", "suffix"), (0.80, 0.12, 0.08))[0]
        table = self.tables[name]
        whole = table["latents"].shape[2]
        count = configs.num_latents(group.window)
        if layout == "plain" and group.scale == 1:
            count = shared.choices((7, count), (0.15, 0.85))[0]
        fps = shared.choice(FRAME_RATES) if shared.random() < 0.1 else configs.FPS
        cells = table["latents"].shape[3] * table["latents"].shape[4]
        extra = {"plain": 0, "image": 1, "suffix": SUFFIX_PREFIX}[layout]
        size = max(2, round(TOKENS / ((count + extra) * cells)))
        own = random.Random(self.seed + step * 64 + rank + 1)
        clean = 0.9 if step < self.early else 0.45
        members = [self._member(name, own, clean, group.keyed if layout != "plain" else 0) for _ in range(size)]
        offsets = [0] * size
        if layout == "plain" and whole > count:
            offsets = [own.randint(0, whole - count) if own.random() < 0.7 else 0 for _ in members]
        return self._build(table, group, layout, members, offsets, count, fps, own)

    def _member(self, name: str, rng: random.Random, clean: float, keyed: int) -> int:
        pool = (self.straight if rng.random() < clean else self.other)[name]
        while True:
            i = rng.choice(pool)
            if not keyed or i < keyed:
                return i

    def _tokens(self, values: torch.Tensor) -> torch.Tensor:
        """Normalised tokens `[B, F, S, C]` of stored latents `[B, C, F, h, w]`."""
        return (values.float().permute(0, 2, 3, 4, 1).flatten(2, 3) - self.mean) / self.std

    def _build(
        self,
        table: dict[str, Any],
        group: latents.Group,
        layout: Layout,
        members: list[int],
        offsets: list[int],
        count: int,
        fps: float,
        rng: random.Random,
    ) -> Batch:
        rows, columns = table["latents"].shape[3:]
        clips = torch.stack([table["latents"][i][:, a : a + count] for i, a in zip(members, offsets, strict=True)])
        touched = torch.stack([table["masks"][i][a : a + count] for i, a in zip(members, offsets, strict=True)])
        clean, weight = self._tokens(clips), 1 + 3 * touched.flatten(2).float()
        lead = torch.tensor(rng.choices(list(CONTEXT_SHARES), list(CONTEXT_SHARES.values()), k=len(members)))
        frames, given = starts(count), torch.arange(count) < lead.clamp(max=count - 1)[:, None]
        if layout == "image":
            clean = torch.cat([self._tokens(table["image"][members]), clean], dim=1)
            frames = [float(group.window - 1), *frames]
        if layout == "suffix":
            suffix = self._tokens(table["suffix"][members])
            kept = SUFFIX_LATENTS - SUFFIX_PREFIX
            clean = torch.cat([suffix[:, :SUFFIX_PREFIX], clean[:, :-kept], suffix[:, SUFFIX_PREFIX:]], dim=1)
            frames = [*starts(SUFFIX_PREFIX, group.suffix_at), *frames]
            few = torch.tensor([rng.choice((0, 0, 0, 1, 2, 3)) for _ in members])
            given = torch.arange(count) < few[:, None]
            given[:, -kept:] = True
        extra = len(frames) - count
        given = torch.cat([torch.ones(len(members), extra, dtype=torch.bool), given], dim=1)
        weight = torch.cat([torch.zeros(len(members), extra, weight.shape[2]), weight], dim=1)
        dice = torch.Generator().manual_seed(rng.randrange(1 << 40))
        sigma = _noise_levels(len(members), dice, 0.93 if group.scale == 2 else 1.0)
        soft = 0.15 if layout == "plain" else 0.0
        x, target, sigmas, learnt = _noise(clean, given, sigma, soft, dice)
        prompts = [text.vary(table["prompts"][i], rng) for i in members]
        ids, mask = text.tokens(self.words, prompts)
        return Batch(x, target, sigmas, weight * learnt[..., None], ids, mask, coordinates(frames, rows, columns, fps))


def _noise_levels(count: int, dice: torch.Generator, ceiling: float) -> torch.Tensor:
    """Most of the family's eight steps are near 1, and so are most of these; a double-size clip only sees the end."""
    if ceiling < 1:
        return torch.sigmoid(torch.randn(count, generator=dice) * 1.2 + 0.9).clamp(max=ceiling)
    level = torch.sigmoid(torch.randn(count, generator=dice) * 1.2 + 1.2)
    near = 0.96 + 0.04 * torch.rand(count, generator=dice)
    fate = torch.rand(count, generator=dice)
    return torch.where(fate < 0.15, torch.ones(count), torch.where(fate < 0.40, near, level))


def _noise(
    clean: torch.Tensor, given: torch.Tensor, sigma: torch.Tensor, soft: float, dice: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens on their way, their velocity, the noise level of each frame, and which frames are to be learnt.

    Given frames are clean at level 0, in a quarter of the clips lightly re-noised all the same; a share `soft` of the
    clips holds them at a level of their own, at most 0.6 and never above the rest's.
    """
    batch = len(clean)
    noise = torch.randn(clean.shape, generator=dice)
    chance = torch.rand(3, batch, generator=dice)
    level = torch.where(chance[0] < soft, torch.minimum(0.6 * chance[1] + 1e-3, sigma), torch.zeros(batch))
    sigmas = torch.where(given, level[:, None], sigma[:, None])
    stir = (chance[2] < 0.25) * 0.15 * sigma.square()
    added = sigmas + torch.where(given & (level == 0)[:, None], stir[:, None], torch.zeros(1))
    x = (1 - sigmas)[..., None, None] * clean + added[..., None, None] * noise
    learnt = torch.where(given, 0.25 * (level > 0).float()[:, None], torch.ones(1))
    return x, noise - clean, sigmas, learnt
