"""Request fields that the endpoints of LTX-Video 0.9.x share, and how these fields become the options of a plan."""

from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, Field

from longtake.endpoints.fields import EXAMPLE_SEED, EXAMPLE_VIDEO, VIDEO_FIELD, LoRAWeight, VideoFile, planned_loras
from longtake.errors import InvalidRequest
from longtake.families.ltxv.options import LTXVOptions, PassOptions

NEGATIVE = "worst quality, inconsistent motion, blurry, jittery, distorted"
START_FRAME = "The frame number of the video from which the conditioning starts. Must be a multiple of 8."

MOST_RATE_FACTOR = 51
"""The largest constant rate factor that x264 accepts. A larger one in a request is lowered to this value."""

Prompt = Annotated[
    str,
    Field(description="Text prompt to guide generation", examples=["Woman walking on a street in Tokyo"], min_length=1),
]
NegativePrompt = Annotated[str, Field(description="Negative prompt for generation")]
Resolution = Literal["480p", "720p"]
ChosenResolution = Annotated[Resolution, Field(description="Resolution of the generated video", examples=["720p"])]
Ratio = Literal["9:16", "1:1", "16:9", "auto"]
AspectRatio = Annotated[Ratio, Field(description="The aspect ratio of the video.", examples=["auto"])]
NumFrames = Annotated[int, Field(ge=9, le=1441, description="The number of frames in the video.", examples=[121])]
FrameRate = Annotated[int, Field(ge=1, le=60, description="The frame rate of the video.", examples=[24])]
ExpandPrompt = Annotated[
    bool, Field(description="Whether to expand the prompt using a language model.", examples=[False])
]
ReverseVideo = Annotated[bool, Field(description="Whether to reverse the video.", examples=[False])]
CheckSafety = Annotated[bool, Field(description="Whether to enable the safety checker.", examples=[True])]

FIRST_STEPS = "Number of inference steps during the first pass."
FIRST_SKIP_FINAL = "The number of inference steps to skip in the final steps of the first pass."
SECOND_STEPS = "Number of inference steps during the second pass."
SECOND_SKIP = (
    "The number of inference steps to skip in the initial steps of the second pass. By skipping some steps at the "
    "beginning, the second pass can focus on smaller details instead of larger changes."
)
RATE_FACTOR = (
    "The constant rate factor (CRF) to compress input media with. Compressed input media more closely matches the "
    "model's training data, which can improve motion quality."
)


class ExtendVideoConditioningInput(BaseModel):
    """The video to extend: which of its frames condition the new ones, and how."""

    video_url: str = Field(description="URL of video to use as conditioning", json_schema_extra=VIDEO_FIELD)
    conditioning_type: Literal["rgb", "depth", "pose", "canny"] = Field(
        "rgb", description="Type of conditioning this video provides. rgb: footage, which the output continues."
    )
    preprocess: bool = Field(
        False, description="Whether to preprocess the video. If True, the video is turned into its conditioning type."
    )
    strength: float = Field(
        1, ge=0, le=1, description="Strength of the conditioning. 0.0 means no conditioning, 1.0 full conditioning"
    )
    start_frame_num: int = Field(0, ge=0, le=1440, multiple_of=8, description=START_FRAME)
    limit_num_frames: bool = Field(
        False, description="Whether to limit the number of frames used from the video to max_num_frames."
    )
    max_num_frames: int = Field(
        1441, ge=1, le=1441, description="Maximum number of frames to use from the video: the last ones."
    )
    resample_fps: bool = Field(False, description="Whether to resample the video to target_fps.")
    target_fps: int = Field(24, ge=1, le=60, description="Target FPS to resample the video to.")
    reverse_video: bool = Field(False, description="Whether to reverse the video: the conditioning clip backwards.")


EXAMPLE_INPUT = {
    "video_url": "https://storage.googleapis.com/falserverless/web-examples/wan/t2v.mp4",
    "conditioning_type": "rgb",
    "preprocess": False,
    "strength": 1,
    "start_frame_num": 0,
    "limit_num_frames": False,
    "max_num_frames": 1441,
    "resample_fps": False,
    "target_fps": 24,
    "reverse_video": False,
}
"""An example of the request's field `video` (an ExtendVideoConditioningInput), which fal publishes."""


class Response(BaseModel):
    """The response of the endpoint: the finished video, its seed and its prompt."""

    video: VideoFile = Field(description="The generated video file.", examples=[EXAMPLE_VIDEO])
    prompt: str = Field(description="The prompt used for generation.", examples=["Woman walking on a street in Tokyo"])
    seed: int = Field(description="The seed used for generation.", examples=[EXAMPLE_SEED])


class ExtendRequest(Protocol):
    """The fields that the requests of the endpoints 0.9.8, 0.9.7-dev and 0.9.7-distilled have in common."""

    prompt: str
    negative_prompt: str
    loras: list[LoRAWeight]
    resolution: Resolution
    aspect_ratio: Ratio
    seed: int | None
    num_frames: int
    frame_rate: int
    expand_prompt: bool
    reverse_video: bool
    enable_safety_checker: bool
    constant_rate_factor: int
    video: ExtendVideoConditioningInput


def shared_options(request: ExtendRequest, passes: tuple[PassOptions, ...]) -> LTXVOptions:
    """Returns the options of a plan for a request to one of the endpoints 0.9.8, 0.9.7-dev and 0.9.7-distilled.

    request: the fields that these endpoints have in common.
    passes: options of each pass, in their order.

    The option `heed_negative` is True if the negative prompt is neither empty nor the default one. Then even a model
    without classifier-free guidance uses the negative prompt.
    """
    video = request.video
    return LTXVOptions(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        expand_prompt=request.expand_prompt,
        check_safety=request.enable_safety_checker,
        num_frames=request.num_frames,
        adapters=planned_loras(request.loras),
        resolution=request.resolution,
        aspect_ratio=request.aspect_ratio,
        frame_rate=request.frame_rate,
        passes=passes,
        heed_negative=request.negative_prompt not in ("", NEGATIVE),
        constant_rate_factor=min(request.constant_rate_factor, MOST_RATE_FACTOR),
        reverse=request.reverse_video,
        start_frame=video.start_frame_num,
        max_frames=video.max_num_frames if video.limit_num_frames else None,
        target_rate=video.target_fps if video.resample_fps else None,
        reverse_source=video.reverse_video,
        guide=video.conditioning_type,
        preprocess=video.preprocess,
        strength=video.strength,
    )


def left_out(request: BaseModel, field: str, steps: int) -> int:
    """Returns how many steps a pass leaves out.

    - If the client sent the request's field with the name `field`: its value, even if the pass then has no step.
    - Otherwise: the default value of this field, but at most `steps - 1`, so that the pass has at least one step.

    steps: number of steps of the pass before any are left out.
    """
    value: int = getattr(request, field)
    return value if field in request.model_fields_set else min(value, steps - 1)


def first_pass(steps: int, skip_final: int) -> PassOptions:
    """Returns the options of a first pass. It leaves out the last steps of its schedule.

    steps: number of steps of the whole schedule.
    skip_final: number of last steps that are left out.

    Raises InvalidRequest if `skip_final` is not less than `steps`, because the pass would have no step.
    """
    if skip_final >= steps:
        raise _nothing_left("first_pass_skip_final_steps", skip_final, "first_pass_num_inference_steps", steps)
    return PassOptions(steps, skip_final=skip_final)


def second_pass(steps: int, skip_initial: int) -> PassOptions:
    """Returns the options of a second pass, which refines the result of the first one. It leaves out the first steps of
    its schedule.

    steps: number of steps of the whole schedule.
    skip_initial: number of first steps that are left out.

    Raises InvalidRequest if `skip_initial` is not less than `steps`, because the pass would have no step.
    """
    if skip_initial >= steps:
        raise _nothing_left("second_pass_skip_initial_steps", skip_initial, "second_pass_num_inference_steps", steps)
    return PassOptions(steps, skip_initial=skip_initial)


def _nothing_left(field: str, skip: int, steps_field: str, steps: int) -> InvalidRequest:
    return InvalidRequest(
        f"{field} is {skip}; it must be less than {steps_field}, which is {steps}.",
        loc=("body", field),
        value=skip,
        ctx={"lt": steps},
    )
