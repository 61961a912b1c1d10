"""The interface of a published layout: how single-file checkpoints name their weights and settings. Needs no torch."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from longtake.errors import BadCheckpoint
from longtake.models.registry import PartName

Config = dict[str, Any]
"""The settings that the class of a model's part is built with, by name."""

PublishedConfig = Mapping[str, Any]
"""The settings as a checkpoint's publisher writes them: the JSON object `config` in the file's metadata."""

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of the tensors of a model's part, by the tensors' names in the part's class."""

Class = tuple[str, str]
"""The class of a model's part, as (module, name)."""


@dataclass(frozen=True)
class Layout:
    """One way in which single-file checkpoints are published. `config` means the settings in the file's metadata.

    name: the layout's name in messages.
    recognises: takes the names of a file's tensors and its `config`; returns True if the file has this layout. It is
        called before `sections` are checked, so entries of `config` may be of any type.
    part_of: takes a tensor's name in the file; returns the part of the model that the tensor belongs to, or None if no
        part has it.
    rename: takes a part, a tensor's name in the file and the `config`; returns the tensor's name in the part's class,
        or None if the class does not need the tensor.
    settings: takes a part, the `config` and the shapes of the part's tensors; returns the settings of the part's class.
        It raises `BadCheckpoint` for settings that the class does not support.
    classes: the class of each part that a file in this layout may hold.
    sections: names of entries of the `config` that must be JSON objects if they are present.
    """

    name: str
    recognises: Callable[[Collection[str], PublishedConfig], bool]
    part_of: Callable[[str], PartName | None]
    rename: Callable[[PartName, str, PublishedConfig], str | None]
    settings: Callable[[PartName, PublishedConfig, Shapes], Config]
    classes: Mapping[PartName, Class]
    sections: tuple[str, ...] = ()


def refuse(part: str, name: str, value: Any, needed: Any) -> NoReturn:
    """Raises `BadCheckpoint` for a published setting `name` = `value` that the class of `part` does not support.

    needed: the value or values that the class supports, for the message.
    """
    raise BadCheckpoint(
        f"The checkpoint's {part} has {name} = {str(value)[:120]}, which this version cannot run; it runs {needed}."
    )


def require(part: str, published: Mapping[str, Any], needed: Mapping[str, Any]) -> None:
    """Raises `BadCheckpoint` if a setting has another value in `published` than in `needed`.

    part: the part's name, for the message.
    published: the part's published settings. Settings of `needed` may be missing here.
    needed: the only value of each setting that diffusers' class of the part supports.
    """
    for name, value in needed.items():
        if name in published and published[name] != value:
            refuse(part, name, published[name], value)
