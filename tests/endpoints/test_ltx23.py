"""The 2.3 endpoint: published names, defaults and choices; errors as sentences; the effect of each field."""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from annotated_types import Ge, Le
from hypothesis import given
from hypothesis import strategies as st

from longtake.endpoints import ltx2, ltx23
from longtake.endpoints.validation import parse
from longtake.errors import InvalidRequest
from longtake.families import plan_from_json, plan_to_json
from longtake.families.ltx2.options import GuidanceScales
from longtake.families.ltx2.plan import LTX2Plan, output_rate
from longtake.models.registry import CAMERAS, card
from longtake.plans import PlannedAdapter, frames_on_clock
from longtake.video import Span, VideoInfo
from tests.endpoints.planning import CLIP, plan_of, request_of

PUBLISHED, TINY = card("ltx-2.3"), card("ltx2-tiny")
DISTILL = PlannedAdapter("distill", (0.2, 0.5), ("body", "distill_lora_first_pass_scale"), own=True)


def planned(source: VideoInfo = CLIP, model: Any = PUBLISHED, new_frames: int | None = None, **fields: Any) -> LTX2Plan:
    plan = plan_of(ltx23.ENDPOINT, fields, source, model, new_frames=new_frames)
    assert isinstance(plan, LTX2Plan)
    return plan


@pytest.fixture(scope="module")
def document(shared: Path) -> str:
    return (shared / "seeds" / "003_2a1261b105c4fe02.txt").read_text().replace("\xa0", " ")


def test_the_request_is_the_published_one(document: str) -> None:
    text = document.split("5. Schema#")[1].split("Output#")[0]
    described, example = text[: text.index('{\n"prompt"')], json.loads(text[text.index('{\n"prompt"') :])
    fields = ltx23.Request.model_fields
    types = "string|integer|boolean|float|[A-Z][A-Za-z]+Enum"
    published = re.findall(rf"^\}}?([a-z_]+) (?:{types})(\* required)?(.*)$", described, re.MULTILINE)
    names = [name for name, _, _ in published]
    assert [name for name in fields if name != "video_size"] == names
    for name, required, documented in published:
        field = fields[name]
        assert bool(required) == field.is_required(), name
        description, *defaults = documented.split(" Default value: ")
        if name == "num_frames":  # ours says what is counted
            assert str(field.description).startswith(description.removesuffix("."))
        else:
            assert field.description == description, name
        if defaults:
            assert json.loads(defaults[0]) == field.default, name
    for name, value in example.items():
        if not fields[name].is_required():
            assert fields[name].default == value, name
    assert (fields["audio_stg_scale"].default, fields["gradient_estimation_gamma"].default) == (0, 0)
    assert fields["sync_mode"].default is False


def test_every_choice_is_the_published_one(document: str) -> None:
    text = document.split("5. Schema#")[1]
    listed = [line.split(", ") for line in re.findall(r"Possible enum values: (.*)", text)]
    literals = [field.annotation for field in ltx23.Request.model_fields.values()]
    ours = [
        list(get_args(kind)) for kind in literals if get_origin(kind) is not None and type(None) not in get_args(kind)
    ]
    ours[0] = list(get_args(ltx2.VideoPreset))
    assert ours == listed
    assert set(get_args(ltx2.CameraLoRA)) == {*CAMERAS, "none"}
    assert set(ltx2.PRESETS) == set(get_args(ltx2.VideoPreset)) - {"auto"}


def test_the_response_and_the_size_are_the_published_ones() -> None:
    assert list(ltx2.Response.model_fields) == ["video", "seed", "prompt"]
    assert parse(ltx2.ImageSize, {}) == ltx2.ImageSize(width=512, height=512)
    shape = ltx23.Request.model_json_schema()["properties"]["video_size"]
    assert [kind.get("$ref", kind.get("type")) for kind in shape["anyOf"]] == ["#/$defs/ImageSize", "string"]


RANGES = {
    "num_frames": (9, 481),
    "num_context_frames": (0, 121),
    "num_inference_steps": (8, 50),
    "fps": (1, 60),
    "video_cfg_scale": (1, 20),
    "audio_cfg_scale": (1, 20),
    "video_stg_scale": (0, 20),
    "audio_stg_scale": (0, 20),
    "video_rescaling_scale": (0, 1),
    "audio_rescaling_scale": (0, 1),
    "video_modality_scale": (0, 10),
    "audio_modality_scale": (0, 10),
    "gradient_estimation_gamma": (0, 10),
    "camera_lora_scale": (0, 1),
    "distill_lora_first_pass_scale": (0, 1),
    "distill_lora_second_pass_scale": (0, 1),
    "video_strength": (0, 1),
    "audio_strength": (0, 1),
    "end_image_strength": (0, 1),
}


def test_every_number_has_its_range() -> None:
    bounded = {name for name, field in ltx23.Request.model_fields.items() if {Ge, Le} & set(map(type, field.metadata))}
    assert bounded == set(RANGES)


@pytest.mark.parametrize("name", RANGES)
def test_ranges_are_inclusive_and_name_the_field(name: str) -> None:
    least, most = RANGES[name]
    beyond: tuple[tuple[float, str], ...] = (
        (least - 1, f"at least {least}"),
        (most + 1, f"at most {most}"),
        (float("nan"), name),
    )
    for value in (least, most):
        assert getattr(parse(ltx23.Request, {"prompt": "x", "video_url": "x", name: value}), name) == value
    for outside, limit in beyond:
        with pytest.raises(InvalidRequest, match=limit) as error:
            parse(ltx23.Request, {"prompt": "x", "video_url": "x", name: outside})
        assert (error.value.loc, error.value.status) == (("body", name), 422)


@pytest.mark.parametrize(
    ("fields", "loc", "sentence"),
    [
        ({"prompt": ""}, ("prompt",), "prompt is ''"),
        ({"video_url": None}, ("video_url",), "video_url is None"),
        ({"video_size": "huge"}, ("video_size",), "video_size is 'huge'; it must be one of 'auto', 'square_hd'"),
        ({"video_size": 512}, ("video_size",), "video_size is 512; it must be an object."),
        ({"video_size": {"width": 32}}, ("video_size", "width"), "video_size.width is 32; it must be at least 64."),
        (
            {"video_size": {"height": 5000}},
            ("video_size", "height"),
            "video_size.height is 5000; it must be at most 40",
        ),
        ({"scheduler": "euler"}, ("scheduler",), "'ltx2', 'linear_quadratic' or 'beta'"),
        ({"acceleration": "max"}, ("acceleration",), "'none', 'regular', 'high' or 'full'"),
        ({"camera_lora": "zoom"}, ("camera_lora",), "camera_lora is 'zoom'"),
        ({"extend_direction": "up"}, ("extend_direction",), "'forward' or 'backward'"),
        ({"video_output_type": "mp4"}, ("video_output_type",), "'X264 (.mp4)', 'VP9 (.webm)'"),
        ({"video_quality": "best"}, ("video_quality",), "'low', 'medium', 'high' or 'maximum'"),
        ({"video_write_mode": "slow"}, ("video_write_mode",), "'fast', 'balanced' or 'small'"),
        ({"fps": "fast"}, ("fps",), "fps is 'fast'"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], loc: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(sentence)) as error:
        planned(**fields)
    assert error.value.loc == ("body", *loc)
    assert error.value.detail()["type"] == "value_error"


def test_unknown_fields_are_named_inside_the_size_too() -> None:
    fields = {"prompt": "x", "video_url": "x", "video_size": {"width": 512, "heigth": 512}}
    assert parse(ltx23.Request, fields).video_size == ltx2.ImageSize(width=512, height=512)
    with pytest.raises(InvalidRequest, match=r"video_size\.heigth is not a field"):
        parse(ltx23.Request, fields, forbid_unknown=True)


def test_the_default_plan() -> None:
    plan = planned()
    assert (plan.width, plan.height, plan.rate) == (1920, 1080, Fraction(24000, 1001))
    assert plan.context == Span(0, 100, plan.rate)
    assert (plan.shown_frames, plan.context_frames, plan.new_frames, plan.num_frames) == (100, 25, 96, 196)
    assert plan.billed_frames == 121, "the context's overlap counts as published"
    assert (plan.source_frames, plan.keeps_source, plan.new_first) == (100, True, False)
    assert [(one.context_frames, one.new_frames, one.sampled_frames) for one in plan.windows] == [(25, 96, 121)]
    assert plan.canvases == ((960, 544), (1920, 1088))
    assert plan.adapters == (DISTILL,)
    assert (plan.scheduler, plan.steps, plan.gamma, plan.eta) == ("beta", 15, 0, 0.25)
    assert plan.video == GuidanceScales(cfg=3, stg=1, modality=3, rescale=0.85)
    assert plan.audio == GuidanceScales(cfg=7, stg=0, modality=3, rescale=0.7)
    assert (plan.stg_blocks, plan.sound, plan.acceleration) == ((28,), True, "none")
    assert plan.predictions == ("prompt", "negative", "disturbed", "isolated")
    assert plan.evaluations == 15 * 4 + 3
    assert (plan.end_image, plan.notes, plan.sync_mode) == (None, (), False)
    assert (plan.output_format.suffix, plan.quality, plan.write_mode) == (".mp4", "high", "balanced")


def picture(**scales: float) -> GuidanceScales:
    return GuidanceScales(**{"cfg": 3.0, "stg": 1.0, "modality": 3.0, "rescale": 0.85} | scales)


def sound(**scales: float) -> GuidanceScales:
    return GuidanceScales(**{"cfg": 7.0, "stg": 0.0, "modality": 3.0, "rescale": 0.7} | scales)


def camera(movement: str, scale: float) -> PlannedAdapter:
    return PlannedAdapter(f"camera_{movement}", (scale, scale), ("body", "camera_lora"), own=True)


REACHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"prompt": "p"}, {"prompt": "p"}),
    ({"negative_prompt": "n"}, {"negative_prompt": "n"}),
    ({"num_frames": 41}, {"context_frames": 25, "new_frames": 16, "num_frames": 116, "billed_frames": 41}),
    ({"num_frames": 9}, {"context_frames": 1, "new_frames": 8, "num_frames": 108, "billed_frames": 9}),
    ({"num_context_frames": 41}, {"context_frames": 41, "new_frames": 80}),
    (
        {"extend_direction": "backward"},
        {"direction": "backward", "new_first": True, "context_frames": 24, "new_frames": 97},
    ),
    ({"video_size": "square"}, {"width": 512, "height": 512}),
    ({"video_size": {"width": 641, "height": 361}}, {"width": 640, "height": 360}),
    ({"video_size": {"height": 1024}}, {"width": 512, "height": 1024}),
    ({"generate_audio": False}, {"sound": False}),
    ({"fps": 12}, {"rate": Fraction(24000, 1001)}),
    ({"match_input_fps": False}, {"rate": Fraction(24)}),
    ({"match_input_fps": False, "fps": 29.97}, {"rate": Fraction(30000, 1001), "shown_frames": 125}),
    ({"num_inference_steps": 8}, {"steps": 8}),
    ({"scheduler": "ltx2"}, {"scheduler": "ltx2"}),
    ({"video_cfg_scale": 2}, {"video": picture(cfg=2)}),
    ({"video_stg_scale": 2}, {"video": picture(stg=2)}),
    ({"video_modality_scale": 2}, {"video": picture(modality=2)}),
    ({"video_rescaling_scale": 0.5}, {"video": picture(rescale=0.5)}),
    ({"audio_cfg_scale": 2}, {"audio": sound(cfg=2)}),
    ({"audio_stg_scale": 2}, {"audio": sound(stg=2)}),
    ({"audio_modality_scale": 2}, {"audio": sound(modality=2)}),
    ({"audio_rescaling_scale": 0.5}, {"audio": sound(rescale=0.5)}),
    ({"gradient_estimation_gamma": 2}, {"gamma": 2}),
    ({"use_restart_sampling": False}, {"eta": 0}),
    ({"acceleration": "high"}, {"acceleration": "high"}),
    ({"camera_lora": "jib_up"}, {"adapters": (camera("jib_up", 1), DISTILL)}),
    ({"camera_lora": "jib_up", "camera_lora_scale": 0.5}, {"adapters": (camera("jib_up", 0.5), DISTILL)}),
    ({"camera_lora_scale": 0.5}, {"adapters": (DISTILL,)}),
    ({"enable_prompt_expansion": False}, {"expand_prompt": False}),
    ({"enable_safety_checker": False}, {"check_safety": False}),
    ({"video_strength": 0.5}, {"strength": 0.5, "keeps_source": False, "source_frames": 75}),
    ({"audio_strength": 0.5}, {"audio_strength": 0.5}),
    ({"end_image_url": "a.png", "end_image_strength": 0.5}, {"end_image": "a.png", "end_image_strength": 0.5}),
    ({"end_image_url": "data:image/png;base64,AAAA"}, {"end_image": "data:image/png;base64,..."}),
    ({"end_image_strength": 0.5}, {"end_image": None}),
    (
        {"video_output_type": "GIF (.gif)", "video_quality": "low", "video_write_mode": "fast", "sync_mode": True},
        {"output": "GIF (.gif)", "quality": "low", "write_mode": "fast", "sync_mode": True},
    ),
]


@pytest.mark.parametrize(("fields", "wanted"), REACHES, ids=lambda case: next(iter(case)))
def test_each_field_reaches_the_plan(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    plan = planned(**fields)
    assert {name: getattr(plan, name) for name in wanted} == wanted


def test_no_field_is_left_out() -> None:
    tried = {name for fields, _ in REACHES for name in fields}
    scales = {"use_multiscale", "distill_lora_first_pass_scale", "distill_lora_second_pass_scale"}
    assert set(ltx23.Request.model_fields) - tried == scales | {"video_url", "seed"}


def test_the_source_and_the_seed_are_passed_on() -> None:
    request = request_of(ltx23.ENDPOINT, {"video_url": "a.mp4", "seed": 2**64 - 1})
    assert ltx23.ENDPOINT.source_url(request) == "a.mp4"
    assert ltx23.options(request, CLIP).seed == 2**64 - 1


def test_scales_and_their_distill_adapter() -> None:
    strengths: dict[str, Any] = {"distill_lora_first_pass_scale": 0.0, "distill_lora_second_pass_scale": 1.0}
    (adapter,) = planned(**strengths).adapters
    assert (adapter.source, adapter.scales, adapter.own) == ("distill", (0, 1), True)
    assert adapter.field == ("body", "distill_lora_second_pass_scale"), "the field that asks for it"
    single = planned(use_multiscale=False)
    assert (single.canvases, [one.scales for one in single.adapters]) == (((1920, 1088),), [(0.2,)])
    assert single.evaluations == 60
    assert planned(use_multiscale=False, distill_lora_first_pass_scale=0).adapters == (), "of no strength in any pass"
    assert planned(model=TINY).canvases == ((112, 64), (224, 128))


@pytest.mark.parametrize(
    ("fields", "predictions"),
    [
        ({}, "prompt negative disturbed isolated"),
        ({"video_cfg_scale": 1}, "prompt negative disturbed isolated"),
        ({"video_cfg_scale": 1, "audio_cfg_scale": 1}, "prompt disturbed isolated"),
        ({"video_stg_scale": 0}, "prompt negative isolated"),
        ({"video_modality_scale": 1, "audio_modality_scale": 1}, "prompt negative disturbed"),
        ({"video_modality_scale": 1}, "prompt negative disturbed isolated"),
        ({"generate_audio": False}, "prompt negative disturbed"),
        ({"generate_audio": False, "video_cfg_scale": 1, "video_stg_scale": 0, "audio_stg_scale": 2}, "prompt"),
    ],
)
def test_only_needed_predictions_are_planned(fields: dict[str, Any], predictions: str) -> None:
    plan = planned(**fields)
    assert " ".join(plan.predictions) == predictions
    assert plan.evaluations == 15 * len(plan.predictions) + 3


def test_a_long_extension_is_made_in_several_windows() -> None:
    plan = planned(new_frames=1441)
    assert (plan.new_frames, len(plan.windows)) == (1441, 4)
    assert plan.evaluations == 4 * 63
    tiny = planned(model=TINY)
    assert len(tiny.windows) == 4
    assert (tiny.new_frames, tiny.billed_frames) == (96, 121), "every model gives the same counts"


@pytest.mark.parametrize(
    ("fields", "context", "new", "note"),
    [
        ({"num_context_frames": 0}, 0, 121, "num_context_frames is 0"),
        ({"num_context_frames": 8}, 9, 112, "num_context_frames asks for 8 frames; the context has 9"),
        ({"num_context_frames": 25}, 25, 96, None),
        ({"num_context_frames": 121, "num_frames": 200}, 97, 103, "for the source has no more"),
        ({"num_context_frames": 1, "extend_direction": "backward"}, 8, 113, "the context has 8"),
        ({"num_context_frames": 0, "extend_direction": "backward"}, 0, 121, "num_context_frames is 0"),
        ({"num_context_frames": 24, "num_frames": 26}, 25, 1, "the context has 25"),
        ({"num_frames": 30}, 17, 13, "num_frames is 30, of which the context has 17, so that 13 are new."),
        ({"num_frames": 9, "extend_direction": "backward"}, 8, 8, "num_frames is 9; 8 frames of context"),
    ],
)
def test_the_context_is_rounded_and_counted(fields: dict[str, Any], context: int, new: int, note: str | None) -> None:
    plan = planned(**fields)
    assert (plan.context_frames, plan.new_frames) == (context, new)
    assert note in plan.notes[0] if note else plan.notes == ()


def test_the_error_of_a_context_without_room_says_how_many_frames_are_missing() -> None:
    with pytest.raises(InvalidRequest, match="num_frames must be at least 122, 1 more") as error:
        planned(source=VideoInfo("mp4", "h264", 64, 64, Fraction(24), 300), num_context_frames=121)
    assert error.value.loc == ("body", "num_context_frames")


@given(
    st.integers(1, 2000),
    st.fractions(Fraction(1, 2), 240, max_denominator=1001),
    st.integers(16, 8192),
    st.integers(16, 8192),
    st.sampled_from(["auto", *ltx2.PRESETS]) | st.tuples(st.integers(64, 4096), st.integers(64, 4096)),
    st.integers(9, 481),
    st.sampled_from(["forward", "backward"]),
    st.none() | st.floats(1, 60),
    st.sampled_from([PUBLISHED, TINY]),
)
def test_lengths_rates_and_sizes_are_exact(
    frames: int,
    rate: Fraction,
    width: int,
    height: int,
    size: str | tuple[int, int],
    num_frames: int,
    direction: str,
    fps: float | None,
    model: Any,
) -> None:
    source = VideoInfo("mp4", "h264", width, height, rate, frames)
    requested_size = size if isinstance(size, str) else {"width": size[0], "height": size[1]}
    fields: dict[str, Any] = {"num_frames": num_frames, "extend_direction": direction, "video_size": requested_size}
    fields |= {} if fps is None else {"match_input_fps": False, "fps": fps}
    clock = output_rate(source, fps)
    available = frames_on_clock(frames, rate, clock)
    plan = planned(source, model, **fields)
    assert plan.rate == plan.context.rate
    assert 1 <= plan.rate <= 60
    assert plan.speed == 1
    if fps is None and 1 <= rate <= 60:
        assert (plan.rate, plan.shown_frames) == (rate, frames)
    assert plan.new_frames == plan.num_frames - plan.shown_frames
    assert plan.new_frames >= 8
    assert plan.billed_frames == num_frames
    context = num_frames - plan.new_frames
    assert context <= 25
    if direction == "backward" and available < 8:
        assert context == available or plan.new_frames == 8, "all that there is"
    else:
        assert plan.new_frames == 8 or context % 8 == (direction == "forward"), "whole latents"
    assert abs(plan.shown_frames / plan.rate - frames / rate) <= 1 / plan.rate
    exact = (width, height) if requested_size == "auto" else ltx2.PRESETS[size] if isinstance(size, str) else size
    assert (plan.width, plan.height) == (exact[0] // 2 * 2, exact[1] // 2 * 2)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


def test_the_price_is_by_megapixel_of_all_counted_frames_rounded_up() -> None:
    sized: dict[str, Any] = {"video_size": {"width": 1000, "height": 1000}}
    plan = planned(**sized, num_frames=100)
    assert (plan.unit, plan.billed_units, plan.price_usd) == ("megapixels", Fraction(100), 100 * Fraction("0.001605"))
    assert planned(**sized, num_frames=100, camera_lora="static").price_usd == 100 * Fraction("0.001805")
    off = planned(**sized, num_frames=100, camera_lora="static", camera_lora_scale=0)
    assert (off.price_usd, off.adapters) == (plan.price_usd, plan.adapters), "at scale 0 it is not applied"
    assert planned(video_size="square", num_frames=9).price_usd == 3 * Fraction("0.001605")
    added = planned(**sized, new_frames=75)
    assert (added.billed_frames, added.price_usd) == (100, 100 * Fraction("0.001605")), "25 of context and 75 new"


def test_plans_of_both_families_survive_json() -> None:
    plan = planned(extend_direction="backward", end_image_url="a.png", camera_lora="static", num_frames=481)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan
    assert plan_to_json(plan)["family"] == "ltx2"
