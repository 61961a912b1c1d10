"""Requests from the form to the player, with the embedded models as the real models."""

import base64
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import httpx
import pytest

from longtake.endpoints import ENDPOINTS
from tests.browser.test_pages import LOW_CONTRAST
from tests.contract.conftest import Running
from tests.service.finished import CLIP
from tests.service.serving import LTX2, LTXV

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

NINE: dict[str, Any] = {"video": {"max_num_frames": 9, "limit_num_frames": True}}
SHORT: dict[str, Any] = {"num_frames": 17, "resolution": "480p", "aspect_ratio": "1:1", **NINE}
TWO: dict[str, Any] = {"first_pass_num_inference_steps": 4, "second_pass_num_inference_steps": 4}
TWO_STEPS: dict[str, Any] = {**TWO, "second_pass_skip_initial_steps": 2}
SMALL: dict[str, Any] = {"num_frames": 17, "num_context_frames": 9, "num_inference_steps": 8}
SMALL_VIDEO: dict[str, Any] = {**SMALL, "video_size": {"width": 64, "height": 64}, "use_multiscale": False}
SMALL_INPUTS: dict[str, dict[str, Any]] = {
    "fal-ai/ltx-video-v097/extend": {"resolution": "480p", "num_inference_steps": 2},
    "fal-ai/ltx-video-13b-dev/extend": {**SHORT, **TWO_STEPS, "first_pass_skip_final_steps": 1},
    "fal-ai/ltx-video-13b-distilled/extend": {**SHORT, **TWO_STEPS},
    LTXV: {**SHORT, "first_pass_num_inference_steps": 2},
    LTX2: SMALL_VIDEO,
    "fal-ai/ltx-2.3-22b/extend-video/lora": SMALL_VIDEO,
    "fal-ai/ltx-2.3-quality/extend-video": {**SMALL, "resolution": {"width": 64, "height": 64}},
    "fal-ai/ltx-2.3/extend-video": {"duration": 2},
}
"""A quick input of each endpoint, without its source and its prompt."""


def fill(tab: "Page", endpoint: str) -> None:
    """Chooses the example clip, and writes the quick input through the JSON view."""
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.get_by_text("33 frames").first.wait_for()
    tab.get_by_role("button", name="JSON").click()
    box = tab.get_by_label("Request as JSON")
    written = json.loads(box.input_value())
    body = {**SMALL_INPUTS[endpoint], "prompt": "the disc moves on"}
    if "video" in written:
        body["video"] = {**body.get("video", {}), **written["video"]}
    else:
        body["video_url"] = written["video_url"]
    box.fill(json.dumps(body))
    tab.get_by_role("button", name="Form").click()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_from_a_file_to_a_video_that_plays(real: Running, tab: "Page", endpoint: str) -> None:
    tab.goto(f"{real.http}/models/{endpoint}")
    fill(tab, endpoint)
    tab.locator(".context dl").get_by_text("the model sees").wait_for()
    tab.locator(".plan:not(.stale)").wait_for(state="attached")
    tab.locator(".price").filter(has_text="on fal").wait_for()
    tab.get_by_role("button", name="Run", exact=True).click()
    film = tab.locator(".player video").first
    film.or_(tab.get_by_role("heading", name="It failed")).first.wait_for()
    assert film.is_visible(), tab.locator("#output").inner_text()
    tab.wait_for_function("() => document.querySelector('.player video').readyState >= 2")
    film.evaluate("film => { film.muted = true; return film.play(); }")
    tab.wait_for_function("() => document.querySelector('.player video').currentTime > 0.3")
    if endpoint == LTX2:
        tab.get_by_role("button", name="Loop the joint").click()
        joint_s = tab.evaluate("parseFloat(document.querySelector('.joint').style.left) / 100")
        assert 0 < joint_s < 1
        tab.get_by_text("Inspect the joint").click()
        tab.locator(".inspection img").wait_for()
    tab.get_by_role("button", name="Extend again").click()
    tab.locator(".context dl").get_by_text("the model sees").wait_for()
    tab.locator(".view video").wait_for()
    tab.get_by_role("button", name="JSON").click()
    written = json.loads(tab.get_by_label("Request as JSON").input_value())
    url = written["video"]["video_url"] if "video" in written else written["video_url"]
    assert re.fullmatch(rf"{real.http}/cdn/files/[^/]+", url), "a plain URL of this server"
    assert "/cdn/files/" in tab.evaluate("() => document.querySelector('.view video').src")


def test_a_request_is_cancelled(real: Running, tab: "Page") -> None:
    tab.goto(f"{real.http}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.get_by_label("Prompt *").fill("the disc moves on")
    tab.locator(".price").wait_for()
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.get_by_text("Sampling new frames").first.wait_for()
    tab.locator("img.preview").wait_for()
    tab.reload()
    tab.get_by_text("Sampling new frames").first.wait_for()
    tab.get_by_role("button", name="Cancel").click()
    tab.get_by_role("heading", name="Cancelled").wait_for()


def test_an_error_is_shown_at_its_field(real: Running, tab: "Page") -> None:
    tab.goto(f"{real.http}/models/{LTXV}")
    tab.get_by_label("Prompt *").fill("")
    tab.get_by_role("button", name="Run", exact=True).click()
    field = tab.locator('[data-path="video.video_url"]')
    field.locator(".error").filter(has_text="Video is needed.").wait_for()
    tab.locator('[data-path="prompt"] .error').filter(has_text="Prompt is needed.").wait_for()
    field.locator("input[type=url]").fill("https://127.0.0.1:1/no.mp4")
    field.locator("input[type=url]").press("Tab")
    field.get_by_text("could not be downloaded").or_(field.get_by_text("127.0.0.1")).first.wait_for()


def drop(tab: "Page", content: bytes) -> None:
    """Drops a video on the form."""
    data = tab.evaluate_handle(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "clip.mp4", { type: "video/mp4" }));
          return data;
        }""",
        list(content),
    )
    place = tab.locator(".of-video .drop")
    place.wait_for()
    place.dispatch_event("drop", {"dataTransfer": data})


def test_a_dropped_file_is_taken(real: Running, tab: "Page") -> None:
    tab.goto(f"{real.http}/models/{LTXV}")
    drop(tab, CLIP.read_bytes())
    tab.get_by_text("33 frames").first.wait_for()


def test_a_dropped_result_fills_the_form(real: Running, tab: "Page") -> None:
    body = {**SMALL_VIDEO, "generate_audio": False, "prompt": "a disc", "seed": 7}
    source = "data:video/mp4;base64," + base64.b64encode(CLIP.read_bytes()).decode()
    made = httpx.post(f"{real.http}/run/{LTX2}", json={**body, "video_url": source}, timeout=120).json()
    tab.goto(f"{real.http}/models/{LTX2}")
    drop(tab, httpx.get(made["video"]["url"]).content)
    tab.get_by_text("The settings in the file fill the form").wait_for()
    tab.get_by_role("button", name="JSON").click()
    written = json.loads(tab.get_by_label("Request as JSON").input_value())
    assert {name: written.get(name) for name in body} == body
    assert written["video_url"].startswith(f"{real.http}/cdn/files/")


def test_a_dropped_file_makes_the_server_fetch_nothing(real: Running, tab: "Page") -> None:
    elsewhere = "https://127.0.0.1:1/end.png"
    made = {"longtake": "1.0", "endpoint": LTX2, "input": {"prompt": "a disc", "end_image_url": elsewhere}}
    imported: list[str] = []
    tab.on("request", lambda one: imported.append(one.post_data or "") if one.url.endswith("/media/import") else None)
    tab.route("**/facts", lambda route: route.fulfill(json={**route.fetch().json(), "settings": made}))
    tab.goto(f"{real.http}/models/{LTX2}")
    drop(tab, CLIP.read_bytes())
    fill = tab.get_by_role("button", name="Use the settings in the file")
    fill.wait_for()
    tab.locator(".price").wait_for()
    assert imported == []
    fill.click()
    tab.get_by_text("The settings in the file fill the form").wait_for()
    tab.locator(".of-image .error, .of-image .facts").filter(has_text="127.0.0.1").first.wait_for()
    assert [json.loads(body)["url"] for body in imported] == [elsewhere]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_field_has_a_control_and_keeps_its_value(real: Running, tab: "Page", endpoint: str) -> None:
    """A request that is entered as JSON, shown as a form and read again is the same."""
    tab.goto(f"{real.http}/models/{endpoint}")
    tab.get_by_role("button", name="JSON").click()
    box = tab.get_by_label("Request as JSON")
    written = {**SMALL_INPUTS[endpoint], "prompt": "x"}
    box.fill(json.dumps(written))
    tab.get_by_role("button", name="Form").click()
    tab.get_by_role("button", name="JSON").click()
    found = json.loads(box.input_value())
    for name, value in written.items():
        if name in found:
            assert found[name] == value
        else:
            assert ENDPOINTS[endpoint].Request.model_fields[name].default == value
    schema = tab.evaluate(
        """async (id) => {
          const { loadEndpoint } = await import("/static/schema.js");
          return (await loadEndpoint(id)).fields.map(({ path }) => path.join("."));
        }""",
        endpoint,
    )
    shown = tab.locator("[data-path]").evaluate_all("nodes => nodes.map((node) => node.dataset.path)")
    assert sorted(shown) == sorted(schema)
    top = {name.partition(".")[0] for name in schema}
    assert top == set(ENDPOINTS[endpoint].Request.model_fields)
    tab.get_by_role("button", name="Reset").click()
    assert "num_frames" not in json.loads(box.input_value())


@pytest.mark.parametrize("codec", ["prores_ks", "mpeg4", "gif"])
def test_a_file_that_a_browser_cannot_play_is_shown_from_a_copy(
    real: Running, tab: "Page", tmp_path: Path, codec: str
) -> None:
    path = tmp_path / {"prores_ks": "clip.mov", "mpeg4": "clip.avi", "gif": "clip.gif"}[codec]
    with av.open(str(CLIP)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=24)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = 128, 64
        stream.pix_fmt = {"prores_ks": "yuv422p10le", "mpeg4": "yuv420p", "gif": "rgb8"}[codec]
        for number, frame in zip(range(16), source.decode(video=0), strict=False):
            frame = frame.reformat(128, 64, stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    asked: list[str] = []

    def copy(route: "Route") -> None:
        asked.append(route.request.url)
        if len(asked) < 4:
            route.fulfill(status=202, json={"share": 0.2})
        else:
            route.continue_()

    tab.route("**/media/*/copy", copy)
    tab.goto(f"{real.http}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(path)
    tab.get_by_text("Making a copy that this browser can play").wait_for()
    assert tab.evaluate(LOW_CONTRAST) == []
    tab.get_by_text("16 frames").first.wait_for()
    tab.locator(".strip img").wait_for()
    film = tab.locator(".view video")
    film.wait_for()
    assert "/copy" in str(film.get_attribute("src"))
    film.evaluate("film => film.play()")
    tab.wait_for_function("() => document.querySelector('.view video').currentTime > 0.1")


def test_enter_in_a_field_does_not_run(real: Running, tab: "Page") -> None:
    tab.goto(f"{real.http}/models/{LTX2}")
    field = tab.locator('[data-path="num_frames"] input[type=number]')
    field.fill("97")
    field.press("Enter")
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.locator('[data-path="video_url"] .error').filter(has_text="is needed").wait_for()
    assert "request=" not in tab.url, "an empty form is not sent"
