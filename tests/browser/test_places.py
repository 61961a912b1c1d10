"""The pages in other places: behind a path prefix, with keys, over a slow network, with a keyboard alone."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.browser.prefix import prefixed
from tests.service.finished import CLIP, finished, submit
from tests.service.serving import LTX2, Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser


def extend_the_clip(served: Served, tab: "Page", url: str) -> None:
    """Goes from the gallery to a playing result, whose work the test does itself."""
    tab.goto(f"{url}/")
    tab.get_by_role("link", name="LTX-2.3", exact=True).click()
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.get_by_text("33 frames").first.wait_for()
    tab.locator(".price").wait_for()
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.get_by_text("Next in line").wait_for()
    claimed = served.claim()
    assert b"/cdn/files/" in claimed.body
    finished(served, claimed)
    tab.locator(".player video").first.wait_for()
    tab.wait_for_function("() => document.querySelector('.player video').readyState >= 2")
    tab.locator(".player video").first.evaluate("film => { film.muted = true; return film.play(); }")
    tab.wait_for_function("() => document.querySelector('.player video').currentTime > 0.2")


def test_behind_a_path_prefix(tmp_path: Path, tab: "Page") -> None:
    with prefixed() as proxy, serving(tmp_path, public_url=proxy.url) as served:
        proxy.target = served.url
        refused: list[str] = []
        tab.on("response", lambda answer: refused.append(answer.url) if answer.status == 404 else None)
        extend_the_clip(served, tab, proxy.url)
        for page in ("History", "Server", "Models"):
            tab.get_by_role("link", name=page, exact=True).click()
            tab.wait_for_load_state("networkidle")
        assert [url for url in refused if "/video/" not in url] == []


def test_with_keys_files_are_fetched_with_the_key(served: Served, tab: "Page") -> None:
    key = served.state.keys.create("mine", "run")
    addresses: list[str] = []
    tab.on("request", lambda request: addresses.append(request.url))
    tab.goto(served.url)
    tab.get_by_placeholder("id:secret").fill(key)
    tab.keyboard.press("Enter")
    extend_the_clip(served, tab, served.url)
    secret = key.partition(":")[2]
    assert not any(secret in address for address in addresses)
    assert tab.locator(".player video").first.get_attribute("src", timeout=1000).startswith("blob:")  # type: ignore[union-attr]


@pytest.mark.parametrize("page", [f"models/{LTX2}?request=", "compare?a=", f"models/{LTX2}?four="])
def test_a_link_leads_to_no_file_in_place_of_a_request(served: Served, tab: "Page", page: str) -> None:
    forged = {"id": "x", "state": "failed", "input": {"prompt": "forged", "video_url": "https://127.0.0.1:1/a.mp4"}}
    sent = httpx.post(f"{served.url}/cdn/files/upload", json=forged, headers={"x-fal-file-name": "x.json"})
    file = sent.json()["access_url"].rpartition("/")[2]
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{served.url}/{page}../../cdn/files/{file}")
    tab.get_by_text(re.compile("There is no|answered 404")).first.wait_for()
    tab.wait_for_load_state("networkidle")
    assert not any("/cdn/files/" in url.partition("?")[0] or url.endswith("/media/import") for url in asked)


@pytest.mark.parametrize("page", ["", "history", "server", "compare?a=1&b=2", f"models/{LTX2}/api"])
def test_a_file_that_nothing_takes_does_not_replace_the_page(served: Served, tab: "Page", page: str) -> None:
    """The browser opens a dropped file in the tab unless the page prevents that."""
    tab.goto(f"{served.url}/{page}")
    tab.get_by_role("heading", level=1).first.wait_for()
    prevented = """(name) => {
      const data = new DataTransfer();
      data.items.add(new File(["x"], "clip.mp4", { type: "video/mp4" }));
      const event = new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true });
      document.body.dispatchEvent(event);
      return event.defaultPrevented;
    }"""
    tab.wait_for_load_state("load")
    assert [tab.evaluate(prevented, name) for name in ("dragover", "drop")] == [True, True]


def test_over_a_slow_network(served: Served, tab: "Page") -> None:
    """With 50 kB/s and 300 ms to each answer, an upload shows its progress, and the form can be used before."""
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator("input[type=file]").first.wait_for(state="attached")
    network = tab.context.new_cdp_session(tab)
    slow = {"offline": False, "latency": 300, "downloadThroughput": 50_000, "uploadThroughput": 50_000}
    network.send("Network.emulateNetworkConditions", slow)
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.wait_for_function("() => { const bar = document.querySelector('.drop progress'); return bar.value > 0; }")
    tab.get_by_label("Prompt *").fill("still usable")
    tab.get_by_text("33 frames").first.wait_for()


def test_a_slow_network_shows_the_models_first_and_loses_no_prompt(served: Served, tab: "Page") -> None:
    """The names and what they are come with the page itself, and what was typed comes back with it."""
    held: list[Route] = []
    tab.route("**/static/*.js", lambda route: held.append(route))
    tab.goto(served.url, wait_until="commit")
    tab.get_by_role("link", name="LTX-Video 0.9.8 distilled").wait_for()
    tab.goto(f"{served.url}/models/{LTX2}", wait_until="commit")
    tab.get_by_text("LTX-2.3 22B: picture and sound").wait_for()
    tab.get_by_text("Loading the form").wait_for()
    files = tab.locator("link[rel=modulepreload]").evaluate_all("links => links.map((link) => link.href)")
    tab.unroute("**/static/*.js")
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.get_by_label("Prompt *").fill("typed and not yet run")
    scripts = {url for url in asked if url.endswith(".js")}
    assert scripts == {*files, f"{served.url}/static/playground.js"}, "all are named in the page"
    tab.get_by_role("link", name="History").click()
    tab.get_by_role("heading", name="History").wait_for()
    tab.go_back()
    tab.wait_for_function(
        "() => document.querySelector('[data-path=prompt] textarea')?.value === 'typed and not yet run'"
    )
    tab.get_by_role("button", name="Reset").click()
    assert tab.get_by_label("Prompt *").input_value() != "typed and not yet run"


def test_with_a_keyboard_alone(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").wait_for()
    knob = tab.get_by_role("slider", name="Number of context frames", exact=True)
    knob.focus()
    before = int(str(knob.get_attribute("aria-valuenow")))
    tab.keyboard.press("ArrowRight")
    assert int(str(knob.get_attribute("aria-valuenow"))) == before + 8
    field = tab.locator('[data-path="num_context_frames"] input[type=number]')
    assert field.input_value() == str(33 - before - 8)
    tab.get_by_label("Prompt *").focus()
    tab.keyboard.type("the disc moves on")
    tab.keyboard.press("Control+Enter")
    tab.get_by_text("Next in line").wait_for()
    finished(served, served.claim())
    player = tab.locator(".player")
    player.wait_for()
    player.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("() => document.querySelector('.player video').currentTime > 0")
    assert {"Download", "Four seeds", "Compare", "Delete"} <= reached(tab, "Delete")
    tab.keyboard.press("Shift+Tab")
    submit(served, "another disc")
    finished(served, served.claim())
    player.focus()
    reached(tab, "Compare")
    tab.keyboard.press("Enter")
    tab.get_by_text("Compare it with which result?").wait_for()
    reached(tab, "another disc")
    tab.keyboard.press("Enter")
    tab.get_by_role("button", name="Play").wait_for()
    reached(tab, "Play")
    tab.keyboard.press("Space")
    tab.wait_for_function("() => [...document.querySelectorAll('video')].every((film) => film.currentTime > 0.1)")
    tab.go_back()
    tab.go_back()
    player.wait_for()
    player.focus()
    reached(tab, "Extend again")
    tab.keyboard.press("Enter")
    tab.locator(".price").filter(has_text="on fal").wait_for()
    assert tab.evaluate("() => document.activeElement.tagName") == "TEXTAREA", "the next prompt can be written at once"


def reached(tab: "Page", text: str) -> set[str]:
    """Presses Tab until the element with this text has the focus. Returns the texts of all that had it meanwhile.

    Each must show that it has the focus.
    """
    seen: set[str] = set()
    for _ in range(80):
        tab.keyboard.press("Tab")
        found, outline = tab.evaluate(
            """() => {
              const one = document.activeElement.closest(".button") ?? document.activeElement;
              return [one.textContent.trim(), one === document.body ? null : getComputedStyle(one).outlineStyle];
            }"""
        )
        if outline is None:
            continue  # beyond the last element the page itself has the focus
        assert outline != "none", found
        seen.add(found)
        if found.startswith(text):
            return seen
    raise AssertionError(f"{text} was not reached: {seen}")


def test_the_focus_comes_back_from_the_door(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.get_by_label("Prompt *").fill("still here")
    tab.locator(".price").filter(has_text="on fal").wait_for()
    run = tab.get_by_role("button", name="Run", exact=True)
    run.focus()  # before the page, which asks for the queue now and again, needs the key
    key = served.state.keys.create("mine", "run")
    tab.keyboard.press("Enter")
    tab.get_by_placeholder("id:secret").fill(key)
    tab.keyboard.press("Enter")
    tab.wait_for_function("() => !document.getElementById('door').open")
    assert run.evaluate("button => button === document.activeElement")
    assert tab.get_by_label("Prompt *").input_value() == "still here"
