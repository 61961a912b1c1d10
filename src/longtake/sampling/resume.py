"""Finished steps of a plan saved to disk, so that a request that is tried again resumes and gives the same bits."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class Resume:
    """Finished steps of one plan, each a file in `folder`; without a folder nothing is saved.

    A file appears whole or not at all. The folder belongs to one plan: another plan needs another folder.
    """

    folder: Path | None = None

    def tensors(self, name: str, make: Callable[[], Mapping[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
        """The tensors of step `name`, on `device`: those saved when it was done before, else those `make` gives now."""
        if self.folder is None:
            return dict(make())
        path = self.folder / f"{name}.safetensors"
        if path.exists():
            return load_file(path, device=str(device))
        made = dict(make())
        fresh = path.with_suffix(".new")
        save_file({key: tensor.contiguous() for key, tensor in made.items()}, fresh)
        _put(fresh, path)
        return made

    def prompt(self, make: Callable[[], tuple[str, str | None]]) -> tuple[str, str | None]:
        """The prompt to use and a sentence about it, or None. It is saved: a language model would write another one."""
        if self.folder is None:
            return make()
        path = self.folder / "prompt.json"
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps(make()))
            _put(fresh, path)
        prompt, note = json.loads(path.read_text())
        return prompt, note


def _put(fresh: Path, path: Path) -> None:
    """Gives a written file its name once its bytes are on the disk."""
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)


NO_RESUME = Resume()
