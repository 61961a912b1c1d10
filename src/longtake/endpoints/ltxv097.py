"""`fal-ai/ltx-video-v097/extend`: LTX-Video 0.9.7 13B, guided by noise level."""

from typing import Literal

from pydantic import BaseModel, Field

from longtake.clip import Source
from longtake.endpoints.shared import NEGATIVE_PROMPT, START_FRAME, Resolution, VideoFile, aspect_of
from longtake.plan import MOST_RATE, LTXVPlan, Pass, model_canvas
from longtake.plan_ltxv import Footage, footage_span, output_size, total_lengths, whole_source_lengths
from longtake.pricing import Prices, price_097
from longtake.profiles import ModelFacts, profile

ENDPOINT = "fal-ai/ltx-video-v097/extend"
FAMILY = "ltxv"
NUM_FRAMES = 121
TEMPORAL_ADAIN = 0.5
CONSTANT_RATE_FACTOR = 29


class VideoConditioningInput(BaseModel):
    """The video to extend, and from where on it is used."""

    video_url: str = Field(description="URL of video to be extended")
    start_frame_num: int = Field(0, ge=0, le=120, multiple_of=8, description=START_FRAME)


class Request(BaseModel):
    """The input of the endpoint, as published."""

    prompt: str = Field(
        description="Text prompt to guide generation", examples=["Woman walking on a street in Tokyo"], min_length=1
    )
    negative_prompt: str = Field(NEGATIVE_PROMPT, description="Negative prompt for generation")
    resolution: Resolution = Field("720p", description="Resolution of the generated video (480p or 720p).")
    aspect_ratio: Literal["9:16", "16:9"] = Field(
        "16:9", description="Aspect ratio of the generated video (16:9 or 9:16)."
    )
    seed: int | None = Field(None, description="Random seed for generation")
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
    """The output of the endpoint."""

    video: VideoFile = Field(description="The generated video file.")
    seed: int = Field(description="The seed used for generation.")


def plan(
    request: Request, source: Source, model: ModelFacts, seed: int, prices: Prices, new_frames: int | None = None
) -> LTXVPlan:
    """What will be done for this request.

    `new_frames` is the command line's way to ask: all of the source is kept and so many frames are added, in place
    of the endpoint's fixed total. Raises InvalidRequest naming the field that cannot be done.
    """
    resample = MOST_RATE if source.rate > MOST_RATE else None
    span = footage_span(source, Footage(request.video.start_frame_num, resample=resample))
    lengths = (
        whole_source_lengths(span, new_frames, model)
        if new_frames
        else total_lengths(
            span,
            NUM_FRAMES,
            model,
            advice=f"this endpoint makes videos of {NUM_FRAMES} frames: set video.start_frame_num so that at most "
            f"{NUM_FRAMES - 1} of the source's {source.num_frames} frames are left.",
        )
    )
    width, height = output_size(request.resolution, aspect_of(request.aspect_ratio, source))
    canvas = model_canvas((width, height), model.native_short_side, model.spatial_compression)
    guidance = profile(model.guidance, few_steps=False).first
    return LTXVPlan(
        endpoint=ENDPOINT,
        model=model.name,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        expand_prompt=request.expand_prompt,
        check_safety=True,
        seed=seed,
        width=width,
        height=height,
        rate=span.rate,
        context=span.tail(lengths.shown_frames),
        shown_frames=lengths.shown_frames,
        context_frames=lengths.context_frames,
        new_frames=lengths.new_frames,
        take_frames=lengths.take_frames,
        guide="rgb",
        preprocess=False,
        strength=1.0,
        windows=lengths.windows,
        overlap_latents=model.overlap_latents,
        overlap_strength=model.overlap_strength,
        passes=(Pass(canvas, request.num_inference_steps, 0, 0, guidance),),
        loras=(),
        temporal_adain_factor=TEMPORAL_ADAIN,
        tone_map_compression_ratio=0.0,
        constant_rate_factor=CONSTANT_RATE_FACTOR,
        reverse=False,
        price_usd=price_097(prices),
    )
