"""The quality endpoint of LTX-2.3: published names, defaults and ranges, and the effect of each field."""

from fractions import Fraction

import numpy as np
import pytest

from longtake.endpoints import ltx2, ltx23_quality
from longtake.errors import InvalidRequest
from longtake.families.ltx2.options import GuidanceScales
from longtake.video import VideoInfo
from tests.endpoints.conftest import LENGTH, NEW, Make, frames_of, sound_of
from tests.endpoints.planning import REQUIRED, Effect, check_ranges, plan_of, request_of, schema_of

pytestmark = pytest.mark.usefixtures("forked_decoders")

ENDPOINT = ltx23_quality.ENDPOINT

PUBLISHED = {
    "prompt": (REQUIRED,),
    "video_url": (REQUIRED,),
    "extend_direction": ("forward",),
    "num_frames": (121, 9, 481),
    "num_context_frames": (25, 9, 121),
    "end_image_url": (None,),
    "end_image_strength": (1, 0, 1),
    "resolution": ("auto",),
    "match_input_fps": (True,),
    "frames_per_second": (24.0, 1, 60),
    "video_strength": (1, 0, 1),
    "num_inference_steps": (15, 8, 30),
    "guidance_scale": (1, 1, 20),
    "generate_audio": (True,),
    "negative_prompt": (
        "color distortion, overexposure, static, blurry details, subtitles, style, artwork, painting, frame, still, "
        "dim overall tone, worst quality, low quality, JPEG compression artifacts, ugly, mutilated, extra fingers, "
        "poorly drawn hands, poorly drawn face, deformed, disfigured, malformed limbs, fused fingers, motionless "
        "frame, cluttered background, three legs, crowded background, walking backwards",
    ),
    "seed": (None,),
    "enable_prompt_expansion": (True,),
    "enable_safety_checker": (True,),
    "video_quality": ("high",),
    "video_write_mode": ("balanced",),
    "sync_mode": (False,),
}


def test_the_request_is_the_published_one() -> None:
    assert schema_of(ENDPOINT.Request) == PUBLISHED
    assert list(schema_of(ENDPOINT.Request)) == list(PUBLISHED)
    assert list(ENDPOINT.Response.model_fields) == ["video", "seed", "prompt"]


def test_ranges_are_inclusive_and_name_the_field() -> None:
    check_ranges(ENDPOINT)


@pytest.mark.parametrize("resolution", ["480p", "huge"])
def test_a_number_of_lines_is_not_a_resolution(resolution: str) -> None:
    with pytest.raises(InvalidRequest, match="it must be one of 'auto', 'square_hd'") as error:
        request_of(ENDPOINT, {"resolution": resolution})
    assert error.value.loc == ("body", "resolution")


def test_the_default_plan() -> None:
    plan = plan_of(ENDPOINT, {})
    assert (plan.context_frames, plan.new_frames, plan.num_frames, plan.billed_frames) == (25, 96, 196, 121)
    assert (plan.width, plan.height, plan.rate) == (1920, 1080, Fraction(24000, 1001))
    assert (plan.scheduler, plan.steps, plan.gamma, plan.eta, plan.acceleration) == (
        "linear_quadratic", 15, 0, 0, "none",
    )  # fmt: skip
    assert plan.video == plan.audio == GuidanceScales(), "no guidance at all"
    assert plan.canvases == ((960, 544), (1920, 1088)), "always two scales"
    assert [(one.source, one.scales, one.own) for one in plan.adapters] == [("distill", (1, 1), True)]
    assert plan.evaluations == 15 + 3
    assert (plan.sound, plan.audio_strength, plan.notes) == (True, 1, ())
    assert plan.billed_units == 251
    assert plan.price_usd == 251 * Fraction("0.0024075"), "the endpoint's own adapter makes it no dearer"


EFFECTS = [
    Effect({"prompt": "p"}, {"prompt": "p"}, {"prompt": "p"}),
    Effect(
        {"extend_direction": "backward"},
        {"direction": "backward"},
        {"source_last": True, "context_frames": 24, "new_frames": 97},
    ),
    Effect({"num_frames": 41}, {"num_frames": 41}, {"new_frames": 16, "billed_frames": 41, "context_frames": 25}),
    Effect(
        {"num_context_frames": 41},
        {"context_frames": 41, "context_field": "num_context_frames"},
        {"context_frames": 41, "new_frames": 80},
    ),
    Effect(
        {"num_context_frames": 24},
        {"context_frames": 24, "context_field": "num_context_frames"},
        {"context_frames": 17, "new_frames": 104},
    ),
    Effect({"end_image_url": "a.png"}, {"end_image": "a.png"}, {"end_image": "a.png"}),
    Effect(
        {"end_image_strength": 0.5},
        {"end_image_strength": 0.5},
        {"end_image_strength": 0.5},
        base={"end_image_url": "a.png"},
    ),
    Effect({"resolution": "square_hd"}, {"size": (1024, 1024)}, {"size": (1024, 1024)}),
    Effect({"resolution": {"width": 642, "height": 362}}, {"size": (642, 362)}, {"size": (642, 362)}),
    Effect({"match_input_fps": False}, {"frame_rate": 24.0}, {"rate": 24}),
    Effect(
        {"frames_per_second": 12},
        {"frame_rate": 12.0},
        {"rate": 12, "shown_frames": 50},
        base={"match_input_fps": False},
    ),
    Effect({"frames_per_second": 12}, {}),
    Effect({"video_strength": 0.5}, {"strength": 0.5}, {"strength": 0.5, "keeps_source": False, "source_frames": 75}),
    Effect({"num_inference_steps": 8}, {"steps": 8}, {"steps": 8, "evaluations": 8 + 3}),
    Effect(
        {"guidance_scale": 3},
        {"video": GuidanceScales(cfg=3), "audio": GuidanceScales(cfg=3)},
        {"predictions": ("prompt", "negative"), "evaluations": 2 * 15 + 3},
    ),
    Effect({"generate_audio": False}, {"sound": False}, {"makes_sound": False}),
    Effect({"negative_prompt": "fog"}, {"negative_prompt": "fog"}, {"negative_prompt": "fog"}),
    Effect({"seed": 5}, {"seed": 5}),
    Effect({"enable_prompt_expansion": False}, {"expand_prompt": False}, {"expand_prompt": False}),
    Effect({"enable_safety_checker": False}, {"check_safety": False}, {"check_safety": False}),
    Effect({"video_quality": "low"}, {"quality": "low"}, {"quality": "low"}),
    Effect({"video_write_mode": "small"}, {"write_mode": "small"}, {"write_mode": "small"}),
    Effect({"sync_mode": True}, {"sync_mode": True}, {"sync_mode": True}),
]


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: "-".join(effect.fields))
def test_each_field_has_its_effect(effect: Effect) -> None:
    effect.check(ENDPOINT)


def test_no_field_is_left_out() -> None:
    assert {name for effect in EFFECTS for name in effect.fields} == set(PUBLISHED) - {"video_url"}
    assert ENDPOINT.source_url(request_of(ENDPOINT, {"video_url": "a.mp4"})) == "a.mp4"


def test_the_context_is_at_most_the_source_and_at_least_nine_frames() -> None:
    short = VideoInfo("mp4", "h264", 640, 480, Fraction(24), 20)
    plan = plan_of(ENDPOINT, {"num_context_frames": 121, "num_frames": 161}, short)
    assert (plan.context_frames, plan.new_frames) == (17, 144)
    assert "the source has no more" in plan.notes[0]
    for requested, notes in ((9, 0), (16, 1)):
        plan = plan_of(ENDPOINT, {"num_context_frames": requested})
        assert (plan.context_frames, len(plan.notes)) == (9, notes), "rounded down, with a note"


def test_a_context_as_long_as_all_frames_leaves_no_room() -> None:
    with pytest.raises(InvalidRequest, match="leaves no room") as error:
        plan_of(ENDPOINT, {"num_context_frames": 25, "num_frames": 25})
    assert error.value.loc == ("body", "num_context_frames")


def test_more_frames_than_a_window_holds_are_made_in_several_windows() -> None:
    plan = plan_of(ENDPOINT, {"num_frames": 481, "match_input_fps": False, "frames_per_second": 12})
    assert len(plan.windows) > 1
    assert plan.new_frames == 481 - 25


def test_the_output_has_exactly_the_source_size() -> None:
    assert plan_of(ENDPOINT, {}, VideoInfo("mp4", "h264", 1000, 562, Fraction(24), 100)).size == (1000, 562)
    assert set(ltx2.PRESETS) >= {"square", "landscape_16_9"}


QUICK = {
    "prompt": "a red disc falls",
    "num_inference_steps": 8,
    "num_context_frames": 9,
    "generate_audio": False,
    "enable_prompt_expansion": False,
}


def test_without_generated_audio_the_new_frames_are_silent(make: Make) -> None:
    silent = make(ENDPOINT, QUICK | {"resolution": {"width": 142, "height": 90}})
    assert (silent.facts.width, silent.facts.height) == (142, 90)
    assert np.abs(sound_of(silent.path, 0, LENGTH - 1)).max() > 0.1, "the source's own track is kept"
    assert np.abs(sound_of(silent.path, LENGTH + 2, LENGTH + NEW)).max() < 0.01


def test_the_negative_prompt_changes_the_frames_only_with_guidance(make: Make) -> None:
    assert plan_of(ENDPOINT, {"negative_prompt": "a green square"}).predictions == ("prompt",)
    guided = QUICK | {"guidance_scale": 8}
    frames, other = (
        frames_of(make(ENDPOINT, guided | more).path) for more in ({}, {"negative_prompt": "a green square"})
    )
    assert np.array_equal(frames[: LENGTH - 1], other[: LENGTH - 1])
    assert (frames[LENGTH:] != other[LENGTH:]).any()
