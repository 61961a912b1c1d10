"""Requests of 0.9.7 and 0.9.8: published names, defaults and ranges; errors as sentences; their plans."""

import json
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Le
from pydantic import BaseModel

from longtake.endpoints import Endpoint, ltx23, ltxv, ltxv097, ltxv098
from longtake.endpoints.validation import parse
from longtake.errors import InvalidRequest
from longtake.families import plan_from_json, plan_to_json
from longtake.families.ltxv.plan import LTXVPlan
from longtake.families.ltxv.profiles import NAG_SCALE, NONE
from longtake.models.registry import card
from longtake.price_setting import PriceSetting
from longtake.video import VideoInfo
from tests.endpoints.planning import CLIP, options_of, plan_of, request_of

DEV, TINY = card("ltxv-13b-0.9.7-dev"), card("ltxv-tiny")
LONG = VideoInfo("mp4", "h264", 1920, 1080, Fraction(24), 300)


def plan_097(source: VideoInfo = CLIP, new_frames: int | None = None, **fields: Any) -> LTXVPlan:
    plan = plan_of(ltxv097.ENDPOINT, fields, source, new_frames=new_frames)
    assert isinstance(plan, LTXVPlan)
    return plan


def plan_098(source: VideoInfo = CLIP, model: Any = None, new_frames: int | None = None, **fields: Any) -> LTXVPlan:
    plan = plan_of(ltxv098.ENDPOINT, fields, source, model, new_frames=new_frames)
    assert isinstance(plan, LTXVPlan)
    return plan


@pytest.mark.parametrize(
    ("endpoint", "seed"),
    [(ltxv097.ENDPOINT, "001_52c296874baccdd4"), (ltxv098.ENDPOINT, "000_b40df132908296d5")],
    ids=lambda case: getattr(case, "name", ""),
)
def test_requests_are_the_published_ones(shared: Path, endpoint: Endpoint[Any, Any], seed: str) -> None:
    text = (shared / "seeds" / f"{seed}.txt").read_text().split("### Output Schema")[0]
    entries = re.split(r"\n- \*\*`", text)[1:]
    published = {entry.split("`")[0]: entry for entry in entries}
    fields = endpoint.Request.model_fields
    assert list(published) == list(fields)
    for name, entry in published.items():
        field = fields[name]
        assert ("_required_" in entry) == field.is_required(), name
        if default := re.search(r"- Default: `(.*)`", entry):
            spelled = {"true": True, "false": False, "[]": []}.get(default[1], default[1].strip('"'))
            assert str(field.default) == str(spelled), name
        if bounds := re.search(r"- Range: `([\d.]+)` to `([\d.]+)`", entry):
            least = next(m.ge for m in field.metadata if isinstance(m, Ge))
            most = next(m.le for m in field.metadata if isinstance(m, Le))
            assert (float(bounds[1]), float(bounds[2])) == (least, most), name


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_frames": 5}, "num_frames is 5; it must be at least 9."),
        ({"num_frames": 2000}, "num_frames is 2000; it must be at most 1441."),
        ({"video": {"strength": 1.5}}, "video.strength is 1.5; it must be at most 1."),
        ({"video": {"strength": float("nan")}}, "video.strength is nan"),
        ({"video": {"start_frame_num": 9}}, "video.start_frame_num is 9; it must be a multiple of 8."),
        ({"resolution": "4k"}, "resolution is '4k'; it must be one of '480p' or '720p'."),
        ({"loras": [{"path": "x", "scale": 9}]}, "loras.0.scale is 9; it must be at most 4."),
        ({"prompt": ""}, "prompt is ''"),
        ({"video": {"video_url": None}}, "video.video_url is None"),
        ({"frame_rate": "fast"}, "frame_rate is 'fast'"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(sentence)) as error:
        plan_098(**fields)
    assert error.value.loc[0] == "body"
    assert error.value.detail()["type"] == "value_error"


def test_missing_and_unknown_fields_are_named() -> None:
    with pytest.raises(InvalidRequest, match=r"prompt is missing\. video is missing\."):
        parse(ltxv098.Request, {})
    good = {"prompt": "x", "video": {"video_url": "x", "strenght": 1}}
    assert parse(ltxv098.Request, good).video.strength == 1, "published clients may send more than we know"
    with pytest.raises(InvalidRequest, match=r"video\.strenght is not a field"):
        parse(ltxv098.Request, good, forbid_unknown=True)
    listed = {"prompt": "x", "video": {"video_url": "x"}, "loras": [{"path": "a"}, {"path": "b", "weight": 1}]}
    with pytest.raises(InvalidRequest, match=r"loras\.1\.weight is not a field"):
        parse(ltxv098.Request, listed, forbid_unknown=True)


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**31, 2**64 - 1])
def test_seeds_of_64_bits_are_accepted(seed: int) -> None:
    assert options_of(ltxv098.ENDPOINT, {"seed": seed}).seed == seed


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64, 10**30, 1e30, 1.5, "x"])
def test_other_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(InvalidRequest, match="seed is ") as error:
        request_of(ltxv098.ENDPOINT, {"seed": seed})
    assert (error.value.loc, error.value.status) == (("body", "seed"), 422)
    if seed not in (1.5, "x"):
        assert "a whole number from -2**63 to 2**64 - 1" in error.value.message


def test_097_default_plan() -> None:
    plan = plan_097()
    assert (plan.width, plan.height, plan.num_frames) == (1280, 704, 121)
    assert (plan.shown_frames, plan.context_frames, plan.new_frames) == (97, 97, 24)
    assert plan.rate == Fraction(24000, 1001), "the source's own rate"
    assert (plan.unit, plan.billed_units, plan.price_usd) == ("videos", Fraction(1), Fraction("0.12"))
    assert (plan.expand_prompt, plan.check_safety) == (True, True)
    (only,) = plan.passes
    assert (only.canvas, only.steps, only.skip_initial, only.skip_final) == ((1280, 704), 40, 0, 0)
    assert only.guidance.cfg_star


def test_097_uses_the_video_from_its_start_frame() -> None:
    plan = plan_097(video={"start_frame_num": 24})
    assert (plan.context.start, plan.context.stop, plan.shown_frames) == (100 - 73, 100, 73)


def test_097_keeps_the_sources_rate_up_to_sixty() -> None:
    fast = VideoInfo("mp4", "h264", 1920, 1080, Fraction(120), 120)
    plan = plan_097(fast)
    assert plan.rate == plan.context.rate == Fraction(60)
    assert plan.speed == 1


def test_097_shows_all_of_a_long_source_and_half_of_the_count_is_new() -> None:
    plan = plan_097(LONG)
    assert (plan.context.start, plan.context.stop) == (0, 300)
    assert (plan.shown_frames, plan.context_frames, plan.new_frames, plan.num_frames) == (300, 57, 64, 364)
    assert plan.billed_frames == 121
    assert plan.notes == ("121 frames are made, and the source has 300: all are shown, and 64 are new.",)
    part = plan_097(LONG, video={"start_frame_num": 120})
    assert (part.context.start, part.shown_frames, part.new_frames) == (120, 180, 64)
    whole = plan_097(LONG, new_frames=96)
    assert (whole.shown_frames, whole.new_frames, whole.num_frames, whole.notes) == (300, 96, 396, ())
    assert whole.context_frames == 121


def test_only_a_start_beyond_the_end_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="is 104, and the video has only 100 frames") as error:
        plan_097(video={"start_frame_num": 104})
    assert error.value.loc == ("body", "video", "start_frame_num")
    assert plan_097(video={"start_frame_num": 96}).shown_frames == 1


def test_098_default_plan() -> None:
    plan = plan_098()
    assert (plan.width, plan.height, plan.num_frames, plan.rate) == (1280, 704, 121, Fraction(24000, 1001))
    assert plan.keeps_source
    assert plan.source_frames == 97
    assert (plan.unit, plan.billed_units) == ("seconds", Fraction(121, 24))
    assert plan.price_usd == Fraction(121, 24) * Fraction("0.02")
    assert [p.canvas for p in plan.passes] == [(1280, 704)]
    assert plan.passes[0].guidance.evaluations(0.99) == 1


def test_098_detail_pass_has_two_scales_and_twice_the_price() -> None:
    plan = plan_098(enable_detail_pass=True)
    first, second = plan.passes
    assert (first.canvas, first.steps, first.skip_initial, first.skip_final) == ((832, 448), 8, 0, 1)
    assert (second.canvas, second.steps, second.skip_initial, second.skip_final) == ((1664, 896), 8, 5, 0)
    assert plan.price_usd == 2 * plan_098().price_usd
    assert plan.billed_units == 2 * plan_098().billed_units
    with pytest.raises(InvalidRequest, match="second_pass_skip_initial_steps is 8; it must be less than"):
        plan_098(enable_detail_pass=True, second_pass_skip_initial_steps=8)
    followed = plan_098(enable_detail_pass=True, second_pass_num_inference_steps=4).passes[1]
    assert (followed.steps, followed.skip_initial) == (4, 3), "a default follows the number of steps down"
    assert len(plan_098(second_pass_skip_initial_steps=8).passes) == 1, "second_pass_* count only with the detail pass"


def test_098_small_model_works_on_a_small_canvas() -> None:
    plan = plan_098(model=TINY, enable_detail_pass=True)
    assert [p.canvas for p in plan.passes] == [(112, 64), (224, 128)]
    assert (plan.width, plan.height) == (1280, 704)


def test_098_makes_a_long_video_in_several_windows() -> None:
    plan = plan_098(num_frames=1441, video={"max_num_frames": 41, "limit_num_frames": True})
    assert plan.num_frames == 1441
    assert len(plan.windows) > 1
    assert plan.windows[-1].stop == (plan.sampled_frames - 1) // 8 + 1


@pytest.mark.parametrize(("num_frames", "context", "new"), [(121, 57, 64), (105, 49, 56), (9, 1, 8), (104, 49, 55)])
def test_098_without_room_uses_half_of_the_count_for_the_source(num_frames: int, context: int, new: int) -> None:
    source = VideoInfo("mp4", "h264", 1920, 1080, Fraction(24), 121)
    plan = plan_098(source, num_frames=num_frames)
    assert (plan.shown_frames, plan.context_frames, plan.new_frames) == (121, context, new)
    assert (plan.billed_frames, len(plan.notes)) == (num_frames, 1)
    seconds = Fraction(num_frames, 24)
    assert (plan.billed_units, plan.price_usd) == (seconds, seconds * Fraction("0.02"))
    tiny = plan_098(source, TINY, num_frames=num_frames)
    assert (tiny.shown_frames, tiny.new_frames, tiny.billed_frames) == (121, new, num_frames), "whatever the model"


@pytest.mark.parametrize(
    ("num_frames", "has_note"), [(105, True), (128, True), (129, True), (130, False), (160, False)]
)
def test_098_few_new_frames_have_a_note(num_frames: int, has_note: bool) -> None:
    plan = plan_098(num_frames=num_frames)
    assert (plan.shown_frames, plan.new_frames) == (97, num_frames - 97)
    assert bool(plan.notes) == has_note
    if has_note:
        assert f"Only {num_frames - 97} of num_frames = {num_frames} are new" in plan.notes[0]


def test_a_slow_source_plays_faster_with_a_note() -> None:
    slow = VideoInfo("mp4", "h264", 1920, 1080, Fraction(1, 2), 41)
    plan = plan_098(slow)
    assert (plan.rate, plan.shown_frames) == (Fraction(24), 41)
    assert plan.notes == ("The source has 0.5 frames per second and plays 48 times as fast, because frame_rate is 24.",)
    own = plan_097(slow)
    assert own.rate == own.context.rate == own.speed == 1
    assert own.shown_frames == 81
    assert own.notes[0] == "The source has 0.5 frames per second; its frames are repeated at 1."


def test_23_repeats_the_frames_of_a_slow_source() -> None:
    slow = VideoInfo("mp4", "h264", 640, 480, Fraction(1, 2), 50)
    plan = plan_of(ltx23.ENDPOINT, {}, slow)
    assert (plan.rate, plan.shown_frames, plan.speed) == (Fraction(1), 100, Fraction(1))
    assert plan.notes == ("The source has 0.5 frames per second; its frames are repeated at 1.",)
    assert plan_of(ltx23.ENDPOINT, {"match_input_fps": False}, slow).shown_frames == 2400


def test_098_each_field_reaches_the_plan() -> None:
    plan = plan_098(
        negative_prompt="n",
        aspect_ratio="1:1",
        resolution="480p",
        frame_rate=12,
        expand_prompt=True,
        reverse_video=True,
        enable_safety_checker=False,
        temporal_adain_factor=0.25,
        tone_map_compression_ratio=0.5,
        constant_rate_factor=40,
        first_pass_num_inference_steps=4,
        loras=[{"path": "a", "scale": 2}],
        video={"strength": 0.5, "reverse_video": True, "resample_fps": True, "target_fps": 12},
    )
    assert (plan.width, plan.height, plan.rate, plan.negative_prompt) == (480, 480, Fraction(12), "n")
    assert (plan.expand_prompt, plan.reverse, plan.check_safety) == (True, True, False)
    assert (plan.temporal_adain_factor, plan.tone_map_compression_ratio, plan.constant_rate_factor) == (0.25, 0.5, 40)
    assert (plan.passes[0].steps, plan.adapters[0].source, plan.adapters[0].scales) == (4, "a", (2,))
    assert (plan.strength, plan.context.reverse, plan.context.rate) == (0.5, True, Fraction(12))
    assert not plan.keeps_source


def test_098_a_guide_is_not_shown() -> None:
    plan = plan_098(video={"conditioning_type": "canny", "preprocess": True})
    assert (plan.source_frames, plan.shown_frames, plan.new_frames, plan.context_frames) == (0, 0, 121, 97)
    assert (plan.guide, plan.preprocess) == ("canny", True)


def test_098_applies_only_the_users_own_negative_prompt() -> None:
    assert plan_098().passes[0].guidance == NONE, "the default leaves the distilled model as published"
    assert plan_098(negative_prompt="fog").passes[0].guidance.nag == NAG_SCALE
    dev = plan_098(model=DEV, negative_prompt="fog")
    assert dev.passes[0].guidance.nag == 0, "CFG heeds it already"


def test_the_error_of_an_extreme_aspect_says_what_helps() -> None:
    wide = VideoInfo("mp4", "h264", 6000, 400, Fraction(24), 100)
    with pytest.raises(InvalidRequest, match="6000x400, longer than 5:1; set aspect_ratio"):
        plan_098(wide)
    assert plan_098(wide, aspect_ratio="16:9").width == 1280


@pytest.mark.parametrize("plan", [plan_097(), plan_098(enable_detail_pass=True, loras=[{"path": "a"}])])
def test_plans_survive_json(plan: LTXVPlan) -> None:
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


def test_prices_are_settings() -> None:
    prices = {ltxv098.ENDPOINT.id: PriceSetting(usd=Decimal("0.48")), ltxv097.ENDPOINT.id: PriceSetting(usd=Decimal(9))}
    assert plan_of(ltxv098.ENDPOINT, {}, prices=prices).price_usd == Fraction(121, 24) * Fraction("0.48")
    assert plan_of(ltxv097.ENDPOINT, {}, prices=prices).price_usd == 9


def test_responses_contain_every_fact_of_the_file() -> None:
    for shape in (ltxv.Response, ltxv097.Response):
        kind: type[BaseModel] = shape
        assert set(kind.model_json_schema()["$defs"]["VideoFile"]["properties"]) >= {
            "url",
            "fps",
            "num_frames",
            "duration",
        }
