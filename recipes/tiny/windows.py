"""Training examples of the transformer: windows of latents, which of them are known, and the noise of the others."""

import random
from dataclasses import dataclass
from typing import Any, Literal

import torch

from recipes.tiny import configs, latents, text
from recipes.tiny.curriculum import Phase, phase

Layout = Literal["plain", "image", "suffix"]

FRAME_RATES = (12.0, 15.0, 20.0, 25.0, 30.0)
TOKENS = 2304
"""Tokens of one process's batch."""
SHORT_WINDOW = 7
SUFFIX_LATENTS = 5
SUFFIX_PREFIX = 2
"""The number of a suffix clip's first latents that are extra tokens beside the window. The others are in it."""


@dataclass(frozen=True)
class Batch:
    """Noised tokens and their targets. `F` counts latent frames, extra conditioning frames first; `S` a frame's cells.

    x, target `[B, F, S, C]`; sigmas `[B, F]`; weight `[B, F, S]`, 0 for tokens that do not count in the loss;
    ids, mask `[B, L]`; coords `[1, 3, F * S]`.
    """

    x: torch.Tensor
    target: torch.Tensor
    sigmas: torch.Tensor
    weight: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    coords: torch.Tensor


@dataclass(frozen=True)
class Shape:
    """What all clips of a batch share: their group and layout, `count` latent frames, and the frame rate."""

    group: latents.Group
    layout: Layout
    count: int
    fps: float


@dataclass(frozen=True)
class Window:
    """Clean tokens `[B, F, S, C]`, their weight `[B, F, S]`, the known frames `[B, F]`, each latent's first frame."""

    clean: torch.Tensor
    weight: torch.Tensor
    known: torch.Tensor
    frames: list[float]

    def preceded(self, tokens: torch.Tensor, frames: list[float]) -> "Window":
        """Returns the window with extra known latents before it."""
        batch, extra, cells, _ = tokens.shape
        return Window(
            torch.cat([tokens, self.clean], dim=1),
            torch.cat([torch.zeros(batch, extra, cells), self.weight], dim=1),
            torch.cat([torch.ones(batch, extra, dtype=torch.bool), self.known], dim=1),
            [*frames, *self.frames],
        )


def starts(count: int, offset: int = 0) -> list[float]:
    """Returns the first frame of each latent of a clip that begins at frame `offset`."""
    return [float(offset + max(configs.TEMPORAL * i - configs.TEMPORAL + 1, 0)) for i in range(count)]


def coordinates(frames: list[float], rows: int, columns: int, fps: float) -> torch.Tensor:
    """Returns the start corner of every token as (seconds, y, x), `[1, 3, F * S]`, y and x in pixels."""
    t = torch.tensor(frames) / fps
    y = torch.arange(rows, dtype=torch.float32) * configs.SPATIAL
    x = torch.arange(columns, dtype=torch.float32) * configs.SPATIAL
    return torch.stack(torch.meshgrid(t, y, x, indexing="ij")).flatten(1)[None]


class Windows:
    """Draws batches from the encoded groups. A batch follows from (seed, step, rank) alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        statistics: tuple[torch.Tensor, torch.Tensor] = torch.load(configs.WORK / "latents_statistics.pt")
        self.mean, self.std = (values.view(1, 1, 1, -1) for values in statistics)
        self.words = text.tokenizer()
        self.tables: dict[str, dict[str, Any]] = {}
        self.members: dict[tuple[str, bool], list[int]] = {}
        for group in latents.GROUPS:
            table = torch.load(configs.WORK / f"latents_{group.name}.pt")
            self.tables[group.name] = table
            for straight in (True, False):
                found = [i for i, kind in enumerate(table["kinds"]) if (kind == "straight") is straight]
                self.members[group.name, straight] = found

    def batch(self, step: int, rank: int) -> Batch:
        """Returns the batch of a process in a step. All processes get one shape."""
        now, shared = phase(step), random.Random(self.seed + step)
        own = random.Random(self.seed + step * 64 + rank + 1)
        shape = self._shape(now, shared)
        table = self.tables[shape.group.name]
        whole, rows, columns = table["latents"].shape[2:]
        extra = {"plain": 0, "image": 1, "suffix": SUFFIX_PREFIX}[shape.layout]
        size = max(2, round(TOKENS / ((shape.count + extra) * rows * columns)))
        members = [self._member(shape, own, now.straight) for _ in range(size)]
        offsets = [0] * size
        if shape.layout == "plain" and whole > shape.count:
            offsets = [own.randint(0, whole - shape.count) if own.random() < 0.7 else 0 for _ in members]
        window = self._window(table, shape, members, offsets, now, own)
        if shape.layout == "image":
            window = window.preceded(self._tokens(table["image"][members]), [float(shape.group.window - 1)])
        if shape.layout == "suffix":
            window = self._ended(window, table, shape, members, own)
        dice = torch.Generator().manual_seed(own.randrange(1 << 40))
        sigma = noise_levels(size, dice, 0.93 if shape.group.scale == 2 else 1.0)
        soft = 0.15 if shape.layout == "plain" else 0.0
        x, target, sigmas, learnt = noised(window.clean, window.known, sigma, soft, dice)
        ids, mask = text.tokens(self.words, [text.vary(table["prompts"][i], own) for i in members])
        coords = coordinates(window.frames, rows, columns, shape.fps)
        return Batch(x, target, sigmas, window.weight * learnt[..., None], ids, mask, coords)

    def _shape(self, now: Phase, rng: random.Random) -> Shape:
        name = rng.choices(list(now.groups), list(now.groups.values()))[0]
        group = next(g for g in latents.GROUPS if g.name == name)
        layout: Layout = "plain"
        if group.keyed and now.keyed:
            layouts: tuple[Layout, ...] = ("plain", "image", "suffix")
            layout = rng.choices(layouts, (0.80, 0.12, 0.08))[0]
        count = configs.num_latents(group.window)
        if layout == "plain" and group.scale == 1:
            count = rng.choices((SHORT_WINDOW, count), (0.15, 0.85))[0]
        fps = rng.choice(FRAME_RATES) if rng.random() < 0.1 else configs.FPS
        return Shape(group, layout, count, fps)

    def _member(self, shape: Shape, rng: random.Random, straight: float) -> int:
        pool = self.members[shape.group.name, rng.random() < straight]
        while True:
            i = rng.choice(pool)
            if shape.layout == "plain" or i < shape.group.keyed:
                return i

    def _tokens(self, values: torch.Tensor) -> torch.Tensor:
        """Returns normalised tokens `[B, F, S, C]` of stored latents `[B, C, F, h, w]`."""
        tokens: torch.Tensor = values.float().permute(0, 2, 3, 4, 1).flatten(2, 3)
        return (tokens - self.mean) / self.std

    def _window(
        self,
        table: dict[str, Any],
        shape: Shape,
        members: list[int],
        offsets: list[int],
        now: Phase,
        rng: random.Random,
    ) -> Window:
        """Returns the clips' windows, in which some of the first latents are known."""
        parts = [(i, slice(a, a + shape.count)) for i, a in zip(members, offsets, strict=True)]
        clean = self._tokens(torch.stack([table["latents"][i][:, part] for i, part in parts]))
        weight = 1 + 3 * torch.stack([table["masks"][i][part] for i, part in parts]).flatten(2).float()
        moves = torch.tensor([table["kinds"][i] in ("pan", "zoom") for i in members])
        weight = torch.maximum(weight, now.moving_weight * moves[:, None, None].float())
        lead = torch.tensor(rng.choices(list(now.context), list(now.context.values()), k=len(members)))
        known = torch.arange(shape.count) < lead.clamp(max=shape.count - 1)[:, None]
        return Window(clean, weight, known, starts(shape.count))

    def _ended(
        self, window: Window, table: dict[str, Any], shape: Shape, members: list[int], rng: random.Random
    ) -> Window:
        """Returns windows that end with a known clip of its own. In most of them nothing is known at the start."""
        suffix = self._tokens(table["suffix"][members])
        num_latents = SUFFIX_LATENTS - SUFFIX_PREFIX
        lead = torch.tensor([rng.choice((0, 0, 0, 1, 2, 3)) for _ in members])
        known = torch.arange(shape.count) < lead[:, None]
        known[:, -num_latents:] = True
        clean = torch.cat([window.clean[:, :-num_latents], suffix[:, SUFFIX_PREFIX:]], dim=1)
        ended = Window(clean, window.weight, known, window.frames)
        return ended.preceded(suffix[:, :SUFFIX_PREFIX], starts(SUFFIX_PREFIX, shape.group.suffix_at))


def noise_levels(count: int, dice: torch.Generator, ceiling: float) -> torch.Tensor:
    """Returns noise levels of `count` clips, mostly near 1 as the model's steps are.

    With a `ceiling` below 1, as for clips of double size, levels are at most that.
    """
    if ceiling < 1:
        return torch.sigmoid(torch.randn(count, generator=dice) * 1.2 + 0.9).clamp(max=ceiling)
    level = torch.sigmoid(torch.randn(count, generator=dice) * 1.2 + 1.2)
    near = 0.96 + 0.04 * torch.rand(count, generator=dice)
    fate = torch.rand(count, generator=dice)
    return torch.where(fate < 0.15, torch.ones(count), torch.where(fate < 0.40, near, level))


def noised(
    clean: torch.Tensor, known: torch.Tensor, sigma: torch.Tensor, soft: float, dice: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns noised tokens, their velocity, the noise level of each frame, and which frames count in the loss.

    Known frames are clean at level 0; in a quarter of the clips they carry a little noise all the same. In some clips,
    a share `soft`, they have a level of their own, at most 0.6 and never above the level of the others.
    """
    batch = len(clean)
    noise = torch.randn(clean.shape, generator=dice)
    chance = torch.rand(3, batch, generator=dice)
    level = torch.where(chance[0] < soft, torch.minimum(0.6 * chance[1] + 1e-3, sigma), torch.zeros(batch))
    sigmas = torch.where(known, level[:, None], sigma[:, None])
    stir = (chance[2] < 0.25) * 0.15 * sigma.square()
    added = sigmas + torch.where(known & (level == 0)[:, None], stir[:, None], torch.zeros(1))
    x = (1 - sigmas)[..., None, None] * clean + added[..., None, None] * noise
    learnt = torch.where(known, 0.25 * (level > 0).float()[:, None], torch.ones(1))
    return x, noise - clean, sigmas, learnt
