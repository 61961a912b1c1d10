"""The playground's form in a browser: the example, JSON, LoRAs, files of earlier requests, and errors of files."""

import json
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.service.finished import CLIP, finished, submit
from tests.service.serving import LTX2, LTXV, Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser


def test_an_example_is_shown_before_the_first_request_and_fills_the_form(served: Served, tab: "Page") -> None:
    tab.goto(served.url)
    tab.locator("#models .card").filter(has_text="LTX-2.3 quality").get_by_text("example of ltx2-tiny").wait_for()
    card = tab.locator("#models .card").filter(has_text="LTX-Video 0.9.8 distilled")
    for text in ("the source's sound only", "$0.020 per second on fal", "ltxv-tiny stands in", LTXV):
        card.get_by_text(text).first.wait_for()
    card.get_by_role("link").click()
    tab.get_by_text("made by ltxv-tiny, a miniature in the package").wait_for()
    tab.wait_for_function("() => document.querySelector('.example video').currentTime > 0.2")
    tab.get_by_role("button", name="Try it with this source").click()
    tab.get_by_text("65 frames").first.wait_for()
    assert tab.get_by_label("Prompt *").input_value().startswith("a city at night")
    tab.locator(".price").filter(has_text="on fal").wait_for()


def test_wrong_json_is_refused_with_its_line_and_unknown_fields_with_their_names(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTXV}")
    tab.get_by_role("button", name="JSON").click()
    box = tab.get_by_label("Request as JSON")
    for text, problem in (
        ('{\n  "prompt": "x"\n  "seed": 7\n}', "Line 3: "),
        ('{"prompt": "x", "sed": 7, "video": {"strenght": 1}}', "no field sed or video.strenght"),
    ):
        box.fill(text)
        tab.get_by_role("alert").filter(has_text=problem).wait_for()
        tab.get_by_role("button", name="Form").click()
        assert box.is_visible(), "the form cannot show it"
    box.fill('{"prompt": "y"}')
    tab.get_by_role("button", name="Form").click()
    assert tab.get_by_label("Prompt *").input_value() == "y"


def test_the_reason_why_a_text_fills_no_form_is_seen_on_a_phone(served: Served, tab: "Page") -> None:
    tab.set_viewport_size({"width": 390, "height": 700})
    tab.goto(f"{served.url}/models/{LTXV}")
    tab.get_by_role("button", name="JSON").click()
    tab.get_by_label("Request as JSON").fill('{"sed": 7}')
    reason = tab.get_by_role("alert").filter(has_text="no field sed")
    reason.wait_for()
    tab.get_by_role("button", name="Form").click()
    on_top = "one => { const at = one.getBoundingClientRect(); return document.elementFromPoint(at.x, at.y) === one; }"
    assert reason.evaluate(on_top)


def test_a_text_in_the_json_view_is_planned_as_it_is_written_and_follows_the_form(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    tab.get_by_role("button", name="JSON").click()
    box = tab.get_by_label("Request as JSON")
    first = json.loads(box.input_value())
    with tab.expect_response("**/plan") as answer:
        box.fill(json.dumps({**first, "num_frames": 41}))  # in one line, as the page does not write it
    planned = tab.locator("#form:not(.planning) .price").filter(
        has_text=f"{answer.value.json()['context']['new_frames']} new"
    )
    planned.wait_for()
    right = box.input_value()
    box.fill(f"{right}x")
    error = tab.get_by_role("alert").filter(has_text="This is no JSON yet.")
    error.wait_for()
    box.fill(right)
    error.wait_for(state="detached")
    planned.wait_for()
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.wait_for_function(
        "old => JSON.parse(document.querySelector('textarea.code').value).video_url !== old", arg=first["video_url"]
    )
    planned.wait_for()


def test_loras_of_the_server_are_offered_and_have_a_slider(tmp_path: Path, tab: "Page") -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "dolly.safetensors").write_bytes(b"x")
    with serving(tmp_path / "data", slots=("cpu",), loras_dir=tmp_path / "loras") as served:
        tab.goto(f"{served.url}/models/{LTXV}")
        tab.get_by_text("LoRAs and camera").click()
        tab.get_by_role("button", name="Add a LoRA").click()
        tab.locator("datalist option").first.wait_for(state="attached")
        names = tab.locator("datalist option").evaluate_all("options => options.map((one) => one.value)")
        assert names == ["dolly.safetensors"]
        tab.get_by_label("LoRA", exact=True).fill("dolly.safetensors")
        tab.get_by_label("Scale of the LoRA, slider").fill("0.65")
        tab.get_by_role("button", name="JSON").click()
        written = json.loads(tab.get_by_label("Request as JSON").input_value())
    assert written["loras"] == [{"path": "dolly.safetensors", "scale": 0.65}]


def test_the_last_frame_of_a_recent_video_becomes_the_end_image(served: Served, tab: "Page") -> None:
    submit(served, "the disc")
    finished(served, served.claim())
    tab.goto(f"{served.url}/models/{LTX2}")
    image = tab.locator(".of-image")
    image.get_by_text("the last frame of a recent video").click()
    image.get_by_role("button", name="the disc").click()
    shown = image.get_by_role("img", name="The chosen image")
    shown.wait_for()
    assert shown.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [112, 64]
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()


def test_uploads_that_no_request_has_used_are_offered(served: Served, tab: "Page", tmp_path: Path) -> None:
    path = tmp_path / "end.png"
    Image.new("RGB", (48, 32), "teal").save(path)
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator(".of-video input[type=file]").set_input_files(CLIP)
    tab.get_by_text("33 frames").first.wait_for()
    tab.locator(".of-image input[type=file]").set_input_files(path)
    tab.get_by_role("img", name="The chosen image").wait_for()
    tab.get_by_role("button", name="Reset").click()
    for kind, summary, name in (
        ("video", "A recent video", CLIP.name),
        ("image", "A recent image, or the last frame of a recent video", "end.png"),
    ):
        field = tab.locator(f".of-{kind}")
        field.get_by_text(summary, exact=True).click()
        field.get_by_role("button", name=name).click()
    tab.get_by_text("33 frames").first.wait_for()
    tab.get_by_role("img", name="The chosen image").wait_for()


def test_an_earlier_end_image_is_offered_again(served: Served, tab: "Page", tmp_path: Path) -> None:
    path = tmp_path / "end.png"
    Image.new("RGB", (48, 32), "teal").save(path)
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator(".of-image input[type=file]").set_input_files(path)
    tab.locator(".of-video input[type=file]").set_input_files(CLIP)
    tab.get_by_role("img", name="The chosen image").wait_for()
    tab.get_by_label("Prompt *").fill("into teal")
    tab.locator(".price").filter(has_text="on fal").wait_for()
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.get_by_text("Next in line").wait_for()
    finished(served, served.claim())
    tab.get_by_role("button", name="Extend again").wait_for()
    image = tab.locator(".of-image")
    image.get_by_role("button", name="Remove").click()
    image.get_by_text("A recent image").click()
    group = image.locator("section").filter(has=tab.get_by_role("heading", name="End images"))
    group.get_by_role("button", name="into teal").click()
    shown = image.get_by_role("img", name="The chosen image")
    shown.wait_for()
    assert shown.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [48, 32]


def test_a_slow_last_frame_does_not_replace_an_image_that_was_chosen_meanwhile(
    served: Served, tab: "Page", tmp_path: Path
) -> None:
    path = tmp_path / "end.png"
    Image.new("RGB", (48, 32), "teal").save(path)
    submit(served, "the disc")
    finished(served, served.claim())
    tab.goto(f"{served.url}/models/{LTX2}")
    held: list[Route] = []
    is_released = Event()
    tab.route("**/facts", lambda route: route.continue_() if is_released.is_set() else held.append(route))
    image = tab.locator(".of-image")
    image.get_by_text("A recent image").click()
    with tab.expect_request("**/facts"):
        image.get_by_role("button", name="the disc").click()
    image.get_by_text("Taking the last frame").wait_for()
    image.locator("input[type=file]").set_input_files(path)
    shown = image.get_by_role("img", name="The chosen image")
    shown.wait_for()
    is_released.set()
    for route in held:
        route.continue_()
    tab.wait_for_load_state("networkidle")
    assert shown.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [48, 32]


def test_a_draft_that_is_too_large_to_keep_does_not_bring_back_an_older_one(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTXV}")
    prompt = tab.get_by_label("Prompt *")
    prompt.fill("an older draft")
    tab.reload()
    assert prompt.input_value() == "an older draft"
    prompt.fill("word " * 30_000)
    tab.reload()
    prompt.wait_for()
    assert prompt.input_value() != "an older draft"


def test_the_page_works_in_a_browser_that_stores_nothing(served: Served, tab: "Page") -> None:
    refuse = "get() { throw new DOMException('no', 'SecurityError'); }"
    for name in ("sessionStorage", "localStorage"):
        tab.add_init_script(f"Object.defineProperty(window, '{name}', {{ {refuse} }})")
    tab.goto(f"{served.url}/models/{LTXV}")
    tab.get_by_label("Prompt *").fill("not kept")
    tab.get_by_role("tab", name="Code").click()
    tab.get_by_role("tab", name="cURL").click()
    tab.locator("#code pre").filter(has_text="not kept").wait_for()
    tab.reload()
    tab.get_by_text("Drop a video, write what happens next").wait_for()


def test_an_error_of_a_file_is_told_once(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    source, image = tab.locator(".of-video"), tab.locator(".of-image")
    source.locator("input[type=file]").set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    with tab.expect_response("**/plan"):
        image.locator("input[type=url]").fill("https://127.0.0.1:1/no.png")
        image.locator("input[type=url]").press("Tab")
    image.locator(".error").filter(has_text="127.0.0.1").wait_for()
    tab.wait_for_function("() => !document.querySelector('.plan').classList.contains('stale')")
    assert tab.locator("#form").get_by_text("127.0.0.1").count() == 1
    image.get_by_role("button", name="Try again").wait_for()
    image.get_by_role("button", name="Remove").click()
    tab.locator(".price").filter(has_text="on fal").wait_for()
    assert image.locator(".error").inner_text() == ""


def test_a_file_stays_in_view_when_the_upload_of_another_one_fails(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    source = tab.locator(".of-video")
    source.locator("input[type=file]").set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    tab.route("**/cdn/uploads/*", lambda route: route.abort())
    source.locator("input[type=file]").set_input_files(CLIP)
    source.locator(".error").filter(has_text="The upload failed").wait_for()
    source.get_by_label("The chosen video").wait_for()
    assert not source.get_by_role("button", name="Try again").is_visible(), "the chosen file has not failed"


def test_the_copy_of_a_file_is_asked_for_no_longer_when_another_file_is_chosen(served: Served, tab: "Page") -> None:
    held: list[Route] = []
    facts = {"width": 64, "height": 64, "num_frames": 9, "duration": 1.0, "fps": 9.0, "has_audio": False}
    tab.route("**/media/*/facts", lambda route: route.fulfill(json={**facts, "playable": False, "settings": None}))
    tab.route("**/media/*/copy", lambda route: held.append(route))
    tab.goto(f"{served.url}/models/{LTX2}")
    with tab.expect_request("**/media/*/copy"):
        tab.locator("input[type=file]").first.set_input_files(CLIP)
    with tab.expect_event("requestfailed", lambda request: request.url.endswith("/copy")):
        tab.get_by_role("button", name="Remove").click()
    assert len(held) == 1


def test_a_text_can_be_dropped_into_a_field_but_opens_nothing_elsewhere(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.get_by_label("Prompt *").wait_for()
    drop = """node => {
      const dataTransfer = new DataTransfer();
      dataTransfer.setData("text/plain", "a cat");
      return node.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }"""
    assert tab.get_by_label("Prompt *").evaluate(drop), "the browser puts it there"
    assert not tab.locator("#lead").evaluate(drop)


def test_a_link_to_a_request_fills_the_form_and_a_reload_keeps_what_was_typed_since(
    served: Served, tab: "Page"
) -> None:
    submit(served, "the disc moves on")
    finished(served, served.claim())
    tab.goto(f"{served.url}/models/{LTXV}")
    prompt = tab.get_by_label("Prompt *")
    prompt.fill("a draft")
    tab.get_by_role("link", name="History").click()
    tab.locator(".endpoint").click()
    tab.get_by_role("button", name="Extend again").wait_for()
    assert prompt.input_value() == "the disc moves on"
    prompt.fill("another draft")
    tab.reload()
    tab.get_by_role("button", name="Extend again").wait_for()
    assert prompt.input_value() == "another draft"


def test_an_error_in_a_folded_group_is_shown_and_run_leads_to_it(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTXV}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    handle = tab.get_by_role("slider", name="Max number of frames", exact=True)
    handle.wait_for()
    group = tab.locator("details.group").filter(has_text="Start frame number")
    field = tab.locator('[data-path="video.start_frame_num"]')
    assert not field.is_visible()
    field.locator("input").last.evaluate(
        "node => { node.value = 900; node.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    field.locator(".error:not(:empty)").wait_for()
    assert handle.is_visible()
    group.locator("summary").first.click()
    assert not field.is_visible()
    sent: list[str] = []
    tab.on("request", lambda request: sent.append(request.url))
    tab.get_by_role("button", name="Run", exact=True).click()
    field.wait_for()
    assert field.locator(":focus").count() == 1
    assert not [url for url in sent if "/queue/" in url]
    tab.get_by_label("Prompt *").fill("")
    tab.locator(".plan:not(.stale)").wait_for(state="attached")
    assert handle.is_visible()


def test_a_number_outside_its_range_is_told_with_the_name_and_the_range(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    field = tab.locator('[data-path="num_frames"]')
    field.locator("input").last.fill("3")
    text = field.locator(".error").filter(has_text="must be")
    text.wait_for()
    assert text.inner_text() == "Number of frames must be 9 to 481."


def test_problems_are_told_in_sentences(served: Served, tab: "Page") -> None:
    """The server's own answer is that of pydantic, as fal's clients expect it."""
    tab.goto(f"{served.url}/history")
    wrong: dict[str, dict[str, Any]] = {
        "Number of frames must be a whole number.": {"num_frames": "many"},
        "LoRAs, 2, scale must be at most 4.": {"loras": [{"path": "a"}, {"path": "b", "scale": 9}]},
        "Generate audio must be on or off.": {"generate_audio": "loud"},
        "Extend direction must be one of these: 'forward' or 'backward'.": {"extend_direction": "up"},
        "Video must be a text.": {"video_url": None},
        "LoRAs must be a list.": {"loras": "many"},
        "LoRAs, 1 must be an object with named fields.": {"loras": ["a"]},
        "Prompt must be at least 1 character long.": {"prompt": ""},
    }
    told = tab.evaluate(
        """async (requests) => {
          const { callJson } = await import("/static/api.js");
          const address = "models/fal-ai/ltx-2.3-22b/extend-video/lora/plan";
          const ask = (json) => callJson(address, { json }).catch(({ message }) => message);
          return Promise.all(requests.map(ask));
        }""",
        [{"prompt": "x", "video_url": "https://example.com/x.mp4", "loras": [], **one} for one in wrong.values()],
    )
    assert told == list(wrong)


def test_the_plan_of_another_source_is_gone_at_once(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    tab.route("**/plan", lambda route: None)
    tab.locator("input[type=url]").first.fill("https://127.0.0.1:1/other.mp4")
    tab.locator("input[type=url]").first.press("Tab")
    price = tab.locator(".price.stale")
    price.wait_for()
    assert price.inner_text() == "Planning…"
    assert tab.locator(".plan").inner_text() == ""


def test_the_heading_tells_whether_a_request_waits_runs_is_deleted_or_is_unknown(served: Served, tab: "Page") -> None:
    row = submit(served, "the disc", endpoint=LTXV)
    address = f"{served.url}/models/{LTXV}?request={row.id}"
    tab.goto(address)
    tab.get_by_role("heading", name="Waiting").wait_for()
    claimed = served.claim()
    tab.get_by_role("heading", name="Running").wait_for()
    finished(served, claimed)
    tab.get_by_role("button", name="Extend again").wait_for()
    with served.client() as client:
        assert client.delete(f"/v1/models/requests/{row.id}/payloads").status_code < 300
    tab.goto(address)
    tab.get_by_text("This result was deleted.").wait_for()
    tab.goto(address.replace(row.id, "00000000-0000-4000-8000-000000000000"))
    tab.get_by_text("There is no such request.").wait_for()


def test_a_result_whose_file_is_lost_says_so(served: Served, tab: "Page") -> None:
    row = submit(served, "the disc", endpoint=LTXV)
    file = served.state.store.find(finished(served, served.claim()))
    assert file is not None
    served.state.store.blobs.delete(file.blob)
    tab.goto(f"{served.url}/models/{LTXV}?request={row.id}")
    tab.get_by_text("lost this file").wait_for()
    tab.get_by_role("heading", name="It failed").wait_for()
