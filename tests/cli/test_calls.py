"""Frame counts, rates and output formats: what the command line adds to the fields of a request."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from longtake import endpoints
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.errors import InvalidRequest
from longtake.library import output_type
from longtake.parameters import NEW_FRAMES
from tests.cli.calls import V097, V098, V23, OutputFile, call_of, named, plan_of
from tests.endpoints.planning import CLIP


def counted(endpoint: Endpoint[Any, Any]) -> list[str]:
    """The endpoint's own count, as an option."""
    return [f"--{str(endpoint.count_field).replace('_', '-')}", "2" if endpoint.count_field == "duration" else "121"]


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=named)
def test_frames_are_added_to_the_whole_source_unless_the_endpoints_count_is_set(
    endpoint: Endpoint[Any, Any],
) -> None:
    for args, new_frames in (([], NEW_FRAMES), (["--new-frames", "10"], 10)):
        call = call_of(*args, endpoint=endpoint)
        assert call.overrides.new_frames == new_frames
        plan = plan_of(call)
        assert (plan.shown_frames, plan.new_frames) == (100, new_frames)
    if endpoint.count_field is not None:
        assert call_of(*counted(endpoint), endpoint=endpoint).overrides.new_frames is None


@pytest.mark.parametrize("endpoint", [one for one in ENDPOINTS.values() if one.count_field], ids=named)
def test_the_endpoints_count_and_new_frames_exclude_each_other(endpoint: Endpoint[Any, Any]) -> None:
    args = counted(endpoint)
    with pytest.raises(InvalidRequest, match=f"Both {endpoint.count_field} and new_frames are given") as error:
        call_of(*args, "--new-frames", "10", endpoint=endpoint)
    assert error.value.loc == ("body", endpoint.count_field)


def test_a_count_in_the_json_request_replaces_new_frames(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"num_frames": 161, "fps": 12, "match_input_fps": False}))
    call = call_of("--json-input", str(file), endpoint=V23)
    assert (call.overrides.new_frames, call.overrides.own_rate) == (None, False)
    assert plan_of(call).billed_frames == 161


def test_new_frames_are_the_total_if_the_source_is_only_guidance() -> None:
    plan = plan_of(call_of("--conditioning-type", "canny", "--new-frames", "40"))
    assert (plan.shown_frames, plan.new_frames, plan.num_frames) == (0, 40, 40)


@pytest.mark.parametrize(
    ("endpoint", "args", "rate"),
    [
        (V098, [], CLIP.rate),
        (V098, ["--frame-rate", "30"], 30),
        (V097, [], CLIP.rate),
        (V23, [], CLIP.rate),
        (V23, ["--fps", "12"], 12),
        (V23, ["--fps", "12", "--match-input-fps"], CLIP.rate),
        (V23, ["--no-match-input-fps"], 24),
        (endpoints.endpoint("0.9.7-dev"), [], CLIP.rate),
        (endpoints.endpoint("2.3-quality"), ["--no-match-input-fps", "--frames-per-second", "12"], 12),
        (endpoints.endpoint("2.3-seconds"), [], CLIP.rate),
    ],
    ids=named,
)
def test_the_sources_rate_is_kept_unless_another_is_requested(
    endpoint: Endpoint[Any, Any], args: list[str], rate: Any
) -> None:
    assert plan_of(call_of(*args, endpoint=endpoint)).rate == rate


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=named)
def test_every_endpoint_takes_a_seed_and_loras(endpoint: Endpoint[Any, Any]) -> None:
    call = call_of("--seed", "5", "--lora", "b,scale=2", "--lora", "a,weight_name=c", endpoint=endpoint)
    options = call.overrides.apply(call.endpoint.options(call.request, CLIP))
    assert options.seed == 5
    (first, second), passes = options.adapters[:2], plan_of(call).num_passes
    assert (first.source, first.scales[:passes], first.weight_name, first.own) == ("b", (2,) * passes, None, False)
    assert (second.source, second.scales[:passes], second.weight_name) == ("a", (1,) * passes, "c")
    assert [one.field for one in (first, second)] == [("body", "loras", n, "path") for n in (0, 1)]
    with pytest.raises(InvalidRequest, match="scale is '9'; it must be at most 4"):
        call_of("--lora", "b,scale=9", endpoint=endpoint)
    with pytest.raises(InvalidRequest, match="seed is "):
        call_of("--seed", str(2**64), endpoint=endpoint)


def file_named(name: str, **more: Any) -> OutputFile:
    return OutputFile(output_type(Path(name)), **more)


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=named)
def test_the_suffix_of_the_output_sets_its_type_on_every_endpoint(endpoint: Endpoint[Any, Any]) -> None:
    plan = plan_of(call_of(endpoint=endpoint, file=file_named("a.webm", quality="low", write_mode="small")))
    assert (plan.output, plan.quality, plan.write_mode) == ("VP9 (.webm)", "low", "small")
    plan = plan_of(call_of(endpoint=endpoint, file=file_named("a.mp4")))
    assert (plan.output, plan.quality, plan.write_mode) == ("X264 (.mp4)", "high", "balanced")


def test_the_endpoints_own_options_set_the_output_format_too() -> None:
    options = ("--video-output-type", "GIF (.gif)", "--video-quality", "maximum")
    for call in (call_of(*options, endpoint=V23, file=file_named("a.GIF")), call_of(*options, endpoint=V23)):
        plan = plan_of(call)
        assert (plan.output, plan.quality, plan.write_mode) == ("GIF (.gif)", "maximum", "balanced")


@pytest.mark.parametrize(
    ("args", "file", "message"),
    [
        (
            ["--video-output-type", "GIF (.gif)"],
            file_named("a.mp4"),
            "video_output_type is 'GIF (.gif)', and the file's suffix asks for 'X264 (.mp4)'",
        ),
        (
            ["--video-quality", "low"],
            OutputFile(quality="high"),
            "video_quality is 'low', and quality asks for 'high'",
        ),
        (["--video-write-mode", "fast"], OutputFile(write_mode="small"), "and write_mode asks for 'small'"),
    ],
)
def test_contradicting_output_formats_are_refused(args: list[str], file: OutputFile, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        call_of(*args, endpoint=V23, file=file)


def test_the_suffix_overrides_the_json_request(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"video_output_type": "GIF (.gif)", "video_quality": "low"}))
    plan = plan_of(call_of("--json-input", str(request), endpoint=V23, file=file_named("a.mov")))
    assert (plan.output, plan.quality, plan.write_mode) == ("PRORES4444 (.mov)", "low", "balanced")
