"""The page of the server in a browser: the first key, other keys, and what only admins see."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.serving import Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser


def create_key(tab: "Page", name: str) -> str:
    """Creates a key on the page. Returns it."""
    tab.get_by_label("Name").fill(name)
    tab.get_by_role("button", name="Create a key").click()
    tab.locator("tr").filter(has_text=name).wait_for()
    return tab.locator("#made code").inner_text()


def test_the_page_uses_the_first_key_itself(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/server")
    tab.get_by_text("There are no keys").wait_for()
    key = create_key(tab, "mine")
    assert served.state.keys.list()[0].scope == "admin"
    with tab.expect_response(
        lambda answer: "/page/requests" in answer.url and "authorization" in answer.request.headers
    ):
        pass
    assert not tab.locator("#door").is_visible()
    assert not tab.locator("#models-panel").is_visible(), "a server without slots has no models"
    assert tab.locator("#made code").inner_text() == key
    assert tab.locator("#new-key + #made").is_visible(), "it is where it was asked for"
    assert tab.evaluate("() => document.activeElement.parentElement.id") == "made"
    tab.get_by_role("button", name="Copy").click()
    tab.get_by_text("Copied").wait_for()
    tab.get_by_text("used by this page").wait_for()
    second = create_key(tab, "a program's")
    assert [one.scope for one in served.state.keys.list()] == ["admin", "run"]
    assert second != key
    tab.get_by_role("button", name="Forget key").click()
    tab.get_by_placeholder("id:secret").fill(key)
    tab.keyboard.press("Enter")
    tab.get_by_text("used by this page").wait_for()


def test_revoking_the_own_key_is_warned_of(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/server")
    tab.get_by_text("There are no keys").wait_for()
    create_key(tab, "mine")
    said: list[str] = []

    def decline(dialog: "object") -> None:
        said.append(dialog.message)  # type: ignore[attr-defined]
        dialog.dismiss()  # type: ignore[attr-defined]

    tab.once("dialog", decline)
    tab.get_by_role("button", name="Revoke mine").click()
    assert "This page uses it" in said[0]
    assert "No other key may manage this server" in said[0]
    tab.once("dialog", lambda dialog: dialog.accept())
    tab.get_by_role("button", name="Revoke mine").click()
    tab.get_by_placeholder("id:secret").wait_for()


def test_only_admins_see_slots_models_and_keys(tmp_path: Path, tab: "Page") -> None:
    with serving(tmp_path, slots=("cpu",)) as served:
        keys = {scope: served.state.keys.create(scope, scope) for scope in ("run", "admin")}
        tab.goto(f"{served.url}/server")
        tab.get_by_placeholder("id:secret").fill(keys["run"])
        tab.keyboard.press("Enter")
        tab.get_by_text("0 running, 0 waiting").wait_for()
        tab.get_by_text("to a key that may manage everything").wait_for()
        assert not tab.locator("#about-slots, #models-panel, #keys-panel").locator("visible=true").count()
        tab.get_by_role("button", name="Forget key").click()
        tab.get_by_placeholder("id:secret").fill(keys["admin"])
        tab.keyboard.press("Enter")
        row = tab.locator("#models tr").filter(has_text="ltx-2.3")
        row.first.get_by_text("A download has about").wait_for()
        tab.get_by_text("of their disk are free").wait_for()
        tab.locator("#about-slots").wait_for()
        tab.locator("#keys tr").get_by_text("any number").first.wait_for()
        assert not tab.get_by_text("to a key that may manage everything").is_visible()
        tab.get_by_label("Name").fill("wrong")
        most = tab.get_by_label("Most at once")
        most.fill("-2")
        tab.get_by_role("button", name="Create a key").click()
        problem = tab.get_by_role("alert").filter(has_text="must be a whole number from 1 on")
        problem.wait_for()
        assert len(served.state.keys.list()) == 2
        most.fill("2")
        problem.wait_for(state="detached")


def test_an_error_in_the_drawing_of_a_section_is_not_taken_for_an_outage(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/server")
    told = tab.evaluate(
        """async () => {
          const { section } = await import("/static/section.js");
          const load = section("keys-panel", "page/keys", ({ keys }) => keys.none.at);
          return load().then(() => "no error", ({ name }) => name);
        }"""
    )
    assert told == "TypeError"


def test_a_download_begins_and_ends_with_the_keyboard(served: Served, tab: "Page") -> None:
    pulls: list[dict[str, Any] | None] = [None]
    about = {"title": "T", "licence": "L", "embedded": False, "installed": False, "missing": [], "bytes": 0}

    def models(route: "Route") -> None:
        small = about | {"name": "small", "missing_bytes": 10**9, "pull": pulls[-1]}
        route.fulfill(json={"models": [small], "free_bytes": 5 * 10**10})

    def pull(route: "Route") -> None:
        running = {"running": True, "share": 0.25, "bytes": 250, "all_bytes": 1000, "message": "", "error": None}
        pulls.append(running if route.request.method == "POST" else None)
        route.fulfill(status=202, json={})

    tab.route("**/page/models", models)
    tab.route("**/page/models/small/pull", pull)
    tab.goto(f"{served.url}/server")
    tab.get_by_role("button", name="Download: small").focus()
    tab.keyboard.press("Enter")
    stop = tab.get_by_role("button", name="Stop: small")
    stop.wait_for()
    bar = tab.get_by_role("progressbar", name="Download of small")
    assert bar.evaluate("bar => bar.value") == 0.25
    assert stop.evaluate("button => button === document.activeElement")
    tab.keyboard.press("Enter")
    bar.wait_for(state="detached")
    assert tab.get_by_role("button", name="Download: small").evaluate("button => button === document.activeElement")


def test_a_model_that_does_not_fit_is_not_offered_and_a_download_tells_its_speed(tmp_path: Path, tab: "Page") -> None:
    arrived = [0]

    def models(route: "Route") -> None:
        arrived[0] += 200_000_000
        pull = {"running": True, "share": arrived[0] / 10**10, "bytes": arrived[0], "all_bytes": 10**10, "message": "x"}
        about = {"title": "T", "licence": "L", "embedded": False, "installed": False, "missing": [], "bytes": 0}
        large = {"name": "large", "missing_bytes": 9 * 10**10, "pull": None}
        small = {"name": "small", "missing_bytes": 10**9, "pull": None}
        coming = {"name": "coming", "missing_bytes": 10**10, "pull": pull | {"error": None}}
        route.fulfill(json={"models": [about | large, about | small, about | coming], "free_bytes": 5 * 10**10})

    with serving(tmp_path, slots=("cpu",)) as served:
        tab.route("**/page/models", models)
        tab.goto(f"{served.url}/server")
        tab.get_by_text("more than is free").wait_for()
        assert tab.locator("tr").filter(has_text="large").get_by_role("button").count() == 0
        tab.locator("tr").filter(has_text="coming").get_by_text("per second, about").wait_for()
        tab.get_by_role("button", name="Download: small").wait_for()
        tab.get_by_role("button", name="Stop: coming").wait_for()
