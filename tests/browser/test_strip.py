"""The source's strip of frames in a browser: the handles on it, what they set, and the words about the frames."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.finished import CLIP
from tests.service.serving import LTX2, LTXV, OLD, SECONDS, Served

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

pytestmark = pytest.mark.browser

FRAMES = 33
"""The number of frames of the clip."""


def choose(served: Served, tab: "Page", endpoint: str, body: dict[str, Any] | None = None) -> None:
    """Opens a playground, fills its form with a request, chooses the clip, and waits for the plan."""
    tab.goto(f"{served.url}/models/{endpoint}")
    if body is not None:
        tab.get_by_role("button", name="JSON").click()
        tab.get_by_label("Request as JSON").fill(json.dumps({"prompt": "x", **body}))
        tab.get_by_role("button", name="Form").click()
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    tab.locator(".strip img").wait_for()


def replanned(tab: "Page") -> None:
    """Waits for the plan of what was just changed."""
    tab.locator("#form:not(.planning)").wait_for()


def pull(tab: "Page", knob: "Locator", share: float) -> None:
    """Presses the pointer on a handle and moves it to a share of the strip, 0..1."""
    strip = tab.locator(".strip")
    strip.scroll_into_view_if_needed()
    box, own = strip.bounding_box(), knob.bounding_box()
    assert box is not None
    assert own is not None
    y = own["y"] + own["height"] / 2
    tab.mouse.move(own["x"] + own["width"] / 2, y)
    tab.mouse.down()
    tab.mouse.move(box["x"] + share * box["width"], y, steps=5)


def drag(tab: "Page", knob: "Locator", share: float) -> int:
    """Drags a handle to a share of the strip, 0..1. Returns the frame at which it is then, before it is planned."""
    with tab.expect_request("**/plan"):
        pull(tab, knob, share)
        tab.mouse.up()
        return frame(knob)


def frame(knob: "Locator") -> int:
    return int(str(knob.get_attribute("aria-valuenow")))


def row(tab: "Page", name: str) -> str:
    """Returns the text beside a name in the words about the frames."""
    return tab.locator(".frames dt", has_text=name).locator("+ dd").inner_text()


def number(tab: "Page", name: str) -> str:
    return tab.locator(f'[data-path$="{name}"] input[type=number]').input_value()


def test_a_handle_of_the_context_stays_where_it_is_dropped_beside_the_bright_part(served: Served, tab: "Page") -> None:
    choose(served, tab, LTX2)
    knob = tab.get_by_role("slider", name="Number of context frames", exact=True)
    assert row(tab, "Context").startswith("the last 17 of 33, bright above")
    assert "Of the 25 that the request counts, its window has room for 17" in row(tab, "Context")
    assert drag(tab, knob, 0.72) == FRAMES - 9, "at a length that the model can have"
    replanned(tab)
    assert (frame(knob), number(tab, "num_context_frames")) == (FRAMES - 9, "9")
    bright = tab.locator(".seen").evaluate("one => one.getBoundingClientRect().left")
    box = knob.bounding_box()
    assert box is not None
    assert abs(box["x"] + box["width"] / 2 - bright) < 2
    assert row(tab, "New") == "112 frames after them"
    assert row(tab, "Result") == "145 frames: the whole source, then 112 new"
    tab.get_by_text("Number of context frames is 9.").wait_for()
    tab.get_by_role("button", name="Use the default").click()
    replanned(tab)
    assert number(tab, "num_context_frames") == "25"


@pytest.mark.parametrize(
    ("endpoint", "body", "name", "share"),
    [
        (LTX2, {"match_input_fps": False, "fps": 10, "num_context_frames": 1}, "Number of context frames", 0.4),
        (LTXV, {"video": {"resample_fps": True, "target_fps": 10}}, "Max number of frames", 0.95),
    ],
)
def test_a_handle_stays_where_it_is_dropped_on_a_source_that_is_read_at_a_lower_rate(
    served: Served, tab: "Page", endpoint: str, body: dict[str, Any], name: str, share: float
) -> None:
    choose(served, tab, endpoint, body)
    knob = tab.get_by_role("slider", name=name, exact=True)
    dropped = drag(tab, knob, share)
    replanned(tab)
    assert (frame(knob), 0 < dropped < FRAMES) == (dropped, True)


def test_a_handle_says_why_it_stops(served: Served, tab: "Page") -> None:
    choose(served, tab, LTX2, {"num_context_frames": 9})
    knob = tab.get_by_role("slider", name="Number of context frames", exact=True)
    pull(tab, knob, 0.1)
    assert tab.locator(".reason").inner_text() == "This model sees at most 17 frames of the source."
    assert frame(knob) == FRAMES - 17
    tab.mouse.up()
    tab.locator(".reason:empty").wait_for(state="attached")
    tab.get_by_text("It stops at 0, 1, 9 or 17 frames,").wait_for()
    knob.press("End")
    knob.press("ArrowRight")
    assert tab.locator(".reason").inner_text() == "The context is empty."
    tab.get_by_role("button", name="Run", exact=True).click()
    assert tab.locator(".reason").text_content() == "", "a run takes the reason away at once"


def test_a_context_that_can_have_one_length_only_has_no_handle(served: Served, tab: "Page") -> None:
    choose(served, tab, SECONDS)
    tab.get_by_text("The context is fixed at 17 frames. This model sees at most 17 frames of the source.").wait_for()
    assert tab.locator(".handle:visible").count() == 0


def test_what_a_moved_handle_changes_is_not_told_before_it_is_planned(served: Served, tab: "Page") -> None:
    choose(served, tab, LTXV)
    held: list[Route] = []

    def hold(route: "Route") -> None:
        if is_open:
            route.continue_()
        else:
            held.append(route)

    is_open = False
    tab.route("**/plan", hold)
    drag(tab, tab.get_by_role("slider", name="Max number of frames", exact=True), 0.7)
    assert tab.locator(".frames dd:visible").count() == 1
    assert tab.locator(".added").inner_text() == "+…"
    is_open = True
    for route in held:
        route.continue_()
    replanned(tab)
    assert tab.locator(".frames dd:visible").count() == 3
    assert tab.locator(".added").inner_text() == "+112"


def test_a_backward_context_is_at_the_beginning_and_has_whole_groups_of_frames(served: Served, tab: "Page") -> None:
    choose(served, tab, LTX2, {"extend_direction": "backward"})
    knob = tab.get_by_role("slider", name="Number of context frames", exact=True)
    assert frame(knob) == 16
    assert row(tab, "New").endswith("before them")
    assert drag(tab, knob, 0.2) == 8
    replanned(tab)
    assert (frame(knob), number(tab, "num_context_frames")) == (8, "8")
    tab.get_by_text("It stops at 0, 8 or 16 frames, because the model takes 8 at a time.").wait_for()
    knob.press("End")
    reason = "This model sees at most 16 frames of the source when it extends backward."
    assert (frame(knob), tab.locator(".reason").inner_text()) == (16, reason)


def test_a_handle_that_cuts_the_source_says_which_fields_it_sets_and_what_is_left_out(
    served: Served, tab: "Page"
) -> None:
    choose(served, tab, LTXV)
    assert tab.locator(".handle:visible").count() == 1, "one handle for one thing"
    knob = tab.get_by_role("slider", name="Max number of frames", exact=True)
    told = tab.locator('[data-path="num_frames"] .told')
    assert told.inner_text() == "121 frames: 33 of the source and 88 new."
    assert drag(tab, knob, 0.7) == FRAMES - 9
    tab.get_by_text("Limit number of frames is on, and Max number of frames is 9.").wait_for()
    replanned(tab)
    assert frame(knob) == FRAMES - 9
    assert told.inner_text() == "121 frames: 9 of the source and 112 new."
    assert row(tab, "Result") == "121 frames: the last 9 of 33, then 112 new. 24 frames of the source are left out"
    knob.press("Home")
    assert tab.locator(".reason").inner_text() == "", "it did not stop before"
    tab.get_by_text("It stops at 1, 9, 17, 25 or 33 frames,").wait_for()
    replanned(tab)
    assert number(tab, "max_num_frames") == "1441"
    assert tab.get_by_text("Limit number of frames is on").count() == 0
    knob.press("End")
    knob.press("ArrowRight")
    assert tab.locator(".reason").inner_text() == "At least 1 frame of the source is used."
    replanned(tab)
    tab.get_by_role("button", name="Use the whole source").click()
    replanned(tab)
    assert (frame(knob), told.inner_text()) == (0, "121 frames: 33 of the source and 88 new.")


def test_a_source_that_plays_backwards_is_cut_at_its_end_and_its_beginning(served: Served, tab: "Page") -> None:
    choose(served, tab, LTXV, {"video": {"reverse_video": True}})
    limit = tab.get_by_role("slider", name="Max number of frames", exact=True)
    start = tab.get_by_role("slider", name="Start frame number", exact=True)
    assert (frame(start), frame(limit)) == (0, 33)
    assert "plays backwards" in row(tab, "Result")
    assert drag(tab, limit, 0.5) == 17
    replanned(tab)
    assert frame(limit) == 17


def test_the_first_used_frame_has_a_handle_where_it_is_the_only_limit(served: Served, tab: "Page") -> None:
    choose(served, tab, OLD)
    knob = tab.get_by_role("slider", name="Start frame number", exact=True)
    knob.press("ArrowRight")
    replanned(tab)
    assert (frame(knob), number(tab, "start_frame_num")) == (8, "8")
    assert row(tab, "Result").startswith("121 frames: the last 25 of 33")
    knob.press("End")
    assert tab.locator(".reason").inner_text() == ""
    knob.press("ArrowRight")
    assert "last frames are used" in tab.locator(".reason").inner_text()


@pytest.mark.parametrize("rate", [24000 / 1001, 30000 / 1001, 24.0])
def test_a_handle_reaches_every_number_of_frames_at_a_rate_that_is_no_whole_number(
    served: Served, tab: "Page", rate: float
) -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    wrong = tab.evaluate(
        """async (rate) => {
          const { limitsOf } = await import(new URL("static/limits.js", location.origin));
          const field = { label: "Frames", initial: 1, schema: { minimum: 0, maximum: 9999 } };
          const [limit] = limitsOf({ field: (name) => (name === "num_context_frames" ? { field } : undefined) });
          const counts = Array.from({ length: 180 }, (_, number) => 8 * number + 1);
          return counts.filter((all) => {
            const context = { rate, most_seen: 9999, counted: all, new_frames: 9, at_start: false, new_first: false };
            const { value, edge } = limit.at(0, context, { num_frames: all, fps: rate });
            return value !== all || edge !== 0;
          });
        }""",
        rate,
    )
    assert wrong == []


def test_a_strip_that_cannot_be_drawn_does_not_load_for_ever(served: Served, tab: "Page") -> None:
    tab.route("**/strip?*", lambda route: route.fulfill(status=500))
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    tab.locator(".strip:not(.loading)").wait_for()
    assert tab.locator(".handle:visible").count() == 1, "it can still be moved"


def test_a_number_of_frames_says_how_many_are_new_as_it_is_typed(served: Served, tab: "Page") -> None:
    choose(served, tab, LTXV)
    field = tab.locator('[data-path="num_frames"]')
    field.locator("input[type=number]").fill("57")
    field.get_by_text("57 frames: 33 of the source and 24 new.").wait_for()
    field.locator("input[type=number]").fill("33")
    field.get_by_text("33 frames: 9 of the source and 24 new. The result has 57, with 33 of the source.").wait_for()
