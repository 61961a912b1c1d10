"""Draws scenes. Textures and shapes are formulas, so a scene looks the same at every resolution."""

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from recipes.tiny.world import Scene, times, track

SHEET = 256
"""Side, in world pixels, of the square that carries the cloud pattern. The widest view needs about 240."""
EDGE = 2.5
"""Slope of an object's soft edge per drawn pixel."""


def render(scenes: Sequence[Scene], scale: int = 1, t: torch.Tensor | None = None) -> torch.Tensor:
    """Returns clips of scenes, `[B, 3, T, H * scale, W * scale]` in [-1, 1].

    t: the times to draw, `[T]` in frames; None draws the scenes' own frames.
    Raises ValueError if the scenes differ in size or length.
    """
    first = scenes[0]
    t = times(first) if t is None else t
    if any((s.width, s.height, s.num_frames) != (first.width, first.height, first.num_frames) for s in scenes):
        raise ValueError("scenes of one batch must have one size and one number of frames")
    ys, xs = _grid(first, scale)
    clips = torch.empty(len(scenes), 3, len(t), first.height * scale, first.width * scale)
    groups: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for i, scene in enumerate(scenes):
        groups[scene.texture, scene.pan != (0.0, 0.0) or scene.zoom != 0.0].append(i)
    for (texture, moves), members in groups.items():
        clips[members] = _backgrounds([scenes[i] for i in members], texture, moves, xs, ys, t)
    _draw_objects(clips, scenes, xs, ys, scale, t)
    return clips.clamp_(-1, 1)


def object_masks(scenes: Sequence[Scene], index: int = 0, scale: int = 1) -> torch.Tensor:
    """Returns a mask `[B, T, H * scale, W * scale]`, True for each pixel that object `index` of its scene covers."""
    ys, xs = _grid(scenes[0], scale)
    tracks = torch.stack([track(scene)[index] for scene in scenes])
    masks = [
        signed_distance(s.things[index].shape, *_local(p[None], xs, ys))[0] < 0
        for s, p in zip(scenes, tracks, strict=True)
    ]
    return torch.stack(masks)


def _grid(scene: Scene, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    ys = (torch.arange(scene.height * scale) + 0.5) / scale - scene.height / 2
    xs = (torch.arange(scene.width * scale) + 0.5) / scale - scene.width / 2
    return ys[:, None], xs[None, :]


def _backgrounds(
    scenes: Sequence[Scene], texture: str, moves: bool, xs: torch.Tensor, ys: torch.Tensor, t: torch.Tensor
) -> torch.Tensor:
    """Draws the backgrounds `[n, 3, T, H, W]` in [-1, 1] of scenes with the same texture.

    moves: True if the camera moves. Otherwise one frame is drawn and repeated without copying.
    xs, ys: the pixels' positions in the frame, in world pixels. t: the times `[T]` in frames.
    """
    count = len(t)
    t = (t if moves else t[:1]).view(1, -1, 1, 1) - (scenes[0].num_frames - 1) / 2
    zoom = torch.tensor([s.zoom for s in scenes]).view(-1, 1, 1, 1)
    pan = torch.tensor([s.pan for s in scenes]).view(-1, 2, 1, 1, 1)
    shrink = torch.exp(-zoom * t)
    u = (xs + 0 * ys) * shrink + (pan[:, 0] * t if moves else 0.0)
    v = (ys + 0 * xs) * shrink + (pan[:, 1] * t if moves else 0.0)
    level = torch.stack([_pattern(s, texture, u[i], v[i]) for i, s in enumerate(scenes)])[:, None]
    low, high = (torch.tensor([s.rgb[k] for s in scenes]).view(-1, 3, 1, 1, 1) for k in (0, 1))
    return (low + (high - low) * level).expand(-1, -1, count, -1, -1)


def _pattern(scene: Scene, texture: str, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Returns the share in [0, 1] of the second colour in a background at the world points (u, v)."""
    if texture == "plain":
        return torch.zeros_like(u)
    dice = torch.Generator().manual_seed(scene.texture_seed)
    angle, period, phase = torch.rand(3, generator=dice).tolist()
    if texture == "clouds":
        return (
            0.55
            * F.grid_sample(
                _sheet(dice).expand(u.shape[0], -1, -1, -1),
                torch.stack([u, v], dim=-1) * (2 / SHEET),
                padding_mode="reflection",
                align_corners=False,
            )[:, 0]
        )
    wave = 2 * math.pi / (16 + 24 * period)
    along = (u * math.cos(math.pi * angle) + v * math.sin(math.pi * angle)) * wave + 2 * math.pi * phase
    if texture == "gradient":
        return 0.85 * (0.5 + 0.5 * torch.sin(0.22 * along))
    return 0.55 * torch.sigmoid(4 / max(0.3, 2 * wave) * torch.sin(along))


def _sheet(dice: torch.Generator) -> torch.Tensor:
    """Returns three octaves of smooth noise, `[1, 1, SHEET, SHEET]` in [0, 1]."""
    total = torch.zeros(1, 1, SHEET, SHEET)
    for octave, weight in enumerate((1.0, 0.5, 0.2)):
        side = int(SHEET / (22 / 2**octave)) + 2
        noise = torch.randn(1, 1, side, side, generator=dice)
        total += weight * F.interpolate(noise, size=(SHEET, SHEET), mode="bicubic", align_corners=True)
    return (0.5 + 0.3 * total).clamp_(0, 1)


def _draw_objects(
    clips: torch.Tensor, scenes: Sequence[Scene], xs: torch.Tensor, ys: torch.Tensor, scale: int, t: torch.Tensor
) -> None:
    tracks = [track(scene, t) for scene in scenes]
    for k in range(max(len(scene.things) for scene in scenes)):
        groups: dict[str, list[int]] = defaultdict(list)
        for i, scene in enumerate(scenes):
            if len(scene.things) > k:
                groups[scene.things[k].shape].append(i)
        for shape, members in groups.items():
            x, y, radius = _local(torch.stack([tracks[i][k] for i in members]), xs, ys)
            alpha = torch.sigmoid(signed_distance(shape, x, y, radius) * (-EDGE * scale))[:, None]
            rgb = torch.tensor([scenes[i].things[k].rgb for i in members]).view(-1, 3, 1, 1, 1)
            paths = torch.stack([tracks[i][k] for i in members])[..., None, None]
            shade = 1 - 0.18 * ((ys - paths[:, :, 1]) / paths[:, :, 2]).clamp(-1, 1)[:, None]
            clips[members] = torch.lerp(clips[members], (rgb + 1) * shade - 1, alpha)


def _local(paths: torch.Tensor, xs: torch.Tensor, ys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the pixels' positions in each object's own turned axes, x and y `[n, T, H, W]`, and its radius `[n, T, 1,
    1]`.

    `paths` `[n, T, 4]` are the objects' paths, from `track`.
    """
    cx, cy, radius, angle = paths[..., None, None].unbind(2)
    dx, dy, c, s = xs - cx, ys - cy, torch.cos(angle), torch.sin(angle)
    return dx * c + dy * s, dy * c - dx * s, radius


def signed_distance(shape: str, x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """Returns the signed distance (world pixels, negative inside) to a shape of radius `r` at the origin."""
    if shape == "circle":
        return torch.hypot(x, y) - r
    if shape == "ring":
        return (torch.hypot(x, y) - 0.75 * r).abs() - 0.25 * r
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.85 * r
    if shape == "bar":
        return torch.maximum(x.abs() - 1.3 * r, y.abs() - 0.4 * r)
    if shape == "triangle":
        slant = x.abs() * (math.sqrt(3) / 2) + 0.5 * y
        return torch.maximum(slant, -y) - 0.6 * r
    if shape == "star":
        return torch.hypot(x, y) - r * (0.72 + 0.28 * torch.cos(5 * torch.atan2(y, x)))
    raise ValueError(f"unknown shape {shape!r}")
