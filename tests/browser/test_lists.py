"""The lists of requests in a browser: the gallery, the history, and the choice of two results to compare."""

from typing import TYPE_CHECKING

import pytest

from longtake.queue.requests import Outcome
from tests.service.finished import finished, submit
from tests.service.serving import LTX2, LTXV, Served
from tests.service.test_pages import PAGES

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page, Route

pytestmark = pytest.mark.browser

FAILED = Outcome(422, {}, error="It is too long.")


def result(served: Served, prompt: str) -> str:
    """Makes a finished request with a video. Returns its id."""
    row = submit(served, prompt)
    finished(served, served.claim())
    return row.id


def delete(served: Served, request_id: str) -> None:
    with served.client() as client:
        assert client.delete(f"/v1/models/requests/{request_id}/payloads").status_code == 200


def test_the_gallery_keeps_the_focus_and_the_film_under_the_pointer(served: Served, tab: "Page") -> None:
    result(served, "the first")
    tab.goto(served.url)
    tile = tab.locator("#results a").filter(has_text="the first")
    tile.hover()
    tab.wait_for_function("() => document.querySelector('#results video')?.currentTime > 0")
    film = tab.locator("#results video")
    assert film.evaluate("film => film.muted")
    tile.focus()
    submit(served, "the second")
    tab.locator("#results a").filter(has_text="the second").wait_for()
    assert tile.evaluate("tile => tile === document.activeElement")
    assert film.count() == 1
    tab.mouse.move(0, 0)
    tab.wait_for_function("() => document.querySelector('#results video').paused")


def test_open_requests_are_on_top_of_every_page(served: Served, tab: "Page") -> None:
    submit(served, "running first")
    served.claim()
    submit(served, "waiting next", endpoint=LTX2)
    for number in range(30):
        submit(served, f"prompt {number}.", outcome=FAILED)
    tab.goto(f"{served.url}/history")
    tab.get_by_text("prompt 29.").wait_for()
    for _ in range(2):
        assert tab.locator(".request .prompt").all_inner_texts()[:2] == ["running first", "waiting next"]
        if tab.get_by_role("button", name="Older").is_visible():
            tab.get_by_role("button", name="Older").click()
            tab.get_by_text("prompt 0.").wait_for()
    tab.locator("select[name=endpoint]").select_option(LTXV)
    tab.get_by_text("prompt 29.").wait_for()
    assert tab.get_by_text("waiting next").count() == 0
    tab.locator("select[name=state]").select_option("cancelled")
    tab.get_by_text("None on this page match the filters.").wait_for()
    assert tab.locator(".request").count() == 0


def test_an_older_answer_does_not_replace_that_of_newer_filters(served: Served, tab: "Page") -> None:
    for prompt in ("slow", "quick"):
        submit(served, prompt, outcome=FAILED, search_text=prompt)
    tab.goto(f"{served.url}/history")
    tab.get_by_text("quick", exact=True).wait_for()
    held: list[Route] = []
    tab.route("**/page/requests?q=slow&*", lambda route: held.append(route))
    search = tab.locator("input[name=q]")
    with tab.expect_request("**/page/requests?q=slow&*"):
        search.fill("slow")
    search.fill("quick")
    tab.wait_for_function("() => document.querySelectorAll('.request').length === 1")
    assert held
    for route in held:
        route.continue_()
    tab.wait_for_timeout(300)
    assert tab.locator(".prompt").all_inner_texts() == ["quick"]


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


def test_a_comparison_has_one_row_for_the_seed(served: Served, tab: "Page") -> None:
    ids = []
    for seed in (1, 2):
        ids.append(submit(served, "the same", body={"seed": seed}).id)
        finished(served, served.claim())
    tab.goto(f"{served.url}/compare?a={ids[0]}&b={ids[1]}")
    tab.get_by_role("row", name="Model").wait_for()
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


def test_every_page_tells_what_runs_and_goes_on_after_it_was_hidden(served: Served, tab: "Page") -> None:
    submit(served, "waits")
    for path in PAGES:
        tab.goto(f"{served.url}/{path}")
        tab.locator("#queue").get_by_text("1 waiting").wait_for()
    hide = "hidden => Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })"
    with tab.expect_response("**/page/requests"):
        pass
    tab.evaluate(hide, True)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.wait_for_timeout(3500)
    assert len([url for url in asked if url.endswith("/page/requests")]) <= 1, "the one that was due already"
    submit(served, "waits, too")
    tab.evaluate(hide, False)
    tab.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    tab.locator("#queue").get_by_text("2 waiting").wait_for()


def test_several_requests_are_deleted_at_once_and_leave_the_list(served: Served, tab: "Page") -> None:
    for prompt in ("apple", "birch", "cedar"):
        result(served, prompt)
    submit(served, "willow", outcome=FAILED)
    submit(served, "still waits")
    tab.goto(f"{served.url}/history?endpoint={LTXV}")
    row = tab.locator(".request")
    row.filter(has_text="still waits").wait_for()
    assert row.filter(has_text="still waits").get_by_label("Select").count() == 0
    for prompt in ("apple", "birch"):
        row.filter(has_text=prompt).get_by_label("Select").check()
    tab.get_by_text("2 selected").wait_for()
    assert "compare?a=" in str(tab.get_by_role("link", name="Compare").get_attribute("href"))
    tab.locator("input[name=q]").fill("cedar")
    tab.locator("#picked").wait_for(state="hidden")  # a row that the filter hides is not deleted
    tab.locator("input[name=q]").fill("")
    for prompt in ("apple", "birch"):
        row.filter(has_text=prompt).get_by_label("Select").check()
    row.filter(has_text="willow").get_by_label("Select").check()
    assert not tab.get_by_role("link", name="Compare").is_visible(), "only two results are compared"
    said: list[str] = []

    def agree(dialog: "Dialog") -> None:
        said.append(dialog.message)
        dialog.accept()

    tab.once("dialog", agree)
    tab.locator("#picked").get_by_role("button", name="Delete").click()
    tab.get_by_text("Deleted 3 requests").wait_for()
    assert "Delete 3 requests" in said[0]
    tab.wait_for_function("() => document.querySelectorAll('.request').length === 2")
    assert not tab.locator("#picked").is_visible()
    assert tab.evaluate("() => document.activeElement.closest('.request') !== null"), "the focus is at the next row"
    assert tab.locator("select[name=endpoint]").input_value() == LTXV
    tab.once("dialog", lambda dialog: dialog.dismiss())
    row.filter(has_text="cedar").get_by_role("button", name="Delete").click()
    assert row.filter(has_text="cedar").is_visible()
    tab.locator("select[name=state]").select_option("deleted")
    tab.wait_for_function("() => document.querySelectorAll('.request').length === 3")
    assert row.filter(has_text="cedar").count() == 0


def test_fields_of_one_endpoint_have_different_labels(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/history")
    found = tab.evaluate(
        """async () => {
          const { loadEndpoint } = await import("/static/schema.js");
          const { models } = await (await fetch("v1/models")).json();
          return Promise.all(models.map(async ({ endpoint_id }) => (await loadEndpoint(endpoint_id)).fields));
        }"""
    )
    assert len(found) == 8
    for fields in found:
        labels = [field["label"] for field in fields]
        assert len(set(labels)) == len(labels)
        groups = {field["name"]: field["group"] for field in fields}
        assert groups.get("use_multiscale", "Sampling") == "Sampling"
