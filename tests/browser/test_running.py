"""The view of a running request in a browser: one bar for all of its work, the time that passed, and the time left."""

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from longtake.queue import engine as queue
from longtake.queue.requests import CANCELLED, RemoteFile
from tests.service.finished import CLIP, finished, submit
from tests.service.serving import LTX2, Served

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

WINDOWS, STEPS, FRAMES = 3, 10, 20


def report(stage: str, step: int, steps: int, window: int = 1, windows: int = 1) -> dict[str, Any]:
    place = {"window": window, "windows": windows, "pass": 1, "passes": 1}
    return {"message": stage, "stage": stage, "step": step, "steps": steps} | place


def forward() -> list[dict[str, Any]]:
    """The reports of a request with three windows, each of which is decoded and written before the next one."""
    reports = [report(stage, 0, 1) for stage in ("context", "load", "prompt")]
    for window in range(1, WINDOWS + 1):
        reports.append(report("encode", 0, 1, window, WINDOWS))
        reports += [report("sampling", step, STEPS, window, WINDOWS) for step in range(STEPS)]
        reports += [report("frames", step, FRAMES, window, WINDOWS) for step in (0, 10, FRAMES)]
        reports.append(report("writing", window * FRAMES, WINDOWS * FRAMES))
    return reports


def side_by_side() -> list[dict[str, Any]]:
    """The reports of a request whose frames are decoded and written while later windows are sampled."""
    reports = [report("context", 0, 1), report("encode", 0, 1)]
    for window in range(1, WINDOWS + 1):
        reports += [report("sampling", step, STEPS, window, WINDOWS) for step in range(STEPS)]
        reports.append(report("frames", (window - 1) * FRAMES, WINDOWS * FRAMES))
        reports.append(report("writing", window * FRAMES, WINDOWS * FRAMES))
    return reports


def source_last() -> list[dict[str, Any]]:
    """The reports of a request whose new frames are written before the source."""
    reports = [report("context", 0, 1), *(report("load", part, 4) for part in range(5))]
    reports += [report("sampling", step, STEPS, window, WINDOWS) for window in (1, 2, 3) for step in range(STEPS)]
    reports += [report("frames", FRAMES, FRAMES, window, WINDOWS) for window in (1, 2, 3)]
    return [*reports, report("writing", FRAMES, FRAMES), report("footage", 5, 10)]


@pytest.mark.parametrize("reports", [forward(), side_by_side(), source_last()])
@pytest.mark.parametrize("before_s", [0.03, 50], ids=["soon begun", "late begun"])
def test_the_bar_never_goes_back_and_grows_with_every_part_of_the_work(
    served: Served, tab: "Page", reports: list[dict[str, Any]], before_s: float
) -> None:
    """Before its windows, an earlier request of one window took almost no time, or about a third of its time."""
    tab.goto(f"{served.url}/server")
    of_request, of_entry = tab.evaluate(
        """async ([reports, beforeS]) => {
          const { estimate, gauge } = await import("/static/progress.js");
          const { read, setTimes } = estimate();
          setTimes({ context: beforeS, encode: 4, sampling: 62, sound: 1, frames: 20, writing: 10 });
          return [reports.map((report, second) => read(report, [], second)), reports.map(gauge())];
        }""",
        [reports, before_s],
    )
    for shares in (of_request, of_entry):
        assert shares == sorted(shares)
        assert max(after - before for before, after in pairwise(shares)) < 0.15
        assert shares[[one["stage"] for one in reports].index("sampling")] < 0.12
        assert 0.95 < shares[-1] < 1


def test_the_time_left_follows_the_pace_and_the_times_of_an_earlier_request(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/server")
    left = tab.evaluate(
        """async (reports) => {
          const { estimate } = await import("/static/progress.js");
          const { read, left, setTimes } = estimate();
          setTimes({ sampling: 10 });
          return reports.map((report, place) => {
            read(report, [], 2 * place);
            return left(2 * place);
          });
        }""",
        [report("sampling", step, STEPS) for step in range(STEPS)],
    )
    assert left[0] is None, "nothing is known yet"
    assert left[1:] == pytest.approx([18, 16, 14, 12, 10, 8, 6, 4, 2])


def test_the_time_left_is_right_after_an_earlier_request_with_fewer_windows(served: Served, tab: "Page") -> None:
    """Before the windows, the work takes as long as in a request of one window. Each of 20 windows takes 10 s."""
    tab.goto(f"{served.url}/server")
    windows, before_s, window_s = 20, 10, 10
    reports = [report("footage", 0, 1), *(report("sampling", 0, 1, window + 1, windows) for window in range(windows))]
    left = tab.evaluate(
        """async ([reports, beforeS, windowS]) => {
          const { estimate } = await import("/static/progress.js");
          const { read, left, setTimes } = estimate();
          setTimes({ footage: beforeS, sampling: windowS });
          return reports.map((report, place) => {
            const now = place ? beforeS + (place - 1) * windowS : 0;
            read(report, [], now);
            return left(now);
          });
        }""",
        [reports, before_s, window_s],
    )
    assert left[:3] == [None, None, None], "too little is known"
    assert left[3:] == pytest.approx([window_s * (windows - ended) for ended in range(2, windows)])


def test_the_time_left_counts_down_during_a_step_and_ends_with_the_work(served: Served, tab: "Page") -> None:
    """The fourth of ten steps lasts 20 times as long as the others."""
    tab.goto(f"{served.url}/server")
    left = tab.evaluate(
        """async ([reports, ends]) => {
          const { estimate } = await import("/static/progress.js");
          const { read, left, setTimes } = estimate();
          setTimes({ sampling: 10 });
          const told = [];
          for (const [place, report] of reports.entries())
            for (let second = ends[place]; second < ends[place + 1]; second += 1) {
              read(report, [], second);
              told.push(left(second));
            }
          return told;
        }""",
        [[report("sampling", step, STEPS) for step in range(STEPS)], [0, 2, 4, 6, 46, 48, 50, 52, 54, 56, 58]],
    )
    known = [one for one in left if one is not None]
    rises = [after for before, after in pairwise(known) if after >= before]
    assert len(rises) < 5, "it is corrected a few times, and goes down in between"
    assert min(known[:-3]) > 1.5, "it does not end before the work"


def test_an_answer_that_the_browser_has_kept_does_not_set_the_clock(served: Served, tab: "Page") -> None:
    with served.client() as client:
        file = client.post("/cdn/files/upload", content=CLIP.read_bytes()).json()["access_url"].rpartition("/")[2]
        kept = client.get(f"/media/{file}/facts").headers
    earlier = {**kept, "date": "Sun, 04 Jan 2026 10:00:00 GMT"}
    tab.route("**/facts", lambda route: route.fulfill(json={}, headers=earlier))
    tab.route("**/page/requests", lambda route: None)
    tab.goto(f"{served.url}/server")
    ahead = tab.evaluate(
        """async (file) => {
          const { callJson, serverTime } = await import("/static/api.js");
          await callJson("page/keys");
          await callJson(`media/${file}/facts`);
          return serverTime() - Date.now() / 1000;
        }""",
        file,
    )
    assert abs(ahead) < 60


def test_a_running_request_shows_the_time_that_passed_also_after_a_reload(served: Served, tab: "Page") -> None:
    submit(served, "earlier", endpoint=LTX2)
    finished(served, served.claim())
    row = submit(served, "now", endpoint=LTX2)
    tab.goto(f"{served.url}/models/{LTX2}?request={row.id}")
    tab.get_by_text("Next in line").wait_for()
    claimed = served.claim()
    served.log(claimed, "Reading the source", stage="context", window="1", windows="1")
    served.report(claimed, "Sampling new frames", step=5, steps=10)
    tab.get_by_text("Step 6 of 10").wait_for()
    clock = tab.locator(".times").filter(has_text="left")
    clock.wait_for()
    bar = tab.get_by_role("progressbar", name="Progress of the request")
    seen = float(str(bar.evaluate("bar => bar.value")))
    assert 0.4 < seen < 0.6, "sampling is all of the work of the earlier request"
    queue.add_log_lines(served.engine, claimed, [], report("writing", 8, 16))
    served.state.statuses.mark_changed(row.id)
    tab.get_by_text("Frame 9 of 16").wait_for()
    tab.reload()
    tab.get_by_text("Frame 9 of 16").wait_for()
    clock.wait_for()
    assert not clock.inner_text().startswith(("0 s", "1 s"))


def test_a_request_that_waits_for_its_files_says_so(served: Served, tab: "Page") -> None:
    files = (RemoteFile("https://example.com/a.safetensors", ("loras", 0, "path"), "lora"),)
    row = submit(served, "with a LoRA", endpoint=LTX2, files=files)
    tab.goto(f"{served.url}/models/{LTX2}?request={row.id}")
    tab.get_by_text("Fetching its files").wait_for()
    with served.client() as client:
        assert client.get(f"/page/requests/{row.id}").json()["downloading"]
        assert client.put(f"/queue/{LTX2}/requests/{row.id}/cancel").status_code == 200
        assert not client.get(f"/page/requests/{row.id}").json()["downloading"]


def test_four_requests_are_cancelled_at_once(served: Served, tab: "Page") -> None:
    with served.client() as client:
        source = client.post("/cdn/files/upload", content=CLIP.read_bytes()).json()["access_url"]
    bodies: list[dict[str, Any]] = [{"seed": seed, "video_url": source} for seed in range(4)]
    ids = [submit(served, "take", endpoint=LTX2, body=body).id for body in bodies]
    claimed = served.claim()
    tab.goto(f"{served.url}/models/{LTX2}?four={','.join(ids)}")
    tab.get_by_text("Next in line").wait_for()
    for seed in range(4):
        tab.locator(".tile").nth(seed).get_by_text(f"Seed {seed}", exact=True).wait_for()
    stop = tab.get_by_role("button", name="Cancel all")
    stop.click()
    tab.wait_for_function("() => document.querySelectorAll('.four [role=alert]').length === 3")
    served.finish(claimed, CANCELLED)
    tab.wait_for_function("() => document.querySelectorAll('.four [role=alert]').length === 4")
    texts = tab.locator(".four [role=alert]").all_inner_texts()
    assert texts == [f"Seed {seed}: Cancelled" for seed in range(4)], "so that each can be made later"
    stop.wait_for(state="hidden")
    assert served.stopped == [claimed.id]
    tab.get_by_role("button", name="Run again").nth(2).click()
    tab.get_by_text("Next in line").wait_for()
    assert tab.locator(".tile").nth(2).locator(":focus").count() == 1
    stop.wait_for()
    again = served.claim()
    assert json.loads(again.body)["seed"] == 2
    assert again.id not in ids
    assert again.id in tab.url, "a reload shows it"
    finished(served, again)
    assert again.id in str(tab.get_by_role("link", name="Compare").get_attribute("href"))
    tab.get_by_role("button", name="Pick seed 7").click()
    tab.wait_for_function(f"() => location.search === '?request={again.id}'")


def test_the_focus_stays_with_the_takes_when_one_of_them_is_unknown(served: Served, tab: "Page") -> None:
    row = submit(served, "take", endpoint=LTX2)
    tab.goto(f"{served.url}/models/{LTX2}?four=unknown,{row.id}")
    tab.get_by_text("Next in line").wait_for()
    tab.get_by_role("button", name="Cancel all").click()
    again = tab.get_by_role("button", name="Run again")
    again.wait_for()
    tab.get_by_role("button", name="Cancel all").wait_for(state="hidden")
    assert again.evaluate("button => button === document.activeElement")


def test_those_of_four_that_the_server_takes_are_shown_whatever_the_form_has(served: Served, tab: "Page") -> None:
    with served.client() as client:
        source = client.post("/cdn/files/upload", content=CLIP.read_bytes()).json()["access_url"]
    row = submit(served, "the disc", endpoint=LTX2, body={"video_url": source})
    finished(served, served.claim())
    sent: list[Route] = []

    def answer(route: "Route") -> None:
        sent.append(route)
        if len(sent) < 3:
            route.continue_()
        else:
            route.fulfill(status=429, json={"detail": "This key has 2 requests in flight."})

    tab.goto(f"{served.url}/models/{LTX2}?request={row.id}")
    tab.route(f"**/queue/{LTX2}", answer)
    tab.get_by_role("button", name="Four seeds").wait_for()
    tab.get_by_label("Prompt *").fill("")
    tab.get_by_role("button", name="Four seeds").click()
    tab.get_by_text("This key has 2 requests in flight.").wait_for()
    tab.get_by_text("Next in line").wait_for()
    assert tab.locator(".four .tile").count() == 2
    assert {served.claim().id, served.claim().id} == set(tab.url.partition("?four=")[2].split(","))


def test_a_take_that_runs_again_does_not_change_the_address_of_a_newer_view(served: Served, tab: "Page") -> None:
    ids = [submit(served, "take", endpoint=LTX2, body={"seed": seed}).id for seed in range(2)]
    finished(served, served.claim())
    served.finish(served.claim(), CANCELLED)
    held: list[Route] = []
    tab.route(f"**/queue/{LTX2}", lambda route: held.append(route))
    tab.goto(f"{served.url}/models/{LTX2}?four={','.join(ids)}")
    with tab.expect_request(f"**/queue/{LTX2}"):
        tab.get_by_role("button", name="Run again").click()
    tab.get_by_role("button", name="Pick seed 7").click()
    tab.get_by_role("button", name="Extend again").wait_for()
    with tab.expect_response(f"**/queue/{LTX2}"):
        held[0].fulfill(json={"request_id": "another"})
    tab.evaluate("() => fetch(location.href).then((answer) => answer.text())")
    assert tab.url.endswith(f"?request={ids[0]}")


def test_four_requests_ask_for_the_usual_times_once(served: Served, tab: "Page") -> None:
    ids = [submit(served, "take", endpoint=LTX2, body={"seed": seed}).id for seed in range(4)]
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{served.url}/models/{LTX2}?four={','.join(ids)}")
    tab.get_by_text("3 requests before it").wait_for()
    assert len([url for url in asked if "state=done" in url]) == 1


@pytest.mark.parametrize("count", [1, 4])
def test_on_a_phone_what_runs_begins_at_the_top_of_the_screen(served: Served, tab: "Page", count: int) -> None:
    ids = [submit(served, "on a phone", endpoint=LTX2).id for _ in range(count)]
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.goto(f"{served.url}/models/{LTX2}?{'request' if count == 1 else 'four'}={','.join(ids)}")
    tab.get_by_text("Next in line").wait_for()
    tab.wait_for_function("() => Math.abs(document.getElementById('output').getBoundingClientRect().top) < 40")
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_the_code_stays_in_view_when_a_request_ends_and_a_run_shows_the_result(served: Served, tab: "Page") -> None:
    row = submit(served, "the disc", endpoint=LTX2)
    tab.goto(f"{served.url}/models/{LTX2}?request={row.id}")
    tab.get_by_text("Next in line").wait_for()
    code = tab.get_by_role("tab", name="Code", exact=True)
    code.click()
    finished(served, served.claim())
    tab.get_by_role("button", name="Extend again", include_hidden=True).wait_for(state="attached")
    assert code.get_attribute("aria-selected") == "true"
    tab.locator("input[type=file]").first.set_input_files(CLIP)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.get_by_text("Next in line").wait_for()
    assert code.get_attribute("aria-selected") == "false"
