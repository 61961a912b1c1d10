"""The lists of requests in a browser: the gallery, the history with its deletions, and the chain of a result."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from longtake.queue.requests import CANCELLED, Outcome
from tests.browser.conftest import pause
from tests.service.finished import CLIP, finished, submit
from tests.service.serving import LTX2, LTXV, Served, wait_for
from tests.service.serving import submit as submit_input
from tests.service.test_pages import PAGES

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

FAILED = Outcome(422, {}, error="It is too long.")


def result(served: Served, prompt: str) -> str:
    """Makes a finished request with a video. Returns its id."""
    row = submit(served, prompt)
    finished(served, served.claim())
    return row.id


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
    tab.get_by_text("slow", exact=True).wait_for()
    with tab.expect_request("**/page/requests?q=slow&*"):
        search.fill("slow")
    search.fill("quick")
    tab.wait_for_function("() => document.querySelectorAll('.request').length === 1")
    assert held
    tab.evaluate(
        """() => {
          window.slow = 0;
          const isSlow = (one) => one.textContent === "slow";
          const count = () => (window.slow += [...document.querySelectorAll(".prompt")].filter(isSlow).length);
          new MutationObserver(count).observe(document.getElementById("requests"), { childList: true });
        }"""
    )
    for route in held:
        route.continue_()
    submit(served, "quick again", outcome=FAILED, search_text="quick")
    tab.get_by_text("quick again").wait_for()
    assert tab.locator(".prompt").all_inner_texts() == ["quick again", "quick"]
    assert tab.evaluate("() => window.slow") == 0


def test_every_page_tells_what_runs_and_goes_on_after_it_was_hidden(served: Served, tab: "Page") -> None:
    submit(served, "waits")
    for path in PAGES:
        tab.goto(f"{served.url}/{path}")
        tab.locator("#queue").get_by_text("1 waiting").wait_for()
    hide = "hidden => Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })"
    tab.clock.install()
    tab.reload()
    with tab.expect_response("**/page/requests"):
        pass
    tab.evaluate(hide, True)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.clock.run_for(60_000)
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
        tab.get_by_role("checkbox", name=f"Select: {prompt}", exact=True).check()
    tab.get_by_text("2 selected").wait_for()
    assert "compare?a=" in str(tab.get_by_role("link", name="Compare").get_attribute("href"))
    tab.locator("input[name=q]").fill("cedar")
    tab.locator("main:has(#picked[hidden])").filter(has_not_text="apple").wait_for()  # it is not deleted
    tab.locator("input[name=q]").fill("")
    for prompt in ("apple", "birch"):
        row.filter(has_text=prompt).get_by_label("Select").check()
    row.filter(has_text="willow").get_by_label("Select").check()
    assert not tab.get_by_role("link", name="Compare").is_visible(), "only two results are compared"
    tab.locator("#picked").get_by_role("button", name="Delete").click()
    undo = tab.get_by_role("button", name="Undo")
    assert undo.evaluate("button => button === document.activeElement"), "the keyboard can undo it at once"
    assert tab.locator("#requests li").first.inner_text().startswith("still waits") is False
    tab.wait_for_function("() => document.querySelectorAll('.request').length === 2")
    assert "3 requests will be deleted in" in tab.locator(".deleted").inner_text()
    tab.keyboard.press("Enter")
    tab.wait_for_function("() => document.querySelectorAll('.request').length === 5")
    assert tab.evaluate("() => document.activeElement.closest('.request') !== null"), "the focus is at the row"
    assert not tab.locator("#picked").is_visible()
    assert erased(served) == 0


def erased(served: Served, key: str = "") -> int:
    with served.client(headers={"authorization": f"Key {key}"} if key else {}) as client:
        return len(client.get("/page/requests?erased=yes").json()["requests"])


def delete_all(tab: "Page") -> None:
    tab.get_by_role("checkbox").first.check()
    tab.get_by_role("button", name="Select all here").click()
    tab.locator("#picked").get_by_role("button", name="Delete").click()


def test_what_was_deleted_leaves_the_list_when_nobody_undoes_it(served: Served, tab: "Page") -> None:
    for prompt in ("apple", "birch", "cedar"):
        result(served, prompt)
    tab.clock.install()
    tab.goto(f"{served.url}/history?endpoint={LTXV}")
    row = tab.locator(".request")
    row.filter(has_text="birch").wait_for()
    pause(tab)
    row.filter(has_text="birch").get_by_role("button", name="Delete").click()
    tab.get_by_text("Will be deleted in 8 s, with its input and its file.").wait_for()
    tab.clock.run_for(7000)
    tab.get_by_text("Will be deleted in 1 s").wait_for()
    assert erased(served) == 0
    tab.clock.run_for(2000)
    tab.locator(".deleted").wait_for(state="detached")
    assert (erased(served), row.count()) == (1, 2)
    assert "apple" in tab.evaluate("() => document.activeElement.closest('.request').textContent"), "the next row"
    assert tab.locator("select[name=endpoint]").input_value() == LTXV
    tab.locator("select[name=state]").select_option("deleted")
    row.get_by_text("Deleted.").wait_for()
    assert row.count() == 1


def test_a_cancelled_request_shows_its_seed_and_runs_again(served: Served, tab: "Page") -> None:
    with served.client() as client:
        source = client.post("/cdn/files/upload", content=CLIP.read_bytes()).json()["access_url"]
        row_id = submit(served, "a cat", endpoint=LTX2, body={"seed": 41, "video_url": source}).id
        client.put(f"/queue/{LTX2}/requests/{row_id}/cancel").raise_for_status()
    tab.goto(f"{served.url}/history")
    row = tab.locator(".request.cancelled")
    row.get_by_text("seed 41").wait_for()
    row.get_by_role("button", name="Run again").click()
    tab.locator(".request.waiting").get_by_text("seed 41").wait_for()
    assert json.loads(served.claim().body)["seed"] == 41


def test_a_row_with_the_focus_shows_that_its_request_was_cancelled(served: Served, tab: "Page") -> None:
    submit(served, "a cat")
    tab.goto(f"{served.url}/history")
    tab.get_by_role("button", name="Cancel: a cat", exact=True).focus()
    tab.keyboard.press("Enter")
    tab.locator(".request.cancelled").wait_for()
    assert tab.evaluate("() => document.activeElement.closest('.request') !== null")


def test_a_deletion_is_sent_when_the_page_is_left(served: Served, tab: "Page") -> None:
    ids = [result(served, f"prompt {number}.") for number in range(24)]
    tab.goto(f"{served.url}/history")
    tab.get_by_text("prompt 0.").wait_for()
    delete_all(tab)
    tab.get_by_text("24 requests will be deleted in").wait_for()
    tab.goto("about:blank")
    wait_for(lambda: erased(served) == len(ids))


def test_a_deletion_goes_on_when_the_page_is_left_between_its_calls(served: Served, tab: "Page") -> None:
    ids = [result(served, f"prompt {number}.") for number in range(4)]
    held: list[Route] = []
    tab.route(f"**/requests/{ids[-1]}/payloads", lambda route: held.append(route))
    tab.clock.install()
    tab.goto(f"{served.url}/history")
    tab.get_by_text("prompt 0.").wait_for()
    delete_all(tab)
    tab.get_by_text("4 requests will be deleted in").wait_for()
    with tab.expect_request("**/payloads"):
        tab.clock.run_for(9000)
    tab.goto("about:blank")
    wait_for(lambda: erased(served) >= 3)


def test_a_deletion_can_be_undone_on_another_page_of_the_history(served: Served, tab: "Page") -> None:
    for number in range(30):
        submit(served, f"prompt {number}.", outcome=FAILED)
    tab.goto(f"{served.url}/history")
    tab.locator(".request").filter(has_text="prompt 29.").get_by_label("Select").check()
    tab.get_by_role("button", name="Older").click()
    tab.get_by_text("prompt 0.").wait_for()
    tab.locator("#picked").get_by_role("button", name="Delete").click()
    undo = tab.get_by_role("button", name="Undo")
    assert undo.evaluate("button => button === document.activeElement")
    tab.keyboard.press("Enter")
    undo.wait_for(state="detached")
    tab.get_by_role("button", name="Newest").click()
    tab.get_by_text("prompt 29.").wait_for()
    assert erased(served) == 0


def test_a_deletion_is_sent_when_the_key_is_forgotten(served: Served, new_tab: Callable[[], "Page"]) -> None:
    key = served.state.keys.create("mine", "run")
    submit(served, "mine", key_id=key.partition(":")[0], outcome=FAILED)
    first, tab = new_tab(), new_tab()
    first.goto(f"{served.url}/history")
    first.get_by_placeholder("id:secret").fill(key)
    first.get_by_label("Remember it on this machine").check()
    first.keyboard.press("Enter")
    first.get_by_text("mine").first.wait_for()
    tab.goto(f"{served.url}/history")  # it has the key only from the storage of all tabs
    tab.locator(".request").get_by_role("button", name="Delete").click()
    tab.get_by_role("button", name="Undo").wait_for()
    first.evaluate("() => localStorage.clear()")  # the tab that forgets the key may be the quicker one
    first.get_by_role("button", name="Forget key").click()
    wait_for(lambda: erased(served, key) == 1)


def test_a_deletion_goes_on_after_one_that_is_refused_and_names_it(served: Served, tab: "Page") -> None:
    ids = {prompt: result(served, prompt) for prompt in ("apple", "birch", "cedar")}
    refusal = {"status": 503, "json": {"detail": "The disk is busy."}}
    tab.route(f"**/requests/{ids['birch']}/payloads", lambda route: route.fulfill(**refusal))
    tab.clock.install()
    tab.goto(f"{served.url}/history")
    delete_all(tab)
    tab.get_by_text("3 requests will be deleted in").wait_for()
    tab.clock.run_for(9000)
    tab.get_by_text("1 of 3 were not deleted: “birch”. The disk is busy.").wait_for()
    tab.wait_for_function("() => document.querySelectorAll('.request').length === 1")
    assert tab.locator(".request .prompt").inner_text() == "birch"
    assert erased(served) == 2


def test_a_deleted_result_can_be_shown_again(served: Served, tab: "Page") -> None:
    request_id = result(served, "a cat")
    tab.goto(f"{served.url}/models/{LTXV}?request={request_id}")
    tab.get_by_role("button", name="Delete").click()
    assert tab.locator(".player").count() == 0
    tab.keyboard.press("Enter")
    tab.locator(".player").wait_for()
    assert tab.get_by_role("button", name="Delete").evaluate("button => button === document.activeElement")
    tab.keyboard.press("Enter")
    tab.get_by_role("button", name="Undo").wait_for()
    tab.get_by_role("link", name="History").click()
    wait_for(lambda: erased(served) == 1)


def test_the_focus_stays_at_a_result_that_was_deleted(served: Served, tab: "Page") -> None:
    request_id = result(served, "a cat")
    tab.clock.install()
    tab.goto(f"{served.url}/models/{LTXV}?request={request_id}")
    tab.get_by_role("button", name="Delete").click()
    tab.get_by_role("button", name="Undo").wait_for()
    tab.clock.run_for(9000)
    tab.get_by_text("Deleted.", exact=True).wait_for()
    assert tab.evaluate("() => document.activeElement.textContent") == "Deleted."


def extended(served: Served, parent: str, prompt: str, outcome: Outcome | None = None) -> str:
    """Makes a request that extends the result of another one, and ends it with a video, or as told. Returns its id."""
    with served.client() as client:
        source = client.get(f"/page/requests/{parent}").json()["video"]["url"]
        body = {"prompt": prompt, "video": {"video_url": f"{served.url}/{source}"}}
        request_id = str(submit_input(client, body, endpoint=LTXV)["request_id"])
    claimed = served.claim()
    if outcome is None:
        finished(served, claimed)
    else:
        served.finish(claimed, outcome)
    return request_id


def test_a_result_shows_its_chain_from_the_source_on(served: Served, tab: "Page") -> None:
    with served.client() as client:
        source = client.post("/cdn/files/upload", content=CLIP.read_bytes()).json()["access_url"]
        body = {"prompt": "the first", "video": {"video_url": source}}
        first = str(submit_input(client, body, endpoint=LTXV)["request_id"])
    finished(served, served.claim())
    tab.goto(f"{served.url}/models/{LTXV}?request={first}")
    tab.get_by_role("button", name="Extend again").wait_for()
    tab.locator(".knot").first.wait_for(state="attached")
    assert tab.get_by_role("heading", name="Chain").count() == 0, "it was not extended"
    second = extended(served, first, "the second")
    tab.get_by_role("heading", name="Chain").wait_for()
    assert tab.locator(".knot").count() == 3, "the extension is shown as soon as it is there"
    tab.goto(f"{served.url}/history")
    tab.get_by_role("link", name="part of a chain").nth(1).wait_for()  # at the first one, too
    for prompt in ("the third", "another third", "a cancelled one"):
        extended(served, second, prompt, CANCELLED if "cancelled" in prompt else None)
    tab.set_viewport_size({"width": 360, "height": 740})
    for address in (f"models/{LTXV}?request={second}", f"history?chain={second}"):
        tab.goto(f"{served.url}/{address}")
        tab.locator(".knot").nth(4).wait_for()
        texts = tab.locator(".knot").all_inner_texts()
        wanted = ["The source", "the first", "the second", "the third", "another third"]
        assert [text.strip().splitlines()[0] for text in texts] == wanted
        tab.locator(".knot").first.get_by_text("1.4 s · 112").wait_for()
        assert tab.locator(".knot.chosen").get_by_role("link", name="the second").is_visible()
        lefts = [box["x"] for one in tab.locator(".knot").all() if (box := one.bounding_box())]
        assert lefts[0] == lefts[1] == lefts[2] < lefts[3] == lefts[4], "only branches are moved in"
        assert tab.evaluate("() => document.documentElement.scrollWidth") <= 360
    assert not tab.locator("#requests").is_visible(), "the history is another page"


def test_a_chain_follows_what_runs_and_is_downloaded_as_a_whole(served: Served, tab: "Page") -> None:
    first = result(served, "the first")
    second = extended(served, first, "the second")
    tab.goto(f"{served.url}/history?chain={first}")
    whole = tab.get_by_role("button", name="Download the whole")
    whole.wait_for()
    tab.get_by_text("the source and 2 extensions").wait_for()
    assert tab.get_by_role("button", name="Download up to here").count() == 1, "the last one is the whole"
    with tab.expect_download() as download:
        whole.click()
    with served.client() as client:
        source = client.get(f"/page/requests/{second}").json()["video"]["url"]
        assert download.value.url.endswith(source)
        body = {"prompt": "the third", "video": {"video_url": f"{served.url}/{source}"}}
        submit_input(client, body, endpoint=LTXV)
    knot = tab.locator(".knot").filter(has_text="the third")
    knot.get_by_text("Waiting").wait_for()
    whole.focus()
    claimed = served.claim()
    served.report(claimed, "Sampling new frames", step=5, steps=10)
    knot.get_by_text("Running").wait_for()
    bar = knot.get_by_role("progressbar")
    wait_for(lambda: float(str(bar.evaluate("bar => bar.value"))) > 0.2)
    finished(served, claimed)
    tab.get_by_text("the source and 3 extensions").wait_for()
    assert whole.evaluate("button => button === document.activeElement"), (
        "the new button of the same kind has the focus"
    )
    assert bar.count() == 0
    assert tab.get_by_role("button", name="Download up to here").count() == 2


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
