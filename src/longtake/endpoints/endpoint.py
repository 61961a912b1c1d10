"""The definition of an endpoint: its request and response, its models, its price and its mapping to a plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from longtake.endpoints.tariff import Prices, Tariff
from longtake.families.family import Family, Options
from longtake.models.registry import ModelCard, card, missing
from longtake.plans import Plan
from longtake.settings import Settings
from longtake.video import VideoInfo

RequestT = TypeVar("RequestT", bound=BaseModel)
OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True)
class OutputFields:
    """Names of the request's fields that choose the output file's format; None for a field it does not have."""

    type: str | None = None
    quality: str | None = None
    write_mode: str | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint(Generic[RequestT, OptionsT]):
    """One HTTP endpoint.

    `name` is the short name for the command line. `models` are the published model and the embedded one that stands in
    for it. `options(request, source)` maps a request onto the family's options. The `..._field` attributes name fields
    of the request; None or empty if it has no such field:

    - `source_field`: path of the field with the video's URL
    - `count_field`: number of frames or seconds
    - `rate_fields`: frame rate of the output
    - `match_rate_field`: true keeps the source's frame rate
    - `second_pass_field`: true asks for two passes
    - `end_image_field`: URL of the end image
    """

    id: str
    name: str
    title: str
    family: Family[OptionsT, Any, Any, Any]
    models: tuple[str, str]
    Request: type[RequestT]
    Response: type[BaseModel]
    options: Callable[[RequestT, VideoInfo], OptionsT]
    tariff: Tariff
    source_field: tuple[str, ...] = ("video_url",)
    count_field: str | None = "num_frames"
    rate_fields: tuple[str, ...] = ()
    match_rate_field: str | None = None
    second_pass_field: str | None = None
    end_image_field: str | None = None
    output_fields: OutputFields = OutputFields()

    def source_url(self, request: RequestT) -> str:
        """Returns the URL or path of the video to extend."""
        value: Any = request
        for name in self.source_field:
            value = getattr(value, name)
        return str(value)

    def card(self, settings: Settings) -> ModelCard:
        """Returns the published model if its files are installed, otherwise the stand-in."""
        own, stand_in = (card(name) for name in self.models)
        return stand_in if missing(own, settings) else own

    def plan(self, options: OptionsT, source: VideoInfo, card: ModelCard, seed: int, prices: Prices) -> Plan:
        """Returns the plan of these options, with its price. Raises InvalidRequest that names the offending field."""
        plan: Plan = replace(self.family.make_plan(options, source, card, seed), endpoint=self.id)
        return self.tariff.priced(prices.get(self.id)).bill(plan)

    def respond(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the response as JSON values. Values that the endpoint's response does not have are dropped."""
        answer: dict[str, Any] = self.Response.model_validate(values).model_dump(mode="json")
        return answer
