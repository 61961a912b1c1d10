"""The interface of a published layout: how single-file checkpoints name their weights and settings. Without torch."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from longtake.errors import BadCheckpoint
from longtake.models.registry import PartName

Config = dict[str, Any]
"""The settings that a model's class is built with."""

PublishedConfig = Mapping[str, Any]
"""The settings as a checkpoint's publisher writes them: the JSON object `config` in the file's metadata."""

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of a part's tensors, by their names in the part's class."""

Class = tuple[str, str]
"""Module and name of a model's class."""


@dataclass(frozen=True)
class Layout:
    """One way in which single-file checkpoints are published.

    name: the layout's name in messages.
    recognises: returns True if a file with these tensor names and this `config` has the layout. It is called before
        `sections` are checked.
    part_of: returns the part that a tensor belongs to, by the tensor's name in the file; None for no known part.
    rename: returns the name in the part's class of a tensor of the file; None if the class does not need it.
    settings: returns the settings of a part's class. Raises `BadCheckpoint` for settings that the class does not have.
    classes: the class of each part that a file may hold.
    sections: entries of the `config` that must be JSON objects if they are present.
    """

    name: str
    recognises: Callable[[Collection[str], PublishedConfig], bool]
    part_of: Callable[[str], PartName | None]
    rename: Callable[[PartName, str, PublishedConfig], str | None]
    settings: Callable[[PartName, PublishedConfig, Shapes], Config]
    classes: Mapping[PartName, Class]
    sections: tuple[str, ...] = ()


def refuse(part: str, name: str, value: Any, needed: Any) -> NoReturn:
    """Raises `BadCheckpoint` for a published setting `name` = `value` that the part's class does not support."""
    raise BadCheckpoint(
        f"The checkpoint's {part} has {name} = {str(value)[:120]}, which this version cannot run; it runs {needed}."
    )
