"""The two-pass endpoints of LTX-Video 0.9.7: published names, defaults and ranges, and the effect of each field."""

import re
from fractions import Fraction
from typing import Any

import pytest

from longtake.endpoints import Endpoint, ltxv, ltxv097_dev, ltxv097_distilled
from longtake.errors import InvalidRequest
from longtake.families.ltxv.options import PassOptions
from longtake.families.ltxv.profiles import NAG_SCALE
from longtake.models.registry import card
from longtake.plans import PlannedAdapter
from tests.endpoints.planning import REQUIRED, Effect, check_ranges, plan_of, request_of, schema_of

DEV, DISTILLED = ltxv097_dev.ENDPOINT, ltxv097_distilled.ENDPOINT
BOTH = pytest.mark.parametrize("endpoint", [DEV, DISTILLED], ids=lambda one: one.name)

SHARED: dict[str, tuple[Any, ...]] = {
    "prompt": (REQUIRED,),
    "negative_prompt": ("worst quality, inconsistent motion, blurry, jittery, distorted",),
    "loras": ([],),
    "resolution": ("720p",),
    "aspect_ratio": ("auto",),
    "seed": (None,),
    "num_frames": (121, 9, 1441),  # published 9..161; what 0.9.8 takes is taken
    "frame_rate": (30, 1, 60),
    "expand_prompt": (False,),
    "reverse_video": (False,),
    "enable_safety_checker": (True,),
    "constant_rate_factor": (35, 0, 60),  # published 20..60
    "video": (REQUIRED,),
}
STEPS: dict[str, dict[str, tuple[Any, ...]]] = {
    DEV.id: {
        "first_pass_num_inference_steps": (30, 2, 50),
        "first_pass_skip_final_steps": (3, 0, 50),
        "second_pass_num_inference_steps": (30, 2, 50),
        "second_pass_skip_initial_steps": (17, 1, 50),
    },
    DISTILLED.id: {
        "first_pass_num_inference_steps": (8, 2, 20),
        "first_pass_skip_final_steps": (1, 0, 20),
        "second_pass_num_inference_steps": (8, 2, 20),
        "second_pass_skip_initial_steps": (5, 1, 20),
    },
}


@BOTH
def test_the_request_is_the_published_one(endpoint: Endpoint[Any, Any]) -> None:
    assert schema_of(endpoint.Request) == SHARED | STEPS[endpoint.id]
    assert list(schema_of(endpoint.Request)) == [*SHARED, *STEPS[endpoint.id]]
    assert list(endpoint.Response.model_fields) == ["video", "prompt", "seed"]
    video = endpoint.Request.model_fields["video"].annotation
    assert video is ltxv.ExtendVideoConditioningInput
    assert schema_of(video) == {
        "video_url": (REQUIRED,),
        "conditioning_type": ("rgb",),
        "preprocess": (False,),
        "strength": (1, 0, 1),
        "start_frame_num": (0, 0, 1440),
        "limit_num_frames": (False,),
        "max_num_frames": (1441, 1, 1441),
        "resample_fps": (False,),
        "target_fps": (24, 1, 60),
        "reverse_video": (False,),
    }


@BOTH
def test_ranges_are_inclusive_and_name_the_field(endpoint: Endpoint[Any, Any]) -> None:
    check_ranges(endpoint)


@BOTH
def test_the_default_plan(endpoint: Endpoint[Any, Any]) -> None:
    plan = plan_of(endpoint, {})
    assert (plan.size, plan.rate, plan.num_frames) == ((1280, 704), 30, 121)
    assert (plan.shown_frames, plan.context_frames, plan.new_frames) == (97, 97, 24)
    assert [one.canvas for one in plan.passes] == [(832, 448), (1664, 896)], "always two scales"
    first, second = plan.passes
    wanted = ((30, 0, 3), (30, 17, 0)) if endpoint is DEV else ((8, 0, 1), (8, 5, 0))
    assert tuple((one.steps, one.skip_initial, one.skip_final) for one in (first, second)) == wanted
    assert first.guidance.cfg_star == (endpoint is DEV), "only the development model is guided"
    assert (plan.unit, plan.billed_units) == ("videos", 1)
    assert plan.price_usd == Fraction("0.2" if endpoint is DEV else "0.04")
    assert (plan.check_safety, plan.expand_prompt, plan.constant_rate_factor) == (True, False, 35)


LORA = PlannedAdapter("a", (2, 2), ("body", "loras", 0, "path"), "b")


def passes(endpoint: Endpoint[Any, Any], **changed: int) -> tuple[PassOptions, ...]:
    """The default passes but for these fields."""
    steps = {name: default for name, (default, *_) in STEPS[endpoint.id].items()} | changed
    return (
        PassOptions(steps["first_pass_num_inference_steps"], skip_final=steps["first_pass_skip_final_steps"]),
        PassOptions(steps["second_pass_num_inference_steps"], skip_initial=steps["second_pass_skip_initial_steps"]),
    )


def video(**fields: Any) -> dict[str, Any]:
    return {"video": fields}


EFFECTS = [
    Effect({"prompt": "p"}, {"prompt": "p"}, {"prompt": "p"}),
    Effect({"loras": [{"path": "a", "scale": 2, "weight_name": "b"}]}, {"adapters": (LORA,)}, {"adapters": (LORA,)}),
    Effect({"resolution": "480p"}, {"resolution": "480p"}, {"size": (832, 480)}),
    Effect({"aspect_ratio": "1:1"}, {"aspect_ratio": "1:1"}, {"size": (704, 704)}),
    Effect({"seed": 5}, {"seed": 5}),
    Effect({"num_frames": 161}, {"num_frames": 161}, {"new_frames": 64, "billed_frames": 161}),
    Effect({"frame_rate": 12}, {"frame_rate": 12}, {"rate": 12}),
    Effect({"expand_prompt": True}, {"expand_prompt": True}, {"expand_prompt": True}),
    Effect({"reverse_video": True}, {"reverse": True}, {"reversed_at_end": True}),
    Effect({"enable_safety_checker": False}, {"check_safety": False}, {"check_safety": False}),
    Effect({"constant_rate_factor": 20}, {"constant_rate_factor": 20}, {"constant_rate_factor": 20}),
    Effect({"constant_rate_factor": 60}, {"constant_rate_factor": 51}, {"constant_rate_factor": 51}),
    Effect(
        video(conditioning_type="canny"), {"guide": "canny"}, {"guide": "canny", "shown_frames": 0, "new_frames": 121}
    ),
    Effect(video(conditioning_type="depth", preprocess=True), {"preprocess": True}, {"preprocess": True},
           base=video(conditioning_type="depth")),
    Effect(video(strength=0.5), {"strength": 0.5}, {"strength": 0.5, "keeps_source": False}),
    Effect(video(start_frame_num=40), {"start_frame": 40}, {"shown_frames": 57, "new_frames": 64}),
    Effect(
        video(limit_num_frames=True, max_num_frames=41), {"max_frames": 41}, {"shown_frames": 41, "new_frames": 80}
    ),
    Effect(video(max_num_frames=41), {}),
    Effect(video(resample_fps=True, target_fps=12), {"target_rate": 12}, {"shown_frames": 49, "new_frames": 72}),
    Effect(video(target_fps=12), {}),
    Effect(video(reverse_video=True), {"reverse_source": True}),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: "-".join(effect.fields))
def test_each_field_has_its_effect(endpoint: Endpoint[Any, Any], effect: Effect) -> None:
    effect.check(endpoint)


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("first_pass_num_inference_steps", 6),
        ("first_pass_skip_final_steps", 2),
        ("second_pass_num_inference_steps", 20),
        ("second_pass_skip_initial_steps", 4),
    ],
)
def test_each_pass_has_its_own_schedule(endpoint: Endpoint[Any, Any], name: str, value: int) -> None:
    expected = passes(endpoint, **{name: value})
    Effect({name: value}, {"passes": expected}).check(endpoint)
    plan = plan_of(endpoint, {name: value})
    assert [(one.steps, one.skip_initial, one.skip_final) for one in plan.passes] == [
        (one.steps, one.skip_initial, one.skip_final) for one in expected
    ]
    assert plan.evaluations != plan_of(endpoint, {}).evaluations


@BOTH
def test_no_field_is_left_out(endpoint: Endpoint[Any, Any]) -> None:
    tried = {name for effect in EFFECTS for name in effect.fields}
    assert tried | set(STEPS[endpoint.id]) == set(SHARED) - {"negative_prompt"} | set(STEPS[endpoint.id])
    inner = {name for effect in EFFECTS for name in effect.fields.get("video", {})}
    assert inner == set(ltxv.ExtendVideoConditioningInput.model_fields) - {"video_url"}
    assert endpoint.source_url(request_of(endpoint, {"video": {"video_url": "a.mp4"}})) == "a.mp4"


@BOTH
def test_only_the_users_own_negative_prompt_is_applied(endpoint: Endpoint[Any, Any]) -> None:
    Effect({"negative_prompt": "fog"}, {"negative_prompt": "fog", "heed_negative": True}).check(endpoint)
    plan = plan_of(endpoint, {"negative_prompt": "fog"})
    assert {one.guidance.nag for one in plan.passes} == {0 if endpoint is DEV else NAG_SCALE}
    assert {one.guidance.nag for one in plan_of(endpoint, {}).passes} == {0}


@BOTH
@pytest.mark.parametrize(
    ("skip", "steps"),
    [
        ("first_pass_skip_final_steps", "first_pass_num_inference_steps"),
        ("second_pass_skip_initial_steps", "second_pass_num_inference_steps"),
    ],
)
def test_a_pass_without_steps_is_refused(endpoint: Endpoint[Any, Any], skip: str, steps: str) -> None:
    for left_out in (9, 10):
        with pytest.raises(
            InvalidRequest, match=re.escape(f"{skip} is {left_out}; it must be less than {steps}, which is 9")
        ) as error:
            plan_of(endpoint, {skip: left_out, steps: 9})
        assert (error.value.loc, error.value.status) == (("body", skip), 422)
    assert plan_of(endpoint, {skip: 8, steps: 9}).num_passes == 2


@BOTH
@pytest.mark.parametrize("steps", [2, 3, 5])
def test_defaults_leave_a_step_however_few_there_are(endpoint: Endpoint[Any, Any], steps: int) -> None:
    fields = {"first_pass_num_inference_steps": steps, "second_pass_num_inference_steps": steps}
    first, second = plan_of(endpoint, fields).passes
    usual = STEPS[endpoint.id]
    assert first.skip_final == min(usual["first_pass_skip_final_steps"][0], steps - 1)
    assert second.skip_initial == min(usual["second_pass_skip_initial_steps"][0], steps - 1)


@BOTH
def test_the_stand_in_works_at_two_scales_of_its_own(endpoint: Endpoint[Any, Any]) -> None:
    plan = plan_of(endpoint, {}, model=card("ltxv-tiny"))
    assert [one.canvas for one in plan.passes] == [(112, 64), (224, 128)]
    assert (plan.size, plan.num_frames) == ((1280, 704), 121)
