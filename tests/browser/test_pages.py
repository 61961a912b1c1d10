"""What holds for every page in a browser: its look on a phone and in both colours, the key door, an outage."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from longtake.queue.requests import Outcome
from tests.service.finished import finished, submit
from tests.service.serving import LTX2, LTXV, Served
from tests.service.test_pages import PAGES

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_phone(served: Served, tab: "Page", path: str) -> None:
    submit(served, "word" * 100)
    finished(served, served.claim())
    submit(served, "A long prompt, " * 60, endpoint=LTX2)
    tab.set_viewport_size({"width": 320, "height": 640})
    tab.goto(f"{served.url}/{path}")
    tab.wait_for_load_state("networkidle")
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", f"models/{LTX2}", "history", "server"])
def test_the_text_has_enough_contrast(served: Served, tab: "Page", path: str, scheme: Any) -> None:
    submit(served, "running")
    served.report(served.claim(), "Sampling new frames", step=1, steps=2)
    submit(served, "waiting")
    submit(served, "failed", outcome=Outcome(422, {}, error="It is too long."))
    tab.emulate_media(color_scheme=scheme)
    tab.goto(f"{served.url}/{path}")
    tab.wait_for_load_state("networkidle")
    assert tab.evaluate(LOW_CONTRAST) == []


LOW_CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const low = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility({ visibilityProperty: true }) || element.disabled) continue;
    let behind = element;
    while (behind && (parts(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
    const ground = behind ? getComputedStyle(behind).backgroundColor : "rgb(255, 255, 255)";
    const values = [getComputedStyle(element).color, ground].map((colour) => light(parts(colour)));
    const ratio = (Math.max(...values) + 0.05) / (Math.min(...values) + 0.05);
    if (ratio < 4.5) low.push([element.className, element.textContent.slice(0, 40), ratio]);
  }
  return low;
}"""
"""Returns the texts of a page whose contrast to their ground is below 4.5, as WCAG defines it."""


def test_every_control_has_a_name(served: Served, tab: "Page") -> None:
    for path in (*PAGES, "shared/none"):
        tab.goto(f"{served.url}/{path}")
        tab.wait_for_load_state("networkidle")
        assert tab.locator("h1:visible").count() == 1, path
        nameless = tab.evaluate(
            """() => [...document.querySelectorAll("input, select, textarea, button, a[href], video, [role=slider]")]
              .filter((one) => one.checkVisibility() && one.getAttribute("aria-hidden") !== "true")
              .filter((one) => !(one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim()))
              .map((one) => one.outerHTML)"""
        )
        assert nameless == [], path


def test_the_door_asks_for_a_key_and_can_forget_it(served: Served, tab: "Page") -> None:
    key = served.state.keys.create("mine", "run")
    submit(served, "mine alone", key_id=key.partition(":")[0], endpoint=LTX2)
    submit(served, "another's", key_id="another")
    tab.goto(f"{served.url}/history")
    tab.get_by_placeholder("id:secret").fill("wrong:key")
    tab.keyboard.press("Enter")
    tab.get_by_text("This key does not open the server.").wait_for()
    tab.get_by_placeholder("id:secret").fill(key)
    tab.keyboard.press("Enter")
    tab.get_by_text("mine alone").wait_for()
    assert tab.get_by_text("another's").count() == 0
    tab.reload()
    tab.get_by_text("mine alone").wait_for()
    assert key not in tab.content()
    tab.get_by_role("button", name="Forget key").click()
    tab.get_by_placeholder("id:secret").wait_for()
    assert tab.get_by_text("mine alone").count() == 0
    assert tab.evaluate("() => sessionStorage.length + localStorage.length + document.cookie.length") == 0


def test_a_remembered_key_opens_every_tab_until_it_is_forgotten(served: Served, new_tab: Callable[[], "Page"]) -> None:
    key = served.state.keys.create("mine", "run")
    submit(served, "mine alone", key_id=key.partition(":")[0], endpoint=LTX2)
    waiting, tab = new_tab(), new_tab()
    for one in (waiting, tab):
        one.goto(f"{served.url}/history")
        one.get_by_placeholder("id:secret").wait_for()
    tab.get_by_placeholder("id:secret").fill(key)
    tab.get_by_label("Remember it on this machine").check()
    tab.keyboard.press("Enter")
    third = new_tab()
    third.goto(f"{served.url}/history")
    for one in (waiting, tab, third):
        one.get_by_text("mine alone").wait_for()
    waiting.get_by_role("button", name="Forget key").click()
    for one in (waiting, tab, third):
        one.get_by_placeholder("id:secret").wait_for()
        assert one.get_by_text("mine alone").count() == 0
        assert one.evaluate("() => sessionStorage.length + localStorage.length") == 0


def test_a_key_that_is_not_remembered_stays_in_its_tab(served: Served, new_tab: Callable[[], "Page"]) -> None:
    key = served.state.keys.create("mine", "run")
    tab, other = new_tab(), new_tab()
    tab.goto(f"{served.url}/history")
    tab.get_by_placeholder("id:secret").fill(key)
    tab.keyboard.press("Enter")
    tab.get_by_role("button", name="Forget key").wait_for()
    other.goto(f"{served.url}/history")
    other.get_by_placeholder("id:secret").wait_for()
    assert other.evaluate("() => localStorage.length") == 0


def test_what_was_entered_is_forgotten_with_the_key(served: Served, tab: "Page") -> None:
    key = served.state.keys.create("mine", "run")
    tab.goto(f"{served.url}/models/{LTXV}")
    tab.get_by_placeholder("id:secret").fill(key)
    tab.keyboard.press("Enter")
    tab.get_by_label("Prompt *").fill("nobody else may read this")
    tab.get_by_role("button", name="Forget key").click()
    tab.get_by_placeholder("id:secret").wait_for()
    assert tab.evaluate("() => Object.keys(sessionStorage)") == []


def test_prompts_and_errors_are_shown_as_text(served: Served, tab: "Page") -> None:
    submit(served, HOSTILE, outcome=Outcome(422, {}, error=HOSTILE))
    tab.goto(f"{served.url}/history")
    tab.locator(".error").get_by_text("onerror").wait_for()
    assert tab.title() == "History | longtake"
    assert tab.locator("#requests img, #requests script").count() == 0


def test_the_page_reports_an_outage_and_recovers(served: Served, tab: "Page") -> None:
    submit(served, "still here")
    tab.goto(f"{served.url}/history")
    tab.get_by_text("still here").wait_for()
    tab.route("**/page/requests*", lambda route: route.abort())
    tab.get_by_text("The server does not answer; trying again").wait_for()
    assert tab.get_by_text("still here").is_visible()
    tab.unroute("**/page/requests*")
    tab.get_by_text("1 waiting").first.wait_for()


def test_two_tabs_show_the_same_request(served: Served, new_tab: Callable[[], "Page"]) -> None:
    row = submit(served, "in two tabs")
    tabs = [new_tab(), new_tab()]
    for tab in tabs:
        tab.goto(f"{served.url}/models/{LTXV}?request={row.id}")
        tab.get_by_text("Next in line").wait_for()
    claimed = served.claim()
    served.report(claimed, "Sampling new frames", step=5, steps=10)
    for tab in tabs:
        tab.get_by_text("Step 6 of 10").wait_for()
    finished(served, claimed)
    for tab in tabs:
        tab.get_by_role("button", name="Extend again").wait_for()


def test_older_requests(served: Served, tab: "Page") -> None:
    for number in range(30):
        submit(served, f"prompt {number}.", outcome=Outcome(422, {}, error="It is too long."))
    tab.goto(f"{served.url}/history")
    tab.get_by_text("prompt 29.").wait_for()
    tab.get_by_role("button", name="Older").click()
    tab.get_by_text("prompt 0.").wait_for()
    assert tab.locator(".request").count() == 6
    tab.get_by_role("button", name="Newest").click()
    tab.get_by_text("prompt 29.").wait_for()
