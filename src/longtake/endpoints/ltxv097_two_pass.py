"""The request of the two LTX-Video 0.9.7 endpoints with two passes, without the schedules of the passes."""

from pydantic import BaseModel, Field

from longtake.endpoints import ltxv
from longtake.endpoints.fields import LORAS, LoRAWeight, Seed, planned_loras
from longtake.families.ltxv.options import LTXVOptions, PassOptions


class Request(BaseModel):
    """The input of the endpoints, as published; ranges include those of the 0.9.8 endpoint."""

    prompt: ltxv.Prompt
    negative_prompt: ltxv.NegativePrompt = ltxv.NEGATIVE
    loras: list[LoRAWeight] = Field([], description=LORAS)
    resolution: ltxv.ChosenResolution = "720p"
    aspect_ratio: ltxv.AspectRatio = "auto"
    seed: Seed = Field(None, description="Random seed for generation")
    num_frames: ltxv.NumFrames = 121
    frame_rate: ltxv.FrameRate = 30
    expand_prompt: ltxv.ExpandPrompt = False
    reverse_video: ltxv.ReverseVideo = False
    enable_safety_checker: ltxv.CheckSafety = True
    constant_rate_factor: int = Field(35, ge=0, le=60, description=ltxv.RATE_FACTOR, examples=[35])
    video: ltxv.ExtendVideoConditioningInput = Field(description="Video to be extended.")


def options(request: Request, passes: tuple[PassOptions, ...], *, few_steps: bool) -> LTXVOptions:
    """The request as the family's options, with these passes; `few_steps`: their schedule is a distilled model's."""
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
        few_steps=few_steps,
        heed_negative=ltxv.heeds(request.negative_prompt),
        constant_rate_factor=min(request.constant_rate_factor, ltxv.MOST_RATE_FACTOR),
        reverse=request.reverse_video,
        **request.video.options(),
    )
