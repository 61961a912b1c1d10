"""`fal-ai/ltx-video-13b-dev/extend`: LTX-Video 0.9.7 13B, guided by noise level, always in two passes."""

from decimal import Decimal

from pydantic import Field

from longtake.clip import Source
from longtake.endpoints import ltxv, ltxv097_two_pass
from longtake.endpoints.endpoint import Endpoint
from longtake.endpoints.tariff import Tariff, one_video
from longtake.families.ltxv import FAMILY
from longtake.families.ltxv.options import LTXVOptions


class Request(ltxv097_two_pass.Request):
    """The input of the endpoint, as published."""

    first_pass_num_inference_steps: int = Field(30, ge=2, le=50, description=ltxv.FIRST_STEPS, examples=[30])
    first_pass_skip_final_steps: int = Field(3, ge=0, le=50, description=ltxv.FIRST_SKIP_FINAL, examples=[3])
    second_pass_num_inference_steps: int = Field(30, ge=2, le=50, description=ltxv.SECOND_STEPS, examples=[30])
    second_pass_skip_initial_steps: int = Field(17, ge=1, le=50, description=ltxv.SECOND_SKIP, examples=[17])


def options(request: Request, source: Source) -> LTXVOptions:
    """The request as the family's options. Raises InvalidRequest where nothing is left of a pass."""
    passes = (
        ltxv.first_pass(request.first_pass_num_inference_steps, request.first_pass_skip_final_steps),
        ltxv.second_pass(request.second_pass_num_inference_steps, request.second_pass_skip_initial_steps),
    )
    return ltxv097_two_pass.options(request, passes, few_steps=False)


ENDPOINT = Endpoint(
    id="fal-ai/ltx-video-13b-dev/extend",
    name="0.9.7-dev",
    title="LTX-Video 0.9.7 13B, guided by noise level, in two passes.",
    family=FAMILY,
    models=("ltxv-13b-0.9.7-dev", "ltxv-tiny"),
    Request=Request,
    Response=ltxv.Response,
    options=options,
    tariff=Tariff("videos", Decimal("0.20"), one_video),
    source=("video", "video_url"),
    rates=("frame_rate",),
    loras="loras",
)
