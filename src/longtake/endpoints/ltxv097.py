"""`fal-ai/ltx-video-v097/extend`: LTX-Video 0.9.7 13B, sampled at the output's size, with guidance that varies with the
noise level."""

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, Field

from longtake.endpoints import ltxv
from longtake.endpoints.endpoint import Endpoint
from longtake.endpoints.fields import EXAMPLE_SEED, EXAMPLE_VIDEO, VIDEO_FIELD, Seed, VideoFile
from longtake.endpoints.tariff import Tariff, one_video
from longtake.families.ltxv import FAMILY
from longtake.families.ltxv.options import LTXVOptions, PassOptions
from longtake.video import VideoInfo


class VideoConditioningInput(BaseModel):
    """The video to extend, and the number of the first of its frames that may be used."""

    video_url: str = Field(description="URL of video to be extended", json_schema_extra=VIDEO_FIELD)
    start_frame_num: int = Field(0, ge=0, le=120, multiple_of=8, description=ltxv.START_FRAME)


class Request(BaseModel):
    """A request to `fal-ai/ltx-video-v097/extend`, with the fields that fal publishes for this endpoint."""

    prompt: ltxv.Prompt
    negative_prompt: ltxv.NegativePrompt = ltxv.NEGATIVE
    resolution: ltxv.Resolution = Field("720p", description="Resolution of the generated video (480p or 720p).")
    aspect_ratio: Literal["9:16", "16:9"] = Field(
        "16:9", description="Aspect ratio of the generated video (16:9 or 9:16)."
    )
    seed: Seed = Field(None, description="Random seed for generation")
    num_inference_steps: int = Field(40, ge=2, le=50, description="Number of inference steps")
    expand_prompt: bool = Field(True, description="Whether to expand the prompt using the model's own capabilities.")
    video: VideoConditioningInput = Field(
        description="Video to be extended.",
        examples=[
            {
                "video_url": "https://storage.googleapis.com/falserverless/web-examples/wan/t2v.mp4",
                "start_frame_num": 24,
            }
        ],
    )


class Response(BaseModel):
    """The response of the endpoint: the finished video and its seed."""

    video: VideoFile = Field(description="The generated video file.", examples=[EXAMPLE_VIDEO])
    seed: int = Field(description="The seed used for generation.", examples=[EXAMPLE_SEED])


def options(request: Request, source: VideoInfo) -> LTXVOptions:
    """Returns the LTX-Video options for a request to the endpoint 0.9.7. `source` is not used.

    The number of frames is always 121, the family's default. The output plays at the source's rate.
    """
    return LTXVOptions(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        expand_prompt=request.expand_prompt,
        count_field=None,
        resolution=request.resolution,
        aspect_ratio=request.aspect_ratio,
        start_frame=request.video.start_frame_num,
        passes=(PassOptions(request.num_inference_steps),),
    )


ENDPOINT = Endpoint(
    id="fal-ai/ltx-video-v097/extend",
    name="0.9.7",
    display_name="LTX-Video 0.9.7",
    title="LTX-Video 0.9.7 13B, guided by noise level.",
    family=FAMILY,
    models=("ltxv-13b-0.9.7-dev", "ltxv-tiny"),
    Request=Request,
    Response=Response,
    options=options,
    tariff=Tariff("videos", Decimal("0.12"), one_video),
    source_field=("video", "video_url"),
    count_field=None,
)
