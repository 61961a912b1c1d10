"""`fal-ai/ltx-2.3-22b/extend-video/lora`: LTX-2.3 22B with LoRAs that the client chooses."""

from dataclasses import replace
from decimal import Decimal

from pydantic import Field

from longtake.endpoints import ltx2, ltx23
from longtake.endpoints.endpoint import Endpoint
from longtake.endpoints.fields import LORAS, MOST_LORAS, LoRAWeight, planned_loras
from longtake.endpoints.tariff import Tariff, megapixels
from longtake.families.ltx2 import FAMILY
from longtake.families.ltx2.options import LTX2Options
from longtake.video import VideoInfo


class Request(ltx23.Request):
    """A request to `fal-ai/ltx-2.3-22b/extend-video/lora`, with the fields that fal publishes for this endpoint."""

    loras: list[LoRAWeight] = Field(max_length=MOST_LORAS, description=LORAS)


def options(request: Request, source: VideoInfo) -> LTX2Options:
    """Returns the LTX-2 options for a request to the endpoint 2.3-lora.

    They are those of the endpoint 2.3, with the request's LoRAs added before the model's own adapters. `source` is not
    used.
    """
    plain = ltx23.options(request, source)
    return replace(plain, adapters=(*planned_loras(request.loras), *plain.adapters))


ENDPOINT = Endpoint(
    id="fal-ai/ltx-2.3-22b/extend-video/lora",
    name="2.3-lora",
    display_name="LTX-2.3 with LoRAs",
    title="LTX-2.3 22B with LoRAs of your own.",
    family=FAMILY,
    models=ltx23.ENDPOINT.models,
    Request=Request,
    Response=ltx2.Response,
    options=options,
    tariff=Tariff("megapixels", Decimal("0.001805"), megapixels),
    rate_fields=ltx23.ENDPOINT.rate_fields,
    match_rate_field=ltx23.ENDPOINT.match_rate_field,
    second_pass_field=ltx23.ENDPOINT.second_pass_field,
    end_image_field=ltx23.ENDPOINT.end_image_field,
    output_fields=ltx23.ENDPOINT.output_fields,
)
