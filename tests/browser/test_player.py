"""The player in a browser, while the server makes a copy that the browser can play."""

from typing import TYPE_CHECKING

import pytest

from tests.service.finished import finished, submit
from tests.service.serving import LTXV, Served

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser


def test_the_result_is_shown_while_its_copy_is_made(served: Served, tab: "Page") -> None:
    row = submit(served, "a cat")
    finished(served, served.claim())
    asked: list[str] = []
    made: list[bool] = []

    def copy(route: "Route") -> None:
        asked.append(route.request.url)
        if made:
            route.fulfill(status=206, body="x")
        else:
            route.fulfill(status=202, json={"share": 0.4})

    tab.route("**/media/*/facts", lambda route: route.fulfill(json={"playable": False}))
    tab.route("**/media/*/copy", copy)
    tab.goto(f"{served.url}/models/{LTXV}?request={row.id}")
    tab.locator(".player").get_by_text("Preparing a copy, 40 %").wait_for()
    assert tab.get_by_role("group", name="Player").is_visible()
    assert tab.get_by_role("button", name="Play", exact=True).is_visible()
    assert tab.get_by_role("button", name="Download").is_visible()
    made.append(True)
    tab.locator('.player video[src$="/copy"]').first.wait_for()
    made.clear()
    tab.reload()
    tab.locator(".player").get_by_text("Preparing a copy, 40 %").wait_for()
    tab.evaluate(
        "() => { history.pushState(null, '', location.pathname); dispatchEvent(new PopStateEvent('popstate')); }"
    )
    tab.locator(".player").wait_for(state="detached")
    count = len(asked)
    tab.wait_for_timeout(1500)
    assert len(asked) == count
