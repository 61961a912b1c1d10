"""Writes the checkpoints of the finished stages from the package's weights, so that a later stage can start from them.

python -m recipes.tiny.unpack

Weights are rounded to half precision there, which changes no figure. Clips have to be encoded again (`latents`).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recipes.tiny import configs, sampler


def put(path: Path, parts: Mapping[str, Any]) -> None:
    """Writes the weights of models as the averaged weights of a checkpoint. Each name begins with the model's name and
    a dot; a model named "" has no such beginning."""
    averaged = {
        f"{name}.{key}".lstrip("."): value for name, model in parts.items() for key, value in model.state_dict().items()
    }
    torch.save({"averaged": averaged}, path)


def main() -> None:
    """Writes the checkpoints into the folder `work`."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    configs.WORK.mkdir(exist_ok=True)
    family = sampler.load()
    put(configs.WORK / "vae_joint.pt", {"": family.vae})
    torch.save((family.vae.latents_mean, family.vae.latents_std), configs.WORK / "latents_statistics.pt")
    put(
        configs.WORK / "transformer_walls.pt",
        {"transformer": family.transformer, "text_encoder": family.text_encoder},
    )
    put(configs.WORK / "upsampler.pt", {"": family.upsampler})


if __name__ == "__main__":
    main()
