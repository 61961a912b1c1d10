"""The pages in other places: behind a path prefix, with keys, over a slow network, with a keyboard alone."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.prefix import prefixed
from tests.service.finished import CLIP, finished
from tests.service.serving import LTX2, Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

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


def test_with_a_keyboard_alone(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").wait_for()
    knob = tab.get_by_role("slider", name="Number of context frames", exact=True)
    knob.focus()
    before = int(str(knob.get_attribute("aria-valuenow")))
    tab.keyboard.press("PageUp")
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
    reached = set()
    for _ in range(60):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("() => document.activeElement.textContent.trim().slice(0, 20)"))
    assert {"Extend again", "Download", "Four seeds", "Delete"} <= reached
