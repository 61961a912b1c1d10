"""The class of endpoints. An endpoint has a request, a response, models and a price, and turns a request into a
plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from longtake.endpoints.tariff import Prices, Tariff
from longtake.families.family import Family, Options
from longtake.models.choice import ModelChoice, choose_model, named_model, stand_in
from longtake.models.registry import ModelCard, card
from longtake.plans import Plan
from longtake.settings import Settings
from longtake.video import VideoInfo

RequestT = TypeVar("RequestT", bound=BaseModel)
OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True)
class OutputFields:
    """Names of the request's fields that choose the format of the output file.

    type: field with the file type, an `OutputType`; None if the request has no such field.
    quality: field with the `Quality`; None if the request has no such field.
    write_mode: field with the `WriteMode`; None if the request has no such field.
    """

    type: str | None = None
    quality: str | None = None
    write_mode: str | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint(Generic[RequestT, OptionsT]):
    """One HTTP endpoint, which extends a video.

    id: fal's id of the endpoint, which is also its path in URLs.
    name: short name for the command line and the library.
    display_name: name for people, such as "LTX-Video 0.9.8 distilled".
    title: one line about the endpoint, for people.
    family: the model family that makes the plan and the video.
    models: names of two models: the published one, and the small one in the package, which may be used if the published
        one is not installed.
    Request, Response: classes of the JSON that clients send and receive.
    options: function that takes a request and the facts of its source video, and returns the family's options. It may
        raise InvalidRequest.
    tariff: how the price is computed, and the prices that apply if the operator sets none.

    The other attributes name fields of the request. They are None or empty if the request has no such field:

    source_field: path of the field with the source's URL.
    count_field: field with the number of frames, or with the seconds of new video.
    rate_fields: fields with the output's frames per second.
    match_rate_field: field that is true if the output gets the source's frame rate.
    second_pass_field: field that is true if a second pass refines the frames.
    end_image_field: field with the URL of the end image.
    output_fields: fields that choose the format of the output file.
    """

    id: str
    name: str
    display_name: str
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
        """Returns the URL or path of the video that the request extends."""
        value: Any = request
        for name in self.source_field:
            value = getattr(value, name)
        return str(value)

    def end_image_url(self, request: RequestT) -> str | None:
        """Returns the URL or path of the request's end image; None if it has none."""
        return None if self.end_image_field is None else getattr(request, self.end_image_field)

    def model_choice(self, settings: Settings, planned: str | None = None) -> ModelChoice:
        """Returns the model that carries out the endpoint's requests.

        - If `planned` is not None: the model with this name. An earlier attempt has used it.
        - Otherwise: the endpoint's published model. If it is not installed and the setting `stand_in` allows it, the
          small model in the package is returned instead.

        The result also says whether the model is installed. Raises NotSupported if `planned` is an unknown name.
        """
        own, miniature = (card(name) for name in self.models)
        if planned is None:
            return choose_model(own, miniature, settings)
        return stand_in(own, miniature) if planned == miniature.name else named_model(planned, settings)

    def plan(self, options: OptionsT, source: VideoInfo, card: ModelCard, seed: int, prices: Prices) -> Plan:
        """Returns the plan of a request's video: everything that is decided before its generation, such as sizes, steps
        and price.

        options: what the request asks for, in the form that its model family reads, which the endpoint's function
            `options` has returned.
        source: facts of the source video.
        card: the model.
        seed: seed of the random numbers.
        prices: the prices that the operator has set, by endpoint id.

        Raises InvalidRequest if the options cannot be carried out; the error's `loc` is the field to change.
        """
        plan: Plan = replace(self.family.make_plan(options, source, card, seed), endpoint=self.id)
        return self.tariff.priced(prices.get(self.id)).bill(plan)

    def respond(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the endpoint's response as an object of JSON values.

        values: field name -> value, for the fields `video`, `prompt` and `seed`. Those that this endpoint's response
            does not have are left out of the result.
        """
        answer: dict[str, Any] = self.Response.model_validate(values).model_dump(mode="json")
        return answer
