"""Two results in a browser: how they are chosen, how they play together, and what differs between them."""

from typing import TYPE_CHECKING

import pytest

from tests.browser.test_lists import result
from tests.service.finished import finished, submit
from tests.service.serving import LTX2, LTXV, Served

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser


def delete(served: Served, request_id: str) -> None:
    with served.client() as client:
        assert client.delete(f"/v1/models/requests/{request_id}/payloads").status_code == 200


def test_two_results_are_chosen_from_the_newest(served: Served, tab: "Page") -> None:
    for prompt in ("one", "two", "three"):
        result(served, prompt)
    tab.goto(f"{served.url}/compare")
    tab.get_by_role("link", name="one").click()
    tab.get_by_text("Compare it with which result?").wait_for()
    assert tab.locator("#choices a").count() == 2
    tab.get_by_role("link", name="two").click()
    tab.get_by_role("button", name="Play").click()
    tab.wait_for_function("() => [...document.querySelectorAll('video')].every((film) => film.currentTime > 0.2)")
    assert tab.get_by_role("row", name="prompt").inner_text().split("\t") == ["prompt", '"one"', '"two"']
    assert all("seed 7 · " in caption for caption in tab.locator("figcaption").all_inner_texts())
    tab.get_by_role("link", name="Extend").nth(1).click()
    tab.get_by_text("33 frames").first.wait_for()


def test_a_field_that_only_one_endpoint_has_is_not_said_to_have_a_default(served: Served, tab: "Page") -> None:
    ids = []
    for endpoint, body in ((LTXV, {"frame_rate": 12}), (LTX2, {})):
        ids.append(submit(served, "same", endpoint=endpoint, body=body).id)
        finished(served, served.claim())
    tab.goto(f"{served.url}/compare?a={ids[0]}&b={ids[1]}")
    row = tab.get_by_role("row", name="frame_rate")
    assert row.inner_text().split("\t") == ["frame_rate", "12", "not set"]
    assert tab.get_by_role("row", name="Endpoint").inner_text().split("\t") == ["Endpoint", LTXV, LTX2]


def compared(served: Served, tab: "Page") -> None:
    """Opens the comparison of two results whose joints differ."""
    ids = [result(served, prompt) for prompt in ("one", "two")]

    def joint(route: "Route") -> None:
        at = 0.5 if ids[0] in route.request.url else 1.0
        route.fulfill(json={"seconds": at, "sound_seconds": at, "new_first": False, "fps": 12.0})

    tab.route("**/joint?figures=0", joint)
    tab.goto(f"{served.url}/compare?a={ids[0]}&b={ids[1]}")
    tab.get_by_role("button", name="Loop the joint").wait_for()
    tab.wait_for_function("() => [...document.querySelectorAll('video')].every((film) => film.readyState >= 2)")


def test_a_comparison_marks_both_joints_and_loops_around_them(served: Served, tab: "Page") -> None:
    compared(served, tab)
    tab.locator(".joint").nth(1).wait_for()
    assert tab.locator(".joint").all_inner_texts() == ["First", "Second"]
    places = tab.locator(".joint").evaluate_all("marks => marks.map((mark) => parseFloat(mark.style.left) / 100)")
    assert places == pytest.approx([0.5 / 1.375, 1 / 1.375], abs=1e-4)
    tab.keyboard.press("j")
    assert tab.get_by_role("button", name="Loop the joint").get_attribute("aria-pressed") == "true"
    tab.wait_for_function("() => [...document.querySelectorAll('video')].every((film) => !film.paused)")


def test_one_key_shows_the_first_or_the_second_result_in_one_place(served: Served, tab: "Page") -> None:
    compared(served, tab)
    first, second = tab.get_by_label("First", exact=True), tab.get_by_label("Second", exact=True)
    heard = "() => [...document.querySelectorAll('video')].map((film) => !film.muted)"
    assert (first.is_visible(), second.is_visible()) == (True, True)
    assert tab.evaluate(heard) == [True, False]
    keys = {"Side by side": "B", "First": "S", "Second": "S"}
    for name, key in keys.items():
        assert tab.get_by_title(f"{name} ({key})").get_attribute("aria-keyshortcuts") == key
    beside = first.bounding_box()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("s")
    place = first.bounding_box()
    assert (first.is_visible(), second.is_visible()) == (True, False)
    tab.keyboard.press("s")
    assert (first.is_visible(), second.is_visible()) == (False, True)
    assert second.bounding_box() == place
    assert place is not None
    assert beside is not None
    assert place["width"] > beside["width"]
    assert tab.evaluate(heard) == [False, True], "the one that is shown is heard"
    same = (
        "() => { const [a, b] = document.querySelectorAll('video'); return Math.abs(a.currentTime - b.currentTime); }"
    )
    tab.wait_for_function(f"() => ({same})() < 0.01 && document.querySelector('video').currentTime > 0")
    tab.get_by_role("group", name="Sound").get_by_role("button", name="None").click()
    tab.keyboard.press("b")
    assert (first.is_visible(), second.is_visible()) == (True, True)
    assert tab.evaluate(heard) == [False, False]


def test_an_arrow_key_steps_a_frame_of_the_film_that_leads(served: Served, tab: "Page") -> None:
    compared(served, tab)
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("() => Math.abs(document.querySelector('video').currentTime - 1 / 24) < 0.001")


def test_a_comparison_fits_the_full_screen(served: Served, tab: "Page") -> None:
    compared(served, tab)
    tab.locator(".wave").wait_for()
    tab.keyboard.press("s")
    tab.keyboard.press("f")
    tab.wait_for_function("() => document.fullscreenElement !== null")
    film, last = tab.get_by_label("First", exact=True).bounding_box(), tab.get_by_text("Full screen").bounding_box()
    assert film is not None
    assert last is not None
    assert film["y"] >= 0
    assert last["y"] + last["height"] <= tab.evaluate("() => innerHeight")


def test_a_comparison_has_one_row_for_the_seed(served: Served, tab: "Page") -> None:
    ids = []
    for seed in (1, 2):
        ids.append(submit(served, "the same", body={"seed": seed}).id)
        finished(served, served.claim())
    tab.goto(f"{served.url}/compare?a={ids[0]}&b={ids[1]}")
    tab.get_by_role("row", name="Model").wait_for()
    assert all(tab.locator("#differences thead th").all_text_contents()), "screen readers tell the head of each column"
    heads = tab.locator("#differences tbody th").all_inner_texts()
    assert [head.lower() for head in heads].count("seed") == 1


def test_the_comparison_says_which_result_is_missing(served: Served, tab: "Page") -> None:
    here, gone, other = (result(served, prompt) for prompt in ("here", "gone", "other"))
    delete(served, gone)
    waits = submit(served, "still waits").id
    for second, text in ((gone, "Its video was deleted."), (waits, "Waiting: it has no video."), ("x", "no request x")):
        tab.goto(f"{served.url}/compare?a={here}&b={second}")
        tab.get_by_text(text).wait_for()
        tab.locator(f'#choices a[href*="b={other}"]').wait_for()
