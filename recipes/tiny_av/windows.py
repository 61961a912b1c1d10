"""Training examples: windows of video and sound, in which some tokens are known (context) and the others noised."""

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch

from recipes.tiny import configs as first
from recipes.tiny import latents, text
from recipes.tiny.curriculum import NAMES
from recipes.tiny.windows import LASTING_LENGTHS, LONG_FRAMES, WALLS_LENGTHS
from recipes.tiny.windows import Windows as FirstWindows
from recipes.tiny_av import text as own_text
from recipes.tiny_av.sound_configs import AUDIO_RATE

Layout = Literal["forward", "image", "backward"]
RATES = (24.0, 24.0, 25.0, 24.0, 30.0, 24.0, 24.0, 15.0, 24.0, 30.0)
"""Frame rates of the clips, which change every four clips because every fourth clip is a straight one."""
TOKENS = 2304
"""Video tokens of one process's batch."""
SUFFIX_LATENTS = 4
"""Latents at a window's end that are encoded as a separate clip: the context of a window that is extended backward."""


def _groups() -> Mapping[str, float]:
    return dict(zip(NAMES, (0.50, 0.27, 0.06, 0.06, 0.03, 0.03, 0.05, 0.0, 0.0, 0.0), strict=True))


def _context() -> Mapping[int, float]:
    return dict(enumerate((0.08, 0.07, 0.03, 0.09, 0.12, 0.51, 0.05, 0.05)))


def _layouts() -> Mapping[Layout, float]:
    return {"forward": 0.69, "image": 0.13, "backward": 0.18}


@dataclass(frozen=True)
class Mix:
    """The mix of training examples. It is the same from the first step on, because the video stream is pretrained.

    groups: group of latents -> its share of the batches.
    context: number of known latent frames at the start -> its share of the examples; 5 latent frames are 17 frames.
    layouts: layout -> its share. `forward` continues a known start, `image` also has an end image, `backward` leads to
        a known end.
    straight: the share of clips of the kind `straight`.
    moving_weight: the least weight in the loss of a latent cell in a clip with a moving camera.
    apart: the share of examples in which video and sound do not attend to each other.
    soft: the share of examples whose known tokens have noise, as with a strength below 1.
    mute: the share of examples with known sound whose whole sound is silence, as with a silent video.
    heard: the share of examples whose whole sound is known.
    strange: the share of examples with known sound whose sound is that of another clip. There, sound continues what was
        heard, and not what is seen.
    near: the share of examples whose noise level is drawn from 0.9 to 1. A third of them are exactly 1.
    cut: the share of examples with an end image whose end image is that of another clip. Their last latent frame is
        that of the other clip, too.
    """

    groups: Mapping[str, float] = field(default_factory=_groups)
    context: Mapping[int, float] = field(default_factory=_context)
    layouts: Mapping[Layout, float] = field(default_factory=_layouts)
    straight: float = 0.5
    moving_weight: float = 2.5
    apart: float = 0.18
    soft: float = 0.12
    mute: float = 0.06
    heard: float = 0.1
    strange: float = 0.0
    near: float = 0.35
    cut: float = 0.0


def rate_of(number: int) -> float:
    """Returns the frames per second of clip `number` of a group."""
    return RATES[number // 4 % len(RATES)]


def video_coords(spans: list[tuple[float, float]], rows: int, columns: int, fps: float) -> torch.Tensor:
    """Returns the start and end of each token in (seconds, y px, x px), `[1, 3, F * S, 2]`.

    spans: for each latent frame the first frame that it covers, and the frame before which it ends.
    """
    cell = first.SPATIAL
    t = torch.tensor(spans) / fps
    y, x = (torch.arange(n, dtype=torch.float32)[:, None] * cell + torch.tensor([0.0, cell]) for n in (rows, columns))
    whole = (len(spans), rows, columns, 2)
    axes = [t[:, None, None].expand(whole), y[None, :, None].expand(whole), x[None, None].expand(whole)]
    return torch.stack(axes).flatten(1, 3)[None]


def spans(count: int) -> list[tuple[float, float]]:
    """Returns, for each of `count` latent frames, the first frame that it covers and the frame before which it ends."""
    step = first.TEMPORAL
    return [(float(max(step * i - step + 1, 0)), float(step * i + 1)) for i in range(count)]


def audio_coords(count: int) -> torch.Tensor:
    """Returns the start and end of audio latents in seconds, `[1, 1, count, 2]`.

    The first latent covers one spectrogram frame of 10 ms, each other latent four.
    """
    i = torch.arange(count, dtype=torch.float32)
    return (torch.stack([(4 * i - 3).clamp(min=0), 4 * i + 1], dim=-1) * 0.01)[None, None]


def audio_count(frames: float, fps: float) -> int:
    """Returns the number of audio latents that last as long as `frames` video frames at `fps` frames per second."""
    return round(frames / fps * AUDIO_RATE)


@dataclass(frozen=True)
class Stream:
    """One modality of a batch. F is the number of latent frames and S the tokens of each; sound has S = 1.

    x: the noised tokens, `[B, F, S, C]`.
    target: the velocities to learn, `[B, F, S, C]`.
    sigmas: the noise level of each latent frame, `[B, F]`.
    level: the noise level of the window's unknown tokens, `[B]`.
    weight: the weight of each token in the loss, `[B, F, S]`.
    coords: the start and end of each token, `[1, axes, F * S, 2]`.
    """

    x: torch.Tensor
    target: torch.Tensor
    sigmas: torch.Tensor
    level: torch.Tensor
    weight: torch.Tensor
    coords: torch.Tensor

    def to(self, device: torch.device) -> "Stream":
        """Returns the stream on a device."""
        return Stream(*(getattr(self, part.name).to(device) for part in fields(self)))


@dataclass(frozen=True)
class Batch:
    """A batch of examples.

    ids, mask: the prompts' token ids and mask, `[B, L]`.
    linked: `[B]`; 1 for an example in which video and sound attend to each other, otherwise 0.
    """

    video: Stream
    audio: Stream
    ids: torch.Tensor
    mask: torch.Tensor
    linked: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on a device."""
        return Batch(*(getattr(self, part.name).to(device) for part in fields(self)))


@dataclass(frozen=True)
class Clean:
    """A modality before noise is added.

    tokens: the clean tokens, `[B, F, S, C]`.
    weight: the weight of each token in the loss, `[B, F, S]`.
    known: True for each latent frame that is known, `[B, F]`.
    """

    tokens: torch.Tensor
    weight: torch.Tensor
    known: torch.Tensor

    def rows(self, which: slice) -> "Clean":
        """Returns the examples `which` of the batch."""
        return Clean(self.tokens[which], self.weight[which], self.known[which])


@dataclass(frozen=True)
class Shape:
    """The properties that all clips of a batch share: group, layout, number of latent frames, frames per second."""

    group: latents.Group
    layout: Layout
    count: int
    fps: float


class Windows(FirstWindows):
    """Draws batches from the encoded groups. A batch depends only on the seed, the step and the process's rank."""

    def __init__(self, seed: int, sounds: dict[str, list[torch.Tensor]], silence: torch.Tensor) -> None:
        """Loads the encoded groups.

        sounds: group -> the audio tokens of each of its clips, `[T, AUDIO_TOKEN]`.
        silence: the audio tokens of silence, at least as long as the longest window.
        """
        super().__init__(seed)
        self.words = own_text.tokenizer()
        self.sounds, self.silence = sounds, silence
        self.pools: dict[tuple[str, float, bool], list[int]] = defaultdict(list)
        for (name, straight), found in self.members.items():
            for i in found:
                self.pools[name, rate_of(i), straight].append(i)

    def batch_of(self, now: Mix, step: int, rank: int) -> Batch:
        """Returns the batch of process `rank` in a step. The batches of all processes have the same shape."""
        shared, own = random.Random(self.seed + step), random.Random(self.seed + step * 64 + rank + 1)
        shape = self._draw(now, shared)
        table = self.tables[shape.group.name]
        whole, rows, columns = table["latents"].shape[2:]
        size = max(2, round(TOKENS / ((shape.count + (shape.layout == "image")) * rows * columns)))
        members = [self._choose(shape, own, now.straight) for _ in range(size)]
        offsets = [0] * size
        if shape.layout == "forward" and whole > shape.count:
            offsets = [own.randint(0, whole - shape.count) if own.random() < 0.5 else 0 for _ in members]
        dice = torch.Generator().manual_seed(own.randrange(1 << 40))
        video, edge = self._picture(table, shape, members, offsets, now, own)
        frames = float(first.TEMPORAL * (shape.count - 1) + 1)
        audio = self._sound(shape, members, offsets, edge, audio_count(frames, shape.fps), now, own)
        levels = noise_levels(size, dice, shape.group.scale == 2, now.heard, now.near)
        bounds = spans(shape.count) + ([(frames - 1, frames)] if shape.layout == "image" else [])
        ids, mask = own_text.tokens(self.words, [text.vary(table["prompts"][i], own) for i in members])
        return Batch(
            noised(video, levels[0], now.soft, dice, video_coords(bounds, rows, columns, shape.fps)),
            noised(audio, levels[1], now.soft, dice, audio_coords(audio.tokens.shape[1])),
            ids,
            mask,
            (torch.rand(size, generator=dice) >= now.apart).float(),
        )

    def _draw(self, now: Mix, rng: random.Random) -> Shape:
        name = rng.choices(list(now.groups), list(now.groups.values()))[0]
        group = next(g for g in latents.GROUPS if g.name == name)
        layout: Layout = "forward"
        if group.keyed:
            layout = rng.choices(list(now.layouts), list(now.layouts.values()))[0]
        count = first.num_latents(group.window)
        if group.window == LONG_FRAMES:
            count = rng.choices((9, 13, 19, count), WALLS_LENGTHS if name == "walls" else LASTING_LENGTHS)[0]
        elif layout == "forward" and group.scale == 1 and rng.random() < 0.1:
            count = 7
        return Shape(group, layout, count, rng.choice(RATES))

    def _choose(self, shape: Shape, rng: random.Random, straight: float) -> int:
        chosen = rng.random() < straight
        name, fps = shape.group.name, shape.fps
        pool = self.pools[name, fps, chosen] or self.pools[name, fps, not chosen]
        while True:
            i = rng.choice(pool)
            if shape.layout != "image" or i < len(self.tables[name]["image"]):
                return i

    def _picture(
        self,
        table: dict[str, Any],
        shape: Shape,
        members: list[int],
        offsets: list[int],
        now: Mix,
        rng: random.Random,
    ) -> tuple[Clean, list[tuple[float, float]]]:
        """Returns the video of the windows, and for each clip the known frames of its context as (start, end).

        `end` is the first frame after the context. (0, 0) means that there is no context.
        """
        count, frames = shape.count, first.TEMPORAL * (shape.count - 1) + 1
        parts = [(i, slice(a, a + count)) for i, a in zip(members, offsets, strict=True)]
        tokens = self._tokens(torch.stack([table["latents"][i][:, part] for i, part in parts]))
        weight = 1 + 3 * torch.stack([table["masks"][i][part] for i, part in parts]).flatten(2).float()
        moves = torch.tensor([table["kinds"][i] in ("pan", "zoom") for i in members])
        weight = torch.maximum(weight, now.moving_weight * moves[:, None, None].float())
        at = torch.arange(count)
        if shape.layout == "backward":
            pairs = [rng.choices((1, 2, 3), (0.15, 0.6, 0.25))[0] for _ in members]
            known = at >= count - 2 * torch.tensor(pairs)[:, None]
            for row, i in enumerate(members):
                if i < len(table.get("suffix", ())) and pairs[row] == 2:
                    tokens[row, -SUFFIX_LATENTS:] = self._tokens(table["suffix"][i][None])[0, -SUFFIX_LATENTS:]
                if rng.random() < 0.15:
                    known[row, 0] = True
            return Clean(tokens, weight, known), [(frames - 8.0 * pair, float(frames)) for pair in pairs]
        lead = rng.choices(list(now.context), list(now.context.values()), k=len(members))
        lead = [min(n, count - 1) for n in lead]
        known = at < torch.tensor(lead)[:, None]
        if shape.layout == "image":
            shown = [row - (rng.random() < now.cut) for row in range(len(members))]
            image = self._tokens(table["image"][[members[row] for row in shown]])
            tokens, weight = (torch.cat([part[:, :-1], part[shown, -1:]], dim=1) for part in (tokens, weight))
            tokens, weight = torch.cat([tokens, image], dim=1), torch.cat([weight, torch.zeros_like(weight[:, :1])], 1)
            known = torch.cat([known, torch.ones(len(members), 1, dtype=torch.bool)], dim=1)
        return Clean(tokens, weight, known), [(0.0, float(max(first.TEMPORAL * n - 3, 0))) for n in lead]

    def _sound(
        self,
        shape: Shape,
        members: list[int],
        offsets: list[int],
        edges: list[tuple[float, float]],
        count: int,
        now: Mix,
        rng: random.Random,
    ) -> Clean:
        """Returns the sound of the windows. Audio latents that lie wholly within the known frames are known.

        edges: for each clip the known frames as (start, end).
        count: the number of audio latents.
        """
        known = torch.stack([inside(count, a / shape.fps, b / shape.fps) for a, b in edges])
        rows = []
        for row, (i, a) in enumerate(zip(members, offsets, strict=True)):
            start = audio_count(max(first.TEMPORAL * a - 3, 0), shape.fps)
            fate = rng.random() if known[row].any() else 1.0
            of = self._choose(shape, rng, now.straight) if now.mute <= fate < now.mute + now.strange else i
            tokens = self.sounds[shape.group.name][of][start : start + count].float()
            rows.append(self.silence[:count] if fate < now.mute else tokens)
        found = torch.stack(rows)[:, :, None]
        return Clean(found, torch.ones(found.shape[:3]), known)


def inside(count: int, start: float, end: float) -> torch.Tensor:
    """Returns a mask `[count]`, True for each audio latent that is wholly between two times in seconds."""
    bounds = audio_coords(count)[0, 0]
    return (bounds[:, 0] >= start - 1e-6) & (bounds[:, 1] <= end + 1e-6)


def noise_levels(
    count: int, dice: torch.Generator, late: bool, heard: float = 0.1, near: float = 0.35
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns random noise levels of video and of sound, `[count]` each, for `count` windows.

    In most windows the two levels are equal, in some they differ. In some windows one level is 0, so that this modality
    is known as a whole.

    late: True for windows of double size, which have only levels that occur in second passes.
    heard: the share of windows whose sound is known as a whole.
    near: the share of windows whose levels are drawn from 0.9 to 1. A third of them are exactly 1.
    """
    chance = torch.rand(5, count, generator=dice)
    level = torch.sigmoid(torch.randn(2, count, generator=dice) * 1.3 + 1.1)
    high = 0.9 + 0.1 * torch.rand(2, count, generator=dice)
    level = torch.where(chance[0] < 0.34 * near, torch.ones(2, count), torch.where(chance[0] < near, high, level))
    if late:
        level = level.clamp(max=0.93)
    video, audio = level[0], torch.where(chance[1] < 0.3, level[1], level[0])
    audio = torch.where(chance[2] < heard, torch.zeros(count), audio)
    video = torch.where((chance[2] > 0.94) & (not late), torch.zeros(count), video)
    return video, audio


def noised(clean: Clean, level: torch.Tensor, soft: float, dice: torch.Generator, coords: torch.Tensor) -> Stream:
    """Returns a modality with noise added at the noise levels `level` `[B]`. Known tokens are clean, with level 0.

    There are two exceptions. In a share `soft` of the clips, known tokens have a random level below that of the other
    tokens. In some other clips they carry a little noise that their level does not show.
    """
    batch = len(clean.tokens)
    noise = torch.randn(clean.tokens.shape, generator=dice)
    chance = torch.rand(3, batch, generator=dice)
    held = torch.where(chance[0] < soft, chance[1] * level, torch.zeros(batch))
    sigmas = torch.where(clean.known, held[:, None], level[:, None])
    stir = 0.1 * level.square() * (chance[2] < 0.15) * (held == 0)
    added = sigmas + torch.where(clean.known, stir[:, None], torch.zeros(1))
    x = (1 - sigmas)[..., None, None] * clean.tokens + added[..., None, None] * noise
    learnt = torch.where(clean.known, 0.25 * (held > 0).float()[:, None], (level > 0).float()[:, None])
    return Stream(x, noise - clean.tokens, sigmas, level, clean.weight * learnt[..., None], coords)
