"""Makes the pictures of the server's pages in their main states, for the documentation.

    python -m tests.browser.pictures docs/images/playground

They are taken of a real server with the embedded models, so this takes a few minutes.
"""

import io
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.browser.conftest import launched
from tests.browser.test_run import fill
from tests.contract.conftest import ROOT, Running
from tests.contract.test_real import server_process
from tests.service.serving import LTX2, LTXV

if TYPE_CHECKING:
    from playwright.sync_api import Page

CITY = ROOT / "examples" / "city.mp4"
DESK, PHONE = (1280, 860), (390, 780)
PATIENCE_MS = 600_000.0


def main(folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, server_process(Path(home)) as server, launched() as browser:
        for scheme, size in (("light", DESK), ("dark", PHONE)):
            context = browser.new_context(
                viewport={"width": size[0], "height": size[1]},
                color_scheme="light" if scheme == "light" else "dark",
                device_scale_factor=1 if size == DESK else 2,
            )
            tab = context.new_page()
            tab.set_default_timeout(PATIENCE_MS)
            suffix = "desk" if size == DESK else "phone"
            take(tab, server, partial(save, tab, Path(folder), suffix))
            context.close()


def take(tab: "Page", server: Running, picture: Callable[[str], None]) -> None:
    """Goes through the pages and calls `picture` with a name for each state."""
    playground = f"{server.http}/models/{LTX2}"
    tab.goto(playground)
    tab.locator(".example button").wait_for()
    tab.wait_for_function("() => document.querySelector('.example video').currentTime > 3")
    picture("example")
    tab.locator("input[type=file]").first.set_input_files(CITY)
    tab.get_by_label("Prompt *").fill("a city at night, the camera rises slowly")
    tab.locator(".price").wait_for()
    tab.locator(".strip img").wait_for()
    tab.locator(".strip").evaluate("strip => strip.scrollIntoView({ block: 'center' })")
    tab.wait_for_timeout(500)
    picture("plan")
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.locator("img.preview").wait_for()
    tab.locator(".times").filter(has_text="left").wait_for()
    picture("running")
    tab.locator(".player video").first.wait_for()
    tab.locator(".joint").wait_for()
    tab.wait_for_function("() => document.querySelector('.player video').readyState >= 2")
    tab.locator(".wave").wait_for()
    tab.locator(".player video").first.evaluate("film => { film.pause(); film.currentTime = 4.2; }")
    tab.wait_for_timeout(1500)
    picture("result")
    first = tab.url.rpartition("=")[2]
    tab.get_by_text("Inspect the joint").click()
    tab.locator(".inspection img").wait_for()
    tab.locator(".inspection").scroll_into_view_if_needed()
    picture("inspection")
    tab.get_by_role("button", name="Extend again").click()
    tab.locator(".price").wait_for()
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.wait_for_url(lambda url: "request=" in url and first not in url)  # until then the first result is shown
    tab.get_by_role("heading", name="Result", exact=True).wait_for()
    second = tab.url.rpartition("=")[2]
    tab.goto(f"{server.http}/models/{LTXV}")
    tab.get_by_label("Prompt *").fill("")
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.locator(".field.wrong").first.wait_for()
    picture("errors")
    fill(tab, LTXV)
    tab.locator(".price").filter(has_text="on fal").wait_for()
    tab.locator(".strip img").wait_for()
    tab.get_by_role("tab", name="Code", exact=True).click()
    tab.locator("#code").scroll_into_view_if_needed()
    picture("code")
    for name, path in {
        "gallery": "",
        "history": "history",
        "chain": f"history?chain={second}",
        "compare": f"compare?a={first}&b={second}",
        "server": "server",
        "api": f"models/{LTX2}/api",
    }.items():
        tab.goto(f"{server.http}/{path}")
        tab.wait_for_load_state("networkidle")
        tab.wait_for_timeout(1000)
        picture(name)


def save(tab: "Page", folder: Path, suffix: str, name: str) -> None:
    """Writes what the tab shows as the file `<name>_<suffix>.webp`."""
    shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    shot.save(folder / f"{name}_{suffix}.webp", quality=65, method=6)


if __name__ == "__main__":
    main(sys.argv[1])
