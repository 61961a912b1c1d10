"""`fal-ai/ltx-2.3-quality/extend-video`: LTX-2.3 22B with its distill adapter at full strength, which samples the
frames and then refines them at twice the size."""

from dataclasses import replace
from decimal import Decimal

from pydantic import BaseModel, Field

from longtake.endpoints import ltx2
from longtake.endpoints.endpoint import Endpoint, OutputFields
from longtake.endpoints.fields import Seed
from longtake.endpoints.tariff import Tariff, megapixels
from longtake.families.ltx2 import FAMILY
from longtake.families.ltx2.options import GuidanceScales, LTX2Options
from longtake.video import VideoInfo

NEGATIVE = (
    "color distortion, overexposure, static, blurry details, subtitles, style, artwork, painting, frame, still, dim "
    "overall tone, worst quality, low quality, JPEG compression artifacts, ugly, mutilated, extra fingers, poorly "
    "drawn hands, poorly drawn face, deformed, disfigured, malformed limbs, fused fingers, motionless frame, cluttered "
    "background, three legs, crowded background, walking backwards"
)


class Request(BaseModel):
    """A request to `fal-ai/ltx-2.3-quality/extend-video`, with the fields that fal publishes for this endpoint."""

    prompt: ltx2.Prompt
    video_url: ltx2.VideoUrl
    extend_direction: ltx2.ExtendDirection = "forward"
    num_frames: ltx2.NumFrames = 121
    num_context_frames: int = Field(25, ge=9, le=121, description=ltx2.CONTEXT_FRAMES)
    end_image_url: ltx2.EndImageUrl = None
    end_image_strength: ltx2.EndImageStrength = 1
    resolution: ltx2.VideoSize = "auto"
    match_input_fps: ltx2.MatchInputFps = True
    frames_per_second: ltx2.OutputFps = 24.0
    video_strength: ltx2.VideoStrength = 1
    num_inference_steps: ltx2.NumSteps = Field(15, le=30)
    guidance_scale: float = Field(
        1, ge=1, le=20, description="How closely picture and sound follow the prompt; 1 switches guidance off."
    )
    generate_audio: ltx2.GenerateAudio = True
    negative_prompt: ltx2.NegativePrompt = NEGATIVE
    seed: Seed = Field(None, description=ltx2.SEED)
    enable_prompt_expansion: ltx2.ExpandPrompt = True
    enable_safety_checker: ltx2.CheckSafety = True
    video_quality: ltx2.VideoQuality = "high"
    video_write_mode: ltx2.VideoWriteMode = "balanced"
    sync_mode: ltx2.SyncMode = False


def options(request: Request, source: VideoInfo) -> LTX2Options:
    """Returns the LTX-2 options for a request to the endpoint 2.3-quality. `source` is not used.

    The distill adapter has full strength in both passes. Classifier-free guidance is the only guidance, with the same
    scale for picture and sound.
    """
    cfg, fps = GuidanceScales(cfg=request.guidance_scale), request.frames_per_second
    return replace(
        ltx2.shared_options(request, size=request.resolution, fps=fps, video=cfg, audio=cfg),
        adapters=ltx2.distill_adapter((1.0, 1.0)),
        context_rounds_down=True,
        scheduler="linear_quadratic",
    )


ENDPOINT = Endpoint(
    id="fal-ai/ltx-2.3-quality/extend-video",
    name="2.3-quality",
    display_name="LTX-2.3 quality",
    title="LTX-2.3 22B with its distill adapter in full, at two scales.",
    family=FAMILY,
    models=("ltx-2.3", "ltx2-tiny"),
    Request=Request,
    Response=ltx2.Response,
    options=options,
    tariff=Tariff("megapixels", Decimal("0.0024075"), megapixels),
    rate_fields=("frames_per_second",),
    match_rate_field="match_input_fps",
    end_image_field="end_image_url",
    output_fields=OutputFields(quality="video_quality", write_mode="video_write_mode"),
)
