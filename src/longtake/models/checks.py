"""Checks whether checkpoints of models' parts fit the classes of diffusers and transformers that load them.

Only headers and settings are read, no weights. Where torch, diffusers or transformers cannot be imported, headers and
settings are read but not compared with the classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from longtake.errors import BadCheckpoint, InvalidRequest, NotSupported
from longtake.imports import importing_models
from longtake.models import checkpoints, layouts, safe
from longtake.models.lora_header import read_lora_header
from longtake.models.registry import (
    CARDS,
    FOLDERS,
    PART_NAMES,
    PartName,
    adapters,
    located,
    missing,
)
from longtake.models.text_encoders import class_names
from longtake.settings import Settings, expanded

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PartReport:
    """The result of checking one part of a model or one of its adapters.

    part: the name of the part or adapter; "file" for a safetensors file whose parts are not known.
    path: its file or folder.
    num_parameters: the number of its parameters; 0 for a tokenizer, or if they cannot be counted.
    problem: a sentence for the user on what is wrong; None if nothing is wrong.
    compared: True if names and shapes of the weights were compared with those of the class of diffusers or transformers
        that loads the part. This needs torch.
    num_scaled: how many of its weights are in 8-bit floats with scales.
    """

    part: str
    path: Path
    num_parameters: int
    problem: str | None
    compared: bool = True
    num_scaled: int = 0

    def sentence(self) -> str:
        """Returns the result of the check in words: the problem, or that there is none.

        Without a problem, the sentence also has the number of parameters and of weights in 8-bit floats, and says if
        the part was not compared with the class that loads it.
        """
        if self.problem:
            return self.problem
        short = f", {self.num_scaled:,} weights in fp8 with scales" if self.num_scaled else ""
        if self.compared:
            return f"fits, {self.num_parameters:,} parameters{short}"
        return f"sound, {self.num_parameters:,} parameters{short}; not compared with its class, which needs torch"


@dataclass(frozen=True)
class CheckReport:
    """The result of checking a model, a checkpoint file or a folder.

    target: the model's name, or the path.
    parts: the reports of the parts and adapters that were found.
    missing: the parts that generation needs and that are not on this machine. Always empty for a path.
    obstacle: a sentence on why torch, diffusers or transformers cannot be imported, so that no part was compared with
        the class that loads it; None if they can be imported.
    """

    target: str
    parts: Sequence[PartReport]
    missing: Sequence[PartName]
    obstacle: str | None = None

    @property
    def fits(self) -> bool | None:
        """True if all parts of the model are there, each was compared with the class that loads it, and none has a
        problem.

        False if no part was found, a part is missing or a part has a problem. None if there is no problem so far but a
        part was not compared with its class.
        """
        if not self.parts or self.missing or any(part.problem for part in self.parts):
            return False
        return True if all(part.compared for part in self.parts) else None


def advice(report: CheckReport, settings: Settings) -> str:
    """Returns a sentence on what the user has to do after a check, or that there is nothing to do.

    settings: they name the folder of downloaded models. A damaged file outside this folder was put there by the user,
        who has to replace it.
    """
    name = report.target
    if report.fits:
        return f"{name} is complete and fits: nothing has to be done."
    if report.fits is None:
        return f"Names and shapes were not compared. {report.obstacle} Then check again."
    if name not in CARDS:
        return "Mend what is named above, or name another file or folder: docs/checkpoints.md lists what can be read."
    if CARDS[name].embedded:
        return "Install longtake again: its own files are missing or damaged."
    wrong = [part.path for part in report.parts if part.problem]
    foreign = [path for path in wrong if not path.is_relative_to(settings.models_dir)]
    if foreign:
        return f"Replace {foreign[0]}, which LONGTAKE_MODEL_SOURCES names, by files of {name}."
    if wrong:
        return f"`longtake models rm {name}` and then `longtake models pull {name}` download the files again."
    return f"`longtake models pull {name}` downloads what is missing."


def check(target: str, settings: Settings) -> CheckReport:
    """Returns the report on `target`, which is the name of a model, or the path of a checkpoint file or folder.

    Problems of single parts are in the report and raise nothing. Raises `InvalidRequest` if `target` is neither a
    model's name nor an existing path, and `BadCheckpoint` if the path is a folder without any part of a model, or a
    file that is no valid safetensors file.
    """
    if target in CARDS:
        card = CARDS[target]
        parts, lacking, own = located(card, settings), missing(card, settings), adapters(card, settings)
    else:
        path = expanded(target)
        parts, lacking, own = _parts_at(path), (), {}
        if not parts:
            return CheckReport(target, [_unknown_file(path)], ())
    obstacle = _obstacle()
    can_compare = obstacle is None
    reports = [_part_report(part, path, can_compare) for part, path in parts.items()]
    if own and "transformer" in parts:
        transformer = _empty_model("transformer", parts["transformer"]) if can_compare else None
        reports += [_adapter_report(name, path, transformer) for name, path in own.items()]
    return CheckReport(target, reports, lacking, obstacle)


def _obstacle() -> str | None:
    """Returns a sentence on why torch, diffusers or transformers cannot be imported; None if all can."""
    try:
        with importing_models():
            for name in ("torch.nn", "diffusers", "transformers"):
                import_module(name)
    except NotSupported as error:
        return error.message
    return None


def _parts_at(path: Path) -> dict[PartName, Path]:
    """Returns the parts of a model that a path holds, each with its file or folder.

    The result is empty for a safetensors file whose parts are not known. Raises `InvalidRequest` if the path does not
    exist, and `BadCheckpoint` if it is a folder without any part, or a file that is no valid safetensors file.
    """
    if path.is_file():
        return dict.fromkeys(checkpoints.parts_in(path), path)
    if not path.is_dir():
        raise InvalidRequest(f"'{path}' is neither a model's name ({', '.join(CARDS)}) nor a file or folder.")
    if (path / "config.json").is_file():
        config = safe.read_json(path / "config.json")
        names = [str(config.get("_class_name")), *class_names(config)]
        found = {part: path for part in PART_NAMES if any(name in names for _, name in layouts.classes_of(part))}
        if not found:
            known = ", ".join(sorted({name for part in PART_NAMES for _, name in layouts.classes_of(part)}))
            shown = ", ".join(name for name in names if name != "None")[:100] or "no class"
            raise BadCheckpoint(f"{path / 'config.json'} names {shown}; the parts of models are of {known}.")
        return found
    found = {part: path / folder for part, folder in FOLDERS.items() if (path / folder).is_dir()}
    if not found:
        folders = ", ".join(FOLDERS.values())
        raise BadCheckpoint(f"{path} holds no part of a model: neither config.json nor one of the folders {folders}.")
    return found


def _unknown_file(path: Path) -> PartReport:
    """Returns the report of a safetensors file whose parts are not known. Its problem says why."""
    try:
        checkpoints.open_part("transformer", path)  # fails for any part, and says why
        problem = None
    except BadCheckpoint as error:
        problem = error.message
    num_values = sum(math.prod(info.shape) for info in safe.read_header(path).tensors.values())
    return PartReport("file", path, num_values, problem)


def _part_report(part: PartName, path: Path, can_compare: bool) -> PartReport:
    num_parameters = 0
    try:
        if part == "tokenizer":
            if can_compare:
                from longtake.models.parts import tokenizer

                tokenizer(path)
            return PartReport(part, path, 0, None, can_compare)
        checkpoint = checkpoints.open_part(part, path)
        if not can_compare:
            return PartReport(part, path, checkpoint.num_elements, None, False, len(checkpoint.scaled))
        model = checkpoints.empty_model(checkpoint)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        differences = checkpoints.compare(checkpoint, model)
        problem = None if differences.are_none else differences.sentence()
        return PartReport(part, path, num_parameters, problem, num_scaled=len(checkpoint.scaled))
    except BadCheckpoint as error:
        return PartReport(part, path, num_parameters, error.message, can_compare)


def _empty_model(part: PartName, path: Path) -> "torch.nn.Module | None":
    """Returns the model of a part without its weights; None if its files or settings are not valid."""
    try:
        return checkpoints.empty_model(checkpoints.open_part(part, path))
    except BadCheckpoint:
        return None


def _adapter_report(name: str, path: Path, transformer: "torch.nn.Module | None") -> PartReport:
    """Returns the report of one of the model's own adapters.

    name, path: the adapter's name and file.
    transformer: the model that the adapter is compared with. If it is None, the adapter's header is read, but compared
        with nothing.
    """
    compared = transformer is not None
    try:
        header = read_lora_header(path)
        if transformer is not None:
            from longtake.models.lora_fit import check_fit

            check_fit(header, transformer)
        return PartReport(name, path, header.num_parameters, None, compared)
    except (BadCheckpoint, InvalidRequest) as error:
        return PartReport(name, path, 0, error.message, compared)
