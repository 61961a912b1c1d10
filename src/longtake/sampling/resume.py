"""Saves a plan's finished windows and its prompt to disk, so that a retried request resumes and gives the same bits."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.atomic import replacing


@dataclass(frozen=True)
class Resume:
    """The saved results of one plan, each a file in `folder`; with `folder` None nothing is saved.

    A file appears whole or not at all. Each plan needs its own folder: files are found by name only.
    """

    folder: Path | None = None

    def tensors(self, name: str, make: Callable[[], Mapping[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
        """Returns the tensors saved as `name`, on `device`; if there are none, calls `make` and saves its result."""
        if self.folder is None:
            return dict(make())
        path = self.folder / f"{name}.safetensors"
        if path.exists():
            return load_file(path, device=str(device))
        made = dict(make())
        with replacing(path) as fresh:
            save_file({key: tensor.contiguous() for key, tensor in made.items()}, fresh)
        return made

    def prompt(self, make: Callable[[], tuple[str, str | None]]) -> tuple[str, str | None]:
        """Returns the saved prompt and its note for the user, or None; if there is none, calls `make` and saves it.

        A language model would write a different prompt each time.
        """
        if self.folder is None:
            return make()
        path = self.folder / "prompt.json"
        if not path.exists():
            text = json.dumps(make())
            with replacing(path) as fresh:
                fresh.write_text(text)
        prompt, note = json.loads(path.read_text())
        return prompt, note


NO_RESUME = Resume()
"""Saves nothing."""
