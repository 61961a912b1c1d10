"""Blobs of the pages in a browser: with a key, files come as blobs, and none stays longer than what shows it."""

from typing import TYPE_CHECKING

import pytest

from tests.service.finished import finished, submit
from tests.service.serving import LTX2, LTXV, Served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

RESULTS = 8
COUNTING = """
window.blobs = { made: 0, kept: new Set() };
const { createObjectURL: make, revokeObjectURL: revoke } = URL;
URL.createObjectURL = (blob) => { const url = make.call(URL, blob); blobs.made++; blobs.kept.add(url); return url; };
URL.revokeObjectURL = (url) => { blobs.kept.delete(url); revoke.call(URL, url); };
"""
"""A script that counts the addresses of blobs that a page has made, and keeps those that are not revoked."""
ONLY_SHOWN = """() => {
  const shown = [...document.querySelectorAll("[src^='blob:']")].map((one) => one.src);
  return [...blobs.kept].every((url) => shown.includes(url));
}"""


@pytest.fixture
def key(served: Served) -> str:
    """A key with several results."""
    key = served.state.keys.create("mine", "run")
    for number in range(RESULTS):
        submit(served, f"prompt {number}.", key_id=key.partition(":")[0])
        finished(served, served.claim())
    return key


def enter(tab: "Page", address: str, key: str) -> None:
    """Opens a page that counts its blobs, and types the key that it asks for."""
    tab.add_init_script(COUNTING)
    tab.goto(address)
    tab.get_by_placeholder("id:secret").fill(key)
    tab.keyboard.press("Enter")


def test_pictures_are_loaded_near_the_view_and_keep_no_blob(served: Served, tab: "Page", key: str) -> None:
    tab.set_viewport_size({"width": 1280, "height": 300})
    enter(tab, f"{served.url}/history", key)
    tab.locator(".request").nth(RESULTS - 1).wait_for()
    tab.wait_for_function("() => document.querySelector('.request .screen img')?.naturalWidth > 0")
    tab.wait_for_load_state("networkidle")
    tab.wait_for_function("() => blobs.kept.size === 0")
    assert 0 < tab.evaluate("() => blobs.made") < RESULTS
    tab.get_by_text("prompt 0.").scroll_into_view_if_needed()
    last = tab.locator(".request").last.locator(".screen img")
    last.wait_for()
    assert last.evaluate("image => image.decode()") is None
    tab.wait_for_function("() => blobs.kept.size === 0")


def test_no_blob_stays_when_its_video_has_left_the_page(served: Served, tab: "Page", key: str) -> None:
    with served.client(headers={"authorization": f"Key {key}"}) as client:
        ids = [row["id"] for row in client.get("/page/requests").json()["requests"][:2]]
    enter(tab, f"{served.url}/models/{LTXV}?four={','.join(ids)}", key)
    tab.locator(".tile video").nth(1).wait_for()
    tab.get_by_text("A recent video", exact=True).click()
    tab.locator(".recent button").first.click()
    tab.locator(".drop .view video").wait_for()
    assert tab.evaluate("() => blobs.kept.size") >= 3
    tab.get_by_role("button", name="Pick").first.click()
    tab.locator(".player video[src]").first.wait_for()
    tab.wait_for_function(ONLY_SHOWN)
    tab.route("**/joint.png", lambda route: route.fulfill(body="a picture"))
    tab.route("**/joint", lambda route: route.fulfill(status=500, json={"detail": "It cannot be measured."}))
    tab.get_by_text("Inspect the joint").click()
    tab.get_by_text("It cannot be measured.").wait_for()
    tab.go_back()
    tab.locator(".tile video").nth(1).wait_for()
    tab.wait_for_function(ONLY_SHOWN)
    assert tab.locator(".player, .drop .view video").count() == 0


def test_a_last_frame_that_cannot_be_taken_leaves_no_blob(served: Served, tab: "Page", key: str) -> None:
    enter(tab, f"{served.url}/models/{LTX2}", key)
    field = tab.locator(".of-image")
    field.get_by_text("A recent image, or the last frame of a recent video").click()
    field.locator(".recent img").first.wait_for()
    tab.route("**/facts", lambda route: route.fulfill(status=500, json={"detail": "It cannot be read."}))
    field.locator(".recent button").first.click()
    field.get_by_text("It cannot be read.").wait_for()
    tab.wait_for_load_state("networkidle")
    assert tab.evaluate(ONLY_SHOWN)


def test_the_gallery_frees_the_video_of_a_result_that_leaves_it(served: Served, tab: "Page", key: str) -> None:
    enter(tab, served.url, key)
    tile = tab.locator("#results li").last
    tile.hover()
    tile.locator("video").wait_for()
    for number in range(8):
        submit(served, f"newer {number}.", key_id=key.partition(":")[0])
    tab.get_by_text("newer 7.").wait_for()
    assert tab.locator("#results video").count() == 0
    tab.wait_for_function(ONLY_SHOWN)
