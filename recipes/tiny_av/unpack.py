"""Writes the checkpoints of the finished stages from the package's weights, so that a later stage can start from them.

python -m recipes.tiny_av.unpack

Run `recipes.tiny.unpack` before.
"""

import argparse

import torch

from recipes.tiny.unpack import put
from recipes.tiny_av import adapters, configs, sampler, vocoder


def main() -> None:
    """Writes the checkpoints into the folder `work`."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    configs.WORK.mkdir(exist_ok=True)
    family = sampler.load()
    put(configs.WORK / "picture.pt", {"": family.vae})
    torch.save(family.text.state_dict(), configs.WORK / "caption.pt")
    put(configs.WORK / "audio_vae_joint.pt", {"": family.audio_vae})
    torch.save({"averaged": vocoder.unfolded(family.vocoder.state_dict())}, vocoder.checkpoint("main"))
    torch.save((family.audio_vae.latents_mean, family.audio_vae.latents_std), configs.WORK / "audio_vae.pt")
    put(configs.WORK / "transformer_exchange.pt", {"transformer": family.transformer, **family.text})
    for name, adapter in family.adapters.items():
        with torch.no_grad():
            for value in adapter.up.values():
                value /= adapters.SHARES[name]
        put(adapters.path(name), {"": adapter})


if __name__ == "__main__":
    main()
