"""Writes checkpoints from the package's weights, from which the transformer's last stage, or a new one, can start.

python -m recipes.tiny.unpack

Weights are rounded to half precision there, which changes no figure. Clips have to be encoded again (`latents`).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recipes.tiny import configs, sampler, transformer


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
    before_the_last = list(transformer.FILES.values())[-2]
    put(configs.WORK / before_the_last, {"transformer": family.transformer, "text_encoder": family.text_encoder})
    put(configs.WORK / "upsampler.pt", {"": family.upsampler})


if __name__ == "__main__":
    main()
