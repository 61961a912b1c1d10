"""`fal-ai/ltxv-13b-098-distilled/extend`: LTX-Video 0.9.8 13B distilled, with LoRAs, long videos and, if wanted, a
second run that refines the frames at twice the size."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from pydantic import BaseModel, Field

from longtake.endpoints import ltxv
from longtake.endpoints.endpoint import Endpoint
from longtake.endpoints.fields import LORAS, MOST_LORAS, LoRAWeight, Seed
from longtake.endpoints.tariff import Tariff
from longtake.families.ltxv import FAMILY
from longtake.families.ltxv.options import LTXVOptions
from longtake.plans import Plan
from longtake.video import VideoInfo

BILLED_RATE = 24
"""The number of frames that are billed as one second, at any frame rate of the output."""


class Request(BaseModel):
    """A request to `fal-ai/ltxv-13b-098-distilled/extend`, with the fields that fal publishes for this endpoint."""

    prompt: ltxv.Prompt
    negative_prompt: ltxv.NegativePrompt = ltxv.NEGATIVE
    loras: list[LoRAWeight] = Field([], max_length=MOST_LORAS, description=LORAS)
    resolution: ltxv.ChosenResolution = "720p"
    aspect_ratio: ltxv.AspectRatio = "auto"
    seed: Seed = Field(None, description="Random seed for generation")
    num_frames: ltxv.NumFrames = 121
    first_pass_num_inference_steps: int = Field(8, ge=2, le=12, description=ltxv.FIRST_STEPS, examples=[8])
    second_pass_num_inference_steps: int = Field(8, ge=2, le=12, description=ltxv.SECOND_STEPS, examples=[8])
    second_pass_skip_initial_steps: int = Field(5, ge=1, le=11, description=ltxv.SECOND_SKIP, examples=[5])
    frame_rate: ltxv.FrameRate = 24
    expand_prompt: ltxv.ExpandPrompt = False
    reverse_video: ltxv.ReverseVideo = False
    enable_safety_checker: ltxv.CheckSafety = True
    enable_detail_pass: bool = Field(
        False,
        description="Whether to use a detail pass. If True, the model will perform a second pass to refine the video "
        "and enhance details. This incurs a 2.0x cost multiplier on the base price.",
        examples=[False],
    )
    temporal_adain_factor: float = Field(
        0.5,
        ge=0,
        le=1,
        description="The factor for adaptive instance normalization (AdaIN) applied to generated video chunks after "
        "the first. This can help deal with a gradual increase in saturation/contrast in the generated video by "
        "normalizing the color distribution across the video. A high value will ensure the color distribution is more "
        "consistent across the video, while a low value will allow for more variation in color distribution.",
        examples=[0.5],
        json_schema_extra={"step": 0.05},
    )
    tone_map_compression_ratio: float = Field(
        0,
        ge=0,
        le=1,
        description="The compression ratio for tone mapping. This is used to compress the dynamic range of the video "
        "to improve visual quality. A value of 0.0 means no compression, while a value of 1.0 means maximum "
        "compression.",
        examples=[0],
        json_schema_extra={"step": 0.05},
    )
    constant_rate_factor: int = Field(29, ge=0, le=51, description=ltxv.RATE_FACTOR, examples=[29])
    video: ltxv.ExtendVideoConditioningInput = Field(description="Video to be extended.", examples=[ltxv.EXAMPLE_INPUT])


def options(request: Request, source: VideoInfo) -> LTXVOptions:
    """Returns the LTX-Video options for a request to the endpoint 0.9.8. `source` is not used.

    Without `enable_detail_pass` the options have one pass. With it they have two, and the first one leaves out its last
    step. Raises InvalidRequest if there are two passes and the client sends a `second_pass_skip_initial_steps` that is
    not less than `second_pass_num_inference_steps`.
    """
    passes = [ltxv.first_pass(request.first_pass_num_inference_steps, int(request.enable_detail_pass))]
    if request.enable_detail_pass:
        steps = request.second_pass_num_inference_steps
        skip = ltxv.left_out(request, "second_pass_skip_initial_steps", steps)
        passes.append(ltxv.second_pass(steps, skip))
    return replace(
        ltxv.shared_options(request, tuple(passes)),
        few_steps=True,
        temporal_adain_factor=request.temporal_adain_factor,
        tone_map_compression_ratio=request.tone_map_compression_ratio,
    )


def billed_seconds(plan: Plan) -> Fraction:
    """Returns the billed seconds: `plan.billed_frames` divided by 24, times 2 if the plan has a detail pass.

    The frame rate of the output does not matter, and nothing is rounded.
    """
    return Fraction(plan.billed_frames, BILLED_RATE) * plan.num_passes


ENDPOINT = Endpoint(
    id="fal-ai/ltxv-13b-098-distilled/extend",
    name="0.9.8",
    display_name="LTX-Video 0.9.8 distilled",
    title="LTX-Video 0.9.8 13B distilled: LoRAs, a detail pass, long videos.",
    family=FAMILY,
    models=("ltxv-13b-0.9.8-distilled", "ltxv-tiny"),
    Request=Request,
    Response=ltxv.Response,
    options=options,
    tariff=Tariff("seconds", Decimal("0.02"), billed_seconds),
    source_field=("video", "video_url"),
    rate_fields=("frame_rate",),
    second_pass_field="enable_detail_pass",
)
