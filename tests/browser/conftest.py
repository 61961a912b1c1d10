"""Fixtures of the browser tests: the machine's own Chromium, tabs in it, and a server with the embedded models."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.contract.conftest import Running, node
from tests.contract.test_real import server_process
from tests.service.serving import Served, serving, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

__all__ = ["node"]

PATIENCE_MS = 120_000.0
"""Milliseconds after which a test gives up waiting, even on a busy machine."""


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """The machine's own Chromium or Chrome."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if chromium() is None:
        pytest.skip("no Chromium on this machine")
    with launched() as browser:
        yield browser


def chromium() -> str | None:
    """Returns the path of the machine's Chromium or Chrome, or None if it has none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def launched() -> Iterator["Browser"]:
    """Starts the machine's own Chromium or Chrome."""
    from playwright.sync_api import sync_playwright

    arguments = ["--autoplay-policy=no-user-gesture-required", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def new_tab(browser: "Browser") -> Iterator[Callable[[], "Page"]]:
    """Opens tabs of one window without stored data. The test fails if the code of a page raises an error."""
    context: BrowserContext = browser.new_context(viewport={"width": 1280, "height": 860})
    errors: list[str] = []

    def opened() -> "Page":
        tab = context.new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.set_default_timeout(PATIENCE_MS)
        return tab

    yield opened
    context.close()
    assert errors == []


@pytest.fixture
def tab(new_tab: Callable[[], "Page"]) -> "Page":
    return new_tab()


def pause(tab: "Page") -> None:
    """Stops the clock of a tab, in which `tab.clock.install()` was called. `tab.clock.run_for` moves it on."""
    tab.clock.pause_at(tab.evaluate("() => Date.now() / 1000") + 10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server without workers, whose requests the test carries out itself."""
    with serving(tmp_path) as served:
        yield served


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`longtake serve` with the embedded models. Its worker process has loaded one, so that no test waits for that."""
    with server_process(tmp_path_factory.mktemp("browser")) as running:
        wait_for(lambda: _slots(running) == ["idle"], PATIENCE_MS / 1000)
        yield running


def _slots(running: Running) -> list[str]:
    return [slot["state"] for slot in httpx.get(f"{running.http}/page/requests", timeout=60).json()["slots"]]
