"""Options are the fields of the request model, and each value reaches its field."""

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from longtake import endpoints
from longtake.cli.command import with_value
from longtake.cli.options import help_text, json_input
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.fields import LoRAWeight
from longtake.errors import InvalidRequest
from longtake.parameters import Parameter, parameters
from tests.cli.calls import V097, V098, V23, call_of, named
from tests.cli.running import run

CASES = [(endpoint, one) for endpoint in ENDPOINTS.values() for one in parameters(endpoint.id)]


def as_option(one: Parameter, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [one.flag if value else f"--no-{one.flag[2:]}"]
    return [f"{one.flag}={value}"]


def other_value(field: Any) -> Any:
    """A valid value of the field that is not its default."""
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


@pytest.mark.parametrize(("endpoint", "one"), CASES, ids=named)
def test_every_option_reaches_its_field_of_the_request(endpoint: Endpoint[Any, Any], one: Parameter) -> None:
    if one.items is not None:
        args, wanted = (
            [one.flag, "sea.safetensors,scale=0.5"],
            [LoRAWeight(path="sea.safetensors", scale=0.5, weight_name=None)],
        )
    else:
        wanted = other_value(one.info)
        args = as_option(one, wanted)
    assert value_at(call_of(*args, endpoint=endpoint).request, one.loc) == wanted


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=named)
def test_every_field_but_the_source_has_its_own_option(endpoint: Endpoint[Any, Any]) -> None:
    fields = {
        (name, inner) if is_model(field) else (name,)
        for name, field in endpoint.Request.model_fields.items()
        for inner in (field.annotation.model_fields if is_model(field) else [None])
    }
    known = parameters(endpoint.id)
    assert {one.loc for one in known} == fields - {endpoint.source_field}
    assert len({one.flag for one in known}) == len(known)


def is_model(field: Any) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def help_texts(endpoint: Endpoint[Any, Any]) -> dict[str, str]:
    return {one.flag: help_text(one, endpoint) for one in parameters(endpoint.id)}


def test_help_shows_limits_and_defaults_of_the_endpoints_fields() -> None:
    assert "0 to 1; default: 0.5" in help_texts(V098)["--temporal-adain-factor"]
    assert "0 to 120; a multiple of 8" in help_texts(V097)["--start-frame-num"]
    assert "0 to 1440; a multiple of 8" in help_texts(V098)["--start-frame-num"]
    assert "480p or 720p; default: 720p" in help_texts(V098)["--resolution"]
    assert "required" in help_texts(V098)["--prompt"]
    assert "default: yes" in help_texts(V097)["--expand-prompt"]


def test_help_shows_what_happens_without_a_count_or_a_rate() -> None:
    for name in ("0.9.8", "2.3", "2.3-quality", "2.3-seconds", "0.9.7-dev"):
        known = endpoints.endpoint(name)
        flag = f"--{known.count_field}".replace("_", "-")
        assert help_texts(known)[flag].endswith("Without it and --new-frames 96 frames are added to the whole source.")
        assert "default: 121" not in help_texts(known)[flag]
    assert help_texts(V098)["--frame-rate"].endswith("Without it the video plays at the source's own rate.")
    assert help_texts(V23)["--fps"].endswith("Without it the video plays at the source's own rate.")


@pytest.mark.parametrize("endpoint", [None, "0.9.7", "2.3", "2.3-quality"])
def test_help_shows_only_the_options_of_the_chosen_endpoint(
    endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = run("extend", *([] if endpoint is None else ["--endpoint", endpoint]), "--help-all")
    chosen = endpoints.endpoint(endpoint or endpoints.DEFAULT)
    assert shown.status == 0
    assert f"Request of {chosen.name}" in shown.out
    flags = set(re.findall(r"--[a-z][a-z0-9-]+", shown.out))
    own = {one.flag for one in parameters(chosen.id)}
    others = {one.flag for other in ENDPOINTS for one in parameters(other)} - own - {"--lora", "--seed"}
    assert own | {"--lora", "--seed", "--new-frames", "--quality"} <= flags
    assert not others & {flag for flag in flags if re.search(rf"^\W*{flag}\b", shown.out, re.MULTILINE)}
    assert all(one.name in shown.out for one in ENDPOINTS.values()), "the help of --endpoint lists all endpoints"


def test_nested_fields_with_a_taken_name_get_a_prefix() -> None:
    request = call_of("--video-reverse-video").request
    assert value_at(request, ("video", "reverse_video"))
    assert not value_at(request, ("reverse_video",))


def test_several_loras_keep_their_order() -> None:
    loras = value_at(call_of("--lora", "b,scale=2", "--lora", "a").request, ("loras",))
    assert [(lora.path, lora.scale) for lora in loras] == [("b", 2), ("a", 1)]


def test_options_override_single_fields_of_the_json_request(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    video = {"video_url": "other.mp4", "strength": 0.5, "start_frame_num": 16}
    file.write_text(json.dumps({"seed": 5, "constant_rate_factor": 40, "video": video}))
    request: Any = call_of("--json-input", str(file), "--seed", "6", "--strength", "0.25").request
    assert (request.seed, request.constant_rate_factor) == (6, 40)
    assert (request.video.video_url, request.video.strength, request.video.start_frame_num) == ("clip.mp4", 0.25, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "must hold a request as a JSON object"),
        ("\xff", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_without_a_json_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidRequest, match=message):
        json_input(str(file))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_another_program_is_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "request.json"
    file.write_text('{"prompt": "é"}', encoding)
    assert json_input(str(file)) == {"prompt": "é"}


def test_unknown_fields_of_the_json_request_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    for document, sentence in (
        ({"sed": 1}, "sed is not a field of this endpoint; perhaps seed is meant."),
        ({"video": {"strenght": 1}}, "video.strenght is not a field of this endpoint; perhaps strength is meant."),
        ({"zzz": 1}, "zzz is not a field of this endpoint."),
    ):
        file.write_text(json.dumps(document))
        with pytest.raises(InvalidRequest) as caught:
            call_of("--json-input", str(file))
        assert caught.value.message == sentence


def test_a_source_in_the_wrong_place_is_told_as_such(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text('{"prompt": "sea", "video": "clip.mp4"}')
    assert run("plan", "--json-input", file).err == "Error: video is 'clip.mp4'; it must be an object.\n"


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--inspect"], ["--inspect="]),
        (["--inspect", "--json"], ["--inspect=", "--json"]),
        (["--inspect", "a.png", "b"], ["--inspect", "a.png", "b"]),
        (["a", "-o", "b"], ["a", "-o", "b"]),
    ],
)
def test_a_flag_without_a_value_gets_an_empty_one(args: list[str], wanted: list[str]) -> None:
    assert with_value("--inspect", args) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"), [("1280x720", {"width": 1280, "height": 720}), ("64X4096", {"width": 64, "height": 4096})]
)
def test_a_size_is_parsed_from_width_x_height(text: str, wanted: dict[str, int]) -> None:
    assert value_at(call_of("--video-size", text, endpoint=V23).request, ("video_size",)).model_dump() == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1280*720", "video_size is '1280*720'; it must be auto, square_hd"),
        ("32x512", "video_size.width is 32; it must be at least 64"),
        ("720", "or as in 1280x720"),
    ],
)
def test_an_invalid_size_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        call_of("--video-size", text, endpoint=V23)


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=named)
@pytest.mark.parametrize("command", ["extend", "plan"])
def test_no_option_name_is_cut_on_a_narrow_terminal(
    command: str, endpoint: Endpoint[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(command, "--endpoint", endpoint.id, "--help-all")
    assert shown.status == 0
    first_words = {word.rstrip(",") for line in shown.out.splitlines() for word in line.split()[:1]}
    assert {one.flag for one in parameters(endpoint.id)} <= first_words
    assert "…" not in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_the_default_help_is_short_and_names_the_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    short, whole = (run("extend", "--endpoint", "2.3", flag).out for flag in ("--help", "--help-all"))
    assert "--prompt" in short
    assert "--audio-stg-scale" not in short
    assert "more options of this endpoint: --help-all" in short
    assert "--audio-stg-scale" in whole
    assert len(short.splitlines()) < len(whole.splitlines()) / 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["extend", "a.mp4", "--strenght", "1"], "--strenght"),
        (["extend", "a.mp4", "--prompt", "x"], "--output"),
        (["plan", "a.mp4", "--new-frames", "x"], "--new-frames"),
        (["models", "pull"], "'NAME'"),
        (["nothing"], "nothing"),
        (["extend"], "--output"),
        (["plan"], "No source is named"),
    ],
)
def test_a_usage_error_is_json_too(args: list[str], message: str) -> None:
    ran = run(*args, "--json")
    assert ran.status == 2
    (detail,) = ran.document["detail"]
    assert message in detail["msg"]
    assert detail["msg"].endswith((".", "?", "!", ")"))
    assert "Error: " in ran.err


@pytest.mark.parametrize("args", [[], ["models"], ["keys"]])
def test_no_sentence_is_cut_in_a_list_of_commands(args: list[str]) -> None:
    assert "..." not in run(*args, "--help").out.partition("Commands:")[2]


def test_a_usage_error_shows_the_value_and_the_field() -> None:
    ran = run("plan", "a.mp4", "--prompt", "x", "--new-frames", "12x", "--json")
    (detail,) = ran.document["detail"]
    assert (detail["loc"], detail["input"]) == (["body", "new_frames"], "12x")
    assert "Invalid value for '--new-frames': 12x. It must be a whole number." in ran.err
    for value, sentence in (("0", "It must be at least 1."), ("1442", "It must be at most 1441.")):
        wrong = run("plan", "a.mp4", "--prompt", "x", "--new-frames", value).err
        assert f"Invalid value for '--new-frames': {value}. {sentence}" in wrong
    wrong = run("extend", "a.mp4", "-o", "b.mp4", "--quality", "best").err
    assert "Invalid value for '--quality': best. 'best' is not one of 'low', 'medium', 'high', 'maximum'." in wrong


def test_an_error_names_the_option() -> None:
    ran = run("plan", "a.mp4", "--prompt", "x", "--strength", "1.5", "--json")
    assert ran.err == "Error: --strength: video.strength is 1.5; it must be at most 1.0.\n"
    assert ran.document["detail"][0]["loc"] == ["body", "video", "strength"]
    assert run("plan", "a.mp4").err.startswith("Error: --prompt: ")
    assert run("plan", "a.mp4", "--prompt", "x", "--fps", "30").err.startswith("Error: --fps: fps is not an option of")


def test_a_model_of_another_family_is_refused_before_it_is_looked_for() -> None:
    ran = run("extend", "a.mp4", "-o", "b.mp4", "--prompt", "x", "--model", "ltx-2.3")
    assert ran.status == 2
    assert "ltx-2.3 cannot do what fal-ai/ltxv-13b-098-distilled/extend asks for" in ran.err
