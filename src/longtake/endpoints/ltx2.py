"""Request fields that the endpoints of LTX-2.3 share, and how these fields become the options of a plan."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, Discriminator, Field, Tag

from longtake.endpoints.fields import EXAMPLE_SEED, EXAMPLE_VIDEO, IMAGE_FIELD, VIDEO_FIELD, VideoFile
from longtake.errors import Loc
from longtake.families.ltx2.options import Direction, GuidanceScales, LTX2Options
from longtake.media.formats import OutputType, Quality, WriteMode
from longtake.plans import Plan, PlannedAdapter, Size

RENOISE = 0.25
"""The sampler's `eta` if `use_restart_sampling` is true: how much of its noise each step replaces with fresh noise,
0 (none) to 1 (see `sampler.renoised`)."""

DISTILL = "distill"
"""Name of the model's own distill adapter, with which fewer steps are enough."""

CAMERA = "camera_"
"""The prefix of the names of the model's own camera adapters, such as `camera_dolly_in`."""

VideoPreset = Literal["auto", "square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]
PRESETS: dict[str, Size] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
"""(width, height) in pixels of each preset. `auto` has no entry, because it means the source's size."""

CameraLoRA = Literal["dolly_in", "dolly_out", "dolly_left", "dolly_right", "jib_up", "jib_down", "static", "none"]


class ImageSize(BaseModel):
    """A size of the output in pixels. A client can send it instead of the name of a preset, such as `square_hd`."""

    # The docstrings of request and response classes are published in the OpenAPI documents.

    width: int = Field(512, ge=64, le=4096, description="The width of the generated image.")
    height: int = Field(512, ge=64, le=4096, description="The height of the generated image.")


def _size_kind(value: Any) -> str:
    return "<preset>" if isinstance(value, str) else "<size>"


def _any_of(schema: dict[str, Any]) -> None:
    schema["anyOf"] = schema.pop("oneOf")


VideoSize = Annotated[
    Annotated[ImageSize, Tag("<size>")] | Annotated[VideoPreset, Tag("<preset>")],
    Field(
        discriminator=Discriminator(_size_kind),
        description="The size of the generated video.",
        json_schema_extra=_any_of,
    ),
]
Prompt = Annotated[
    str,
    Field(
        description="The prompt to generate the video from.",
        examples=["Continue the scene naturally, maintaining the same style and motion."],
        min_length=1,
    ),
]
VideoUrl = Annotated[
    str,
    Field(
        description="The URL of the video to extend.",
        json_schema_extra=VIDEO_FIELD,
        examples=["https://v3b.fal.media/files/b/0a8824b1/sdm0KfmenrlywesfzY1Y1_if6euPp1.mp4"],
    ),
]
ExtendDirection = Annotated[
    Direction,
    Field(
        description="Direction to extend the video. 'forward' extends from the end of the video, 'backward' extends "
        "from the beginning.",
    ),
]
EndImageUrl = Annotated[
    str | None,
    Field(description="The URL of the image to use as the end of the extended video.", json_schema_extra=IMAGE_FIELD),
]
EndImageStrength = Annotated[
    float, Field(ge=0, le=1, description="The strength of the end image to use for the video generation.")
]
NumFrames = Annotated[
    int, Field(ge=9, le=481, description="The number of frames to generate, the context's overlap included.")
]
CONTEXT_FRAMES = "The number of frames to use as context for the extension."
GenerateAudio = Annotated[bool, Field(description="Whether to generate audio for the video.")]
MatchInputFps = Annotated[
    bool,
    Field(
        description="When true, match the output FPS to the input video's FPS instead of using the default target FPS."
    ),
]
OutputFps = Annotated[float, Field(ge=1, le=60, description="The frames per second of the generated video.")]
NumSteps = Annotated[int, Field(ge=8, description="The number of inference steps to use.")]
VideoStrength = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Video conditioning strength. Lower values represent more freedom given to the model to change "
        "the video content.",
    ),
]
NegativePrompt = Annotated[str, Field(description="The negative prompt to generate the video from.")]
ExpandPrompt = Annotated[bool, Field(description="Whether to enable prompt expansion.")]
CheckSafety = Annotated[bool, Field(description="Whether to enable the safety checker.")]
VideoOutputType = Annotated[OutputType, Field(description="The output type of the generated video.")]
VideoQuality = Annotated[Quality, Field(description="The quality of the generated video.")]
VideoWriteMode = Annotated[WriteMode, Field(description="The write mode of the generated video.")]
SyncMode = Annotated[
    bool,
    Field(
        description="If True, the media will be returned as a data URI and the output data won't be available in the "
        "request history.",
    ),
]
SEED = "The seed for the random number generator."


class Response(BaseModel):
    """The response of the endpoint: the finished video, its seed and its prompt."""

    video: VideoFile = Field(description="The generated video.", examples=[EXAMPLE_VIDEO])
    seed: int = Field(description="The seed used for the random number generator.", examples=[EXAMPLE_SEED])
    prompt: str = Field(
        description="The prompt used for the generation.",
        examples=["Continue the scene naturally, maintaining the same style and motion."],
    )


class ExtendRequest(Protocol):
    """The fields that the requests of the endpoints 2.3, 2.3-lora and 2.3-quality have in common."""

    prompt: str
    negative_prompt: str
    seed: int | None
    enable_prompt_expansion: bool
    enable_safety_checker: bool
    num_frames: int
    end_image_url: str | None
    end_image_strength: float
    video_quality: Quality
    video_write_mode: WriteMode
    sync_mode: bool
    extend_direction: Direction
    num_context_frames: int
    match_input_fps: bool
    generate_audio: bool
    num_inference_steps: int
    video_strength: float

    @property
    def model_fields_set(self) -> set[str]:
        """The names of the fields that the client has sent. The other fields have their default values."""


def shared_options(
    request: ExtendRequest, *, size: ImageSize | VideoPreset, fps: float, video: GuidanceScales, audio: GuidanceScales
) -> LTX2Options:
    """Returns the options of a plan for a request to an endpoint of LTX-2.3.

    Options that only one endpoint has are left at their defaults; the caller sets them.

    request: the fields that these endpoints have in common.

    The other arguments come from fields that have a different name in each endpoint:

    size: size of the output; `auto` means the source's size.
    fps: frames per second of the output. It is ignored if the request's `match_input_fps` is true.
    video: guidance scales for the picture.
    audio: guidance scales for the sound.
    """
    return LTX2Options(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        expand_prompt=request.enable_prompt_expansion,
        check_safety=request.enable_safety_checker,
        num_frames=request.num_frames,
        end_image=request.end_image_url,
        end_image_strength=request.end_image_strength,
        quality=request.video_quality,
        write_mode=request.video_write_mode,
        sync_mode=request.sync_mode,
        direction=request.extend_direction,
        context_frames=request.num_context_frames,
        context_field="num_context_frames" if "num_context_frames" in request.model_fields_set else None,
        size=size_of(size),
        frame_rate=None if request.match_input_fps else fps,
        sound=request.generate_audio,
        steps=request.num_inference_steps,
        strength=request.video_strength,
        video=video,
        audio=audio,
    )


def size_of(size: ImageSize | VideoPreset) -> Size | None:
    """Returns (width, height) in pixels of a size that a client sent; None for `auto`, which is the source's size."""
    match size:
        case ImageSize(width=width, height=height):
            return width, height
        case preset:
            return PRESETS.get(str(preset))


def camera_adapter(movement: str, scale: float) -> tuple[PlannedAdapter, ...]:
    """Returns a tuple with the model's own adapter for a camera movement. The tuple is empty for the movement `none`.

    movement: value of the request's field `camera_lora`, such as `dolly_in`.
    scale: strength of the adapter in both passes.
    """
    if movement == "none":
        return ()
    return (PlannedAdapter(f"{CAMERA}{movement}", (scale, scale), ("body", "camera_lora"), own=True),)


def distill_adapter(scales: Sequence[float], fields: Sequence[str] = ()) -> tuple[PlannedAdapter, ...]:
    """Returns a tuple with one item: the model's own distill adapter, with which fewer steps are enough.

    scales: strength of the adapter in the first and in the second pass.
    fields: names of the request's fields with these two scales, in the same order; empty if the client cannot choose
        the scales. The first field whose scale is not 0 is named in errors about the adapter.
    """
    name = next((name for name, scale in zip(fields, scales, strict=False) if scale), None)
    field: Loc = ("body",) if name is None else ("body", name)
    return (PlannedAdapter(DISTILL, tuple(scales), field, own=True),)


def has_lora(plan: Plan) -> bool:
    """Returns True if the plan applies an adapter that the client chose: a LoRA or a camera movement."""
    return any(not adapter.own or adapter.source.startswith(CAMERA) for adapter in plan.adapters)
