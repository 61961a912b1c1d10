"""`fal-ai/ltx-video-13b-distilled/extend`: LTX-Video 0.9.7 13B distilled, which samples the frames in few steps and
then refines them at twice the size."""

from dataclasses import replace
from decimal import Decimal

from pydantic import Field

from longtake.endpoints import ltxv, ltxv097_dev
from longtake.endpoints.endpoint import Endpoint
from longtake.endpoints.tariff import Tariff, one_video
from longtake.families.ltxv import FAMILY
from longtake.families.ltxv.options import LTXVOptions
from longtake.video import VideoInfo


class Request(ltxv097_dev.Request):
    """A request to `fal-ai/ltx-video-13b-distilled/extend`, with the fields that fal publishes for this endpoint.

    The fields are those of the endpoint 0.9.7-dev; only the defaults and limits of the numbers of steps differ.
    """

    first_pass_num_inference_steps: int = Field(8, ge=2, le=20, description=ltxv.FIRST_STEPS, examples=[8])
    first_pass_skip_final_steps: int = Field(1, ge=0, le=20, description=ltxv.FIRST_SKIP_FINAL, examples=[1])
    second_pass_num_inference_steps: int = Field(8, ge=2, le=20, description=ltxv.SECOND_STEPS, examples=[8])
    second_pass_skip_initial_steps: int = Field(5, ge=1, le=20, description=ltxv.SECOND_SKIP, examples=[5])


def options(request: Request, source: VideoInfo) -> LTXVOptions:
    """Returns the LTX-Video options for a request to the endpoint 0.9.7-distilled. `source` is not used.

    They are those of the endpoint 0.9.7-dev, but `few_steps` is True: the noise schedules are those of a distilled
    model. Raises InvalidRequest if the client sends a `first_pass_skip_final_steps` or `second_pass_skip_initial_steps`
    that is not less than the number of inference steps of the same pass.
    """
    return replace(ltxv097_dev.options(request, source), few_steps=True)


ENDPOINT = Endpoint(
    id="fal-ai/ltx-video-13b-distilled/extend",
    name="0.9.7-distilled",
    display_name="LTX-Video 0.9.7 distilled",
    title="LTX-Video 0.9.7 13B, distilled to few steps, in two passes.",
    family=FAMILY,
    models=("ltxv-13b-0.9.7-distilled", "ltxv-tiny"),
    Request=Request,
    Response=ltxv.Response,
    options=options,
    tariff=Tariff("videos", Decimal("0.04"), one_video),
    source_field=("video", "video_url"),
    rate_fields=("frame_rate",),
)
