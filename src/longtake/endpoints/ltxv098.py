"""`fal-ai/ltxv-13b-098-distilled/extend`: LTX-Video 0.9.8 13B distilled, with LoRAs, a detail pass and long videos."""

from dataclasses import replace
from fractions import Fraction
from typing import Literal

from pydantic import BaseModel, Field

from longtake.clip import Source, Span
from longtake.endpoints.shared import NEGATIVE_PROMPT, START_FRAME, LoRAWeight, Resolution, VideoFile, aspect_of
from longtake.errors import InvalidRequest
from longtake.plan import LoRA, LTXVPlan, Pass, Size, model_canvas
from longtake.plan_ltxv import (
    Footage,
    Lengths,
    first_pass_canvas,
    footage_span,
    guide_lengths,
    output_size,
    playback_rate,
    total_lengths,
    whole_source_lengths,
)
from longtake.pricing import Prices, price_098
from longtake.profiles import NAG_SCALE, ModelFacts, Profile, profile

ENDPOINT = "fal-ai/ltxv-13b-098-distilled/extend"
FAMILY = "ltxv"


class ExtendVideoConditioningInput(BaseModel):
    """The video to extend: which of its frames condition the new ones, and how."""

    video_url: str = Field(description="URL of video to use as conditioning")
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


class Request(BaseModel):
    """The input of the endpoint, as published."""

    prompt: str = Field(
        description="Text prompt to guide generation", examples=["Woman walking on a street in Tokyo"], min_length=1
    )
    negative_prompt: str = Field(NEGATIVE_PROMPT, description="Negative prompt for generation")
    loras: list[LoRAWeight] = Field([], description="LoRA weights to use for generation")
    resolution: Resolution = Field("720p", description="Resolution of the generated video", examples=["720p"])
    aspect_ratio: Literal["9:16", "1:1", "16:9", "auto"] = Field(
        "auto", description="The aspect ratio of the video.", examples=["auto"]
    )
    seed: int | None = Field(None, description="Random seed for generation")
    num_frames: int = Field(121, ge=9, le=1441, description="The number of frames in the video.", examples=[121])
    first_pass_num_inference_steps: int = Field(
        8, ge=2, le=12, description="Number of inference steps during the first pass.", examples=[8]
    )
    second_pass_num_inference_steps: int = Field(
        8, ge=2, le=12, description="Number of inference steps during the second pass.", examples=[8]
    )
    second_pass_skip_initial_steps: int = Field(
        5,
        ge=1,
        le=11,
        description="The number of inference steps to skip in the initial steps of the second pass. By skipping some "
        "steps at the beginning, the second pass can focus on smaller details instead of larger changes.",
        examples=[5],
    )
    frame_rate: int = Field(24, ge=1, le=60, description="The frame rate of the video.", examples=[24])
    expand_prompt: bool = Field(
        False, description="Whether to expand the prompt using a language model.", examples=[False]
    )
    reverse_video: bool = Field(False, description="Whether to reverse the video.", examples=[False])
    enable_safety_checker: bool = Field(True, description="Whether to enable the safety checker.", examples=[True])
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
    )
    tone_map_compression_ratio: float = Field(
        0,
        ge=0,
        le=1,
        description="The compression ratio for tone mapping. This is used to compress the dynamic range of the video "
        "to improve visual quality. A value of 0.0 means no compression, while a value of 1.0 means maximum "
        "compression.",
        examples=[0],
    )
    constant_rate_factor: int = Field(
        29,
        ge=0,
        le=51,
        description="The constant rate factor (CRF) to compress input media with. Compressed input media more closely "
        "matches the model's training data, which can improve motion quality.",
        examples=[29],
    )
    video: ExtendVideoConditioningInput = Field(description="Video to be extended.")


class Response(BaseModel):
    """The output of the endpoint."""

    video: VideoFile = Field(description="The generated video file.")
    prompt: str = Field(description="The prompt used for generation.", examples=["Woman walking on a street in Tokyo"])
    seed: int = Field(description="The seed used for generation.")


def plan(
    request: Request, source: Source, model: ModelFacts, seed: int, prices: Prices, new_frames: int | None = None
) -> LTXVPlan:
    """What will be done for this request.

    `new_frames` is the command line's way to ask: all of the footage is kept and so many frames are added, in place
    of `num_frames`. Raises InvalidRequest naming the field that cannot be done.
    """
    video = request.video
    span = footage_span(source, _footage(video))
    lengths = _lengths(request, span, model, new_frames)
    size = output_size(request.resolution, aspect_of(request.aspect_ratio, source))
    return LTXVPlan(
        endpoint=ENDPOINT,
        model=model.name,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        expand_prompt=request.expand_prompt,
        check_safety=request.enable_safety_checker,
        seed=seed,
        width=size[0],
        height=size[1],
        rate=playback_rate(request.frame_rate, span.rate),
        context=span.tail(max(lengths.shown_frames, lengths.context_frames)),
        shown_frames=lengths.shown_frames,
        context_frames=lengths.context_frames,
        new_frames=lengths.new_frames,
        take_frames=lengths.take_frames,
        guide=video.conditioning_type,
        preprocess=video.preprocess,
        strength=video.strength,
        windows=lengths.windows,
        overlap_latents=model.overlap_latents,
        overlap_strength=model.overlap_strength,
        passes=_passes(request, size, model),
        loras=tuple(LoRA(lora.path, lora.scale, lora.weight_name) for lora in request.loras),
        temporal_adain_factor=request.temporal_adain_factor,
        tone_map_compression_ratio=request.tone_map_compression_ratio,
        constant_rate_factor=request.constant_rate_factor,
        reverse=request.reverse_video,
        price_usd=price_098(prices, lengths.shown_frames + lengths.new_frames, request.enable_detail_pass),
    )


def _footage(video: ExtendVideoConditioningInput) -> Footage:
    return Footage(
        start_frame=video.start_frame_num,
        max_frames=video.max_num_frames if video.limit_num_frames else None,
        resample=Fraction(video.target_fps) if video.resample_fps else None,
        reverse=video.reverse_video,
    )


def _lengths(request: Request, span: Span, model: ModelFacts, new_frames: int | None) -> Lengths:
    if request.video.conditioning_type != "rgb":
        return guide_lengths(span, request.num_frames, model)
    if new_frames:
        return whole_source_lengths(span, new_frames, model)
    most = ExtendVideoConditioningInput.model_fields["max_num_frames"].default
    more = f"ask for num_frames above that (at most {most}), or " if len(span) < most else ""
    return total_lengths(
        span,
        request.num_frames,
        model,
        advice=f"{more}use less of the video with video.limit_num_frames and a video.max_num_frames "
        f"below {request.num_frames}.",
    )


def _passes(request: Request, size: Size, model: ModelFacts) -> tuple[Pass, ...]:
    """One pass; with the detail pass a first at two thirds of the size (a small model: at its own) and a second at
    twice that. The first leaves its last step out, as published. Published, too, is that a distilled checkpoint makes
    nothing of a negative prompt: one of the user's own is heeded by attention, the default leaves the model as it is.
    """
    step, native, steps = model.spatial_compression, model.native_short_side, request.first_pass_num_inference_steps
    guidance = profile(model.guidance, few_steps=True)
    if request.negative_prompt not in ("", NEGATIVE_PROMPT) and not guidance.first.heeds_negative:
        guidance = Profile(*(replace(scales, nag=NAG_SCALE) for scales in (guidance.first, guidance.second)))
    if not request.enable_detail_pass:
        return (Pass(model_canvas(size, native, step), steps, 0, 0, guidance.first),)
    skip, second_steps = request.second_pass_skip_initial_steps, request.second_pass_num_inference_steps
    if skip >= second_steps:
        raise InvalidRequest(
            f"second_pass_skip_initial_steps is {skip}; it must be less than second_pass_num_inference_steps, "
            f"which is {second_steps}.",
            loc=("body", "second_pass_skip_initial_steps"),
            given=skip,
            ctx={"lt": second_steps},
        )
    width, height = first_pass_canvas(size, step) if native is None else model_canvas(size, native, step)
    return (
        Pass((width, height), steps, 0, 1, guidance.first),
        Pass((2 * width, 2 * height), second_steps, skip, 0, guidance.second),
    )
