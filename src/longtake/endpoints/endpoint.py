"""An endpoint as an object: its schema, its models, its price, and the way from a request to a plan."""

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
    """The fields of a request that say how its file is written; None where it has none for that."""

    type: str | None = None
    quality: str | None = None
    write_mode: str | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint(Generic[RequestT, OptionsT]):
    """One HTTP endpoint.

    `name` is short, for the command line. `models`: the published model, and the embedded one that stands in for it.
    `options(request, source)` maps a request's fields onto the family's options. The others name fields of the request;
    None or empty where it has none: `source` (a path) the video; `count` how many frames or seconds there are; `rates`
    how fast they play; `matches_rate` that the source's rate stays; `second_pass` that there are two passes;
    `end_image` the picture to arrive at; `loras` the list of LoRAs; `output` how the file is written.
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
    loras_field: str | None = None
    output_fields: OutputFields = OutputFields()

    def source_url(self, request: RequestT) -> str:
        """The address of the video to extend."""
        value: Any = request
        for name in self.source_field:
            value = getattr(value, name)
        return str(value)

    def card(self, settings: Settings) -> ModelCard:
        """The model that does a request: the published one where its files are here, otherwise the stand-in."""
        own, stand_in = (card(name) for name in self.models)
        return stand_in if missing(own, settings) else own

    def plan(self, options: OptionsT, source: VideoInfo, card: ModelCard, seed: int, prices: Prices) -> Plan:
        """The plan of these options, with its price. Raises InvalidRequest naming a field that cannot be done."""
        plan: Plan = replace(self.family.make_plan(options, source, card, seed), endpoint=self.id)
        return self.tariff.priced(prices.get(self.id)).bill(plan)

    def respond(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The response as JSON, from those of the values that the endpoint answers with."""
        answer: dict[str, Any] = self.Response.model_validate(values).model_dump(mode="json")
        return answer
