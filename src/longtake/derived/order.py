"""Orders to the program that makes derived files (such as strips of frames) of stored videos. An order asks for one
file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from longtake.media.limits import Limits

PICTURE = "picture"
"""A value of `Order.maker`. With it, the program `derived.program` makes no file, but returns the size of a picture:
{width, height}."""


@dataclass(frozen=True)
class Order:
    """An order to the program `derived.program`: to make one file from a video, or to tell the facts about a picture.

    maker: the kind of file: a key of `program.MAKERS`, such as "strip"; `PICTURE` for a picture.
    path: path of the video or the picture.
    out: path of the file to make.
    limits: the limits for reading the video.
    arguments: the arguments of this maker, as JSON values, such as the height of a strip.
    """

    maker: str
    path: str
    out: str
    limits: Limits
    arguments: Mapping[str, Any]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Order":
        fields = json.loads(text)
        return cls(**{**fields, "limits": Limits(**fields["limits"])})
