"""Named parameters of a request, for the command line and the library."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field

from longtake.cli import app
from longtake.cli.options import signature
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.fields import LoRAWeight
from longtake.errors import InvalidRequest
from longtake.parameters import RESERVED, LocalRequest, UserInput, list_item, local_request, parameters, request_data
from longtake.settings import settings
from tests.cli.calls import V098, V23, named
from tests.cli.running import run
from tests.cli.test_options import CASES
from tests.endpoints.made_up import ENDPOINT


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
    assert list_item(text, LoRAWeight, "--lora") == wanted


@pytest.mark.parametrize("text", ["", ",scale=1", "path="])
def test_a_lora_without_a_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="names no path"):
        list_item(text, LoRAWeight, "--lora")


def lacking() -> list[tuple[Endpoint[Any, Any], str, list[str]]]:
    """Endpoint, name of a parameter that it lacks, and the names of the endpoints that have it."""
    holders: dict[str, list[str]] = {}
    for endpoint, one in CASES:
        holders.setdefault(one.name, []).append(endpoint.name)
    return [
        (endpoint, name, able)
        for name, able in holders.items()
        if name not in ("lora", "seed")
        for endpoint in ENDPOINTS.values()
        if endpoint.name not in able
    ]


@pytest.mark.parametrize(("endpoint", "name", "able"), lacking())
def test_the_error_of_another_endpoints_option_names_the_endpoints_that_have_it(
    endpoint: Endpoint[Any, Any], name: str, able: list[str]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_data(endpoint, {name: "x"}, {}, "clip.mp4")
    wanted = f"{name} is not an option of {endpoint.name}; these endpoints have it: {', '.join(able)}."
    assert caught.value.message == wanted


@pytest.mark.parametrize(
    ("name", "message"),
    [("strenght", "strenght is not an option of 0.9.8; perhaps strength is meant."), ("zzz", "of 0.9.8.")],
)
def test_the_error_of_a_mistyped_option_suggests_a_name(name: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_data(V098, {name: 1}, {}, "clip.mp4")
    assert caught.value.message.endswith(message)


def test_the_source_may_come_from_the_json_request_alone() -> None:
    data = request_data(V098, {}, {"video": {"video_url": "a.mp4"}}, None)
    assert data == {"video": {"video_url": "a.mp4"}}
    with pytest.raises(InvalidRequest, match="No source is named"):
        request_data(V098, {}, {"video": {}}, None)


def test_the_source_is_set_in_the_endpoints_own_field() -> None:
    assert request_data(V23, {}, {"video_url": "a.mp4"}, None) == {"video_url": "a.mp4"}
    with pytest.raises(InvalidRequest, match="or video_url in a request's JSON") as error:
        request_data(V23, {}, {"video": {"video_url": "a.mp4"}}, None)
    assert error.value.loc == ("body", "video_url")


class Odd(BaseModel):
    """A request whose fields have names and types that no endpoint has so far."""

    video_url: str
    tags: list[str] = Field([], description="Words.")
    amount: int | Literal["all"] = 1
    level: Literal["low", "high"] | None = None
    debug: bool = False
    output: str = "none"
    quality: int = 3


MADE_UP: Endpoint[Any, Any] = ENDPOINT
ODD = replace(MADE_UP, id="made-up/odd", name="odd", Request=Odd, source_field=("video_url",), count_field=None)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Endpoint[Any, Any]:
    monkeypatch.setitem(ENDPOINTS, ODD.id, ODD)
    return ODD


def test_fields_of_any_name_and_type_are_options(odd: Endpoint[Any, Any]) -> None:
    assert [one.name for one in parameters(odd.id)] == [
        "tag", "amount", "level", "request_debug", "request_output", "request_quality",
    ]  # fmt: skip
    shown = run("extend", "--endpoint", "odd", "--help-all")
    assert shown.status == 0
    assert "--request-output" in shown.out
    words = ["clip.mp4", "--tag", "a", "--tag", "b", "--amount", "7", "--level", "high", "--request-output", "x"]
    request: Any = parsed(odd, "plan", *words).request
    assert (request.tags, request.amount, request.level, request.output) == (["a", "b"], 7, "high", "x")


def parsed(endpoint: Endpoint[Any, Any], *words: str) -> LocalRequest:
    command: Any = typer.main.get_command(app)
    with command.commands[words[0]].make_context(words[0], [*words[1:], "--endpoint", endpoint.id]) as context:
        fields = {name: context.params[name] for name in signature(endpoint.id).parameters}
        return local_request(endpoint, UserInput(fields, context.params["source"]), settings())


def test_no_endpoint_has_a_field_with_a_reserved_name() -> None:
    taken = {one.name for name in ENDPOINTS for one in parameters(name)} & RESERVED
    assert not taken, "its option would not have its name"


def test_loras_of_the_json_request_stay_unless_others_are_passed() -> None:
    base = {"loras": [{"path": "a.safetensors", "scale": 0.5}]}
    for arguments in ({}, {"lora": ()}, {"lora": None}):
        assert request_data(V098, arguments, base, "clip.mp4")["loras"] == base["loras"]
    assert request_data(V098, {"lora": ("b",)}, base, "clip.mp4")["loras"] == [{"path": "b"}]
    needed = next(one for one in ENDPOINTS.values() if one.id.endswith("/lora"))
    assert request_data(needed, {"lora": []}, {}, "clip.mp4")["loras"] == [], "an endpoint that needs a list takes none"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"new_frames": 0}, "new_frames is 0; it must be at least 1"),
        ({"new_frames": 9.5}, "new_frames is 9.5"),
        ({"new_frames": True}, "new_frames is True"),
        ({"new_frames": 1442}, "it must be at most 1441"),
        ({"quality": "best"}, "quality is 'best'; it must be one of 'low', 'medium', 'high' or 'maximum'"),
        ({"write_mode": "slow"}, "write_mode is 'slow'"),
        ({"seed": 2**64}, "a whole number from -2**63 to 2**64 - 1"),
    ],
)
@pytest.mark.parametrize("endpoint", [V098, V23], ids=named)
def test_local_parameters_are_validated(endpoint: Endpoint[Any, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        local_request(endpoint, UserInput({"prompt": "sea"} | arguments, "clip.mp4"), settings())
    assert message in error.value.message
    assert error.value.loc == ("body", *arguments)
