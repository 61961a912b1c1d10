"""Request and response fields shared by the endpoints of all families."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError, PydanticKnownError

from longtake.models.lora_names import MOST_PATH, scheme_of
from longtake.plans import PlannedAdapter

VIDEO_FIELD: dict[str, Any] = {"ui": {"field": "video"}}
"""Additional JSON schema of a field with a video's URL. It lets forms show a control to choose a video."""

IMAGE_FIELD: dict[str, Any] = {"ui": {"field": "image"}}
"""Additional JSON schema of a field with an image's URL. It lets forms show a control to choose an image."""

LEAST_SEED, MOST_SEED = -(2**63), 2**64 - 1
"""The smallest and the largest seed: the range of 64-bit integers, signed and unsigned."""


MOST_LORAS = 64
"""The largest number of LoRAs of one request."""


def _short(path: str) -> str:
    """Validates a path or a file's name, and returns it unchanged.

    Raises pydantic's error if it has more than 4096 characters (MOST_PATH), because the time to look for a file rises
    with the square of its path's length. The JSON schema does not show this limit.
    """
    if len(path) > MOST_PATH:
        raise PydanticKnownError("string_too_long", {"max_length": MOST_PATH})
    return path


def _short_or_url(path: str) -> str:
    """Validates a LoRA's path, and returns it unchanged.

    Raises pydantic's error if it has more than 4096 characters (MOST_PATH), unless it is an http(s) URL or a data URI.
    """
    return path if scheme_of(path) else _short(path)


class LoRAWeight(BaseModel):
    """One LoRA of a request."""

    path: Annotated[str, AfterValidator(_short_or_url)] = Field(
        description="URL, data URI, Hugging Face repo id, or a path below the configured LoRA folder."
    )
    scale: float = Field(1, ge=0, le=4, description="How strongly the LoRA is applied.")
    weight_name: Annotated[str, AfterValidator(_short)] | None = Field(
        None, description="Name of the file, when a repository holds several."
    )


class VideoFile(BaseModel):
    """A finished video: the URL where it can be downloaded, and facts about it."""

    url: str = Field(description="The URL where the file can be downloaded from.")
    content_type: str = Field(description="The mime type of the file.")
    file_name: str = Field(description="The name of the file.")
    file_size: int = Field(description="The size of the file in bytes.")
    width: int = Field(description="The width of the video in pixels.")
    height: int = Field(description="The height of the video in pixels.")
    fps: float = Field(description="The frames per second of the video.")
    duration: float = Field(description="The duration of the video in seconds.")
    num_frames: int = Field(description="The number of frames of the video.")


EXAMPLE_VIDEO = {
    "url": "https://v3b.fal.media/files/b/0a894013/N9lnMTq7W3uMC0lOQg845_BknRPV8I.mp4",
    "content_type": "video/mp4",
    "file_name": "CJcQGDrxOSRg2YFl5GNDt_glXPMoji.mp4",
    "file_size": 4194304,
    "width": 1248,
    "height": 704,
    "fps": 25,
    "duration": 6.44,
    "num_frames": 161,
}
"""A video as an example in the schemas of responses."""

EXAMPLE_SEED = 2078003885
"""A seed as an example in the schemas of responses."""


def _whole(seed: Any) -> Any:
    """Returns a float without a fraction, such as 1e30, as an integer; any other value unchanged.

    A seed such as 1e30 is then refused because it is too large, and not because it is a float.
    """
    return int(seed) if isinstance(seed, float) and seed.is_integer() else seed


def _in_range(seed: int | None) -> int | None:
    if seed is not None and not LEAST_SEED <= seed <= MOST_SEED:
        raise PydanticCustomError("value_error", "Input should be a whole number from -2**63 to 2**64 - 1")
    return seed


Seed = Annotated[int | None, BeforeValidator(_whole), AfterValidator(_in_range)]
"""The type of a `seed` field: an integer from LEAST_SEED to MOST_SEED. None means that a random seed is drawn."""

LORAS = "LoRA weights to use for generation"
"""Description of a request's field `loras`."""


def planned_loras(loras: list[LoRAWeight]) -> tuple[PlannedAdapter, ...]:
    """Returns a request's LoRAs in the form that a plan contains, in the same order.

    A plan has one scale for each of the two passes. Both are the `scale` that the request gives the LoRA.
    """
    return tuple(
        PlannedAdapter(lora.path, (lora.scale, lora.scale), ("body", "loras", index, "path"), lora.weight_name)
        for index, lora in enumerate(loras)
    )
