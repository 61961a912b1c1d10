"""Adds to the transformer what the LTX-Video model's transformer has learnt since the video stream was made from it.

    python -m recipes.tiny_av.follow OLD

OLD is a folder with the LTX-Video model's earlier weights. The changes of its transformer are translated as its weights
were (`warm`), and added to the weights of the stage `exchange`. The result replaces the checkpoint of the stage
`exchange`, from which `lasting` begins. So `lasting` has less to learn. The old checkpoint is kept, and a second run,
which would add the changes twice, is refused.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from recipes.tiny import sampler
from recipes.tiny_av import caption, configs, transformer, warm
from recipes.tiny_av.transformer import FILES


@torch.no_grad()
def added(model: Any, old: Any, new: Any, code: caption.Code) -> None:
    """Adds to `model` the difference between two LTX-Video transformers, `new` minus `old`.

    code: the code of the text tokens with which `model` was made.
    """
    before, after = (warm.transformer(one, code.basis, code.centre).state_dict() for one in (old, new))
    for name, value in model.named_parameters():
        value += after[name] - before[name]


def main() -> None:
    """Replaces the checkpoint of the stage `exchange` by one with the changes added."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    checkpoint = configs.WORK / FILES["exchange"]
    kept = checkpoint.with_suffix(".before.pt")
    if kept.exists():
        sys.exit(f"The changes are already in {checkpoint}. To begin again, move {kept} to its place.")
    old, new = sampler.load(parser.parse_args().old), sampler.load()
    family = transformer.latest(("main", "finish", "exchange"))
    added(family["transformer"], old.transformer, new.transformer, caption.code(old))
    checkpoint.rename(kept)
    torch.save({"averaged": dict(family.named_parameters())}, checkpoint)


if __name__ == "__main__":
    main()
