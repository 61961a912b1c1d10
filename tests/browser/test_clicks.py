"""Clicks and keys that meet polls, slow answers and kept pages in a browser: nothing is done twice or lost."""

from typing import TYPE_CHECKING

import pytest

from longtake.queue.requests import CANCELLED, Outcome
from tests.browser.conftest import pause
from tests.browser.test_lists import delete_all, erased, result
from tests.service.finished import CLIP, finished, submit
from tests.service.serving import LTX2, LTXV, Served

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

PLANNING_MS, RESTING_MS = 600, 1600
"""Milliseconds after which the page asks for a plan, and after which it speaks a price that has come to rest."""
FAILED = Outcome(422, {}, error="It is too long.")


def queued(served: Served) -> int:
    with served.client() as client:
        return int(client.get("/page/requests").json()["waiting"])


def test_two_quick_clicks_run_a_request_once(served: Served, tab: "Page") -> None:
    with served.client() as client:
        source = client.post("/cdn/files/upload", content=CLIP.read_bytes()).json()["access_url"]
    submit(served, "a cat", endpoint=LTX2, outcome=FAILED, body={"video_url": source})
    held: list[Route] = []
    tab.route(f"**/queue/{LTX2}", lambda route: held.append(route))
    tab.goto(f"{served.url}/history")
    again = tab.get_by_role("button", name="Run again")
    with tab.expect_request(f"**/queue/{LTX2}"):
        again.dblclick()
    assert again.get_attribute("aria-busy") == "true"
    again.click()
    with tab.expect_response(f"**/queue/{LTX2}"):
        held[0].continue_()
    tab.locator(".request.waiting").wait_for()
    tab.locator("[aria-busy]").wait_for(state="detached")
    assert (len(held), queued(served)) == (1, 1)


def test_two_quick_clicks_create_one_key(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/server")
    tab.get_by_label("Name").fill("mine")
    tab.get_by_role("button", name="Create a key").dblclick()
    tab.locator("#made code").wait_for()
    tab.get_by_text("used by this page").wait_for()
    assert len(served.state.keys.list()) == 1


def test_undoing_a_deletion_that_is_being_sent_keeps_the_rest(served: Served, tab: "Page") -> None:
    for number in range(4):
        result(served, f"prompt {number}.")
    held: list[Route] = []
    tab.route("**/payloads", lambda route: held.append(route))
    tab.clock.install()
    tab.goto(f"{served.url}/history")
    tab.get_by_text("prompt 0.").wait_for()
    delete_all(tab)
    with tab.expect_request("**/payloads"):
        tab.clock.run_for(9000)
    tab.get_by_role("button", name="Undo").click()
    tab.get_by_text("Deleting no more…").wait_for()
    held[0].continue_()
    tab.get_by_text("1 request was deleted before you undid it.").wait_for()
    tab.wait_for_function("() => document.querySelectorAll('.request').length === 3")
    assert (len(held), erased(served)) == (1, 1)
    assert tab.evaluate("() => document.activeElement.closest('.request') !== null")


def test_what_was_deleted_as_the_page_was_left_is_gone_when_it_is_shown_again(served: Served, tab: "Page") -> None:
    result(served, "a cat")
    tab.goto(f"{served.url}/history")
    tab.get_by_role("button", name="Delete").click()
    tab.get_by_role("button", name="Undo").wait_for()
    tab.evaluate("() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    tab.locator(".deleted").wait_for(state="detached")
    assert erased(served) == 1


def test_a_poll_lists_what_was_chosen_while_other_filters_are_typed(served: Served, tab: "Page") -> None:
    for number in range(30):
        submit(served, f"prompt {number}.", outcome=FAILED, search_text=f"prompt {number}.")
    tab.clock.install()
    tab.goto(f"{served.url}/history")
    tab.get_by_text("prompt 29.").wait_for()
    pause(tab)
    tab.get_by_role("button", name="Older").click()
    tab.get_by_text("prompt 0.").wait_for()
    tab.locator("input[name=q]").fill("29")
    with tab.expect_request("**/page/requests?*") as asked:
        tab.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    assert "before=" in asked.value.url
    assert "q=" not in asked.value.url
    with tab.expect_request("**/page/requests?*") as asked:
        tab.clock.run_for(400)
    assert "before=" not in asked.value.url
    assert "q=29" in asked.value.url
    tab.get_by_text("prompt 29.").wait_for()
    assert tab.locator(".request").count() == 1


@pytest.mark.parametrize("ends", ["cancelled", "done"])
def test_the_focus_stays_in_a_take_that_ends(served: Served, tab: "Page", ends: str) -> None:
    ids = [submit(served, "take", endpoint=LTX2, body={"seed": seed}).id for seed in range(2)]
    claimed = served.claim()
    tab.goto(f"{served.url}/models/{LTX2}?four={','.join(ids)}")
    served.report(claimed, "Sampling new frames", step=5, steps=10)
    tile = tab.locator(".tile").first
    tile.get_by_text("Step 6 of 10").wait_for()
    tile.get_by_role("button", name="Cancel").focus()
    if ends == "cancelled":
        served.finish(claimed, CANCELLED)
        left = tile.get_by_role("button", name="Run again")
    else:
        finished(served, claimed)
        left = tile.get_by_role("button", name="Pick seed 7")
    left.wait_for()
    assert left.evaluate("button => button === document.activeElement")


def test_takes_stand_still_for_who_wants_less_motion(served: Served, tab: "Page") -> None:
    row = submit(served, "take", endpoint=LTX2)
    finished(served, served.claim())
    tab.emulate_media(reduced_motion="reduce")
    tab.goto(f"{served.url}/models/{LTX2}?four={row.id}")
    tab.wait_for_function("() => document.querySelector('.tile video')?.readyState >= 2")
    assert tab.locator(".tile video").evaluate("film => film.paused && film.controls")


def test_a_changing_price_is_spoken_once_it_rests(served: Served, tab: "Page") -> None:
    tab.clock.install()
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    spoken = tab.locator(".run [role=status]")
    tab.wait_for_function("() => document.querySelector('.run [role=status]')?.textContent.includes('on fal')")
    tab.evaluate(
        """() => {
          window.spoken = [];
          const hear = (changes) => changes.forEach(({ target }) => {
            const live = (target.closest ? target : target.parentElement).closest("[role=status], [role=alert]");
            if (live?.textContent) window.spoken.push(live.textContent);
          });
          new MutationObserver(hear).observe(document.getElementById("form"), {
            childList: true, characterData: true, subtree: true,
          });
        }"""
    )
    pause(tab)
    tab.get_by_label("Prompt *").press_sequentially("a word")
    price, count = tab.locator(".price"), tab.locator('[data-path="num_frames"] input[type=number]')
    for frames in (57, 65, 73):
        before = price.inner_text()
        count.fill(str(frames))
        tab.clock.run_for(PLANNING_MS)
        tab.wait_for_function(
            "text => !['Planning…', text].includes(document.querySelector('.price').textContent)", arg=before
        )
    assert spoken.text_content() != price.inner_text()
    tab.clock.run_for(RESTING_MS)
    assert spoken.text_content() == price.inner_text()
    assert tab.evaluate("() => window.spoken") == [spoken.text_content()]
    tab.locator("dl.frames").wait_for()
    assert tab.locator("dl[role]").count() == 0, "a list of terms with another role is no list to screen readers"


def test_copying_without_https_keeps_the_focus(served: Served, tab: "Page") -> None:
    tab.add_init_script("Object.defineProperty(window, 'isSecureContext', { value: false })")
    tab.goto(f"{served.url}/models/{LTXV}/api")
    tab.get_by_role("button", name="Copy").focus()
    tab.keyboard.press("Enter")
    tab.get_by_text("Copied").wait_for()
    assert tab.get_by_role("button", name="Copy").evaluate("button => button === document.activeElement")
    tab.evaluate("() => { document.execCommand = () => false; }")
    tab.keyboard.press("Enter")
    tab.get_by_text("The browser did not copy it.").wait_for()


def test_an_id_in_an_address_stays_one_part_of_the_servers_addresses(served: Served, tab: "Page") -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    name = "..%2F..%2Fv1%2Fmodels%3Fx%3D1%23y"
    for page in ("compare?a=", "history?chain=", f"models/{LTX2}?request=", f"models/{LTX2}?four="):
        with tab.expect_request(lambda request: request.url.endswith((f"page/requests/{name}", f"?tree={name}"))):
            tab.goto(f"{served.url}/{page}{name}")
    assert not [url for url in asked if "/v1/models?x" in url]


def test_a_page_that_is_shown_again_after_its_key_was_forgotten_is_loaded_anew(served: Served, tab: "Page") -> None:
    key = served.state.keys.create("mine", "run")
    submit(served, "mine alone", key_id=key.partition(":")[0])
    tab.goto(f"{served.url}/history")
    tab.get_by_placeholder("id:secret").fill(key)
    tab.keyboard.press("Enter")
    tab.get_by_text("mine alone").wait_for()
    shown = "name => dispatchEvent(new PageTransitionEvent(name, { persisted: true }))"
    tab.evaluate(shown, "pagehide")
    tab.evaluate(shown, "pageshow")
    assert tab.get_by_text("mine alone").is_visible()
    tab.evaluate(shown, "pagehide")
    tab.evaluate("() => sessionStorage.clear()")
    with tab.expect_navigation():
        tab.evaluate(shown, "pageshow")
    tab.get_by_placeholder("id:secret").wait_for()
    assert tab.get_by_text("mine alone").count() == 0


def test_a_key_that_is_remembered_for_another_server_of_the_host_is_not_sent(served: Served, tab: "Page") -> None:
    key = served.state.keys.create("mine", "run")
    tab.goto(f"{served.url}/history")
    tab.evaluate("([url, key]) => localStorage.setItem(`longtake.key ${url}/other/`, key)", [served.url, key])
    tab.reload()
    tab.get_by_placeholder("id:secret").fill(key)
    tab.get_by_label("Remember it on this machine").check()
    tab.keyboard.press("Enter")
    tab.get_by_role("button", name="Forget key").click()
    tab.get_by_placeholder("id:secret").wait_for()
    assert tab.evaluate("() => Object.keys(localStorage)") == [f"longtake.key {served.url}/other/"]


def test_the_focus_goes_to_the_heading_of_what_takes_the_place_of_a_result(served: Served, tab: "Page") -> None:
    with served.client() as client:
        source = client.post("/cdn/files/upload", content=CLIP.read_bytes()).json()["access_url"]
    row = submit(served, "the disc", endpoint=LTX2, body={"video_url": source})
    finished(served, served.claim())
    tab.goto(f"{served.url}/models/{LTX2}?request={row.id}")
    tab.get_by_role("button", name="Another seed").focus()
    tab.keyboard.press("Enter")
    tab.get_by_text("Next in line").wait_for()
    assert tab.evaluate("() => document.activeElement.textContent") == "Waiting"
    finished(served, served.claim())
    tab.get_by_role("heading", name="Result", exact=True).wait_for()
    assert tab.evaluate("() => document.activeElement.textContent") == "Result"


def test_a_page_waits_for_the_list_that_is_on_its_way(served: Served, tab: "Page") -> None:
    submit(served, "still here")
    held: list[Route] = []
    tab.route("**/page/requests", lambda route: held.append(route))
    for page in ("", "history"):
        tab.goto("about:blank")  # the page before asks no more
        held.clear()
        with tab.expect_response("**/v1/models"), tab.expect_request("**/page/requests"):
            tab.goto(f"{served.url}/{page}")
        tab.evaluate("() => fetch('health').then((answer) => answer.text())")
        assert len(held) == 1
        held[0].continue_()
        tab.get_by_text("still here").first.wait_for()


def test_an_outage_is_spoken_once(served: Served, tab: "Page") -> None:
    submit(served, "still here")
    tab.route("**/page/requests*", lambda route: route.abort())
    tab.goto(f"{served.url}/history")
    tab.get_by_role("status").get_by_text("The server does not answer; trying again").wait_for()
    assert tab.locator("#queue").get_attribute("role") is None


def test_a_fault_of_a_page_is_not_told_as_an_outage(served: Served, tab: "Page") -> None:
    tab.route("**/page/requests*", lambda route: route.fulfill(json={}))
    tab.goto(f"{served.url}/history")
    tab.get_by_text("of undefined").first.wait_for()


@pytest.mark.parametrize(
    "body", ["new ReadableStream({ pull: (stream) => stream.error(new TypeError('cut')) })", "'<p>Of a proxy'"]
)
def test_an_answer_that_is_cut_or_of_a_proxy_is_an_outage(served: Served, tab: "Page", body: str) -> None:
    tab.goto(served.url)
    script = """async () => {
      const { callJson } = await import("/static/api.js");
      window.fetch = async () => new Response(BODY);
      return callJson("health").catch((error) => error.message);
    }"""
    assert tab.evaluate(script.replace("BODY", body)) == "The server cannot be reached."


def test_a_page_that_could_not_begin_can_be_tried_again(served: Served, tab: "Page") -> None:
    submit(served, "still here")
    for page in ("", "history", f"models/{LTXV}/api", f"models/{LTXV}"):
        tab.route("**/v1/models*", lambda route: route.fulfill(status=503, json={"detail": "The server is full."}))
        tab.goto(f"{served.url}/{page}")
        alert = tab.get_by_role("alert").filter(has_text="The server is full.")
        alert.wait_for()
        tab.unroute("**/v1/models*")
        alert.get_by_role("button", name="Try again").click()
        alert.wait_for(state="detached")
        tab.locator("#results a, .request, #input table, #form .field").first.wait_for()
