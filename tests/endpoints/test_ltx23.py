"""The 2.3 endpoint: the published names, defaults and choices; sentences for what is wrong; every field in the plan."""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from annotated_types import Ge, Le
from hypothesis import given
from hypothesis import strategies as st

from longtake.clip import Source, Span
from longtake.endpoints import endpoint, ltx23
from longtake.endpoints.shared import parse
from longtake.errors import InvalidRequest
from longtake.models.registry import CAMERAS, card
from longtake.plans import LTX2Plan, Modality, from_json, to_json
from longtake.families.ltx2.plan import source_clock, whole_span
from longtake.pricing import Prices

CLIP = Source("mp4", "h264", 1920, 1080, Fraction(24000, 1001), 100)
PUBLISHED, TINY = card("ltx-2.3"), card("ltx2-tiny")


def planned(source: Source = CLIP, model: Any = PUBLISHED, new_frames: int | None = None, **fields: Any) -> LTX2Plan:
    request = parse(ltx23.Request, {"prompt": "a prompt", "video_url": "x"} | fields)
    return ltx23.plan(request, source, model, 7, Prices(), new_frames)


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
    for name, required, told in published:
        field = fields[name]
        assert bool(required) == field.is_required(), name
        description, *defaults = told.split(" Default value: ")
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
    ours[0] = list(get_args(ltx23.VideoPreset))
    assert ours == listed
    assert set(get_args(ltx23.CameraLoRA)) == {*CAMERAS, "none"}
    assert set(ltx23.PRESETS) == set(get_args(ltx23.VideoPreset)) - {"auto"}


def test_the_response_and_the_size_are_the_published_ones() -> None:
    assert list(ltx23.Response.model_fields) == ["video", "seed", "prompt"]
    assert parse(ltx23.ImageSize, {}) == ltx23.ImageSize(width=512, height=512)
    shape = ltx23.Request.model_json_schema()["properties"]["video_size"]
    assert [kind.get("$ref", kind.get("type")) for kind in shape["anyOf"]] == ["#/$defs/ImageSize", "string"]


RANGES = {
    "num_frames": (9, 481),
    "num_context_frames": (1, 121),
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
    given = {"prompt": "x", "video_url": "x", "video_size": {"width": 512, "heigth": 512}}
    assert parse(ltx23.Request, given).video_size == ltx23.ImageSize(width=512, height=512)
    with pytest.raises(InvalidRequest, match=r"video_size\.heigth is not a field"):
        parse(ltx23.Request, given, forbid_unknown=True)


def test_it_is_found_by_part_of_its_id() -> None:
    assert endpoint("2.3") is endpoint("ltx-2.3") is ltx23


def test_the_default_plan() -> None:
    plan = planned()
    assert (plan.width, plan.height, plan.rate) == (1920, 1080, Fraction(24000, 1001))
    assert plan.context == Span(0, 100, plan.rate)
    assert (plan.shown_frames, plan.context_frames, plan.new_frames, plan.num_frames) == (100, 25, 121, 221)
    assert (plan.kept_frames, plan.keeps_source, plan.new_first) == (100, True, False)
    assert [(one.context_frames, one.new_frames, one.take_frames) for one in plan.extensions] == [(25, 121, 153)]
    assert [(one.canvas, one.distill) for one in plan.scales] == [((960, 544), 0.2), ((1920, 1088), 0.5)]
    assert (plan.scheduler, plan.steps, plan.gamma, plan.eta) == ("beta", 15, 0, 0.25)
    assert (plan.video, plan.audio) == (Modality(3, 1, 3, 0.85), Modality(7, 0, 3, 0.7))
    assert (plan.stg_blocks, plan.sound, plan.acceleration) == ((28,), True, "none")
    assert plan.predictions == ("prompt", "negative", "disturbed", "isolated")
    assert plan.evaluations == 15 * 4 + 3
    assert (plan.camera, plan.end_image, plan.loras) == (None, None, ())


REACHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"prompt": "p"}, {"prompt": "p"}),
    ({"negative_prompt": "n"}, {"negative_prompt": "n"}),
    ({"num_frames": 9}, {"new_frames": 9, "num_frames": 109}),
    ({"num_context_frames": 41}, {"context_frames": 41}),
    ({"extend_direction": "backward"}, {"direction": "backward", "new_first": True, "context_frames": 24}),
    ({"video_size": "square"}, {"width": 512, "height": 512}),
    ({"video_size": {"width": 641, "height": 361}}, {"width": 640, "height": 360}),
    ({"video_size": {"height": 1024}}, {"width": 512, "height": 1024}),
    ({"generate_audio": False}, {"sound": False}),
    ({"fps": 12}, {"rate": Fraction(24000, 1001)}),
    ({"match_input_fps": False}, {"rate": Fraction(24)}),
    ({"match_input_fps": False, "fps": 29.97}, {"rate": Fraction(30000, 1001), "shown_frames": 125}),
    ({"num_inference_steps": 8}, {"steps": 8}),
    ({"scheduler": "ltx2"}, {"scheduler": "ltx2"}),
    ({"video_cfg_scale": 2}, {"video": Modality(2, 1, 3, 0.85)}),
    ({"video_stg_scale": 2}, {"video": Modality(3, 2, 3, 0.85)}),
    ({"video_modality_scale": 2}, {"video": Modality(3, 1, 2, 0.85)}),
    ({"video_rescaling_scale": 0.5}, {"video": Modality(3, 1, 3, 0.5)}),
    ({"audio_cfg_scale": 2}, {"audio": Modality(2, 0, 3, 0.7)}),
    ({"audio_stg_scale": 2}, {"audio": Modality(7, 2, 3, 0.7)}),
    ({"audio_modality_scale": 2}, {"audio": Modality(7, 0, 2, 0.7)}),
    ({"audio_rescaling_scale": 0.5}, {"audio": Modality(7, 0, 3, 0.5)}),
    ({"gradient_estimation_gamma": 2}, {"gamma": 2}),
    ({"use_restart_sampling": False}, {"eta": 0}),
    ({"acceleration": "high"}, {"acceleration": "high"}),
    ({"camera_lora": "jib_up", "camera_lora_scale": 0.5}, {"camera": "jib_up", "camera_scale": 0.5}),
    ({"enable_prompt_expansion": False}, {"expand_prompt": False}),
    ({"enable_safety_checker": False}, {"check_safety": False}),
    ({"video_strength": 0.5}, {"strength": 0.5, "keeps_source": False, "kept_frames": 75}),
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


def test_scales_and_their_distill_adapter() -> None:
    strengths: dict[str, Any] = {"distill_lora_first_pass_scale": 0.0, "distill_lora_second_pass_scale": 1.0}
    assert [one.distill for one in planned(**strengths).scales] == [0, 1]
    (only,) = planned(use_multiscale=False).scales
    assert (only.canvas, only.distill) == ((1920, 1088), 0.2)
    assert planned(use_multiscale=False).evaluations == 60
    assert [one.canvas for one in planned(model=TINY).scales] == [(112, 64), (224, 128)]


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


def test_a_long_extension_goes_on_in_windows() -> None:
    plan = planned(new_frames=1441)
    assert (plan.new_frames, len(plan.extensions)) == (1441, 4)
    assert plan.evaluations == 4 * 63
    assert len(planned(model=TINY).extensions) == 6


@given(
    st.integers(8, 2000),
    st.fractions(Fraction(1, 2), 240, max_denominator=1001),
    st.integers(16, 8192),
    st.integers(16, 8192),
    st.sampled_from(["auto", *ltx23.PRESETS]) | st.tuples(st.integers(64, 4096), st.integers(64, 4096)),
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
    new: int,
    direction: str,
    fps: float | None,
    model: Any,
) -> None:
    source = Source("mp4", "h264", width, height, rate, frames)
    asked = size if isinstance(size, str) else {"width": size[0], "height": size[1]}
    fields: dict[str, Any] = {"num_frames": new, "extend_direction": direction, "video_size": asked}
    fields |= {} if fps is None else {"match_input_fps": False, "fps": fps}
    clock = source_clock(source, fps)
    if direction == "backward" and len(whole_span(source, clock)) < 8:
        with pytest.raises(InvalidRequest, match="needs at least 8"):
            planned(source, model, **fields)
        return
    plan = planned(source, model, **fields)
    assert plan.rate == plan.context.rate
    assert 1 <= plan.rate <= 60
    assert plan.speed == 1
    if fps is None and 1 <= rate <= 60:
        assert (plan.rate, plan.shown_frames) == (rate, frames)
    assert plan.new_frames == new == plan.num_frames - plan.shown_frames
    assert abs(plan.shown_frames / plan.rate - frames / rate) <= 1 / plan.rate
    exact = (width, height) if asked == "auto" else ltx23.PRESETS[size] if isinstance(size, str) else size
    assert (plan.width, plan.height) == (exact[0] // 2 * 2, exact[1] // 2 * 2)
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan


def test_the_price_is_per_begun_megapixel_of_new_video() -> None:
    sized: dict[str, Any] = {"video_size": {"width": 1000, "height": 1000}}
    assert planned(**sized, num_frames=100).price_usd == 100 * Fraction("0.001605")
    assert planned(**sized, num_frames=100, camera_lora="static").price_usd == 100 * Fraction("0.001805")
    assert planned(video_size="square", num_frames=9).price_usd == 3 * Fraction("0.001605")


def test_plans_of_both_families_survive_json() -> None:
    plan = planned(extend_direction="backward", end_image_url="a.png", camera_lora="static", num_frames=481)
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan
    assert to_json(plan)["family"] == "ltx2"
