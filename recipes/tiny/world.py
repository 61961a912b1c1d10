"""The toy world: the content of a clip (`Scene`), how a seed determines it, and where its objects are (`track`).

Lengths are in world pixels. The short side of every frame has 64 of them. `recipes.tiny.render` can draw the same scene
with two drawn pixels per world pixel. Positions are measured from the centre of the frame, x to the right and y down.
Times are counted in frames.
"""

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

import torch

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 215, 50),
    "orange": (245, 140, 30),
    "purple": (140, 50, 190),
    "pink": (245, 130, 180),
    "cyan": (50, 205, 220),
    "white": (245, 245, 245),
    "black": (15, 15, 20),
    "gray": (125, 125, 130),
    "brown": (120, 75, 40),
}
DIRECTIONS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")
SOLID = ("circle", "square", "triangle")
SHAPES = (*SOLID, "star", "ring", "bar")
TEXTURES = ("plain", "gradient", "stripes", "clouds")

Kind = Literal["straight", "still", "shapes", "rotate", "bounce", "pan", "zoom", "pair", "empty"]
"""The main motion of a scene. The evaluation measures most kinds separately."""
WIDE: dict[Kind, float] = {
    "straight": 0.42,
    "still": 0.04,
    "shapes": 0.10,
    "rotate": 0.09,
    "bounce": 0.09,
    "pan": 0.10,
    "zoom": 0.07,
    "pair": 0.08,
    "empty": 0.01,
}
"""Share of each kind in the training clips."""

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Thing:
    """One object.

    rgb: its colour, each channel in -1..1. `colour` is the colour's name.
    start: its centre (x, y) in frame 0.
    velocity: its motion (x, y) on the screen, in world pixels per frame.
    angle: its angle in radians in frame 0.
    spin: its rotation in radians per frame.
    bounces: True if it bounces off the frame's border.
    """

    shape: str
    colour: str
    rgb: RGB
    radius: float
    start: tuple[float, float]
    velocity: tuple[float, float]
    angle: float
    spin: float = 0.0
    bounces: bool = False


@dataclass(frozen=True)
class Scene:
    """The content of one clip: background, camera and objects.

    texture: the pattern of the background, one of `TEXTURES`.
    colours: the names of the background's two colours; `rgb` are their values in -1..1.
    pan: the camera's velocity (x, y) in world pixels per frame.
    zoom: the change of the logarithm of the scale per frame; positive zooms in.
    """

    kind: Kind
    width: int
    height: int
    num_frames: int
    texture: str
    colours: tuple[str, str]
    rgb: tuple[RGB, RGB]
    texture_seed: int
    things: tuple[Thing, ...]
    pan: tuple[float, float] = (0.0, 0.0)
    zoom: float = 0.0


def reflect(x: torch.Tensor, bound: float) -> torch.Tensor:
    """Returns the positions of a ball that bounces between walls at -bound and bound.

    x: the positions that the ball would have without walls.
    """
    y = (x + bound) % (4 * bound)
    return torch.where(y > 2 * bound, 4 * bound - y, y) - bound


def times(scene: Scene) -> torch.Tensor:
    """Returns the times of the scene's frames, `[T]`."""
    return torch.arange(scene.num_frames, dtype=torch.float32)


def track(scene: Scene, t: torch.Tensor | None = None) -> torch.Tensor:
    """Returns centre x, centre y, radius and angle of every object, `[K, T, 4]`, in world pixels and radians.

    K is the number of objects. `t` `[T]` are times in frames; None takes the times of the scene's own frames.
    """
    t = times(scene) if t is None else t
    scale = torch.exp(scene.zoom * (t - (scene.num_frames - 1) / 2))
    rows = []
    for thing in scene.things:
        x = thing.start[0] + thing.velocity[0] * t
        y = thing.start[1] + thing.velocity[1] * t
        if thing.bounces:
            x = reflect(x, scene.width / 2 - 0.9 * thing.radius)
            y = reflect(y, scene.height / 2 - 0.9 * thing.radius)
        rows.append(torch.stack([x * scale, y * scale, thing.radius * scale, thing.angle + thing.spin * t], dim=-1))
    return torch.stack(rows) if rows else torch.zeros(0, len(t), 4)


def direction(velocity: tuple[float, float]) -> str:
    """Returns the word in `DIRECTIONS` for the direction of a velocity (x, y)."""
    return DIRECTIONS[round(math.atan2(velocity[1], velocity[0]) / (math.pi / 4)) % 8]


def prompt(scene: Scene) -> str:
    """Returns a prompt that describes a scene, such as `a red circle moving left over a blue stripes background`."""
    words = [f"a {thing.colour} {thing.shape} {_action(thing)}" for thing in scene.things]
    ground = f"a {scene.colours[0]} {scene.texture} background"
    text = f"{' and '.join(words)} over {ground}" if words else ground
    if scene.pan != (0.0, 0.0):
        text += f", camera pans {direction(scene.pan)}"
    if scene.zoom:
        text += f", camera zooms {'in' if scene.zoom > 0 else 'out'}"
    return text


def _action(thing: Thing) -> str:
    speed = math.hypot(*thing.velocity)
    if thing.bounces:
        return "bouncing"
    if speed < 0.05:
        return "rotating" if thing.spin else "still"
    pace = " slowly" if speed < 0.55 else " quickly" if speed > 1.15 else ""
    return f"moving {direction(thing.velocity)}{pace}" + (" and rotating" if thing.spin else "")


def _tint(name: str, rng: random.Random) -> RGB:
    r, g, b = (min(1.0, max(-1.0, c / 127.5 - 1 + rng.gauss(0, 0.08))) for c in COLOURS[name])
    return r, g, b


def _inside(rng: random.Random, scene: Scene, reach: float, low: float, high: float) -> tuple[float, ...]:
    """Draws a straight path whose distance from the frame's border is at least `reach` in all frames.

    Returns (start x, start y, velocity x, velocity y). `low` and `high` limit the speed in world pixels per frame.
    """
    half = (scene.num_frames - 1) / 2
    for attempt in range(1000):
        speed = rng.uniform(low, high) * (0.995**attempt)
        angle = rng.uniform(0, 2 * math.pi)
        vx, vy = speed * math.cos(angle), speed * math.sin(angle)
        free_x = scene.width / 2 - reach - abs(vx) * half
        free_y = scene.height / 2 - reach - abs(vy) * half
        if free_x > 0 and free_y > 0:
            x, y = rng.uniform(-free_x, free_x), rng.uniform(-free_y, free_y)
            return x - vx * half, y - vy * half, vx, vy
    raise ValueError(f"no straight path of reach {reach} fits into {scene.width}x{scene.height}")


def _thing(rng: random.Random, scene: Scene, shapes: tuple[str, ...], used: tuple[str, ...], speed: float) -> Thing:
    radius = rng.uniform(8, 13)
    shape = rng.choice(shapes)
    colour = rng.choice([name for name in COLOURS if name not in used])
    x, y, vx, vy = _inside(rng, scene, 0.85 * radius, min(0.3, speed), speed)
    return Thing(shape, colour, _tint(colour, rng), radius, (x, y), (vx, vy), rng.uniform(0, 2 * math.pi))


def _camera(rng: random.Random, scene: Scene) -> Scene:
    """Returns the scene with a camera move. Its object, if there is one, stands on the ground or moves independently of
    it."""
    if scene.kind == "zoom":
        zoom = rng.uniform(0.004, min(0.015, 1.2 / scene.num_frames)) * rng.choice((-1, 1))
        place = (rng.uniform(-10, 10), rng.uniform(-10, 10))
        still = tuple(replace(thing, start=place, velocity=(0.0, 0.0)) for thing in scene.things)
        return replace(scene, zoom=zoom, things=still)
    angle = rng.uniform(0, 2 * math.pi)
    speed = rng.uniform(0.3, min(1.1, 40 / scene.num_frames))
    pan = (speed * math.cos(angle), speed * math.sin(angle))
    if scene.things and rng.random() < 0.5:
        return replace(scene, pan=pan, things=(_standing(rng, scene, scene.things[0], pan),))
    return replace(scene, pan=pan)


def _standing(rng: random.Random, scene: Scene, thing: Thing, pan: tuple[float, float]) -> Thing:
    """Returns the object `thing` standing on the ground, so that it moves with `pan`. In the middle of the clip it is
    inside the frame."""
    half = (scene.num_frames - 1) / 2
    free_x = max(0.0, scene.width / 2 - 0.85 * thing.radius - abs(pan[0]) * half)
    free_y = max(0.0, scene.height / 2 - 0.85 * thing.radius - abs(pan[1]) * half)
    start = (rng.uniform(-free_x, free_x) + pan[0] * half, rng.uniform(-free_y, free_y) + pan[1] * half)
    return replace(thing, start=start, velocity=(-pan[0], -pan[1]))


def sample(seed: int, kind: Kind | None = None, size: tuple[int, int] = (64, 64), num_frames: int = 49) -> Scene:
    """Returns the scene that belongs to a seed.

    kind: its main motion; None draws one with the probabilities in `WIDE`.
    size: its (width, height) in world pixels.
    """
    rng = random.Random(seed)
    if kind is None:
        kind = rng.choices(list(WIDE), list(WIDE.values()))[0]
    first, second = rng.sample(list(COLOURS), 2)
    scene = Scene(
        kind=kind,
        width=size[0],
        height=size[1],
        num_frames=num_frames,
        texture=rng.choice(("stripes", "clouds", "clouds", "gradient") if kind in ("pan", "zoom") else TEXTURES),
        colours=(first, second),
        rgb=(_tint(first, rng), _tint(second, rng)),
        texture_seed=rng.randrange(1 << 30),
        things=(),
    )
    shapes = SHAPES if kind == "shapes" or (kind != "straight" and rng.random() < 0.3) else SOLID
    speed = 0.0 if kind == "still" else 1.5
    count = {"pair": 2, "empty": 0}.get(kind, 1)
    if kind in ("pan", "zoom") and rng.random() < 0.3:
        count = 0
    things: list[Thing] = []
    for _ in range(count):
        used = (first, second, *(thing.colour for thing in things))
        things.append(_thing(rng, scene, shapes, used, speed))
    if kind == "rotate":
        turning = tuple(name for name in SHAPES if name not in ("circle", "ring"))
        spin = rng.uniform(0.03, 0.12) * rng.choice((-1, 1))
        still = rng.random() < 0.4
        velocity = (0.0, 0.0) if still else things[0].velocity
        things = [replace(things[0], shape=rng.choice(turning), spin=spin, velocity=velocity)]
    if kind == "bounce":
        things = [_bouncing(rng, scene, things[0])]
    scene = replace(scene, things=tuple(things))
    return _camera(rng, scene) if kind in ("pan", "zoom") else scene


def _bouncing(rng: random.Random, scene: Scene, thing: Thing) -> Thing:
    speed, angle = rng.uniform(0.5, 1.5), rng.uniform(0, 2 * math.pi)
    x = rng.uniform(-1, 1) * (scene.width / 2 - 0.9 * thing.radius)
    y = rng.uniform(-1, 1) * (scene.height / 2 - 0.9 * thing.radius)
    velocity = (speed * math.cos(angle), speed * math.sin(angle))
    return replace(thing, start=(x, y), velocity=velocity, bounces=True)
