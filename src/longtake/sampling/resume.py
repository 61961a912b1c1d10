"""Saves a request's sampled windows and its expanded prompt to disk. A retried request continues from them and gives
the same result."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.atomic import replacing

_LOW_MEMORY = ("low_memory", "sparing")
"""Names of the file that says that an attempt ran out of memory. The second one was written until 2026-11-29 and can go
on 2027-03-01, because no request from before that day is unfinished then."""


@dataclass(frozen=True)
class Resume:
    """Saves the expanded prompt of a video and the result of each finished window, so that an interrupted run can
    continue.

    folder: the folder of the files; None saves nothing. Each video needs its own folder, because the files' names do
        not say which video they belong to. A file is written whole or not at all.
    arithmetic: in words, how the present run computes, such as its device and dtype. It is saved with each window, so
        that a later run can note that it computes in another way.
    """

    folder: Path | None = None
    arithmetic: str = ""

    @property
    def is_low_memory(self) -> bool:
        """True if an earlier attempt at this video ran out of memory. The present run must then use as little memory as
        possible."""
        return self.folder is not None and any((self.folder / name).exists() for name in _LOW_MEMORY)

    def set_low_memory(self) -> None:
        """Saves that this run ran out of memory. All later runs of the same plan then use less memory, so their results
        are identical bit for bit."""
        if self.folder is not None:
            (self.folder / _LOW_MEMORY[0]).touch()

    def tensors(self, name: str, make: Callable[[], Mapping[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
        """Returns the dict of tensors that `make` makes, or made in an earlier run of the same plan.

        - If `folder` is None, `make` is called, and nothing is saved.
        - If the folder has a file for `name`, the tensors are read from it onto `device`, and `make` is not called.
        - Otherwise `make` is called, and its result is saved for `name`. The tensors stay on the device where `make`
          put them.

        Raises OSError if the result cannot be saved, for example because the disk is full.

        name: the name of the file without its ending. Each dict of the video needs a name of its own.
        """
        if self.folder is None:
            return dict(make())
        path = self.folder / f"{name}.safetensors"
        if path.exists():
            return load_file(path, device=str(device))
        made = dict(make())
        with replacing(path) as fresh:
            _save({key: tensor.contiguous() for key, tensor in made.items()}, {"arithmetic": self.arithmetic}, fresh)
        return made

    def prompt(self, make: Callable[[], tuple[str, str | None]]) -> tuple[str, str | None]:
        """Returns the pair (prompt, note) that `make` returns, or returned in an earlier run of the same plan.

        - If `folder` is None, `make` is called, and nothing is saved.
        - If the folder has a saved pair, that pair is returned, and `make` is not called.
        - Otherwise `make` is called, and its pair is saved. A language model may have written the prompt, and would
          write a different one in the next run.

        The note is a sentence about the prompt for the user, or None.
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

    def other_arithmetic(self) -> str | None:
        """Returns in words how an earlier run computed saved frames: the device, the dtype and the ways of computing.
        Returns None if all were computed in the same way as in the present run."""
        if self.folder is None:
            return None
        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                found: str | None = (file.metadata() or {}).get("arithmetic")  # None in files of older versions
            if found not in (None, self.arithmetic):
                return found
        return None

    def arithmetic_note(self) -> str | None:
        """Returns a note to the user if an earlier run computed saved frames in another way than the present run; else
        None."""
        other = self.other_arithmetic()
        if other is None:
            return None
        return (
            f"An interrupted attempt computed in {other}, this one in {self.arithmetic}: the video may differ slightly "
            "from that of one attempt."
        )


def _save(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Writes a file of tensors and of texts by name.

    Raises OSError, with the system's number of the error, if the system cannot write it.

    safetensors itself raises an error of its own that has the number only in its text.
    """
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error)) from error


NO_RESUME = Resume()
"""A `Resume` that saves and reads nothing, so every run computes everything anew."""
