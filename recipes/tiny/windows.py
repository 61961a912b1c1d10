"""Training examples of the transformer: windows of latents, of which some are known (context) and the others noised."""

import random
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch

from recipes.tiny import configs, latents, text
from recipes.tiny.curriculum import Phase, phase

Layout = Literal["plain", "image", "suffix"]

FRAME_RATES = (12.0, 15.0, 20.0, 25.0, 30.0)
TOKENS = 2304
"""Tokens of one process's batch."""
SHORT_WINDOW = 7
LONG_FRAMES = 121
"""The frames of the longest windows, as in a request for the default 96 new frames. Some windows of these clips have
9, 13 or 19 latents."""
LASTING_LENGTHS, WALLS_LENGTHS = (0.0, 0.1, 0.2, 0.7), (0.35, 0.2, 0.2, 0.25)
"""The shares of windows of 9, 13, 19 and 31 latents in the clips of `LONG_FRAMES`: in the groups `lasting`, and in the
group `walls`, where many short windows show many bounces."""
SUFFIX_LATENTS = 5
SUFFIX_PREFIX = 2
"""The number of latents at the start of a suffix clip (a known clip at the window's end) that are extra tokens. The
clip's other latents replace latents of the window."""


@dataclass(frozen=True)
class Batch:
    """A batch of noised tokens and their targets.

    In the shapes, F is the number of latent frames (extra conditioning frames come first) and S the cells of a frame.

    x: the noised tokens, `[B, F, S, C]`.
    target: the velocities to learn, `[B, F, S, C]`.
    sigmas: the noise level of each frame, `[B, F]`.
    weight: the weight of each token in the loss, `[B, F, S]`; 0 for a token that does not count.
    ids, mask: the prompts' token ids and mask, `[B, L]`.
    coords: the tokens' positions in (seconds, y px, x px), `[1, 3, F * S]`.
    """

    x: torch.Tensor
    target: torch.Tensor
    sigmas: torch.Tensor
    weight: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    coords: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Shape:
    """The properties that all clips of a batch share.

    group: the group of encoded clips.
    layout: plain, with an end image, or with a known clip at the window's end (suffix).
    count: the number of latent frames.
    fps: frames per second.
    """

    group: latents.Group
    layout: Layout
    count: int
    fps: float


@dataclass(frozen=True)
class Window:
    """Windows before noise is added.

    clean: the tokens, `[B, F, S, C]`.
    weight: the weight of each token in the loss, `[B, F, S]`.
    known: True for each latent frame that is known, `[B, F]`.
    frames: for each latent frame, the number of the first frame that it covers.
    """

    clean: torch.Tensor
    weight: torch.Tensor
    known: torch.Tensor
    frames: list[float]

    def preceded(self, tokens: torch.Tensor, frames: list[float]) -> "Window":
        """Returns the window with extra known latents in front.

        tokens: the extra latents, `[B, f, S, C]`.
        frames: for each of them, the number of the first frame that it covers.
        """
        batch, extra, cells, _ = tokens.shape
        return Window(
            torch.cat([tokens, self.clean], dim=1),
            torch.cat([torch.zeros(batch, extra, cells), self.weight], dim=1),
            torch.cat([torch.ones(batch, extra, dtype=torch.bool), self.known], dim=1),
            [*frames, *self.frames],
        )


def starts(count: int, offset: int = 0) -> list[float]:
    """Returns, for each of `count` latents of a clip that begins at frame `offset`, the first frame that it covers."""
    return [float(offset + max(configs.TEMPORAL * i - configs.TEMPORAL + 1, 0)) for i in range(count)]


def coordinates(frames: list[float], rows: int, columns: int, fps: float) -> torch.Tensor:
    """Returns the position where each token starts, in (seconds, y px, x px): `[1, 3, F * S]`."""
    t = torch.tensor(frames) / fps
    y = torch.arange(rows, dtype=torch.float32) * configs.SPATIAL
    x = torch.arange(columns, dtype=torch.float32) * configs.SPATIAL
    return torch.stack(torch.meshgrid(t, y, x, indexing="ij")).flatten(1)[None]


class Windows:
    """Draws batches from the encoded groups. A batch depends only on the seed, the step and the process's rank."""

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
        """Returns the batch of process `rank` in a step. The batches of all processes have the same shape."""
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
        sigma = noise_levels(size, dice, 0.93 if shape.group.scale == 2 else 1.0, now.near)
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
        if group.window == LONG_FRAMES:
            count = rng.choices((9, 13, 19, count), WALLS_LENGTHS if name == "walls" else LASTING_LENGTHS)[0]
        elif layout == "plain" and group.scale == 1:
            count = rng.choices((SHORT_WINDOW, count), (0.15, 0.85))[0]
        fps = rng.choice(FRAME_RATES) if rng.random() < 0.1 else configs.FPS
        return Shape(group, layout, count, fps)

    def _member(self, shape: Shape, rng: random.Random, straight: float) -> int:
        chosen = rng.random() < straight
        pool = self.members[shape.group.name, chosen] or self.members[shape.group.name, not chosen]
        while True:
            i = rng.choice(pool)
            if shape.layout == "plain" or i < len(self.tables[shape.group.name]["image"]):
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
        """Returns windows of the clips. A random number of latents at the start is known.

        table: the encoded clips of the group.
        members: the numbers of the clips in `table`.
        offsets: for each clip, the number of the latent at which its window starts.
        """
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
        """Returns windows that end with a known, separately encoded clip. In half of them no other latents are
        known."""
        suffix = self._tokens(table["suffix"][members])
        num_latents = SUFFIX_LATENTS - SUFFIX_PREFIX
        lead = torch.tensor([rng.choice((0, 0, 0, 1, 2, 3)) for _ in members])
        known = torch.arange(shape.count) < lead[:, None]
        known[:, -num_latents:] = True
        clean = torch.cat([window.clean[:, :-num_latents], suffix[:, SUFFIX_PREFIX:]], dim=1)
        ended = Window(clean, window.weight, known, window.frames)
        return ended.preceded(suffix[:, :SUFFIX_PREFIX], starts(SUFFIX_PREFIX, shape.group.suffix_at))


def noise_levels(count: int, dice: torch.Generator, ceiling: float, near: float) -> torch.Tensor:
    """Returns random noise levels of `count` clips, `[count]`. Most are near 1, where most sampling steps are.

    ceiling: the highest level. It is below 1 for clips of double size, which only second passes work on.
    near: the share of levels that are drawn from 0.96 to 1, with a ceiling of 1. Three eighths of them are exactly 1.
        A few of the other levels are in this range, too.
    """
    if ceiling < 1:
        return torch.sigmoid(torch.randn(count, generator=dice) * 1.2 + 0.9).clamp(max=ceiling)
    level = torch.sigmoid(torch.randn(count, generator=dice) * 1.2 + 1.2)
    high = 0.96 + 0.04 * torch.rand(count, generator=dice)
    fate = torch.rand(count, generator=dice)
    return torch.where(fate < 0.375 * near, torch.ones(count), torch.where(fate < near, high, level))


def noised(
    clean: torch.Tensor, known: torch.Tensor, sigma: torch.Tensor, soft: float, dice: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Adds noise to clean tokens.

    Known frames are clean, with noise level 0. There are two exceptions. In a quarter of the clips, known frames carry
    a little noise that their level does not show. In a share `soft` of the clips, known frames have a random level of
    at most 0.6 that is not above the level of the other frames.

    clean: `[B, F, S, C]`.
    known: True for each known frame, `[B, F]`.
    sigma: the noise level of each clip, `[B]`.
    Returns the noised tokens `[B, F, S, C]`, their velocities `[B, F, S, C]`, the noise level of each frame `[B, F]`,
    and the weight of each frame in the loss `[B, F]`.
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
