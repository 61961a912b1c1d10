"""The options are the request models' fields: each one reaches the request that the command line makes."""

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from pydantic import BaseModel

from longtake.cli import app
from longtake.cli.command import with_value
from longtake.cli.local import NEW_FRAMES, Asked, ask
from longtake.cli.options import RequestOption, item, json_input, request_data, request_options
from longtake.endpoints import ENDPOINTS
from longtake.endpoints.shared import LoRAWeight
from longtake.errors import InvalidRequest
from longtake.media.formats import recipe
from longtake.plans import LoRA
from longtake.settings import Settings

V097, V098 = "fal-ai/ltx-video-v097/extend", "fal-ai/ltxv-13b-098-distilled/extend"
V23 = "fal-ai/ltx-2.3-22b/extend-video"
CASES = [(endpoint, option) for option in request_options() for endpoint in option.fields]


def asked_with(*args: str, endpoint: str = V098, **file: Any) -> Asked:
    """What these arguments of `longtake plan clip.mp4 --prompt sea` ask for, parsed by the command itself; `file` is
    what `extend` says of the file to write."""
    command: Any = typer.main.get_command(app)
    plan = command.commands["plan"]
    with plan.make_context("plan", ["clip.mp4", "--prompt", "sea", "--endpoint", endpoint, *args]) as context:
        params = context.params
        return ask(
            {option.name: params[option.name] for option in request_options()},
            Settings(),
            source=params["source"],
            endpoint_name=params["endpoint"],
            model=params["model"],
            json_file=params["json_input"],
            new_frames=params["new_frames"],
            **file,
        )


def written(option: RequestOption, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [option.flag if value else f"--no-{option.flag[2:]}"]
    return [f"{option.flag}={value}"]


def other_value(field: Any) -> Any:
    """A value that the field takes and that is not its default."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    kind = kinds[0] if kinds and get_origin(field.annotation) is not Literal else field.annotation
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != field.default)
    if kind is bool:
        return not field.default
    if kind is str:
        return "another text"
    if kind is not int and kind is not float:
        return "square_hd"
    limits = {name: getattr(limit, name) for limit in field.metadata for name in ("ge", "le") if hasattr(limit, name)}
    low = limits.get("ge", 7)
    return low if low != field.default else limits["le"]


def value_at(request: BaseModel, loc: tuple[str, ...]) -> Any:
    value: Any = request
    for name in loc:
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("endpoint", "option"), CASES, ids=lambda case: getattr(case, "flag", case))
def test_every_option_reaches_its_field_of_the_request(endpoint: str, option: RequestOption) -> None:
    if option.items is not None:
        args, wanted = (
            [option.flag, "sea.safetensors,scale=0.5"],
            [LoRAWeight(path="sea.safetensors", scale=0.5, weight_name=None)],
        )
    else:
        wanted = other_value(option.fields[endpoint])
        args = written(option, wanted)
    assert value_at(asked_with(*args, endpoint=endpoint).request, option.loc) == wanted


def test_every_field_but_the_source_has_an_option_and_no_two_share_one() -> None:
    fields = {
        (name, inner) if issubclass_of_model(field) else (name,)
        for module in ENDPOINTS.values()
        for name, field in module.Request.model_fields.items()
        for inner in (field.annotation.model_fields if issubclass_of_model(field) else [None])
    }
    assert {option.loc for option in request_options()} == fields - {("video", "video_url"), ("video_url",)}
    assert len({option.flag for option in request_options()}) == len(request_options())


def issubclass_of_model(field: Any) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def test_help_tells_the_models_limits_and_where_endpoints_differ() -> None:
    told = {option.flag: option.help() for option in request_options()}
    assert "0 to 1; default: 0.5" in told["--temporal-adain-factor"]
    assert "ltx-video-v097: 0 to 120; a multiple of 8" in told["--start-frame-num"]
    assert "0 to 1440" in told["--start-frame-num"]


def test_names_that_collide_are_told_apart() -> None:
    request = asked_with("--video-reverse-video").request
    assert value_at(request, ("video", "reverse_video"))
    assert not value_at(request, ("reverse_video",))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.safetensors", {"path": "a.safetensors"}),
        ("path=a.safetensors,scale=2", {"path": "a.safetensors", "scale": "2"}),
        ("https://host:8080/a,b?x=1,y=2", {"path": "https://host:8080/a,b?x=1,y=2"}),
        ("a/b,weight_name=c.safetensors,scale=.5", {"path": "a/b", "scale": ".5", "weight_name": "c.safetensors"}),
    ],
)
def test_a_lora_is_a_path_and_then_its_fields(text: str, wanted: dict[str, str]) -> None:
    assert item(text, LoRAWeight, "--lora") == wanted


def test_several_loras_keep_their_order() -> None:
    loras = value_at(asked_with("--lora", "b,scale=2", "--lora", "a").request, ("loras",))
    assert [(lora.path, lora.scale) for lora in loras] == [("b", 2), ("a", 1)]


@pytest.mark.parametrize("text", ["", ",scale=1", "path="])
def test_a_lora_without_a_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="names no path"):
        item(text, LoRAWeight, "--lora")


@pytest.mark.parametrize(
    ("endpoint", "option"),
    [(endpoint, option) for option in request_options() for endpoint in ENDPOINTS if endpoint not in option.fields],
    ids=lambda case: getattr(case, "flag", case),
)
def test_an_option_that_the_endpoint_lacks_names_the_one_that_has_it(endpoint: str, option: RequestOption) -> None:
    value = ["x"] if option.items else other_value(next(iter(option.fields.values())))
    with pytest.raises(InvalidRequest) as caught:
        request_data({option.name: value}, {}, "clip.mp4", endpoint)
    assert caught.value.message.startswith(f"{option.flag} is not an option of {endpoint}; ")
    assert all(other in caught.value.message for other in option.fields)


def test_options_win_over_the_json_request_field_by_field(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    video = {"video_url": "other.mp4", "strength": 0.5, "start_frame_num": 16}
    file.write_text(json.dumps({"seed": 5, "constant_rate_factor": 40, "video": video}))
    request: Any = asked_with("--json-input", str(file), "--seed", "6", "--strength", "0.25").request
    assert (request.seed, request.constant_rate_factor) == (6, 40)
    assert (request.video.video_url, request.video.strength, request.video.start_frame_num) == ("clip.mp4", 0.25, 16)


def test_the_source_may_come_from_the_json_request_alone() -> None:
    data = request_data({}, {"video": {"video_url": "a.mp4"}}, None, V098)
    assert data == {"video": {"video_url": "a.mp4"}}
    with pytest.raises(InvalidRequest, match="No source is named"):
        request_data({}, {"video": {}}, None, V098)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "JSON object, not list"),
        ("\xff", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_holds_no_request_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidRequest, match=message):
        json_input(str(file))


def test_unknown_names_in_the_json_request_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    for document in ({"sed": 1}, {"video": {"strenght": 1}}):
        file.write_text(json.dumps(document))
        with pytest.raises(InvalidRequest, match="is not a field of this endpoint"):
            asked_with("--json-input", str(file))


@pytest.mark.parametrize(
    ("args", "new_frames"),
    [
        ([], NEW_FRAMES),
        (["--new-frames", "10"], 10),
        (["--num-frames", "121"], None),
    ],
)
def test_frames_are_added_to_the_whole_source_unless_the_total_is_asked(
    args: list[str], new_frames: int | None
) -> None:
    assert asked_with(*args).new_frames == new_frames


def test_total_and_added_frames_exclude_each_other() -> None:
    with pytest.raises(InvalidRequest, match="--num-frames and --new-frames are given"):
        asked_with("--num-frames", "121", "--new-frames", "10")


def test_guidance_has_no_footage_to_add_to_so_new_frames_are_the_total() -> None:
    asked = asked_with("--conditioning-type", "canny", "--new-frames", "40")
    assert value_at(asked.request, ("num_frames",)) == 40


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--inspect"], ["--inspect="]),
        (["--inspect", "--json"], ["--inspect=", "--json"]),
        (["--inspect", "a.png", "b"], ["--inspect", "a.png", "b"]),
        (["a", "-o", "b"], ["a", "-o", "b"]),
    ],
)
def test_a_flag_may_stand_without_its_value(args: list[str], wanted: list[str]) -> None:
    assert with_value("--inspect", args) == wanted


@pytest.mark.parametrize(
    ("args", "new_frames", "num_frames"),
    [([], None, 121), (["--num-frames", "9"], None, 9), (["--new-frames", "900"], 900, 121)],
)
def test_the_endpoint_that_counts_new_frames_is_taken_at_its_word(
    args: list[str], new_frames: int | None, num_frames: int
) -> None:
    asked = asked_with(*args, endpoint=V23)
    assert (asked.new_frames, value_at(asked.request, ("num_frames",))) == (new_frames, num_frames)


@pytest.mark.parametrize(
    ("text", "wanted"), [("1280x720", {"width": 1280, "height": 720}), ("64X4096", {"width": 64, "height": 4096})]
)
def test_a_size_is_written_with_an_x(text: str, wanted: dict[str, int]) -> None:
    assert value_at(asked_with("--video-size", text, endpoint=V23).request, ("video_size",)).model_dump() == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1280*720", "--video-size is '1280*720'; it must be auto, square_hd"),
        ("32x512", "video_size.width is 32; it must be at least 64"),
        ("720", "or as in 1280x720"),
    ],
)
def test_a_size_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        asked_with("--video-size", text, endpoint=V23)


def test_the_file_is_told_to_the_endpoint_that_has_fields_for_it() -> None:
    file: dict[str, Any] = {"out": Path("a.webm"), "quality": "low", "write_mode": "small"}
    asked = asked_with(endpoint=V23, **file)
    told = [value_at(asked.request, (name,)) for name in ("video_output_type", "video_quality", "video_write_mode")]
    assert told == ["VP9 (.webm)", "low", "small"]
    assert asked.recipe == recipe("VP9 (.webm)", "low", "small") == asked_with(**file).recipe
    assert asked_with(endpoint=V23, out=Path("a.mp4")).recipe == recipe("X264 (.mp4)", "high", "balanced")
    options = ("--video-output-type", "GIF (.gif)", "--video-quality", "maximum")
    assert asked_with(*options, endpoint=V23, out=Path("a.GIF")).recipe == recipe("GIF (.gif)", "maximum", "balanced")
    assert asked_with(*options, endpoint=V23).recipe is None


@pytest.mark.parametrize(
    ("args", "file", "message"),
    [
        (
            ["--video-output-type", "GIF (.gif)"],
            {"out": Path("a.mp4")},
            "--video-output-type is 'GIF (.gif)', and OUT's suffix asks for 'X264 (.mp4)'",
        ),
        (["--video-quality", "low"], {"quality": "high"}, "--video-quality is 'low', and --quality asks for 'high'"),
        (["--video-write-mode", "fast"], {"write_mode": "small"}, "and --write-mode asks for 'small'"),
    ],
)
def test_a_file_told_in_two_ways_is_refused(args: list[str], file: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        asked_with(*args, endpoint=V23, **file)


def test_the_suffix_wins_over_the_json_request(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"video_output_type": "GIF (.gif)", "video_quality": "low"}))
    asked = asked_with("--json-input", str(request), endpoint=V23, out=Path("a.mov"))
    assert asked.recipe == recipe("PRORES4444 (.mov)", "low", "balanced")


def test_loras_go_with_an_endpoint_that_has_no_field_for_them() -> None:
    asked = asked_with("--lora", "b,scale=2", "--lora", "a,weight_name=c", endpoint=V23)
    assert asked.loras == (LoRA("b", 2, None), LoRA("a", 1, "c"))
    with pytest.raises(InvalidRequest, match="scale is '9'; it must be at most 4"):
        asked_with("--lora", "b,scale=9", endpoint=V23)


def test_the_source_of_a_request_is_named_as_its_endpoint_does() -> None:
    assert request_data({}, {"video_url": "a.mp4"}, None, V23) == {"video_url": "a.mp4"}
    with pytest.raises(InvalidRequest, match="or video_url in --json-input") as error:
        request_data({}, {"video": {"video_url": "a.mp4"}}, None, V23)
    assert error.value.loc == ("body", "video_url")
