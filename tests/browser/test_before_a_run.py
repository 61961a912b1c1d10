"""Before a run: pasted files and URLs, and the expanded prompt. After it: the notification of the browser."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.service.finished import CLIP, finished, submit
from tests.service.serving import LTX2, OLD, Served, serving
from tests.test_prompts import answer_with, server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

COPY = """async ([text, isFile]) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [48, 32];
  canvas.getContext("2d").fillRect(0, 0, 9, 9);
  const image = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const parts = { ...(isFile ? { "image/png": image } : {}), ...(text ? { "text/plain": text } : {}) };
  await navigator.clipboard.write([new ClipboardItem(parts)]);
}"""
"""Puts an image, a text or both on the clipboard, as copying a file in a file manager does."""


def test_a_pasted_image_is_taken_also_where_its_name_could_be_pasted(served: Served, tab: "Page") -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.goto(f"{served.url}/models/{LTX2}")
    image = tab.locator(".of-image")
    image.locator("input[type=url]").wait_for()
    tab.evaluate(COPY, ["picture.png", True])
    image.locator("input[type=url]").focus()
    tab.keyboard.press("Control+V")
    image.get_by_role("img", name="The chosen image").wait_for()
    assert image.locator("input[type=url]").input_value() == ""
    tab.get_by_label("Prompt *").fill("")
    tab.keyboard.press("Control+V")
    assert tab.get_by_label("Prompt *").input_value() == "picture.png"


def test_a_pasted_url_is_opened_at_once(served: Served, tab: "Page") -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.goto(f"{served.url}/models/{LTX2}")
    source = tab.locator(".of-video")
    source.locator("input[type=url]").wait_for()
    tab.evaluate(COPY, ["https://127.0.0.1:1/clip.mp4", False])
    source.locator("input[type=url]").focus()
    tab.keyboard.press("Control+V")
    source.locator(".error").filter(has_text="127.0.0.1").wait_for()
    assert source.locator("input[type=url]").evaluate("one => one === document.activeElement")


def test_a_url_that_is_pasted_or_dropped_anywhere_fills_the_field_that_fits(served: Served, tab: "Page") -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.goto(f"{served.url}/models/{LTX2}")
    source, image = tab.locator(".of-video input[type=url]"), tab.locator(".of-image input[type=url]")
    source.wait_for()
    tab.evaluate(COPY, [" https://127.0.0.1:1/clip.mp4\n", False])
    tab.get_by_label("Prompt *").fill("")
    tab.keyboard.press("Control+V")
    assert source.input_value() == "", "a field for text takes it itself"
    tab.get_by_role("heading", name="Input").click()
    tab.locator("body").press("Control+V")
    tab.locator(".of-video .error").filter(has_text="127.0.0.1").wait_for()
    assert source.input_value() == "https://127.0.0.1:1/clip.mp4"
    data = tab.evaluate_handle(
        """() => {
          const data = new DataTransfer();
          data.setData("text/uri-list", "https://127.0.0.1:1/end.png?size=large");
          return data;
        }"""
    )
    tab.locator("#output").dispatch_event("drop", {"dataTransfer": data})
    tab.locator(".of-image .error").filter(has_text="127.0.0.1").wait_for()
    assert image.input_value() == "https://127.0.0.1:1/end.png?size=large"


def test_the_expanded_prompt_can_be_read_and_edited_before_the_run(tmp_path: Path, tab: "Page") -> None:
    longer = "A white disc rolls over a dark table, slowly, in warm light."
    with (
        server(200, answer_with(longer)) as (url, received),
        serving(tmp_path, expansion_url=url, expansion_model="m") as served,
    ):
        tab.goto(f"{served.url}/models/{OLD}")
        tab.get_by_label("Prompt *").fill("a disc rolls")
        tab.locator("input[type=file]").first.set_input_files(CLIP)
        tab.locator(".expanded").get_by_text(longer).wait_for()
        assert received[-1]["messages"][-1]["content"] == "a disc rolls"
        tab.get_by_role("button", name="Edit it").click()
        assert tab.get_by_label("Prompt *").input_value() == longer
        tab.locator(".expanded").wait_for(state="detached")
        assert not tab.get_by_label("Expand prompt").is_checked()
        assert "a disc rolls" not in tab.locator(".plan").inner_text()


def test_the_browser_tells_the_end_of_a_request_to_who_looks_elsewhere(served: Served, tab: "Page") -> None:
    tab.add_init_script(
        """window.told = [];
        window.Notification = class extends EventTarget {
          static permission = "granted";
          constructor(title, { body }) { super(); window.told.push(`${title}: ${body}`); }
        };"""
    )
    row = submit(served, "the disc", endpoint=LTX2)
    tab.goto(f"{served.url}/models/{LTX2}?request={row.id}")
    tab.get_by_text("Next in line").wait_for()
    tab.evaluate("() => Object.defineProperty(document, 'hidden', { get: () => true })")
    finished(served, served.claim())
    tab.wait_for_function("() => window.told.length > 0")
    assert tab.evaluate("window.told") == ["longtake: Your video is ready."]
