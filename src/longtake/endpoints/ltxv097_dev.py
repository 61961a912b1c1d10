"""`fal-ai/ltx-video-13b-dev/extend`: LTX-Video 0.9.7 13B, which samples the frames and then refines them at twice the
size. Guidance varies with the noise level."""

from decimal import Decimal

from pydantic import BaseModel, Field

from longtake.endpoints import ltxv
from longtake.endpoints.endpoint import Endpoint
from longtake.endpoints.fields import LORAS, MOST_LORAS, LoRAWeight, Seed
from longtake.endpoints.tariff import Tariff, one_video
from longtake.families.ltxv import FAMILY
from longtake.families.ltxv.options import LTXVOptions
from longtake.video import VideoInfo


class Request(BaseModel):
    """A request to `fal-ai/ltx-video-13b-dev/extend`, with the fields that fal publishes for this endpoint.

    Some of the fields also accept values that fal publishes only for the endpoint 0.9.8.
    """

    # Names and defaults are the published ones. Each range is wide enough for every value that 0.9.8 accepts.

    prompt: ltxv.Prompt
    negative_prompt: ltxv.NegativePrompt = ltxv.NEGATIVE
    loras: list[LoRAWeight] = Field([], max_length=MOST_LORAS, description=LORAS)
    resolution: ltxv.ChosenResolution = "720p"
    aspect_ratio: ltxv.AspectRatio = "auto"
    seed: Seed = Field(None, description="Random seed for generation")
    num_frames: ltxv.NumFrames = 121
    frame_rate: ltxv.FrameRate = 30
    expand_prompt: ltxv.ExpandPrompt = False
    reverse_video: ltxv.ReverseVideo = False
    enable_safety_checker: ltxv.CheckSafety = True
    constant_rate_factor: int = Field(35, ge=0, le=60, description=ltxv.RATE_FACTOR, examples=[35])
    video: ltxv.ExtendVideoConditioningInput = Field(description="Video to be extended.", examples=[ltxv.EXAMPLE_INPUT])
    first_pass_num_inference_steps: int = Field(30, ge=2, le=50, description=ltxv.FIRST_STEPS, examples=[30])
    first_pass_skip_final_steps: int = Field(3, ge=0, le=50, description=ltxv.FIRST_SKIP_FINAL, examples=[3])
    second_pass_num_inference_steps: int = Field(30, ge=2, le=50, description=ltxv.SECOND_STEPS, examples=[30])
    second_pass_skip_initial_steps: int = Field(17, ge=1, le=50, description=ltxv.SECOND_SKIP, examples=[17])


def options(request: Request, source: VideoInfo) -> LTXVOptions:
    """Returns the LTX-Video options for a request to the endpoint 0.9.7-dev. `source` is not used.

    Raises InvalidRequest if the client sends a `first_pass_skip_final_steps` or `second_pass_skip_initial_steps` that
    is not less than the number of inference steps of the same pass.
    """
    first, second = request.first_pass_num_inference_steps, request.second_pass_num_inference_steps
    passes = (
        ltxv.first_pass(first, ltxv.left_out(request, "first_pass_skip_final_steps", first)),
        ltxv.second_pass(second, ltxv.left_out(request, "second_pass_skip_initial_steps", second)),
    )
    return ltxv.shared_options(request, passes)


ENDPOINT = Endpoint(
    id="fal-ai/ltx-video-13b-dev/extend",
    name="0.9.7-dev",
    display_name="LTX-Video 0.9.7 dev",
    title="LTX-Video 0.9.7 13B, guided by noise level, in two passes.",
    family=FAMILY,
    models=("ltxv-13b-0.9.7-dev", "ltxv-tiny"),
    Request=Request,
    Response=ltxv.Response,
    options=options,
    tariff=Tariff("videos", Decimal("0.20"), one_video),
    source_field=("video", "video_url"),
    rate_fields=("frame_rate",),
)
