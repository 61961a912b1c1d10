"""Encodes the sounds of the training clips as audio tokens, once, for the training of the transformer.

    torchrun --standalone --nproc-per-node 2 -m recipes.tiny_av.sounds

The clips are those on which the embedded LTX-Video model is trained. Each clip has a frame rate (`rate_of`), and its
sound lasts as long as its frames at that rate.
"""

import argparse
from collections.abc import Sequence

import torch

from recipes.tiny import configs as first
from recipes.tiny import latents, ranks
from recipes.tiny.windows import LONG_FRAMES
from recipes.tiny.world import Scene
from recipes.tiny_av import audio_vae, configs
from recipes.tiny_av.sound_configs import AUDIO_RATE, SOUND_RATE
from recipes.tiny_av.windows import RATES, audio_count, rate_of

LONGEST = audio_count(LONG_FRAMES, min(RATES))
"""The number of audio tokens of the longest window."""


def encode(scenes: Sequence[Scene], fps: Sequence[float]) -> list[torch.Tensor]:
    """Returns the normalised audio tokens `[T, AUDIO_TOKEN]` of each scene. `fps`: frames per second of each scene."""
    return [audio_vae.latents_of(s, s.num_frames, rate) for s, rate in zip(scenes, fps, strict=True)]


def load() -> dict[str, list[torch.Tensor]]:
    """Returns group -> the audio tokens of its clips, from the files that `main` wrote."""
    return {group.name: torch.load(configs.WORK / f"sounds_{group.name}.pt") for group in latents.GROUPS}


def silence(count: int = LONGEST) -> torch.Tensor:
    """Returns normalised audio tokens `[count, AUDIO_TOKEN]` of silence."""
    return audio_vae.tokens_of(torch.zeros(2, count * SOUND_RATE // AUDIO_RATE), audio_vae.load())[:count]


def main() -> None:
    """Encodes the sounds of all groups. Each process encodes a share of every group."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rank, world = ranks.start()
    for group in latents.GROUPS:
        count = len(torch.load(first.WORK / f"latents_{group.name}.pt")["kinds"])
        members = range(rank, count, world)
        scenes = [latents.scenes_of(group, i, 1)[0] for i in members]
        part = configs.WORK / f"sounds_{group.name}.rank{rank}.pt"
        torch.save([tokens.half() for tokens in encode(scenes, [rate_of(i) for i in members])], part)
        ranks.barrier()
        if rank == 0:
            parts = [torch.load(configs.WORK / f"sounds_{group.name}.rank{r}.pt") for r in range(world)]
            whole = [parts[i % world][i // world] for i in range(count)]
            torch.save(whole, configs.WORK / f"sounds_{group.name}.pt")
            ranks.log(configs.WORK / "sounds.log", f"{group.name} {count} clips")
        ranks.barrier()
        part.unlink()
    ranks.finish()


if __name__ == "__main__":
    main()
