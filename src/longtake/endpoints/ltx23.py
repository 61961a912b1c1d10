"""`fal-ai/ltx-2.3-22b/extend-video`: LTX-2.3 22B makes picture and sound, after the source or before it."""

from dataclasses import replace
from decimal import Decimal

from pydantic import BaseModel, Field

from longtake.endpoints import ltx2
from longtake.endpoints.endpoint import Endpoint, OutputFields
from longtake.endpoints.fields import Seed
from longtake.endpoints.tariff import Tariff, megapixels
from longtake.families.ltx2 import FAMILY
from longtake.families.ltx2.options import GuidanceScales, LTX2Options
from longtake.sampling.levels import Acceleration, Scheduler
from longtake.video import VideoInfo

NEGATIVE = (
    "news broadcast, 3d animation, computer graphics, pc game, console game, video game, cartoon, childish, watermark, "
    "logo, text, on screen text, subtitles, titles, signature, slowmo, static"
)


class Request(BaseModel):
    """A request to `fal-ai/ltx-2.3-22b/extend-video`, with the fields that fal publishes for this endpoint."""

    prompt: ltx2.Prompt
    video_url: ltx2.VideoUrl
    end_image_url: ltx2.EndImageUrl = None
    num_frames: ltx2.NumFrames = 121
    video_size: ltx2.VideoSize = "auto"
    generate_audio: ltx2.GenerateAudio = True
    use_multiscale: bool = Field(
        True,
        description="Whether to use multi-scale generation. If True, the model will generate the video at a smaller "
        "scale first, then use the smaller video to guide the generation of a video at or above your requested size. "
        "This results in better coherence and details.",
    )
    match_input_fps: ltx2.MatchInputFps = True
    fps: ltx2.OutputFps = 24
    num_inference_steps: ltx2.NumSteps = Field(15, le=50)
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
    camera_lora: ltx2.CameraLoRA = Field(
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
    negative_prompt: ltx2.NegativePrompt = NEGATIVE
    seed: Seed = Field(None, description=ltx2.SEED)
    enable_prompt_expansion: ltx2.ExpandPrompt = True
    enable_safety_checker: ltx2.CheckSafety = True
    video_output_type: ltx2.VideoOutputType = "X264 (.mp4)"
    video_quality: ltx2.VideoQuality = "high"
    video_write_mode: ltx2.VideoWriteMode = "balanced"
    sync_mode: ltx2.SyncMode = False
    distill_lora_first_pass_scale: float = Field(
        0.2, ge=0, le=1, description="The scale of the distill LoRA to use for the first pass. Set to 0 to disable."
    )
    distill_lora_second_pass_scale: float = Field(
        0.5, ge=0, le=1, description="The scale of the distill LoRA to use for the second and subsequent passes."
    )
    extend_direction: ltx2.ExtendDirection = "forward"
    num_context_frames: int = Field(25, ge=0, le=121, description=ltx2.CONTEXT_FRAMES)
    video_strength: ltx2.VideoStrength = 1
    audio_strength: float = Field(
        1,
        ge=0,
        le=1,
        description="Audio conditioning strength. Lower values represent more freedom given to the model to change "
        "the audio content.",
    )
    end_image_strength: ltx2.EndImageStrength = 1


def options(request: Request, source: VideoInfo) -> LTX2Options:
    """Returns the LTX-2 options for a request to the endpoint 2.3.

    source: not used. All endpoints' `options` have this parameter, because some need facts of the source video.
    """
    video = GuidanceScales(
        cfg=request.video_cfg_scale,
        stg=request.video_stg_scale,
        modality=request.video_modality_scale,
        rescale=request.video_rescaling_scale,
    )
    audio = GuidanceScales(
        cfg=request.audio_cfg_scale,
        stg=request.audio_stg_scale,
        modality=request.audio_modality_scale,
        rescale=request.audio_rescaling_scale,
    )
    distill = (request.distill_lora_first_pass_scale, request.distill_lora_second_pass_scale)
    return replace(
        ltx2.shared_options(request, size=request.video_size, fps=request.fps, video=video, audio=audio),
        adapters=(
            *ltx2.camera_adapter(request.camera_lora, request.camera_lora_scale),
            *ltx2.distill_adapter(distill, ("distill_lora_first_pass_scale", "distill_lora_second_pass_scale")),
        ),
        acceleration=request.acceleration,
        output=request.video_output_type,
        multiscale=request.use_multiscale,
        scheduler=request.scheduler,
        gamma=request.gradient_estimation_gamma,
        eta=ltx2.RENOISE if request.use_restart_sampling else 0.0,
        audio_strength=request.audio_strength,
    )


ENDPOINT = Endpoint(
    id="fal-ai/ltx-2.3-22b/extend-video",
    name="2.3",
    display_name="LTX-2.3",
    title="LTX-2.3 22B: picture and sound, forward or backward.",
    family=FAMILY,
    models=("ltx-2.3", "ltx2-tiny"),
    Request=Request,
    Response=ltx2.Response,
    options=options,
    tariff=Tariff("megapixels", Decimal("0.001605"), megapixels, Decimal("0.001805"), ltx2.has_lora),
    rate_fields=("fps",),
    match_rate_field="match_input_fps",
    second_pass_field="use_multiscale",
    end_image_field="end_image_url",
    output_fields=OutputFields("video_output_type", "video_quality", "video_write_mode"),
)
