"""`fal-ai/ltx-2.3-22b/extend-video`: LTX-2.3 22B, picture and sound, forward or backward."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from longtake.clip import Source
from longtake.endpoints.shared import VideoFile, brief
from longtake.media.formats import OutputType, Quality, WriteMode
from longtake.plan import Acceleration, Direction, LoRA, LTX2Plan, Modality, Scheduler, Size
from longtake.plan_ltx2 import LTX2Facts, bearable, even, extensions, scales, source_clock, whole_span, window_limit
from longtake.pricing import Prices, price_23

ENDPOINT = "fal-ai/ltx-2.3-22b/extend-video"
FAMILY = "ltx2"

NEGATIVE_PROMPT = (
    "news broadcast, 3d animation, computer graphics, pc game, console game, video game, cartoon, childish, watermark, "
    "logo, text, on screen text, subtitles, titles, signature, slowmo, static"
)

RENOISE = 0.25
"""`use_restart_sampling`: the share of noise that each step takes away further and puts back."""

VideoPreset = Literal["auto", "square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]
PRESETS: dict[str, Size] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}

CameraLoRA = Literal["dolly_in", "dolly_out", "dolly_left", "dolly_right", "jib_up", "jib_down", "static", "none"]


class ImageSize(BaseModel):
    """A size of one's own."""

    width: int = Field(512, ge=64, le=4096, description="The width of the generated image.")
    height: int = Field(512, ge=64, le=4096, description="The height of the generated image.")


def _size_kind(value: Any) -> str:
    return "<preset>" if isinstance(value, str) else "<size>"


def _any_of(schema: dict[str, Any]) -> None:
    schema["anyOf"] = schema.pop("oneOf")


class Request(BaseModel):
    """The input of the endpoint, as published."""

    prompt: str = Field(
        description="The prompt to generate the video from.",
        examples=["Continue the scene naturally, maintaining the same style and motion."],
        min_length=1,
    )
    video_url: str = Field(
        description="The URL of the video to extend.",
        examples=["https://v3b.fal.media/files/b/0a8824b1/sdm0KfmenrlywesfzY1Y1_if6euPp1.mp4"],
    )
    end_image_url: str | None = Field(None, description="The URL of the image to use as the end of the extended video.")
    num_frames: int = Field(121, ge=9, le=481, description="The number of frames to generate.")
    video_size: Annotated[ImageSize, Tag("<size>")] | Annotated[VideoPreset, Tag("<preset>")] = Field(
        "auto",
        discriminator=Discriminator(_size_kind),
        description="The size of the generated video.",
        json_schema_extra=_any_of,
    )
    generate_audio: bool = Field(True, description="Whether to generate audio for the video.")
    use_multiscale: bool = Field(
        True,
        description="Whether to use multi-scale generation. If True, the model will generate the video at a smaller "
        "scale first, then use the smaller video to guide the generation of a video at or above your requested size. "
        "This results in better coherence and details.",
    )
    match_input_fps: bool = Field(
        True,
        description="When true, match the output FPS to the input video's FPS instead of using the default target FPS.",
    )
    fps: float = Field(24, ge=1, le=60, description="The frames per second of the generated video.")
    num_inference_steps: int = Field(15, ge=8, le=50, description="The number of inference steps to use.")
    video_cfg_scale: float = Field(
        3,
        ge=1,
        le=20,
        description="The Classifier-Free Guidance (CFG) scale for the video. Higher values result in more consistent "
        "and focused video content.",
    )
    video_stg_scale: float = Field(
        1,
        ge=0,
        le=20,
        description="The Spatiotemporal Guidance (STG) scale for the video. Higher values result in more consistent "
        "and focused video content.",
    )
    video_rescaling_scale: float = Field(
        0.85,
        ge=0,
        le=1,
        description="The rescaling scale for the video. Controls the ratio between classifier-free guidance and "
        "spatiotemporal guidance.",
    )
    video_modality_scale: float = Field(
        3,
        ge=0,
        le=10,
        description="The modality scale for the video. Controls the ratio between video and audio modalities.",
    )
    audio_cfg_scale: float = Field(
        7,
        ge=1,
        le=20,
        description="The Classifier-Free Guidance (CFG) scale for the audio. Higher values result in more consistent "
        "and focused audio content.",
    )
    audio_stg_scale: float = Field(
        0,
        ge=0,
        le=20,
        description="The Spatiotemporal Guidance (STG) scale for the audio. Higher values result in more consistent "
        "and focused audio content.",
    )
    audio_rescaling_scale: float = Field(
        0.7,
        ge=0,
        le=1,
        description="The rescaling scale for the audio. Controls the ratio between classifier-free guidance and "
        "spatiotemporal guidance.",
    )
    audio_modality_scale: float = Field(
        3,
        ge=0,
        le=10,
        description="The modality scale for the audio. Controls the ratio between video and audio modalities.",
    )
    gradient_estimation_gamma: float = Field(
        0, ge=0, le=10, description="The gamma of gradient estimation during denoising. Set to 0 to disable."
    )
    use_restart_sampling: bool = Field(
        True,
        description="Whether to use restart sampling. This will inject a small amount of noise during each denoising "
        "step, which can help improve the quality of the generated video.",
    )
    scheduler: Scheduler = Field("beta", description="The scheduler to use.")
    acceleration: Acceleration = Field("none", description="The acceleration level to use.")
    camera_lora: CameraLoRA = Field(
        "none",
        description="The camera LoRA to use. This allows you to control the camera movement of the generated video "
        "more accurately than just prompting the model to move the camera.",
    )
    camera_lora_scale: float = Field(
        1,
        ge=0,
        le=1,
        description="The scale of the camera LoRA to use. This allows you to control the camera movement of the "
        "generated video more accurately than just prompting the model to move the camera.",
    )
    negative_prompt: str = Field(NEGATIVE_PROMPT, description="The negative prompt to generate the video from.")
    seed: int | None = Field(None, description="The seed for the random number generator.")
    enable_prompt_expansion: bool = Field(True, description="Whether to enable prompt expansion.")
    enable_safety_checker: bool = Field(True, description="Whether to enable the safety checker.")
    video_output_type: OutputType = Field("X264 (.mp4)", description="The output type of the generated video.")
    video_quality: Quality = Field("high", description="The quality of the generated video.")
    video_write_mode: WriteMode = Field("balanced", description="The write mode of the generated video.")
    sync_mode: bool = Field(
        False,
        description="If True, the media will be returned as a data URI and the output data won't be available in the "
        "request history.",
    )
    distill_lora_first_pass_scale: float = Field(
        0.2, ge=0, le=1, description="The scale of the distill LoRA to use for the first pass. Set to 0 to disable."
    )
    distill_lora_second_pass_scale: float = Field(
        0.5, ge=0, le=1, description="The scale of the distill LoRA to use for the second and subsequent passes."
    )
    extend_direction: Direction = Field(
        "forward",
        description="Direction to extend the video. 'forward' extends from the end of the video, 'backward' extends "
        "from the beginning.",
    )
    num_context_frames: int = Field(
        25, ge=1, le=121, description="The number of frames to use as context for the extension."
    )
    video_strength: float = Field(
        1,
        ge=0,
        le=1,
        description="Video conditioning strength. Lower values represent more freedom given to the model to change "
        "the video content.",
    )
    audio_strength: float = Field(
        1,
        ge=0,
        le=1,
        description="Audio conditioning strength. Lower values represent more freedom given to the model to change "
        "the audio content.",
    )
    end_image_strength: float = Field(
        1, ge=0, le=1, description="The strength of the end image to use for the video generation."
    )


class Response(BaseModel):
    """The output of the endpoint."""

    video: VideoFile = Field(description="The generated video.")
    seed: int = Field(description="The seed used for the random number generator.", examples=[2078003885])
    prompt: str = Field(description="The prompt used for the generation.")


def plan(
    request: Request,
    source: Source,
    model: LTX2Facts,
    seed: int,
    prices: Prices,
    new_frames: int | None = None,
    loras: tuple[LoRA, ...] = (),
) -> LTX2Plan:
    """What will be done for this request.

    The command line's ways to ask for more: `new_frames` takes the place of `num_frames`, and `loras` are applied
    beside the model's own adapters. Raises InvalidRequest naming the field that cannot be done.
    """
    rate = source_clock(source, None if request.match_input_fps else request.fps)
    span = whole_span(source, rate)
    added = new_frames or request.num_frames
    made = extensions(request.extend_direction, len(span), request.num_context_frames, added, window_limit(rate, model))
    size = output_size(request, source)
    distill = (request.distill_lora_first_pass_scale, request.distill_lora_second_pass_scale)
    camera = None if request.camera_lora == "none" else request.camera_lora
    return LTX2Plan(
        endpoint=ENDPOINT,
        model=model.name,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        expand_prompt=request.enable_prompt_expansion,
        check_safety=request.enable_safety_checker,
        seed=seed,
        width=size[0],
        height=size[1],
        rate=rate,
        context=span,
        shown_frames=len(span),
        context_frames=made[0].context_frames,
        new_frames=added,
        strength=request.video_strength,
        loras=loras,
        price_usd=price_23(prices, size, added, with_lora=bool(camera or loras)),
        direction=request.extend_direction,
        extensions=made,
        scales=scales(size, distill[: 1 + request.use_multiscale], model),
        scheduler=request.scheduler,
        steps=request.num_inference_steps,
        video=bearable(
            Modality(
                cfg=request.video_cfg_scale,
                stg=request.video_stg_scale,
                modality=request.video_modality_scale,
                rescale=request.video_rescaling_scale,
            ),
            model.guidance_share,
        ),
        audio=bearable(
            Modality(
                cfg=request.audio_cfg_scale,
                stg=request.audio_stg_scale,
                modality=request.audio_modality_scale,
                rescale=request.audio_rescaling_scale,
            ),
            model.guidance_share,
        ),
        stg_blocks=model.stg_blocks,
        gamma=request.gradient_estimation_gamma,
        eta=RENOISE if request.use_restart_sampling else 0.0,
        acceleration=request.acceleration,
        sound=request.generate_audio,
        audio_strength=request.audio_strength,
        end_image=brief(request.end_image_url) if request.end_image_url is not None else None,
        end_image_strength=request.end_image_strength,
        camera=camera,
        camera_scale=request.camera_lora_scale,
        output=request.video_output_type,
        quality=request.video_quality,
        write_mode=request.video_write_mode,
        sync_mode=request.sync_mode,
    )


def output_size(request: Request, source: Source) -> Size:
    """(width, height) as asked, or the source's, made even."""
    asked = request.video_size
    if isinstance(asked, ImageSize):
        return even((asked.width, asked.height))
    return even(PRESETS.get(asked, (source.width, source.height)))
