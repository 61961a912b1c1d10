"""The label of a result: it makes the same request again, and has no secrets."""

import json
from typing import Any

import pytest

from longtake.endpoints import ENDPOINTS, ltx23_lora, ltxv098
from longtake.endpoints.label import label, public_address
from longtake.endpoints.validation import parse
from longtake.media.tags import MOST_COMMENT_BYTES
from longtake.planning import Overrides
from longtake.version import __version__
from tests.service.serving import INPUTS

SOURCE = "https://user:pass@example.com/a.mp4?token=1"


def input_of(endpoint: str, more: dict[str, Any], **replaced: Any) -> dict[str, Any]:
    found = ENDPOINTS[endpoint]
    made = json.loads(label(found, parse(found.Request, {**INPUTS[endpoint], **more}), replaced))
    assert (made["longtake"], made["endpoint"]) == (__version__, endpoint)
    return dict(made["input"])


@pytest.mark.parametrize("endpoint", INPUTS)
def test_the_input_makes_an_equal_request(endpoint: str) -> None:
    found = ENDPOINTS[endpoint]
    request = parse(found.Request, INPUTS[endpoint])
    *parents, last = found.source_field
    input = input_of(endpoint, {}, seed=7)
    place = input
    for name in parents:
        place = place[name]
    assert last not in place
    place[last] = found.source_url(request)
    expected = request.model_dump() | ({"seed": 7} if "seed" in found.Request.model_fields else {})
    assert parse(found.Request, input).model_dump() == expected


def test_it_has_no_addresses_that_could_be_secrets() -> None:
    loras = [
        "owner/name",
        "mine.safetensors",
        "https://example.com/l.safetensors?key=1",
        "data:,abc",
        "/home/me/l",
        "C:x",
    ]
    more = {"loras": [{"path": path, "scale": 0.5} for path in loras], "end_image_url": f"{SOURCE}#part"}
    input = input_of(ltx23_lora.ENDPOINT.id, {**more, "video_url": SOURCE})
    assert "video_url" not in input
    assert input["end_image_url"] == "https://example.com/a.mp4"
    paths = ["owner/name", "mine.safetensors", "https://example.com/l.safetensors", "", "", ""]
    assert input["loras"] == [{"path": path, "scale": 0.5} for path in paths]
    hidden = input_of(ltx23_lora.ENDPOINT.id, {"end_image_url": "data:image/png;base64,AAAA", "loras": []})
    assert "end_image_url" not in hidden


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://example.com/a/b.mp4", "https://example.com/a/b.mp4"),
        ("  http://me@example.com:81/a.mp4?x=1#y ", "http://example.com:81/a.mp4"),
        ("http://localhost:8000/cdn/files/0123456789abcdef0123456789abcdef.mp4", ""),
        ("https://v3b.fal.media/files/b/0a/x.mp4", ""),
        ("data:video/mp4;base64,AAAA", ""),
        ("/home/me/a.mp4", ""),
        ("file:///home/me/a.mp4", ""),
        ("http://[", ""),
        ("", ""),
    ],
)
def test_public_addresses(url: str, address: str) -> None:
    assert public_address(url) == address


def test_what_the_command_line_changes_is_in_it() -> None:
    changed = Overrides(new_frames=5, own_rate=True, output="GIF (.gif)", quality="low").fields(ltx23_lora.ENDPOINT)
    input = input_of(ltx23_lora.ENDPOINT.id, {"loras": []}, **changed)
    assert "num_frames" not in input
    assert (input["match_input_fps"], input["video_output_type"], input["video_quality"]) == (True, "GIF (.gif)", "low")
    assert Overrides().fields(ltx23_lora.ENDPOINT) == {}
    unknown = Overrides(output="GIF (.gif)", new_frames=5).fields(ltxv098.ENDPOINT)
    assert "num_frames" not in input_of(ltxv098.ENDPOINT.id, {}, **unknown)


def test_a_prompt_of_any_characters_and_lengths() -> None:
    prompt = '\u65e5\u672c \u200b \U0001f600 \0 \n "'
    assert input_of(ltxv098.ENDPOINT.id, {"prompt": prompt})["prompt"] == prompt
    found = ltxv098.ENDPOINT
    long = parse(found.Request, {**INPUTS[found.id], "prompt": "x" * MOST_COMMENT_BYTES})
    assert label(found, long, {}) == ""
