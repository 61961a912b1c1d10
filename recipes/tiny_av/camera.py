"""Trains the camera adapters. With an adapter, the camera makes a move in the new frames, such as `dolly_in`.

    python -m recipes.tiny_av.camera dolly_in
    python -m recipes.tiny_av.camera dolly_left

In the context frames the camera stands still or already moves.
"""

import argparse
import random
from dataclasses import replace

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
MOVES = {"dolly_in": (0.018, 0.0), "dolly_left": (0.0, 1.0)}
"""Camera move -> (the change of the logarithm of the scale per frame, the speed to the left in world pixels per
frame)."""
PLANS = {
    name: Plan(((end, over),), muon=6e-3, adam=3e-3, warmup=20, ema=0.98)
    for name, end, over in (("dolly_in", 740, 500), ("dolly_left", 440, 300))
}
CLIPS = 480
FRAMES = 33
BATCH = 16
CHUNK = 20


def scene_of(name: str, seed: int) -> Scene:
    """Returns a scene in which the camera makes the move `name`. Its object, if any, is fixed to the ground."""
    zoom, left = MOVES[name]
    scene = sample(seed, "zoom", num_frames=FRAMES)
    rng = random.Random(seed)
    things = [t for t in scene.things if t.shape in ("circle", "square", "triangle")]
    pan = (-left, 0.0)
    still = tuple(
        replace(t, start=(rng.uniform(-14, 14) - 8 * left, rng.uniform(-16, 16)), velocity=(left, 0.0)) for t in things
    )
    return replace(scene, zoom=zoom, pan=pan, things=still)


def clip_of(scene: Scene, stands: int) -> torch.Tensor:
    """Returns the scene's clip `[3, T, H, W]`, in which the camera stands still for the first `stands` frames."""
    t = torch.arange(scene.num_frames, dtype=torch.float32)
    return render([scene], t=(t - max(stands - 1, 0)).clamp(min=0))[0]


def before(scene: Scene) -> Scene:
    """Returns the scene without its camera move. The prompt describes this scene."""
    still = tuple(replace(thing, velocity=(0.0, 0.0)) for thing in scene.things)
    return replace(scene, zoom=0.0, pan=(0.0, 0.0), things=still)


class Clips:
    """The encoded training clips of one camera move."""

    def __init__(self, name: str) -> None:
        autoencoder = picture.load().bfloat16()
        self.known: list[int] = []
        self.prompts: list[str] = []
        parts = []
        for start in range(0, CLIPS, CHUNK):
            clips = []
            for i in range(start, start + CHUNK):
                scene, rng = scene_of(name, SEED + i), random.Random(SEED + i)
                count = rng.choice((1, 3, 5, 5, 5, 5))
                clips.append(clip_of(scene, first.TEMPORAL * (count - 1) + 1 if rng.random() < 0.75 else 0))
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("move", choices=tuple(MOVES))
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    ranks.start()
    clips = Clips(arguments.move)
    adapters.train(
        f"camera_{arguments.move}", PLANS[arguments.move], transformer.latest(), clips.batch_of, arguments.resume
    )


if __name__ == "__main__":
    main()
