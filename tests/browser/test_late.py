"""Answers that come late in a browser: they leave what was typed, chosen, sent or told after they were asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from longtake.queue.requests import Outcome
from tests.browser.test_lists import result
from tests.browser.test_memory import enter
from tests.service.finished import CLIP, finished, submit
from tests.service.serving import LTX2, LTXV, Served

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

FACTS: dict[str, Any] = {
    "width": 112,
    "height": 64,
    "num_frames": 33,
    "duration": 1.375,
    "fps": 24.0,
    "has_audio": True,
    "playable": True,
}
SETTINGS: dict[str, Any] = {"longtake": "1.0", "endpoint": LTX2, "input": {"prompt": "from the file"}}
GONE: dict[str, Any] = {"status": 502, "json": {"detail": "It is gone."}}
TOO_LONG = Outcome(
    422,
    {"detail": [{"loc": ["body", "num_frames"], "msg": "It is too long.", "type": "value_error"}]},
    error="It is too long.",
)


def uploaded(served: Served) -> str:
    """Returns the URL of the clip, which it uploads."""
    with served.client() as client:
        return str(client.post("/cdn/files/upload", content=CLIP.read_bytes()).json()["access_url"])


def undecoded(tab: "Page", settings: dict[str, Any] | None = None) -> None:
    """Tells the facts of the clip of every video, so that the server decodes none."""
    tab.route("**/facts", lambda route: route.fulfill(json={**FACTS, "settings": settings}))
    tab.route("**/strip?*", lambda route: route.abort())


def chosen(served: Served, tab: "Page") -> None:
    """Opens a playground and chooses the clip, whose plan does not come."""
    undecoded(tab)
    tab.route("**/plan", lambda route: None)
    tab.goto(f"{served.url}/models/{LTX2}")
    holding(tab, "**/plan", lambda: tab.locator(".of-video input[type=file]").set_input_files(CLIP))


def holding(tab: "Page", pattern: str, act: Callable[[], object]) -> "Route":
    """Does what sends a request, and returns that request, which is held. Further ones are answered."""
    held: list[Route] = []
    tab.route(pattern, lambda route: route.fallback() if held else held.append(route))
    with tab.expect_request(pattern):
        act()
    while not held:
        tab.wait_for_timeout(10)  # a request is told before it is routed
    return held[0]


def test_the_failure_of_a_file_leaves_what_is_told_of_another_one(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    source = tab.locator(".of-video")
    url, facts, error = (source.locator(one) for one in ("input[type=url]", ".facts", ".error"))

    def write() -> None:
        url.fill("https://127.0.0.1:1/clip.mp4")
        url.press("Tab")

    look = holding(tab, "**/media/import", write)
    send = holding(tab, "**/cdn/uploads/*", lambda: source.locator("input[type=file]").set_input_files(CLIP))
    look.fulfill(**GONE)
    source.locator(".view .screen").wait_for(state="detached")
    assert facts.inner_text() == f"Sending {CLIP.name}"
    assert "gone" not in error.inner_text()
    send.abort()
    error.filter(has_text="The upload failed").wait_for()
    look = holding(tab, "**/media/import", source.get_by_role("button", name="Try again").click)
    tab.route("**/cdn/uploads/*", lambda route: route.abort())
    source.locator("input[type=file]").set_input_files(CLIP)
    error.filter(has_text="The upload failed").wait_for()
    look.fulfill(**GONE)
    error.filter(has_text="It is gone.").wait_for()
    assert "The upload failed" in error.inner_text()


def test_the_facts_of_a_file_leave_the_failure_of_another_upload_in_view(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    source = tab.locator(".of-video")
    file, failure = source.locator("input[type=file]"), source.locator(".error").filter(has_text="The upload failed")
    facts = holding(tab, "**/media/*/facts", lambda: file.set_input_files(CLIP))
    holding(tab, "**/cdn/uploads/*", lambda: file.set_input_files(CLIP)).abort()
    failure.wait_for()
    facts.continue_()
    source.get_by_label("The chosen video").wait_for()
    assert failure.is_visible()
    assert source.locator(".facts").inner_text() == ""


def test_the_plan_comes_back_when_the_upload_of_another_file_fails(served: Served, tab: "Page") -> None:
    chosen(served, tab)
    file = tab.locator(".of-video input[type=file]")
    send = holding(tab, "**/cdn/uploads/*", lambda: file.set_input_files(CLIP))
    tab.get_by_label("Prompt *").fill("typed meanwhile")
    tab.wait_for_function("() => !document.querySelector('.price').textContent")
    with tab.expect_request("**/plan"):
        send.abort()


def test_a_file_that_is_tried_again_is_planned_again(served: Served, tab: "Page") -> None:
    undecoded(tab)
    found = {"file": uploaded(served).removeprefix(f"{served.url}/")}
    tab.route("**/plan", lambda route: route.fulfill(**GONE))
    tab.goto(f"{served.url}/models/{LTX2}")
    source = tab.locator(".of-video")

    def write() -> None:
        source.locator("input[type=url]").fill("https://127.0.0.1:1/clip.mp4")
        source.locator("input[type=url]").press("Tab")

    look = holding(tab, "**/media/import", write)
    tab.locator(".plan").get_by_text("It is gone.").wait_for()
    look.fulfill(**GONE)
    source.locator(".error").filter(has_text="It is gone.").wait_for()
    tab.route("**/media/import", lambda route: route.fulfill(json=found))
    with tab.expect_request("**/plan"):
        source.get_by_role("button", name="Try again").click()
    source.get_by_text("33 frames").wait_for()
    assert source.locator(".error").inner_text() == ""


def test_an_older_list_of_recent_files_does_not_replace_a_newer_one(served: Served, tab: "Page") -> None:
    result(served, "the disc")
    tab.goto(f"{served.url}/models/{LTX2}")
    summary = tab.get_by_text("A recent video", exact=True)
    older = holding(tab, "**/page/uploads", summary.click)
    summary.click()
    summary.click()
    tab.get_by_role("button", name="the disc").wait_for()
    older.fulfill(**GONE)
    tab.evaluate("() => fetch('/health').then((answer) => answer.text())")
    assert tab.get_by_role("button", name="the disc").is_visible()


def test_a_plan_leaves_the_problems_of_a_run_in_view(served: Served, tab: "Page") -> None:
    chosen(served, tab)

    def run() -> None:
        tab.get_by_label("Prompt *").fill("")
        tab.get_by_role("button", name="Run", exact=True).click()

    plan = holding(tab, "**/plan", run)
    needed = tab.locator(".error").filter(has_text="Prompt is needed.")
    needed.wait_for()
    missing = {"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"}
    plan.fulfill(status=422, json={"detail": [missing]})
    tab.locator("#form:not(.planning)").wait_for()
    assert needed.is_visible()
    tab.get_by_label("Prompt *").fill("x")
    needed.wait_for(state="detached")


@pytest.mark.parametrize("prompt", ["the disc", "the next one"])
def test_a_request_that_fails_takes_no_focus_and_marks_only_what_the_form_still_has(
    served: Served, tab: "Page", prompt: str
) -> None:
    row = submit(served, "the disc", endpoint=LTX2, body={"video_url": uploaded(served)})
    tab.goto(f"{served.url}/models/{LTX2}?request={row.id}")
    tab.get_by_text("Next in line").wait_for()
    field = tab.get_by_label("Prompt *")
    field.fill(prompt)
    served.finish(served.claim(), TOO_LONG)
    tab.get_by_role("heading", name="It failed").wait_for()
    assert field.evaluate("field => field === document.activeElement")
    problem = "It is too long." if prompt == "the disc" else ""
    assert tab.locator('[data-path="num_frames"] .error').inner_text() == problem


def test_a_refusal_of_what_the_form_no_longer_has_is_told_beside_it(served: Served, tab: "Page") -> None:
    chosen(served, tab)
    run = holding(tab, f"**/queue/{LTX2}", tab.get_by_role("button", name="Run", exact=True).click)
    field = tab.locator('[data-path="num_frames"]')
    field.locator("input[type=number]").fill("57")
    run.fulfill(status=422, json=TOO_LONG.body)
    tab.locator(".toast").filter(has_text="It is too long.").wait_for()
    assert field.locator(".error").inner_text() == ""


def test_the_input_of_an_opened_request_leaves_an_upload_alone(served: Served, tab: "Page") -> None:
    row = submit(served, "the disc", endpoint=LTX2, body={"video_url": uploaded(served)})
    address = f"{served.url}/models/{LTX2}?request={row.id}"
    entry = holding(tab, f"**/page/requests/{row.id}", lambda: tab.goto(address))
    undecoded(tab)
    source = tab.locator(".of-video")
    send = holding(tab, "**/cdn/uploads/*", lambda: source.locator("input[type=file]").set_input_files(CLIP))
    entry.continue_()
    tab.get_by_text("Next in line").wait_for()
    source.get_by_text(f"Sending {CLIP.name}").wait_for()
    send.continue_()
    source.get_by_text("33 frames").wait_for()


def test_what_is_entered_before_the_output_is_loaded_stays(served: Served, tab: "Page") -> None:
    row = submit(served, "the disc", endpoint=LTX2, body={"video_url": uploaded(served)})
    address = f"{served.url}/models/{LTX2}?request={row.id}"
    script = holding(tab, "**/static/output.js", lambda: tab.goto(address, wait_until="commit"))
    tab.get_by_label("Prompt *").fill("typed early")
    script.continue_()
    tab.get_by_text("Next in line").wait_for()
    assert tab.get_by_label("Prompt *").input_value() == "typed early"


def test_the_settings_in_a_file_wait_for_the_output(served: Served, tab: "Page") -> None:
    undecoded(tab, SETTINGS)
    address = f"{served.url}/models/{LTX2}"
    script = holding(tab, "**/static/output.js", lambda: tab.goto(address, wait_until="commit"))
    tab.locator(".of-video input[type=file]").set_input_files(CLIP)
    tab.get_by_text("33 frames").first.wait_for()
    script.continue_()
    tab.get_by_text("The settings in the file fill the form").wait_for()
    assert tab.get_by_label("Prompt *").input_value() == "from the file"


def test_the_settings_in_a_file_stop_no_upload(served: Served, tab: "Page", tmp_path: Path) -> None:
    path = tmp_path / "end.png"
    Image.new("RGB", (48, 32), "teal").save(path)
    undecoded(tab)
    tab.goto(f"{served.url}/models/{LTX2}")
    source, image = tab.locator(".of-video"), tab.locator(".of-image")
    facts = holding(tab, "**/facts", lambda: source.locator("input[type=file]").set_input_files(CLIP))
    send = holding(tab, "**/cdn/uploads/*", lambda: image.locator("input[type=file]").set_input_files(path))
    facts.fulfill(json={**FACTS, "settings": SETTINGS})
    source.get_by_role("button", name="Use the settings in the file").wait_for()
    assert image.locator(".facts").inner_text() == "Sending end.png"
    send.continue_()
    image.get_by_role("img", name="The chosen image").wait_for()


def test_the_example_comes_too_late_for_who_has_chosen_another_source(served: Served, tab: "Page") -> None:
    undecoded(tab)
    tab.goto(f"{served.url}/models/{LTX2}")
    example = holding(tab, "**/example_source.mp4", tab.get_by_role("button", name="Try it with this source").click)
    tab.locator(".of-video input[type=file]").set_input_files(CLIP)
    tab.get_by_label("Prompt *").fill("mine")
    tab.get_by_text("33 frames").first.wait_for()
    with tab.expect_response("**/example_source.mp4"):
        example.continue_()
    tab.evaluate("() => fetch('/health').then((answer) => answer.text())")
    assert tab.get_by_label("Prompt *").input_value() == "mine"
    assert tab.locator(".of-video").get_by_text("33 frames").first.is_visible()


def test_a_request_that_is_being_cancelled_says_so_until_it_ends(served: Served, tab: "Page") -> None:
    row = submit(served, "the disc", endpoint=LTX2)
    claimed = served.claim()
    served.report(claimed, "Sampling new frames", step=5, steps=10)
    tab.goto(f"{served.url}/models/{LTX2}?request={row.id}")
    tab.get_by_text("Step 6 of 10").wait_for()
    tab.get_by_role("button", name="Cancel").click()
    served.report(claimed, "Sampling new frames", step=6, steps=10)
    tab.get_by_text("Step 7 of 10").wait_for()
    assert tab.locator(".stage").inner_text() == "Cancelling"


def test_a_copy_is_shown_although_the_file_itself_could_not_be_loaded(served: Served, tab: "Page") -> None:
    key = served.state.keys.create("mine", "run")
    row = submit(served, "a cat", key_id=key.partition(":")[0])
    finished(served, served.claim())
    is_made = False

    def copy(route: "Route") -> None:
        if is_made:
            route.fulfill(status=206, path=CLIP)
        else:
            route.fulfill(status=202, json={"share": 0.4})

    tab.route("**/media/*/facts", lambda route: route.fulfill(json={"playable": False}))
    tab.route("**/cdn/files/*", lambda route: route.fulfill(**GONE))
    tab.route("**/media/*/copy", copy)
    with tab.expect_response("**/cdn/files/*"):
        enter(tab, f"{served.url}/models/{LTXV}?request={row.id}", key)
    tab.locator(".player").get_by_text("Preparing a copy, 40 %").wait_for()
    assert tab.locator(".player").get_by_text("gone").count() == 0
    is_made = True
    tab.locator(".player video[src]").wait_for()


def test_filters_that_are_typed_before_the_history_is_loaded_stay(served: Served, tab: "Page") -> None:
    for prompt in ("slow", "quick"):
        submit(served, prompt, outcome=TOO_LONG, search_text=prompt)
    models = holding(tab, "**/v1/models", lambda: tab.goto(f"{served.url}/history"))
    tab.locator("input[name=q]").fill("quick")
    models.continue_()
    tab.get_by_text("quick", exact=True).wait_for()
    assert tab.locator("input[name=q]").input_value() == "quick"
    assert tab.locator(".prompt").all_inner_texts() == ["quick"]


def test_the_focus_stays_where_a_person_goes_while_a_deletion_ends(served: Served, tab: "Page") -> None:
    for prompt in ("apple", "birch"):
        result(served, prompt)
    tab.clock.install()
    tab.goto(f"{served.url}/history")
    tab.get_by_role("button", name="Delete: apple").click()
    erasure = holding(tab, "**/payloads", lambda: tab.clock.run_for(9000))
    newest = holding(tab, "**/page/requests", erasure.continue_)
    search = tab.locator("input[name=q]")
    search.focus()
    newest.continue_()
    tab.locator(".deleted").wait_for(state="detached")
    assert search.evaluate("box => box === document.activeElement")


def test_the_name_of_the_next_key_stays_when_the_first_one_is_made(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/server")
    name = tab.get_by_label("Name")
    name.fill("mine")
    made = holding(tab, "**/page/keys", tab.get_by_role("button", name="Create a key").click)
    name.fill("a program's")
    made.continue_()
    tab.get_by_role("heading", name="The new key mine").wait_for()
    assert name.input_value() == "a program's"


def test_a_new_plan_keeps_the_focus_and_what_was_unfolded(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}")
    tab.locator(".of-video input[type=file]").set_input_files(CLIP)
    knob = tab.get_by_role("slider", name="Number of context frames", exact=True)
    knob.wait_for()
    whole = tab.get_by_text("The whole plan")
    whole.click()
    for press, control in (
        (lambda: knob.press("ArrowRight"), tab.get_by_role("button", name="Use the default")),
        (lambda: tab.locator('[data-path="num_frames"] input[type=number]').fill("57"), whole),
    ):
        plan = holding(tab, "**/plan", press)
        control.focus()
        plan.continue_()
        tab.locator("#form:not(.planning)").wait_for()
        assert control.evaluate("one => one === document.activeElement")
    assert tab.locator(".plan details").evaluate("one => one.open")


def test_a_joint_that_could_not_be_measured_is_measured_when_it_is_opened_again(served: Served, tab: "Page") -> None:
    row = submit(served, "a cat")
    finished(served, served.claim())
    tab.route("**/joint.png", lambda route: route.abort())
    tab.goto(f"{served.url}/models/{LTXV}?request={row.id}")
    summary = tab.get_by_text("Inspect the joint")
    holding(tab, "**/joint", summary.click).fulfill(**GONE)
    tab.locator(".inspection .error").wait_for()
    summary.click()
    holding(tab, "**/joint", summary.click).fulfill(json={"rows": [["Rate", "24"]]})
    tab.locator(".inspection dl").get_by_text("Rate").wait_for()


@pytest.mark.parametrize("act", ["play", "pause"])
def test_a_copy_goes_on_where_the_video_was(served: Served, tab: "Page", act: str) -> None:
    row = submit(served, "a cat")
    file = f"{served.url}/cdn/files/{finished(served, served.claim())}"
    tab.route("**/media/*/facts", lambda route: route.fulfill(json={"playable": False}))
    address = f"{served.url}/models/{LTXV}?request={row.id}"
    copy = holding(tab, "**/media/*/copy", lambda: tab.goto(address))
    film = tab.get_by_label("The result", exact=True)
    film.evaluate("(film, act) => { film.muted = true; film.currentTime = 1; return film[act](); }", act)
    tab.route("**/media/*/copy", lambda route: route.continue_(url=file))
    copy.fulfill(status=206, body="x")
    tab.locator('.player video[src$="/copy"]').wait_for()
    tab.wait_for_function("() => document.querySelector('.player video').readyState >= 2")
    if act == "play":
        assert not film.evaluate("film => film.paused")
    else:
        tab.wait_for_function("() => document.querySelector('.player video').currentTime === 1")
