"""The page at `/` in a real browser, and the JSON that it loads."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest

from longtake.queue import engine as queue
from longtake.queue.requests import Outcome, RequestRow, Submission
from longtake.storage.files import NewFile
from tests.service.serving import LTX2, LTXV, Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as served:
        yield served


def submit(served: Served, prompt: str, *, endpoint: str = LTXV, key_id: str = "local", **more: Any) -> RequestRow:
    body = json.dumps({"prompt": prompt, **more.pop("body", {})}).encode()
    row = queue.submit(served.engine, Submission(endpoint, "default", key_id, body, served.queue, **more))[0]
    served.state.statuses.mark_changed(row.id)
    return row


def finished(served: Served, row: RequestRow) -> str:
    """Ends a claimed request with a video in the store. Returns the key of its file."""
    path = served.state.store.scratch_path()
    shutil.copyfile(CLIP, path)
    key = served.state.store.add_result(row.id, NewFile(row.key_id, "longtake-7.mp4", "video/mp4"), path)
    video = {"url": f"https://v3.fal.media/files/{key}", "content_type": "video/mp4", "width": 640, "height": 352}
    body = {"video": video | {"duration": 4.0, "num_frames": 96}, "seed": 7}
    headers = {"x-longtake-model": "ltxv-tiny", "x-longtake-stand-in": "ltxv-tiny stands in."}
    served.finish(row, Outcome(200, body, headers=headers))
    return key


def listed(served: Served, query: str = "", **headers: str) -> Any:
    answer = served.client().get(f"/page/requests{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_list_shows_requests_in_every_state(served: Served) -> None:
    done, failed, running, waiting, cancelled = (submit(served, word) for word in ("a", "b", "c", "d", "e"))
    key = finished(served, served.claim())
    served.finish(served.claim(), Outcome(422, {"detail": []}, error="The video is too long."))
    row = served.claim()
    served.report(row, "Sampling new frames", step=3, steps=10, window=2, windows=2)
    queue.cancel(served.engine, cancelled.id)
    found = listed(served)
    assert [(one["id"], one["prompt"], one["state"]) for one in found["requests"]] == [
        (cancelled.id, "e", "cancelled"),
        (waiting.id, "d", "waiting"),
        (running.id, "c", "running"),
        (failed.id, "b", "failed"),
        (done.id, "a", "done"),
    ]
    assert (found["running"], found["waiting"], found["older"]) == (1, 1, None)
    by_id = {one["id"]: one for one in found["requests"]}
    assert by_id[waiting.id]["position"] == 0
    assert by_id[running.id]["progress"] == {"message": "Sampling new frames", "stage": "sampling", "share": 0.65}
    assert by_id[failed.id]["error"] == "The video is too long."
    assert by_id[done.id]["video"]["url"] == f"cdn/files/{key}", "relative, because a proxy may add a path prefix"
    assert by_id[done.id]["model"] == "ltxv-tiny"
    assert by_id[done.id]["stand_in"] == "ltxv-tiny stands in."
    assert (by_id[failed.id]["model"], by_id[waiting.id]["stand_in"]) == (None, None)
    assert by_id[done.id]["seed"] == 7
    assert served.client().get(by_id[done.id]["video"]["url"]).content == CLIP.read_bytes()


def test_a_key_sees_its_own_requests_and_an_admin_all(served: Served) -> None:
    keys = served.state.keys
    first, second, admin = keys.create("1", "run"), keys.create("2", "run"), keys.create("3", "admin")
    for key in (first, second):
        submit(served, key[:8], key_id=key.partition(":")[0])
    assert [one["prompt"] for one in listed(served, Authorization=f"Key {first}")["requests"]] == [first[:8]]
    assert listed(served, Authorization=f"Key {first}")["waiting"] == 1
    assert len(listed(served, Authorization=f"Key {admin}")["requests"]) == 2
    assert served.client().get("/page/requests", headers={"Authorization": "Key a:b"}).status_code == 401


def test_older_requests_are_on_further_pages(served: Served) -> None:
    made = [submit(served, str(number)).id for number in range(50)]
    seen: list[str] = []
    older = None
    while True:
        found = listed(served, "" if older is None else f"?before={older}")
        seen += [one["id"] for one in found["requests"]]
        older = found["older"]
        if older is None:
            break
    assert seen == made[::-1]
    for nonsense in ("nonsense", "%C2%B2"):  # the second one is ², a digit that is no number
        assert len(listed(served, f"?before={nonsense}")["requests"]) == 24


def test_large_payloads_are_not_read_for_the_list(served: Served) -> None:
    submit(served, "large", body={"video": {"video_url": "data:video/mp4;base64," + "A" * 2**20}})
    outcome = Outcome(200, {"video": {"url": "data:video/mp4;base64," + "A" * 2**20}})
    submit(served, "small", outcome=outcome)
    small, large = listed(served)["requests"]
    assert (small["prompt"], small["video"], large["prompt"]) == ("small", None, "")


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b"{", b'{"prompt": {"a": 1}}'])
def test_requests_with_unusual_payloads_are_listed(served: Served, body: bytes) -> None:
    submission = Submission(LTXV, "default", "local", body, served.queue, outcome=Outcome(422, {"detail": "no"}))
    queue.submit(served.engine, submission)
    outputs: tuple[Any, ...] = ({"video": None}, {"video": []}, {"video": {"url": 7}}, [], None, "x")
    for output in outputs:
        queue.submit(served.engine, Submission(LTXV, "default", "k", b"{}", "h/queue", outcome=Outcome(200, output)))
    assert len(listed(served)["requests"]) == 7


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_origins_cannot_read_the_list(served: Served, site: str) -> None:
    """Without keys, every page that a person opens could call the server on that person's machine."""
    assert served.client().get("/page/requests", headers={"sec-fetch-site": site}).status_code == 403


def test_the_page_asks_for_its_parts_by_relative_addresses(served: Served) -> None:
    """So that it works behind a proxy that adds a path prefix."""
    page, script = (served.client().get(path).text for path in ("/", "/static/page.js"))
    parts = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert len(parts) == 3
    for part in parts:
        assert urljoin("http://box.example/video/", part).startswith("http://box.example/video/static/")
    fetched = re.findall(r"fetch\(.(\S)", script)
    assert fetched == ["p"]


def test_the_page_loads_only_its_own_files(served: Served) -> None:
    web = served.client()
    page = web.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    for name in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text):
        assert web.get(name).status_code == 200
    for name in ("nothing.css", "..%2fpage.py", "%2e%2e/page.py", "..%2f..%2fsettings.py"):
        assert web.get(f"/static/{name}").status_code == 404


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """The machine's own Chromium or Chrome."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


QUICK_TIMERS = "const wait = window.setTimeout; window.setTimeout = (run, ms) => wait(run, ms / 10);"
"""Lets the page ask for news ten times as often, so that the tests wait less."""


@pytest.fixture
def tab(browser: "Browser") -> Iterator["Page"]:
    """A new tab without stored data. The test fails if the page's code raises an error."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.add_init_script(QUICK_TIMERS)
    tab = context.new_page()
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.set_default_timeout(60_000)
    yield tab
    context.close()
    assert errors == []


def contrast(tab: "Page", selector: str) -> float:
    """Returns the contrast ratio of an element's text to its background, as WCAG defines it."""
    found: float = tab.evaluate(
        """(selector) => {
          const light = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((value) => value / 255)
              .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const element = document.querySelector(selector);
          let behind = element;
          while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
          const values = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(light);
          return (Math.max(...values) + 0.05) / (Math.min(...values) + 0.05);
        }""",
        selector,
    )
    return found


def test_a_request_from_the_queue_to_its_video(served: Served, tab: "Page") -> None:
    tab.goto(served.url)
    tab.get_by_text("No requests yet.").wait_for()
    row = submit(served, "The boat sails on")
    item = tab.locator(f'[data-id="{row.id}"]')
    item.get_by_text("next in line").wait_for()
    claimed = served.claim()
    served.report(claimed, "Sampling new frames", step=5, steps=10)
    item.get_by_text("Sampling new frames").wait_for()
    assert item.locator("progress").evaluate("bar => bar.value") == 0.5
    finished(served, claimed)
    film = item.locator("video")
    film.wait_for()
    tab.wait_for_function("() => document.querySelector('video').readyState >= 1")
    film.evaluate("film => { film.muted = true; film.dataset.same = 1; return film.play(); }")
    tab.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
    submit(served, "Another one")
    tab.get_by_text("Another one").wait_for()
    assert film.evaluate("film => film.dataset.same === '1' && !film.paused")
    item.get_by_text("seed 7").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_text_has_enough_contrast(served: Served, tab: "Page", scheme: Any) -> None:
    submit(served, "running")
    served.report(served.claim(), "Sampling new frames", step=1, steps=2)
    submit(served, "waiting")
    submit(served, "failed", outcome=Outcome(422, {}, error="It is too long."))
    tab.emulate_media(color_scheme=scheme)
    tab.goto(served.url)
    tab.get_by_text("Sampling new frames").wait_for()
    states = (".waiting .state", ".running .state", ".failed .state")
    for selector in (*states, ".endpoint", ".prompt", ".error", ".stage", ".figures", ".id", "#summary", "footer"):
        assert contrast(tab, selector) >= 4.5, selector


def test_a_deleted_video_is_reported(served: Served, tab: "Page") -> None:
    submit(served, "gone soon")
    key = finished(served, served.claim())
    served.state.store.delete(key)
    tab.goto(served.url)
    tab.get_by_text("The file is no longer here").wait_for()
    assert tab.locator("video").count() == 0


def test_prompts_and_errors_are_shown_as_text(served: Served, tab: "Page") -> None:
    submit(served, HOSTILE, outcome=Outcome(422, {}, error=HOSTILE))
    tab.goto(served.url)
    tab.locator(".error").get_by_text("onerror").wait_for()
    assert tab.title() == "longtake"
    assert tab.locator("#requests img, #requests script").count() == 0


def test_the_page_asks_for_a_key_and_can_forget_it(served: Served, tab: "Page") -> None:
    key = served.state.keys.create("mine", "run")
    submit(served, "mine alone", key_id=key.partition(":")[0], endpoint=LTX2)
    submit(served, "another's", key_id="another")
    tab.goto(served.url)
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


def test_the_page_fits_a_phone(served: Served, tab: "Page") -> None:
    submit(served, "word" * 100)
    finished(served, served.claim())
    submit(served, "A long prompt, " * 60, endpoint=LTX2)
    tab.set_viewport_size({"width": 320, "height": 640})
    tab.goto(served.url)
    tab.locator("video").wait_for()
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= 320
    assert float(tab.locator(".prompt").first.evaluate("e => parseFloat(getComputedStyle(e).fontSize)")) >= 16


def test_the_page_reports_an_outage_and_recovers(served: Served, tab: "Page") -> None:
    submit(served, "still here")
    tab.goto(served.url)
    tab.get_by_text("still here").wait_for()
    tab.route("**/page/requests*", lambda route: route.abort())
    tab.get_by_text("The server does not answer; trying again").wait_for()
    assert tab.get_by_text("still here").is_visible()
    tab.unroute("**/page/requests*")
    tab.get_by_text("1 waiting").wait_for()


def test_older_requests_in_the_browser(served: Served, tab: "Page") -> None:
    for number in range(30):
        submit(served, f"prompt {number}.")
    tab.goto(served.url)
    tab.get_by_text("prompt 29.").wait_for()
    tab.get_by_role("button", name="Older").click()
    tab.get_by_text("prompt 0.").wait_for()
    assert tab.locator(".request").count() == 6
    tab.get_by_role("button", name="Newest").click()
    tab.get_by_text("prompt 29.").wait_for()
    assert not tab.get_by_role("button", name="Newest").is_visible()
