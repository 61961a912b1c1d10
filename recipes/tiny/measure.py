"""Measures how a generated clip differs from the true clip: in places, shapes, colours and speed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from recipes.tiny.render import render, signed_distance
from recipes.tiny.world import COLOURS, DIRECTIONS, RGB, SOLID, Scene, track


@dataclass(frozen=True)
class Truth:
    """A scene and its true clip.

    clip: `[3, T, H, W]` in [-1, 1].
    background: the same clip without objects.
    path: the centre (x, y) of object 0 in each frame, `[T, 2]` in pixels from the frame's centre; 0 without an object.
    """

    scene: Scene
    clip: torch.Tensor
    background: torch.Tensor
    path: torch.Tensor


def truth(scene: Scene) -> Truth:
    """Returns a scene with its true clip, background and path."""
    empty = render([replace(scene, things=())])[0]
    path = track(scene)[0, :, :2] if scene.things else torch.zeros(scene.num_frames, 2)
    return Truth(scene, render([scene])[0], empty, path)


def coverage(clip: torch.Tensor, background: torch.Tensor, rgb: RGB) -> torch.Tensor:
    """Returns how much of each pixel the object covers, `[T, H, W]`: 0 has the background's colour, 1 the object's
    colour `rgb`."""
    away = torch.tensor(rgb).view(3, 1, 1, 1) - background
    return ((clip - background) * away).sum(0) / away.square().sum(0).clamp(min=0.05)


def locate(cover: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the object's centre (x, y) in each frame, `[T, 2]` in pixels from the frame's centre, and its strongest
    coverage in each frame, `[T]`.

    `cover` is the result of `coverage`.
    """
    smooth = F.avg_pool2d(cover[:, None], 5, 1, 2)[:, 0].clamp(min=0)
    peak = smooth.amax((1, 2))
    weight = smooth * (smooth > 0.6 * peak[:, None, None])
    height, width = cover.shape[1:]
    ys = torch.arange(height)[:, None] - (height - 1) / 2
    xs = torch.arange(width)[None, :] - (width - 1) / 2
    total = weight.sum((1, 2)).clamp(min=1e-6)
    return torch.stack([(weight * xs).sum((1, 2)) / total, (weight * ys).sum((1, 2)) / total], dim=1), peak


def overlap(cover: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns the intersection over union of two objects in each frame, `[T]`, from their coverages `[T, H, W]`."""
    a, b = cover > 0.5, other > 0.5
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp(min=1)


def psnr(made: torch.Tensor, clip: torch.Tensor) -> float:
    """Returns the peak signal-to-noise ratio in dB of values in [-1, 1]."""
    return float(-10 * torch.log10(((made - clip) / 2).square().mean().clamp(min=1e-10)))


def measurable(case: Truth) -> bool:
    """Returns True if object 0 stands out from its background and `locate` finds it in the true clip."""
    thing = case.scene.things[0]
    contrast = (torch.tensor(thing.rgb) - case.background.mean((1, 2, 3))).norm()
    found, _ = locate(coverage(case.clip, case.background, thing.rgb))
    return bool(contrast >= 0.6 and (found - case.path).norm(dim=1).max() <= 3)


def progress(made: torch.Tensor, scene: Scene, first: int) -> float:
    """Returns the speed of a generated clip along the scene's motion: 1 is the true speed, 0 a standstill.

    Each generated frame is compared with the true scene at many times, and gets the time at which it fits best. A line
    through these times starts at the last context frame; its slope is the speed.

    made: the generated frames, `[3, n, H, W]`.
    first: the number in the scene of the first generated frame.
    """
    count = made.shape[1]
    candidates = first - 1 + torch.arange(-0.5 * count, 1.6 * count, 0.25)
    views = render([scene], t=candidates)[0]
    distance = (made[:, :, None] - views[:, None]).square().mean((0, 3, 4))
    best = candidates[distance.argmin(1)] - (first - 1)
    k = torch.arange(1, count + 1, dtype=torch.float32)
    return float((best * k).sum() / k.square().sum())


def nearest_colour(rgb: torch.Tensor) -> str:
    """Returns the name of the colour in `COLOURS` that is nearest to `rgb` `[3]` in [-1, 1]."""
    return min(COLOURS, key=lambda name: float((torch.tensor(COLOURS[name]) / 127.5 - 1 - rgb).norm()))


def heading(path: torch.Tensor) -> tuple[str, float]:
    """Returns the direction (a word) and the speed (pixels per frame) of a straight line fitted to a path `[T, 2]`."""
    t = torch.arange(len(path), dtype=torch.float32)
    t = t - t.mean()
    vx, vy = ((path - path.mean(0)) * t[:, None]).sum(0) / t.square().sum()
    return DIRECTIONS[round(math.atan2(float(vy), float(vx)) / (math.pi / 4)) % 8], math.hypot(float(vx), float(vy))


def nearest_shape(cover: torch.Tensor, names: Sequence[str] = SOLID) -> str:
    """Returns the name of the shape that overlaps an object most. Each shape is tried at its best size and angle.

    cover: the object's coverage, `[H, W]`.
    names: the shapes to try.
    """
    mask = cover > 0.5
    (x, y), radius = locate(cover[None])[0][0].tolist(), math.sqrt(float(mask.sum()) / math.pi)
    scores: dict[str, float] = {}
    for name in names:
        for scale in (0.95, 1.1, 1.25, 1.4):
            for angle in torch.arange(0, 2 * math.pi, math.pi / 12).tolist():
                drawn = _mask(name, (x, y), radius * scale, angle, mask.shape)
                score = float((drawn & mask).sum() / (drawn | mask).sum().clamp(min=1))
                scores[name] = max(score, scores.get(name, 0.0))
    return max(scores, key=lambda name: scores[name])


def _mask(name: str, at: tuple[float, float], radius: float, angle: float, size: torch.Size) -> torch.Tensor:
    ys = torch.arange(size[0])[:, None] - (size[0] - 1) / 2 - at[1]
    xs = torch.arange(size[1])[None, :] - (size[1] - 1) / 2 - at[0]
    c, s = math.cos(angle), math.sin(angle)
    return signed_distance(name, xs * c + ys * s, ys * c - xs * s, torch.tensor(radius)) < 0
