"""`longtake plan`: what it prints for people and as JSON."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from longtake.plan_text import price_text
from tests.cli.calls import V23, call_of, plan_of
from tests.cli.running import run

PUBLISHED_23 = ("--endpoint", "2.3", "--model", "ltx-2.3", "--seed", "3")


@pytest.mark.parametrize(
    ("clip", "args", "rate"),
    [
        ("clip.mp4", [], "24"),
        ("film.mp4", [], "24000/1001"),
        ("film.mp4", ["--frame-rate", "30"], "30"),
        ("film.mp4", ["--resample-fps", "--target-fps", "12"], "12"),
        ("fast.mp4", [], "60"),
    ],
)
def test_the_output_plays_at_the_sources_rate_unless_another_is_requested(
    clip: str, args: list[str], rate: str, clips: Path
) -> None:
    plan = run("plan", clips / clip, "--prompt", "sea", "--json", *args).document
    assert (plan["rate_exact"], plan["rate"]) == (rate, float(Fraction(rate)))


def test_a_source_too_fast_to_play_is_resampled_not_slowed_down(clips: Path) -> None:
    plan = run("plan", clips / "fast.mp4", "--prompt", "sea", "--json").document
    assert (plan["shown_frames"], plan["context"]["rate_exact"]) == (24, "60")


def test_the_plan_names_frames_rate_passes_windows_and_price(clips: Path) -> None:
    ran = run(
        "plan", clips / "clip.mp4", "--prompt", "sea", "--enable-detail-pass", "--seed", "3", "--new-frames", "96"
    )
    for expected in (
        "120 = 24 of the source + 96 new",
        "24 fps",
        "pass 2",
        "3 steps (of 8)",
        "$0.2000",
        "4 windows of",
    ):
        assert expected in ran.out


def test_a_request_is_read_from_standard_input(clips: Path) -> None:
    request = {"prompt": "sea", "seed": 3, "num_frames": 33, "video": {"video_url": str(clips / "clip.mp4")}}
    plan = run("plan", "--json-input", "-", "--json", stdin=json.dumps(request)).document
    assert (plan["seed"], plan["shown_frames"], plan["new_frames"]) == (3, 17, 16)


def test_the_plan_of_a_model_with_sound_names_sound_guidance_and_adapters(clips: Path) -> None:
    ran = run("plan", clips / "clip.mp4", "--prompt", "sea", *PUBLISHED_23, "--video-size", "1280x720")
    for expected in (
        "the last 17 of them, at strength 1",
        "their sound, at strength 1",
        "1280x720",
        "120 = 24 of the source + 96 new",
        "the source's own, then made with the picture",
        "X264 (.mp4), quality high, write mode balanced",
        "on fal    $0.1685 (105 megapixels); here it costs nothing",
        "113 frames: 17 given, 96 new",
        "distill at 0.2, then 0.5",
        "640x384, 15 steps per window, evaluations per step: 4 (prompt, negative, disturbed, isolated)",
        "1280x768, 3 steps per window, evaluations per step: 1 (prompt)",
        "CFG 3, STG 1 (block 28), modality 3, rescaled by 0.85",
        "CFG 7, modality 3, rescaled by 0.7",
        "beta schedule, ancestral renoise, eta 0.25",
    ):
        assert expected in ran.out, ran.out + ran.err
    assert ran.out.split("evaluations")[-1].strip() == "63"


def test_features_that_are_off_are_not_in_the_plan(clips: Path) -> None:
    ran = run(
        "plan", clips / "film.mp4", "--prompt", "sea", *PUBLISHED_23, "--extend-direction", "backward",
        "--new-frames", "900", "--no-use-multiscale", "--no-generate-audio", "--video-stg-scale", "0",
        "--no-use-restart-sampling", "--gradient-estimation-gamma", "2", "--distill-lora-first-pass-scale", "0",
        "--acceleration", "high", "--camera-lora", "dolly_in", "--video-strength", "0",
    )  # fmt: skip
    for expected in (
        "model sees  none of them",
        "917 = 900 new + 17 of the source, as the model renders them",
        "camera_dolly_in at 1",
        "465 frames: 449 new, 16 given",
        "481 frames: 6 cut off, 451 new, 24 given",
        "gamma 2",
    ):
        assert expected in ran.out, ran.out + ran.err
    for absent in ("STG", "distill", "renoise", "scale 2", "modality", "hears"):
        assert absent not in ran.out
    assert "sound     none" in ran.out
    assert ran.out.split("evaluations")[-1].strip() == "28"


@pytest.mark.parametrize(
    ("args", "rate", "frames"),
    [
        ([], "24000/1001", 17),
        (["--no-match-input-fps", "--fps", "29.97"], "30000/1001", 21),
        (["--no-match-input-fps", "--fps", "12"], "12", 9),
    ],
)
def test_a_model_with_sound_keeps_the_sources_rate_unless_another_is_requested(
    args: list[str], rate: str, frames: int, clips: Path
) -> None:
    plan = run("plan", clips / "film.mp4", "--prompt", "sea", *PUBLISHED_23, "--json", *args).document
    assert (plan["rate_exact"], plan["context"]["rate_exact"], plan["shown_frames"]) == (rate, rate, frames)


@pytest.mark.parametrize(
    ("units", "text"), [("1", "(1 megapixel)"), ("2", "(2 megapixels)"), ("1/2", "(0.5 megapixels)")]
)
def test_one_unit_is_in_the_singular(units: str, text: str) -> None:
    plan = replace(plan_of(call_of(endpoint=V23)), unit="megapixels", billed_units=Fraction(units))
    assert text in price_text(plan)
