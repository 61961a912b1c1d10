"""Orders for the program that makes derived files."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from longtake.media.limits import Limits


@dataclass(frozen=True)
class Order:
    """An order to the program: one file to make from a video.

    maker: a key of `program.MAKERS`.
    path: the video.
    out: the path of the file to make.
    limits: the limits for reading the video.
    arguments: those of the maker.
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
