"""Encodes clips of the toy world with the frozen encoder, once, for all training that needs latents.

torchrun --standalone --nproc-per-node 2 -m recipes.tiny.latents
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLLTXVideo

from recipes.tiny import configs, ranks, vae
from recipes.tiny.render import render
from recipes.tiny.world import Kind, Scene, prompt, sample, track

SEED = 50_000_000
SUFFIX_FRAMES = 17


@dataclass(frozen=True)
class Group:
    """A set of encoded clips of one size and length.

    size: the (width, height) in world pixels.
    scale: the drawn pixels per world pixel.
    keyed: the number of clips that also have a separately encoded end image and a separately encoded clip at the
        window's end (suffix clip). They are the first ones of the group.
    window: the frames of a training window. The end image and the suffix clip are at its end.
    kinds: the kinds of the clips, in turn; None is a random kind.
    """

    name: str
    size: tuple[int, int]
    num_frames: int
    count: int
    scale: int = 1
    keyed: int = 0
    window: int = 33
    kinds: tuple[Kind | None, ...] = ("straight", None, None, None)

    @property
    def suffix_at(self) -> int:
        """The frame at which the suffix clip of the window begins."""
        return self.window - SUFFIX_FRAMES


_LASTING: tuple[Kind | None, ...] = ("straight", "bounce", None, None)
GROUPS = (
    Group("square", (64, 64), 33, 5600, keyed=2000),
    Group("square_long", (64, 64), 49, 3200, keyed=600, window=41),
    Group("wide", (112, 64), 33, 800, keyed=240),
    Group("tall", (64, 112), 33, 800, keyed=240),
    Group("landscape", (96, 64), 33, 300),
    Group("portrait", (64, 96), 33, 300),
    Group("double", (64, 64), 33, 600, scale=2),
    Group("lasting", (64, 64), 121, 3000, window=121, kinds=_LASTING),
    Group("lasting_wide", (112, 64), 121, 600, window=121, kinds=_LASTING),
    Group("walls", (64, 64), 121, 2400, window=121, kinds=("bounce",)),
)
CHUNK = 20


def scenes_of(group: Group, first: int, count: int) -> list[Scene]:
    """Returns `count` scenes of a group, from number `first` on."""
    base = SEED + GROUPS.index(group) * 1_000_000
    kinds = [group.kinds[i % len(group.kinds)] for i in range(first, first + count)]
    return [sample(base + first + i, kind, group.size, group.num_frames) for i, kind in enumerate(kinds)]


def cell_masks(scenes: Sequence[Scene], scale: int) -> torch.Tensor:
    """Returns a mask `[B, F, h, w]`, True for each latent cell that an object touches in a frame that it covers."""
    cell = configs.SPATIAL / scale
    rows, columns = int(scenes[0].height / cell), int(scenes[0].width / cell)
    left = torch.arange(columns) * cell - scenes[0].width / 2
    top = (torch.arange(rows) * cell - scenes[0].height / 2)[:, None]
    masks = []
    for scene in scenes:
        hit = torch.zeros(scene.num_frames, rows, columns)
        for path in track(scene):
            x, y, radius = path[:, :3, None, None].unbind(1)
            dx = (left - x).clamp(min=0) + (x - left - cell).clamp(min=0)
            dy = (top - y).clamp(min=0) + (y - top - cell).clamp(min=0)
            hit = torch.maximum(hit, (torch.hypot(dx, dy) < radius).float())
        later = F.max_pool3d(hit[None, None, 1:], (configs.TEMPORAL, 1, 1))[0, 0]
        masks.append(torch.cat([hit[:1], later]) > 0)
    return torch.stack(masks)


@torch.no_grad()
def encode(model: Any, clips: torch.Tensor) -> torch.Tensor:
    """Returns the latents' means `[B, C, F, h, w]` of clips in [-1, 1], in fp16 and not normalised."""
    moments = model.encoder(clips.to(model.device, torch.bfloat16, memory_format=torch.channels_last_3d))
    means: torch.Tensor = moments[:, : configs.LATENT_CHANNELS]
    return means.half().cpu()


def encode_part(model: Any, group: Group, first: int, count: int, keyed: bool) -> dict[str, Any]:
    """Encodes `count` clips of a group from number `first` on. Returns a table: name of a column -> its values.

    The columns are `latents`, `masks`, `prompts` and `kinds`, and if `keyed`, also `image` (the end image) and `suffix`
    (the suffix clip).
    """
    scenes = scenes_of(group, first, count)
    clips = render(scenes, group.scale)
    part: dict[str, Any] = {
        "latents": encode(model, clips),
        "masks": cell_masks(scenes, group.scale),
        "prompts": [prompt(scene) for scene in scenes],
        "kinds": [scene.kind for scene in scenes],
    }
    if keyed:
        part["image"] = encode(model, clips[:, :, group.window - 1 : group.window])
        part["suffix"] = encode(model, clips[:, :, group.suffix_at : group.window])
    return part


def join(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns one table with the rows of all tables that `encode_part` returned, in order."""
    table: dict[str, Any] = {}
    for key in parts[0]:
        columns = [part[key] for part in parts if key in part]
        table[key] = torch.cat(columns) if isinstance(columns[0], torch.Tensor) else list(chain.from_iterable(columns))
    return table


def statistics(latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the mean and the standard deviation of every channel of latents `[B, C, F, h, w]`, `[C]` each."""
    values = latents.float()
    return values.mean((0, 2, 3, 4)), values.std((0, 2, 3, 4))


def frozen_encoder(device: torch.device) -> Any:
    """Returns the VAE after its joint phase, in bf16, for encoding on a device."""
    model = AutoencoderKLLTXVideo(**configs.VAE)
    vae.load(model, configs.WORK / "vae_joint.pt")
    model.to(device).bfloat16()
    vae.channels_last(model)
    return model


def main() -> None:
    """Encodes the groups. Each process encodes a share of every group."""
    parser = ranks.parser(__doc__)
    parser.add_argument("--only", nargs="*", choices=[group.name for group in GROUPS], help="groups; default: all")
    parser.add_argument("--clips", type=int, default=100_000, help="the most clips of a group")
    parser.add_argument("--first", type=int, default=0, help="the number of each group's first clip; default: 0")
    arguments = parser.parse_args()
    rank, world = ranks.start()
    model, began = frozen_encoder(arguments.device), time.time()
    for group in (group for group in GROUPS if not arguments.only or group.name in arguments.only):
        count = min(group.count, arguments.clips)
        firsts = range(rank * CHUNK, count, world * CHUNK)
        parts = [
            encode_part(model, group, arguments.first + i, min(CHUNK, count - i), keyed=i < group.keyed) for i in firsts
        ]
        torch.save(parts, configs.WORK / f"latents_{group.name}.rank{rank}.pt")
        ranks.barrier()
        if rank == 0:
            halves = [torch.load(configs.WORK / f"latents_{group.name}.rank{r}.pt") for r in range(world)]
            ordered = [halves[i % world][i // world] for i in range(sum(len(half) for half in halves))]
            torch.save(join(ordered), configs.WORK / f"latents_{group.name}.pt")
            ranks.log(configs.WORK / "latents.log", f"{group.name} {count} clips {(time.time() - began) / 60:.1f} min")
        ranks.barrier()
        (configs.WORK / f"latents_{group.name}.rank{rank}.pt").unlink()
    kept = configs.WORK / "latents_statistics.pt"
    if rank == 0 and not kept.exists():
        table = torch.load(configs.WORK / "latents_square.pt")
        torch.save(statistics(table["latents"][:2000]), kept)
    ranks.finish()


if __name__ == "__main__":
    main()
