"""The code that the playground shows, pasted: all five forms at the same time, with an uploaded file.

Those of one endpoint of each family run by default, and those of the other endpoints in the soak run.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import httpx
import pytest

from longtake.endpoints import ENDPOINTS
from tests.browser.pasted import LONGEST_S, run_command, run_python
from tests.browser.test_run import fill
from tests.contract.conftest import Node, Running
from tests.service.finished import CLIP
from tests.service.serving import LTX2, LTXV, OLD, Served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def code(tab: "Page", form: str) -> str:
    tab.get_by_role("tab", name=form, exact=True).click()
    return tab.locator("#code pre").inner_text()


def run(command: list[str], text: str, folder: Path, env: Mapping[str, str]) -> str:
    done = subprocess.run(command, input=text, cwd=folder, env=env, capture_output=True, text=True, timeout=LONGEST_S)
    assert done.returncode == 0, f"{text}\n{done.stderr[-3000:]}"
    return done.stdout


def check(path: Path) -> None:
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 17


@pytest.mark.parametrize(
    "endpoint",
    [LTXV, LTX2, *(pytest.param(one, marks=pytest.mark.soak) for one in ENDPOINTS if one not in (LTXV, LTX2))],
)
def test_each_form_works_when_pasted(real: Running, tab: "Page", node: Node, tmp_path: Path, endpoint: str) -> None:
    tab.goto(f"{real.http}/models/{endpoint}")
    fill(tab, endpoint)
    tab.get_by_role("tab", name="Code", exact=True).click()
    texts = {form: code(tab, form) for form in ("Python", "Library", "cURL", "Command line", "JavaScript")}
    env = real.environment(FAL_KEY="id:secret")
    folders = {form: tmp_path / form for form in texts}
    for folder in folders.values():
        folder.mkdir()
    script = node.folder / f"pasted_{os.getpid()}.mjs"
    script.write_text(texts["JavaScript"])

    with ThreadPoolExecutor() as threads:
        library = threads.submit(run_python, texts["Library"], folders["Library"], env)
        command_line = threads.submit(run_command, texts["Command line"], folders["Command line"], env)
        python = threads.submit(run, [sys.executable, "-"], texts["Python"], folders["Python"], env)
        curl = threads.submit(run, ["bash", "-e"], texts["cURL"], folders["cURL"], env)
        javascript = threads.submit(run, ["node", str(script)], "", folders["JavaScript"], env)
    for local in (library, command_line):
        local.result()
    for form in ("Library", "Command line"):
        check(folders[form] / "longer.mp4")
    assert "/cdn/files/" in curl.result()
    for client in (python, javascript):
        said = client.result()
        assert said.count("Reading the source\n") == 1, "each line of the log is printed once"
        result = tmp_path / "result.mp4"
        result.write_bytes(httpx.get(said.split()[-1]).content)
        check(result)
    script.unlink()


def test_the_local_forms_ask_for_what_the_api_makes(served: Served, tab: "Page") -> None:
    """They name the type of the file, and set what the command line and the library would choose otherwise."""
    tab.goto(f"{served.url}/history")

    def forms(endpoint: str, request: dict[str, Any], plan: dict[str, Any] | None = None) -> list[str]:
        made = """async ([id, request, plan]) => {
          const { FORMS } = await import("/static/code_forms.js");
          const { loadEndpoint } = await import("/static/schema.js");
          const endpoint = await loadEndpoint(id);
          return ["Command line", "Library"].map((form) => FORMS[form](endpoint, request, plan));
        }"""
        found: list[str] = tab.evaluate(made, [endpoint, request, plan])
        return found

    command, library = forms(LTX2, {"video_url": "a.mp4", "fps": 12, "video_output_type": "GIF (.gif)"})
    assert "-o longer.gif " in command
    assert '"longer.gif"' in library
    assert '"match_input_fps": true' in command
    assert "match_input_fps=True" in library
    assert "new" not in command
    command, library = forms(OLD, {"video": {"video_url": "a.mp4"}}, {"context": {"new_frames": 88}})
    assert " --new-frames 88 " in command
    assert "    new_frames=88,\n" in library


def test_the_local_forms_of_a_trimmed_source_make_the_same_video(served: Served, tab: "Page", tmp_path: Path) -> None:
    """Their plan is the one of the request, also where the endpoint has no field for the number of new frames."""

    def request(url: str) -> dict[str, Any]:
        return {"prompt": "the disc moves on", "seed": 7, "video": {"video_url": url, "start_frame_num": 8}}

    source = "data:video/mp4;base64," + base64.b64encode(CLIP.read_bytes()).decode()
    with served.client() as client:
        planned = client.post(f"/models/{OLD}/plan", json=request(source)).json()
    tab.goto(f"{served.url}/history")
    command = tab.evaluate(
        """async ([id, request, plan]) => {
          const { FORMS } = await import("/static/code_forms.js");
          const { loadEndpoint } = await import("/static/schema.js");
          return FORMS["Command line"](await loadEndpoint(id), request, plan);
        }""",
        [OLD, request(str(CLIP)), planned],
    )
    plan = command.replace("longtake extend -o longer.mp4", f"{sys.executable} -m longtake plan --json")
    env = os.environ | {"LONGTAKE_DATA_DIR": str(tmp_path)}
    done = subprocess.run(["bash", "-e"], input=plan, env=env, capture_output=True, text=True, timeout=120)
    local = json.loads(done.stdout)
    assert planned["plan"]["context"]["start"] == 8
    assert {name: local[name] for name in planned["plan"]} == planned["plan"]


def test_the_forms_are_tabs_of_one_panel(served: Served, tab: "Page") -> None:
    tab.goto(f"{served.url}/models/{LTX2}/api")
    chosen = tab.get_by_role("tab", name="cURL")
    chosen.click()
    panel = tab.get_by_role("tabpanel", name="cURL")
    assert panel.inner_text().startswith("curl ")
    assert panel.get_attribute("id") == chosen.get_attribute("aria-controls")
    assert tab.get_by_role("tablist").get_by_role("button").count() == 0
