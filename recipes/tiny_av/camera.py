"""Trains the camera adapters. With an adapter, the camera makes a move in the new frames, such as `dolly_in`.

    python -m recipes.tiny_av.camera dolly_in

In the context frames the camera stands still or already makes the move. With `static` it moves there, and then stands.
"""

import random
from dataclasses import dataclass, replace

import torch

from recipes.tiny import configs as first
from recipes.tiny import latents, ranks, text
from recipes.tiny.optim import Plan
from recipes.tiny.render import render
from recipes.tiny.world import Scene, prompt, sample
from recipes.tiny_av import adapters, configs, picture, transformer
from recipes.tiny_av import text as own_text
from recipes.tiny_av.windows import (
    Batch,
    Clean,
    audio_coords,
    audio_count,
    inside,
    noise_levels,
    noised,
    spans,
    video_coords,
)

SEED = 160_000_000


@dataclass(frozen=True)
class Move:
    """What a camera does, and for how many steps its adapter is trained.

    zoom: the change of the logarithm of the scale per frame.
    pan: its velocity (x, y) in world pixels per frame; y points down.
    steps: the number of training steps.
    """

    zoom: float = 0.0
    pan: tuple[float, float] = (0.0, 0.0)
    steps: int = 300


MOVES = {
    "dolly_in": Move(zoom=0.018, steps=740),
    "dolly_out": Move(zoom=-0.018),
    "dolly_left": Move(pan=(-1.0, 0.0), steps=440),
    "dolly_right": Move(pan=(1.0, 0.0)),
    "jib_up": Move(pan=(0.0, -1.0)),
    "jib_down": Move(pan=(0.0, 1.0)),
    "static": Move(),
}
"""Camera move -> what it is. Each has an adapter, `camera_<move>`."""
CLIPS = 480
FRAMES = 33
BATCH = 16
CHUNK = 20


def scene_of(name: str, seed: int) -> Scene:
    """Returns a scene in which the camera makes the move `name`. Its object, if any, is fixed to the ground.

    For `static`, the camera makes any other move in half of the scenes; in the others an object moves before a camera
    that stands.
    """
    rng = random.Random(seed)
    if name == "static":
        return sample(seed, "straight", num_frames=FRAMES) if seed % 2 else scene_of(rng.choice(list(MOVES)[:-1]), seed)
    move = MOVES[name]
    (across, down), scene = move.pan, sample(seed, "zoom", num_frames=FRAMES)
    things = [t for t in scene.things if t.shape in ("circle", "square", "triangle")]
    still = tuple(
        replace(
            t,
            start=(rng.uniform(-14, 14) + 8 * across, rng.uniform(-16, 16) + 8 * down),
            velocity=(-across, -down),
        )
        for t in things
    )
    return replace(scene, zoom=move.zoom, pan=move.pan, things=still)


def clip_of(name: str, scene: Scene, context: int) -> torch.Tensor:
    """Returns the clip `[3, T, H, W]` of a scene. The camera stands for `context` frames, then makes the move `name`.

    With `static` it moves in these frames and then stands. If it never moves, the clip shows the scene as it is.
    """
    t, last = torch.arange(scene.num_frames, dtype=torch.float32), max(context - 1, 0)
    if moves(scene):
        t = t.clamp(max=last) if name == "static" else (t - last).clamp(min=0)
    return render([scene], t=t)[0]


def moves(scene: Scene) -> bool:
    """Returns True if the scene's camera moves."""
    return scene.zoom != 0 or scene.pan != (0.0, 0.0)


def before(scene: Scene) -> Scene:
    """Returns the scene without its camera move. The prompt describes this scene."""
    if not moves(scene):
        return scene
    still = tuple(replace(thing, velocity=(0.0, 0.0)) for thing in scene.things)
    return replace(scene, zoom=0.0, pan=(0.0, 0.0), things=still)


class Clips:
    """The encoded training clips of one camera move."""

    def __init__(self, name: str, device: torch.device) -> None:
        autoencoder = picture.load().to(device).bfloat16()
        self.known: list[int] = []
        self.prompts: list[str] = []
        parts = []
        for start in range(0, CLIPS, CHUNK):
            clips = []
            for i in range(start, start + CHUNK):
                scene, rng = scene_of(name, SEED + i), random.Random(SEED + i)
                count = rng.choice((1, 3, 5, 5, 5, 5))
                clips.append(clip_of(name, scene, first.TEMPORAL * (count - 1) + 1 if rng.random() < 0.75 else 0))
                self.known.append(count)
                self.prompts.append(prompt(before(scene)))
            parts.append(latents.encode(autoencoder, torch.stack(clips)))
        values = torch.cat(parts).float().permute(0, 2, 3, 4, 1).flatten(2, 3)
        mean, std = (value.view(1, 1, 1, -1) for value in torch.load(first.WORK / "latents_statistics.pt"))
        self.tokens = (values - mean) / std
        self.words = own_text.tokenizer()

    def batch_of(self, step: int) -> Batch:
        """Returns the batch of a step. The sound is unknown and does not count in the loss."""
        rng, dice = random.Random(SEED + step), torch.Generator().manual_seed(SEED + step)
        members = [rng.randrange(CLIPS) for _ in range(BATCH)]
        count = self.tokens.shape[1]
        known = torch.arange(count) < torch.tensor([self.known[i] for i in members])[:, None]
        clean = Clean(self.tokens[members], torch.ones(BATCH, count, self.tokens.shape[2]), known)
        length = audio_count(FRAMES, first.FPS)
        silent = torch.zeros(BATCH, length, 1, configs.TRANSFORMER["audio_in_channels"])
        heard = inside(length, 0.0, 0.0).expand(BATCH, -1)
        sound = Clean(silent, torch.zeros(silent.shape[:3]), heard)
        levels = noise_levels(BATCH, dice, False)[1]
        ids, mask = own_text.tokens(self.words, [text.vary(self.prompts[i], rng) for i in members])
        return Batch(
            noised(clean, levels.clamp(min=1e-3), 0.0, dice, video_coords(spans(count), 4, 4, first.FPS)),
            noised(sound, levels, 0.0, dice, audio_coords(length)),
            ids,
            mask,
            torch.zeros(BATCH),
        )


def main() -> None:
    """Trains the adapter that the arguments name."""
    parser = ranks.parser(__doc__)
    parser.add_argument("move", choices=tuple(MOVES))
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    ranks.start()
    name, device, steps = arguments.move, arguments.device, MOVES[arguments.move].steps
    plan = Plan(((steps, round(0.68 * steps)),), muon=6e-3, adam=3e-3, warmup=20, ema=0.98)
    clips = Clips(name, device)
    adapters.train(f"camera_{name}", plan, transformer.latest().to(device), clips.batch_of, arguments.resume)


if __name__ == "__main__":
    main()
