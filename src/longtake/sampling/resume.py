"""Saves a plan's sampled windows and its prompt to disk, so that a retried request continues after them with equal
results."""

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
    """Saves the result of each finished window of a plan, so that an interrupted run can continue.

    folder: the folder of the files; with None nothing is saved. Each plan needs its own folder, because files are
        found by name only. A file is written whole or not at all.
    """

    folder: Path | None = None

    def tensors(self, name: str, make: Callable[[], Mapping[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
        """Returns the tensors that are saved as `name`, on `device`.

        If there are none, it calls `make`, saves the result and returns it on the device where `make` put it.
        """
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
        """Returns the saved prompt and a note on it for the user; the note is None if there is nothing to say.

        If no prompt is saved, it calls `make`, saves the result and returns it. This keeps the prompt that a language
        model wrote, because the model may write another one in the next attempt.
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
"""A `Resume` that saves nothing: its functions always call `make`."""
