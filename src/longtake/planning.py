"""Makes the plan of a request from the facts about its source, and the plan's notes. Reads no video.

The server's own process makes plans with this module, so it imports neither arrays nor decoders.
"""

import secrets
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel

from longtake.endpoints import Endpoint, prices
from longtake.endpoints.validation import errors_at
from longtake.errors import InvalidRequest, NotSupported
from longtake.families.family import Options
from longtake.media.formats import OutputType, Quality, WriteMode
from longtake.models.choice import ModelChoice
from longtake.models.registry import CARDS, ModelCard, adapter, located, missing
from longtake.plans import Plan, PlannedAdapter, check_repeats
from longtake.settings import Settings
from longtake.video import VideoInfo

LARGEST_SEED = 2**31 - 1
"""For a request without a seed, a seed is drawn from 0 up to, but not including, this number. So it fits into a signed
32-bit integer of any client."""

OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True)
class Overrides:
    """Values from the command line or the library that replace a request's options. None leaves an option unchanged.

    `new_frames`: the number of frames that are added to the whole source.
    `own_rate`: True if the output plays at the source's rate; False leaves the option unchanged.
    `seed`: the seed of all random numbers.
    `adapters`: LoRAs that are applied in addition to the request's own ones, before them.
    `output`: the codec and file type of the output.
    `quality`: the picture quality of the output.
    `write_mode`: how the output's encoder trades speed for file size.
    """

    new_frames: int | None = None
    own_rate: bool = False
    seed: int | None = None
    adapters: tuple[PlannedAdapter, ...] = ()
    output: OutputType | None = None
    quality: Quality | None = None
    write_mode: WriteMode | None = None

    def apply(self, options: OptionsT) -> OptionsT:
        """Returns a copy of the request's `options` in which the values of this object replace those of the same name.

        Values that are None, and `own_rate` if it is False, replace nothing. `adapters` are not replaced: those of this
        object are put in front of the request's own ones.
        """
        return replace(
            options,
            new_frames=options.new_frames if self.new_frames is None else self.new_frames,
            own_rate=self.own_rate or options.own_rate,
            seed=options.seed if self.seed is None else self.seed,
            adapters=(*self.adapters, *options.adapters),
            output=self.output or options.output,
            quality=self.quality or options.quality,
            write_mode=self.write_mode or options.write_mode,
        )

    def fields(self, endpoint: Endpoint[Any, Any]) -> dict[str, Any]:
        """Returns these values as fields of the endpoint's request: field -> value. Values without a field are omitted.

        If `new_frames` is set, the endpoint's field for the number of frames is None, because `new_frames` replaces it.
        """
        output = endpoint.output_fields
        named = [
            (output.type, self.output),
            (output.quality, self.quality),
            (output.write_mode, self.write_mode),
            (endpoint.match_rate_field, self.own_rate or None),
        ]
        fields: dict[str, Any] = {name: value for name, value in named if name is not None and value is not None}
        if endpoint.count_field is not None and self.new_frames is not None:
            fields[endpoint.count_field] = None
        return fields


NO_OVERRIDES = Overrides()


def planned(
    endpoint: Endpoint[Any, Any],
    request: BaseModel,
    options: Options,
    model: ModelChoice,
    source: VideoInfo,
    settings: Settings,
) -> Plan:
    """Returns a new plan for a request. If the options have no seed, the plan gets a random one.

    `endpoint`, `request`: the endpoint, and a request to it.
    `options`: the options of the request (see `Endpoint.options`).
    `model`: the model. If it is installed, the parts of it that the plan needs must be installed, too (see
        `check_parts`).
    `source`: the facts about the source video.
    `settings`: the prices and the default acceleration.

    Raises LongtakeError, whose `loc` is the request's field at fault.
    """
    if options.acceleration is None:
        options = replace(options, acceleration=settings.acceleration)
    seed = secrets.randbelow(LARGEST_SEED) if options.seed is None else options.seed
    plan = endpoint.plan(options, source, model.card, seed, prices(settings))
    with errors_at(endpoint.source_field, endpoint.source_url(request)):
        check_repeats(plan, source)
    model_notes = () if model.note is None else (model.note,)  # it stands in for another, or is not installed
    plan = replace(plan, notes=(*model_notes, *source_notes(source, plan), *plan.notes))
    check_parts(endpoint, plan, model.card, settings)
    return plan


def source_notes(source: VideoInfo, plan: Plan) -> tuple[str, ...]:
    """Returns sentences for the user about the source.

    Those about its sound are left out if the output does not play that sound.
    """
    plays_sound = plan.shown_frames > 0 and plan.output_format.sound is not None
    return (*source.notes, *source.sound_notes) if plays_sound else source.notes


def check_family(endpoint: Endpoint[Any, Any], card: ModelCard) -> None:
    """Raises InvalidRequest if the model does not belong to the endpoint's family."""
    if card.family != endpoint.family.name:
        able = [name for name, other in CARDS.items() if other.family == endpoint.family.name]
        raise InvalidRequest(
            f"{card.name} cannot do what {endpoint.id} asks for; {', '.join(able)} can.",
            loc=("model",),
            value=card.name,
            ctx={"supported": able},
        )


def check_parts(endpoint: Endpoint[Any, Any], plan: Plan, card: ModelCard, settings: Settings) -> None:
    """Raises NotSupported if this machine lacks a part of the model that is needed to make the video as planned.

    The part is an upsampler or one of the model's own adapters. The error's `loc` is the request's field that needs the
    part. If the whole model is not on this machine, nothing is raised, because a plan can still be made; only loading
    the model fails then.
    """
    if missing(card, settings):
        return
    if plan.num_passes > 1 and "upsampler" not in located(card, settings):
        field = endpoint.second_pass_field
        raise NotSupported(
            f"{field or endpoint.id} needs a latent upsampler, and {card.name} has none on this machine.",
            loc=("body", field) if field else ("body",),
            value=True,
        )
    for one in plan.adapters:
        if one.own:
            adapter(card, one.source, settings, field=one.field)
