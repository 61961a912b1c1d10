"""Properties of every endpoint: schema, plan, price, file, options of the command line, and a short video."""

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, get_origin

import numpy as np
import pytest
from pydantic import BaseModel

from longtake.cli.options import signature
from longtake.endpoints import DEFAULT, ENDPOINTS, Endpoint, endpoint
from longtake.endpoints.validation import parse
from longtake.errors import InvalidRequest
from longtake.families import FAMILIES, plan_from_json, plan_to_json
from longtake.media.formats import output_format
from longtake.models.registry import CARDS, card
from longtake.parameters import parameters
from longtake.plans import FORM, Plan
from longtake.service.openapi import camel, document
from longtake.settings import settings
from longtake.video import SoundInfo, VideoInfo
from tests.cli.running import run
from tests.endpoints.conftest import LENGTH, NEW, Make, frames_of
from tests.endpoints.planning import SEED, options_of, plan_of, request_of, schema_of

pytestmark = pytest.mark.usefixtures("forked_decoders")

SOURCE = VideoInfo("mp4", "h264", 1280, 720, Fraction(25), 100, sound=SoundInfo(48_000, 2, "stereo"))

EVERY = pytest.mark.parametrize("one", ENDPOINTS.values(), ids=lambda one: one.name)


def needed(one: Endpoint[Any, Any]) -> dict[str, Any]:
    """An empty list for each required list of the request."""
    fields = one.Request.model_fields.items()
    return {name: [] for name, info in fields if info.is_required() and get_origin(info.annotation) is list}


@pytest.fixture(params=ENDPOINTS.values(), ids=lambda one: one.name)
def plan(request: pytest.FixtureRequest) -> Plan:
    one: Endpoint[Any, Any] = request.param
    made: Plan = plan_of(one, needed(one), SOURCE, card(one.models[1]))
    return made


def test_names_are_unique_and_one_is_the_default() -> None:
    assert len({one.name for one in ENDPOINTS.values()}) == len(ENDPOINTS)
    assert all(name == one.id for name, one in ENDPOINTS.items())
    assert endpoint(None) is endpoint(DEFAULT)
    assert endpoint(DEFAULT).name == DEFAULT


@EVERY
def test_its_schema_describes_every_field(one: Endpoint[Any, Any]) -> None:
    schema = one.Request.model_json_schema()
    json.dumps(schema, allow_nan=False)
    assert list(schema["properties"]) == list(one.Request.model_fields)
    assert all(field.get("description") or "$ref" in field for field in schema["properties"].values())
    assert one.title.endswith(".")
    response = one.Response.model_json_schema()
    assert "video" in response["properties"]
    assert {"url", "file_size", "fps", "num_frames"} <= set(response["$defs"]["VideoFile"]["properties"])


@EVERY
def test_its_document_is_openapi(one: Endpoint[Any, Any]) -> None:
    openapi = document(one.id, "http://localhost/queue")
    json.dumps(openapi, allow_nan=False)
    schemas = openapi["components"]["schemas"]
    assert list(schemas[f"{camel(one.id)}Input"]["properties"]) == list(one.Request.model_fields)
    assert list(schemas[f"{camel(one.id)}Output"]["properties"]) == list(one.Response.model_fields)
    assert f"/{one.id}" in openapi["paths"]


def test_no_two_documents_share_a_name() -> None:
    assert len({camel(name) for name in ENDPOINTS}) == len(ENDPOINTS)


@EVERY
def test_its_source_is_a_field_of_its_request(one: Endpoint[Any, Any]) -> None:
    assert one.source_url(request_of(one, needed(one))) == "x"
    with pytest.raises(InvalidRequest, match=f"{one.source_field[0]} is missing") as error:
        parse(one.Request, {})
    assert error.value.status == 422


@EVERY
def test_the_fields_it_names_are_fields_of_its_request(one: Endpoint[Any, Any]) -> None:
    names = {one.count_field, *one.rate_fields, one.match_rate_field, one.second_pass_field, one.end_image_field}
    names |= {one.output_fields.type, one.output_fields.quality, one.output_fields.write_mode}
    assert names - {None} <= set(one.Request.model_fields)
    image = {} if one.end_image_field is None else {one.end_image_field: "a picture"}
    assert options_of(one, needed(one) | image, SOURCE).end_image == image.get(str(one.end_image_field))


@EVERY
def test_its_options_become_a_plan(one: Endpoint[Any, Any]) -> None:
    options = options_of(one, needed(one), SOURCE)
    assert type(options).__module__ == f"longtake.families.{one.family.name}.options"
    for name in one.models:
        made = plan_of(one, needed(one), SOURCE, card(name))
        assert isinstance(made, one.family.Plan)
        assert (made.endpoint, made.model, made.seed, made.form) == (one.id, name, SEED, FORM)
        assert made.new_frames > 0
        assert made.num_frames == made.shown_frames + made.new_frames
        assert made.evaluations > 0
        assert made.strength == 1
    own, stand_in = (plan_of(one, needed(one), SOURCE, card(name)) for name in one.models)
    assert (own.size, own.rate, own.num_frames, own.price_usd) == (
        stand_in.size, stand_in.rate, stand_in.num_frames, stand_in.price_usd,
    )  # fmt: skip


def test_its_plan_survives_json(plan: Plan) -> None:
    values = json.loads(json.dumps(plan_to_json(plan)))
    assert plan_from_json(values) == plan
    assert plan_from_json(values | {"form": FORM - 1}) is None
    assert plan_from_json(values | {"family": "none"}) is None
    assert plan_from_json({name: value for name, value in values.items() if name != "form"}) is None


def test_it_has_a_price_and_units(plan: Plan) -> None:
    tariff = ENDPOINTS[plan.endpoint].tariff
    assert plan.price_usd > 0
    assert plan.unit == tariff.unit
    assert plan.price_usd in {plan.billed_units * Fraction(usd) for usd in (tariff.usd, tariff.usd_with_lora) if usd}


def test_its_default_file_is_an_mp4_of_high_quality(plan: Plan) -> None:
    assert (plan.output, plan.quality, plan.write_mode) == ("X264 (.mp4)", "high", "balanced")
    assert plan.output_format == output_format("X264 (.mp4)", "high", "balanced")
    assert plan.sync_mode is False


@EVERY
def test_its_output_fields_reach_the_plan(one: Endpoint[Any, Any]) -> None:
    requested = {
        one.output_fields.type: "VP9 (.webm)",
        one.output_fields.quality: "low",
        one.output_fields.write_mode: "fast",
    }
    fields = {name: value for name, value in requested.items() if name is not None}
    made = plan_of(one, needed(one) | fields, SOURCE)
    assert set(fields.values()) <= {made.output, made.quality, made.write_mode}


@EVERY
def test_its_command_line_options_cover_every_field(one: Endpoint[Any, Any]) -> None:
    known = parameters(one.id)
    names = [parameter.name for parameter in known]
    assert len(set(names)) == len(names)
    assert {parameter.loc for parameter in known} | {one.source_field} == set(leaves(one.Request))
    shown = signature(one.id).parameters
    assert {*names, "seed", "lora"} <= set(shown)


def leaves(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, (*above, name))
        else:
            yield (*above, name)


@EVERY
@pytest.mark.parametrize("command", ["extend", "plan"])
def test_its_help_lists_every_option(one: Endpoint[Any, Any], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ran = run(command, "--endpoint", one.name, "--help-all")
    assert (ran.status, ran.err) == (0, "")
    for parameter in parameters(one.id):
        assert re.search(rf"(?<![\w-]){parameter.flag}(?![\w-])", ran.out), parameter.flag


@EVERY
def test_its_models_are_known_and_of_its_family(one: Endpoint[Any, Any]) -> None:
    own, stand_in = one.models
    assert FAMILIES[one.family.name] is one.family
    assert (CARDS[own].family, CARDS[stand_in].family) == (one.family.name, one.family.name)
    assert (CARDS[own].embedded, CARDS[stand_in].embedded) == (False, True)


@EVERY
def test_the_stand_in_serves_if_the_published_model_is_not_installed(one: Endpoint[Any, Any], tmp_path: Path) -> None:
    assert one.model_choice(settings(models_dir=tmp_path)).card.name == one.models[1]
    own = card(one.models[0])
    for part in own.parts:
        (tmp_path / "own" / part).mkdir(parents=True)
    here = settings(models_dir=tmp_path, model_sources={own.name: str(tmp_path / "own")})
    assert one.model_choice(here).card.name == own.name


@EVERY
def test_it_is_found_by_id_and_by_short_name(one: Endpoint[Any, Any]) -> None:
    assert endpoint(one.id) is endpoint(one.name) is one


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("098", "0.9.8"),
        ("v097", "0.9.7"),
        ("13b-dev", "0.9.7-dev"),
        ("video-13b-distilled", "0.9.7-distilled"),
        ("quality", "2.3-quality"),
        ("lora", "2.3-lora"),
        ("ltx-2.3/", "2.3-seconds"),
    ],
)
def test_a_part_of_exactly_one_id_is_enough(part: str, name: str) -> None:
    assert endpoint(part).name == name


@pytest.mark.parametrize("part", ["ltx", "extend", "ltx-2.3", "22b", "distilled"])
def test_an_ambiguous_part_lists_all_that_match(part: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{part}' fits several endpoints") as error:
        endpoint(part)
    fitting = [one.id for one in ENDPOINTS.values() if part in one.id]
    assert len(fitting) > 1
    assert all(name in error.value.message for name in fitting)
    assert all((name in error.value.message) == (name in fitting) for name in ENDPOINTS)
    assert (error.value.loc, error.value.status) == (("endpoint",), 422)


@pytest.mark.parametrize("name", ["", "ltx-9", "2.4", "x" * 1000])
def test_an_unknown_name_lists_all_endpoints(name: str) -> None:
    with pytest.raises(InvalidRequest, match="There is no endpoint") as error:
        endpoint(name)
    assert all(one.name in error.value.message for one in ENDPOINTS.values())
    assert len(error.value.message) < 1000


QUICK: dict[str, Any] = {
    "prompt": "a red disc falls",
    "first_pass_skip_final_steps": 0,
    "resolution": "480p",
    "aspect_ratio": "1:1",
    "num_context_frames": 9,
    "use_multiscale": False,
    "video_cfg_scale": 1,
    "video_stg_scale": 0,
    "video_modality_scale": 1,
    "audio_cfg_scale": 1,
    "audio_modality_scale": 1,
    "expand_prompt": False,
    "enable_prompt_expansion": False,
}
"""Values that need little work. Each endpoint takes those that its request accepts, and the fewest steps."""


def quick(one: Endpoint[Any, Any]) -> dict[str, Any]:
    choices = {field.name: field.choices for field in parameters(one.id)}
    fields = {name: value for name, value in QUICK.items() if name in choices and value in (choices[name] or [value])}
    bounds = schema_of(one.Request)
    return fields | {name: bounds[name][1] for name in bounds if name.endswith(("inference_steps", "initial_steps"))}


@EVERY
def test_it_makes_a_longer_video(one: Endpoint[Any, Any], make: Make, clip: Path) -> None:
    result = make(one, needed(one) | quick(one))
    assert (result.facts.num_frames, result.facts.rate, result.plan.seed) == (LENGTH + NEW, Fraction(24), 3)
    assert (result.facts.width, result.facts.height) == result.plan.size
    assert result.facts.sound is not None
    frames = frames_of(result.path).astype(np.int16)
    own = frames_of(clip, result.plan.size)
    assert np.abs(frames[:LENGTH] - own).mean() < 3, "the source's own frames"
    assert np.abs(frames[LENGTH] - frames[LENGTH - 1]).mean() < 12, "no cut at the joint"
    answer = result.response("http://here/out.mp4")
    one.Response.model_validate(answer)
    assert set(answer) == set(one.Response.model_fields)
    assert (answer["video"]["url"], answer["video"]["num_frames"]) == ("http://here/out.mp4", LENGTH + NEW)
