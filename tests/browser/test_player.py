"""The player in a browser: the source beside the result, the keys, and the copy that the browser can play."""

from typing import TYPE_CHECKING

import pytest

from longtake.families import plan_to_json
from longtake.queue import engine as queue
from tests.cli.test_inspection import make_plan
from tests.service.finished import CLIP, finished, submit
from tests.service.serving import LTX2, LTXV, Served
from tests.service.serving import submit as submit_input

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

SOURCE = CLIP.with_name("clip_after.mp4")
JOINT_S = 1.0


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
    tab.clock.install()
    tab.goto(f"{served.url}/models/{LTXV}?request={row.id}")
    tab.locator(".player").get_by_text("Preparing a copy, 40 %").wait_for()
    tab.clock.run_for(2000)
    tab.locator(".player [role=status]").get_by_text("Preparing a copy", exact=True).wait_for()
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
    tab.clock.run_for(60_000)
    assert len(asked) <= count + 1, "the one that was on its way already"


def with_source(served: Served, tab: "Page", endpoint: str, *, joint: float = JOINT_S) -> None:
    """Opens the page of a result whose source is stored. The page is told that the joint is at `joint` seconds."""
    with served.client() as client:
        source = client.post("/cdn/files/upload", content=SOURCE.read_bytes()).json()["access_url"]
        given = {"video": {"video_url": source}} if endpoint == LTXV else {"video_url": source}
        request_id = submit_input(client, {"prompt": "a cat", **given}, endpoint=endpoint)["request_id"]
    finished(served, served.claim())
    place = {"seconds": joint, "sound_seconds": joint, "new_first": False, "fps": 24.0}
    tab.route("**/joint?figures=0", lambda route: route.fulfill(json=place))
    tab.goto(f"{served.url}/models/{endpoint}?request={request_id}")
    tab.get_by_role("button", name="Loop the joint").wait_for()
    tab.get_by_role("button", name="Source only").wait_for()


SAME_PLACE = """at => {
  const [film, source] = document.querySelectorAll('.player video');
  const wanted = Math.min(film.currentTime, source.duration);
  return source.getClientRects().length && source.readyState >= 2 && !source.seeking &&
    Math.abs(source.currentTime - wanted) < 0.2 && Math.abs(film.currentTime - at) < 0.2;
}"""
COLOURS = """() => {
  const source = document.querySelectorAll('.player video')[1];
  const canvas = new OffscreenCanvas(16, 16);
  const pen = canvas.getContext('2d');
  pen.drawImage(source, 0, 0, 16, 16);
  return Math.max(...pen.getImageData(0, 0, 16, 16).data.filter((value, index) => index % 4 < 3));
}"""
SEEK = "(film, at) => { film.pause(); film.currentTime = at; }"


def test_a_result_opens_just_before_its_joint(served: Served, tab: "Page") -> None:
    with_source(served, tab, LTXV, joint=2.0)
    tab.locator(".player .clock").get_by_text("0.50 of").wait_for()
    tab.wait_for_function(
        "() => { const [film] = document.querySelectorAll('.player video');"
        " return film.readyState >= 2 && film.currentTime === 0.5; }"
    )


@pytest.mark.parametrize("endpoint", [LTXV, LTX2])
def test_the_source_is_shown_beside_the_result_and_in_its_place(served: Served, tab: "Page", endpoint: str) -> None:
    with_source(served, tab, endpoint)
    film, source = tab.get_by_label("The result", exact=True), tab.get_by_label("The source", exact=True)
    assert not source.is_visible()
    for name, shows_film in [("Side by side", True), ("Source only", False)]:
        button = tab.get_by_role("button", name=name)
        button.click()
        for at in (0.4, JOINT_S + 0.25):
            film.evaluate(SEEK, at)
            tab.wait_for_function(SAME_PLACE, arg=at)
        box = source.bounding_box()
        assert box is not None
        assert box["width"] > 100
        assert tab.evaluate(COLOURS) > 30, "the source has a picture"
        assert film.is_visible() == shows_film
        film.evaluate("film => { film.muted = true; film.currentTime = 0; return film.play(); }")
        tab.wait_for_function("() => document.querySelectorAll('.player video')[1].currentTime > 0.3")
        button.click()
        assert film.is_visible()
        assert not source.is_visible()


def test_the_name_of_each_video_stands_below_it_also_if_the_other_one_is_higher(served: Served, tab: "Page") -> None:
    with_source(served, tab, LTXV)
    tab.get_by_role("button", name="Side by side").click()
    tab.get_by_label("The result", exact=True).evaluate("film => { film.style.aspectRatio = '1 / 2'; }")
    distances = tab.locator(".player figure").evaluate_all(
        """figures => figures.map((figure) => {
          const [film, name] = [...figure.children].map((one) => one.getBoundingClientRect());
          return name.top - film.bottom;
        })"""
    )
    assert all(0 <= distance < 16 for distance in distances), distances


def test_a_shared_page_marks_the_joint_and_draws_quiet_sound_scaled(served: Served, tab: "Page") -> None:
    submit(served, "a cat")
    claimed = served.claim()
    queue.store_plan(served.engine, claimed, plan_to_json(make_plan("forward")))
    key = finished(served, claimed)
    quiet = {"duration": 1.375, "peaks": [0.001] * 599 + [0.01]}
    tab.route("**/wave?points=600", lambda route: route.fulfill(json=quiet))
    tab.goto(f"{served.url}/shared/{key}")
    tab.get_by_role("button", name="Loop the joint").wait_for()
    assert tab.locator(".player .joint").is_visible()
    tab.get_by_text("ltxv-tiny, a miniature, stands in").wait_for()
    assert "models pull" not in tab.locator("#shared").inner_text()
    tab.get_by_text("The sound is drawn scaled, 40 dB louder than it is.").wait_for()


def test_the_keys_work_outside_the_player_but_not_in_fields(served: Served, tab: "Page") -> None:
    with_source(served, tab, LTXV)
    source = tab.get_by_label("The source", exact=True)
    loop = tab.get_by_role("button", name="Loop the joint")
    assert (loop.get_attribute("title"), loop.get_attribute("aria-keyshortcuts")) == ("Loop the joint (J)", "J")
    assert tab.get_by_title("Source only (S)").get_attribute("aria-pressed") == "false"
    tab.evaluate("() => document.activeElement.blur()")
    tab.keyboard.press("s")
    source.wait_for()
    tab.get_by_role("button", name="Download").focus()
    tab.keyboard.press("j")
    assert loop.get_attribute("aria-pressed") == "true"
    prompt = tab.get_by_label("Prompt *")
    prompt.fill("")
    tab.keyboard.type("js")
    assert prompt.input_value() == "js"
    assert loop.get_attribute("aria-pressed") == "true"
    assert source.is_visible()


def test_the_buttons_fit_in_two_rows_on_a_phone(served: Served, tab: "Page") -> None:
    tab.set_viewport_size({"width": 360, "height": 740})
    with_source(served, tab, LTXV)
    rows = tab.locator(".player .controls button:not([hidden])").evaluate_all(
        """(buttons) => buttons.map((one) => {
          const { top, height } = one.getBoundingClientRect();
          return Math.round(top + height / 2);
        })"""
    )
    assert len(rows) == 6
    assert len(set(rows)) <= 2


def test_a_result_that_is_higher_than_the_window_scrolls_beside_the_form(served: Served, tab: "Page") -> None:
    with_source(served, tab, LTXV)
    tab.get_by_text("Answer as JSON").click()
    assert '"seed": 7' in tab.get_by_label("Answer as JSON").inner_text()
    tab.get_by_text("Log", exact=True).click()
    tab.set_viewport_size({"width": 1280, "height": 400})
    tab.get_by_label("Answer as JSON").hover()
    tab.mouse.wheel(0, 300)
    tab.wait_for_function("() => document.querySelector('#output').scrollTop > 0")
    assert tab.evaluate(
        "() => document.querySelector('#output').scrollWidth <= document.querySelector('#output').clientWidth"
    )


def test_the_result_is_shown_until_its_extension_begins(served: Served, tab: "Page") -> None:
    with_source(served, tab, LTXV)
    tab.get_by_role("button", name="Extend again").click()
    tab.locator(".price").filter(has_text="on fal").wait_for()
    assert tab.locator(".player").is_visible()
    tab.get_by_label("Prompt *").fill("it goes on")
    tab.keyboard.press("Control+Enter")
    tab.get_by_text("Next in line").wait_for()
    assert tab.locator(".player").count() == 0
