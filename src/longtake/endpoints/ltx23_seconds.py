"""`fal-ai/ltx-2.3/extend-video`: LTX-2.3 22B, for requests with lengths in seconds."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, Field

from longtake.endpoints import ltx2, ltx23
from longtake.endpoints.endpoint import Endpoint
from longtake.endpoints.fields import EXAMPLE_VIDEO, VideoFile
from longtake.endpoints.tariff import Tariff, new_seconds
from longtake.families.ltx2 import FAMILY
from longtake.families.ltx2.options import DEFAULT_CONTEXT, Direction, LTX2Options
from longtake.plans import frames_on_clock, playable_rate
from longtake.video import VideoInfo

WINDOW_FRAMES = 505
"""The usual sum of context frames (the source frames that the model continues) and new frames if the request's field
`context` is not set. fal publishes this number.

The number of context frames is 505 minus the number of new frames, but at least 25 (DEFAULT_CONTEXT). It is at most the
number of source frames.
"""

DIRECTIONS: Mapping[str, Direction] = {"end": "forward", "start": "backward"}
"""Value of the request's field `mode` (the end of the video that is extended) -> direction of the extension."""


class Request(BaseModel):
    """A request to `fal-ai/ltx-2.3/extend-video`, with the fields that fal publishes for this endpoint."""

    video_url: ltx2.VideoUrl
    prompt: str = Field("", description="What happens in the new part of the video; empty: a language model decides.")
    duration: float = Field(5.0, ge=2, le=20, description="The seconds of new video.")
    mode: Literal["end", "start"] = Field("end", description="Which end of the video is extended.")
    context: float | None = Field(
        None, ge=1, le=20, description="The seconds of the video that are continued; without it as many as fit."
    )


class Response(BaseModel):
    """The response of the endpoint: the finished video."""

    video: VideoFile = Field(description="The generated video.", examples=[EXAMPLE_VIDEO])


def options(request: Request, source: VideoInfo) -> LTX2Options:
    """Returns the LTX-2 options for a request to the endpoint 2.3-seconds.

    The request's seconds are converted to frames at the output's rate and rounded to whole frames. The output's rate is
    the source's, limited to 1..60 frames per second. Options that the request does not have get the defaults of the
    endpoint 2.3.

    source: facts of the source video: its frame rate and its number of frames are used.
    """
    rate = playable_rate(source.rate)
    available = frames_on_clock(source.num_frames, source.rate, rate)
    new_frames = round(request.duration * rate)
    context = None if request.context is None else round(request.context * rate)
    defaults = ltx23.Request.model_validate({"prompt": "the default", "video_url": request.video_url})
    plain = ltx23.options(defaults, source)
    return replace(
        plain,
        prompt=request.prompt,
        direction=DIRECTIONS[request.mode],
        new_frames=new_frames,
        context_frames=min(available, max(DEFAULT_CONTEXT, WINDOW_FRAMES - new_frames)) if context is None else context,
        context_field=None if context is None else "context",
        adapters=tuple(replace(one, field=("body",)) for one in plain.adapters),
    )


ENDPOINT = Endpoint(
    id="fal-ai/ltx-2.3/extend-video",
    name="2.3-seconds",
    display_name="LTX-2.3 in seconds",
    title="LTX-2.3 22B, asked in seconds.",
    family=FAMILY,
    models=ltx23.ENDPOINT.models,
    Request=Request,
    Response=Response,
    options=options,
    tariff=Tariff("seconds", Decimal("0.10"), new_seconds),
    count_field="duration",
)
