"""The recipes of docs/clients.md, applied to the programs that fal publishes.

Only the video's URL is changed in the programs, so that nothing is fetched from the internet.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from longtake.service.client_env import Reach, instructions
from tests.contract.conftest import Node, Running
from tests.service.serving import LTX2, LTXV, OLD

EXAMPLE = Path(__file__).parents[2] / "examples" / "clip.mp4"
MEDIA = re.compile(r"https://(storage\.googleapis\.com|v3b\.fal\.media)/[^\"]+\.mp4")


def uploaded(server: Running) -> str:
    answer = httpx.post(
        f"{server.http}/cdn/files/upload", content=EXAMPLE.read_bytes(), headers={"content-type": "video/mp4"}
    )
    url: str = answer.json()["access_url"]
    return url


FORMS = {
    "javascript": r'import {{ fal }} from "@fal-ai/client";\s+const result = await fal\.subscribe\("{id}".*?'
    r"console\.log\(result\.requestId\);",
    "python": r'import fal_client\n(?:(?!```).)*?"{id}".*?print\(result\)',
    "curl": r"curl --request POST \\\n  --url https://fal.run/{id}.*?(?=\n```)",
}
"""Patterns of the programs on fal's pages, by language, with the endpoint's id in place of `{id}`."""


def published(shared: Path, endpoint: str, language: str, video: str) -> str:
    """Returns the program that fal publishes for this endpoint, with another video."""
    for page in sorted((shared / "seeds").iterdir()):
        found = re.search(FORMS[language].format(id=re.escape(endpoint)), page.read_text(), re.S)
        if found:
            program, changed = MEDIA.subn(video, found[0])
            assert changed == 1
            return program
    pytest.skip(f"there is no {language} program for {endpoint} among the pages")


def python(program: str, env: dict[str, str], folder: Path) -> str:
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def recipe(server: Running, heading: str) -> dict[str, str]:
    """Returns the environment variables that `longtake client-env` prints under a heading."""
    reach = Reach(server.http, server.https, server.tunnel, server.tls)
    line = instructions(reach).partition(heading)[2].splitlines()[1]
    assert line.strip().startswith("export ")
    return server.environment(**dict(word.split("=", 1) for word in shlex.split(line)[1:]))


PYTHON = ("Python, the program as it is", "Python over TLS (", "Python over TLS, through the tunnel")


@pytest.mark.parametrize(
    ("endpoint", "heading"),
    [
        (LTXV, PYTHON[0]),
        (OLD, PYTHON[1]),
        (LTXV, PYTHON[2]),
        *(
            pytest.param(*pair, marks=pytest.mark.soak)
            for pair in ((OLD, PYTHON[0]), (LTXV, PYTHON[1]), (OLD, PYTHON[2]))
        ),
    ],
)
def test_published_python(shared: Path, server: Running, tmp_path: Path, endpoint: str, heading: str) -> None:
    program = published(shared, endpoint, "python", uploaded(server))
    shown = python(program, recipe(server, heading), tmp_path)
    assert "step 1" in shown or "'seed': 7" in shown
    assert "'seed': 7" in shown


@pytest.mark.parametrize("endpoint", [LTXV, OLD, LTX2])
def test_published_javascript(shared: Path, server: Running, node: Node, endpoint: str) -> None:
    program = published(shared, endpoint, "javascript", uploaded(server))
    (node.folder / "published.mjs").write_text(program)
    shown = node.run("published.mjs", recipe(server, "JavaScript in Node, the program as it is"))
    assert "seed: 7" in shown
    assert re.search(r"^[0-9a-f-]{36}$", shown, re.M), "the request id"


def test_the_recipe_for_any_javascript(shared: Path, server: Running, node: Node) -> None:
    configured = instructions(Reach(server.http)).partition("JavaScript anywhere")[2].partition("\n")[2]
    program = published(shared, LTXV, "javascript", uploaded(server)).replace(
        "const result", f"{configured}\nconst result", 1
    )
    (node.folder / "configured.mjs").write_text(program)
    assert "seed: 7" in node.run("configured.mjs", server.environment())


UPLOADS = """
import fal_client
url = fal_client.upload_file({path!r})
result = fal_client.subscribe("fal-ai/ltx-2.3-22b/extend-video", {{"prompt": "quick", "video_url": url}})
print(result["video"]["url"])
"""


@pytest.mark.parametrize("heading", [PYTHON[0], PYTHON[2]])
def test_uploads_by_unchanged_programs(server: Running, tmp_path: Path, heading: str) -> None:
    shown = python(UPLOADS.format(path=str(EXAMPLE)), recipe(server, heading), tmp_path).strip()
    assert server.file(shown).read_bytes() == EXAMPLE.read_bytes()


def test_the_recipe_with_module_globals(server: Running, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
    block = re.search(r"```python\n(import fal_client\.client.*?)```", page, re.S)
    assert block is not None
    program = block[1].replace("http://127.0.0.1:8000", server.http) + UPLOADS.format(path=str(EXAMPLE))
    shown = python(program, server.environment(), tmp_path).strip()
    assert server.file(shown).read_bytes() == EXAMPLE.read_bytes()


def test_the_tunnel_refuses_other_hosts_with_a_sentence(server: Running) -> None:
    address = urlsplit(server.tunnel)
    with pytest.raises(httpx.ProxyError, match="403"), httpx.Client(proxy=server.tunnel) as client:
        client.get("https://example.com/")
    refused = httpx.get(server.tunnel)
    assert refused.status_code == 405
    assert "HTTPS_PROXY" in refused.text
    assert address.hostname == "127.0.0.1"


@pytest.mark.parametrize("endpoint", [LTXV, OLD])
def test_published_curl(shared: Path, server: Running, endpoint: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    env = recipe(server, PYTHON[2]) | {"CURL_CA_BUNDLE": str(server.tls.authority)}
    command = published(shared, endpoint, "curl", uploaded(server))
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, timeout=180, check=True)
    assert json.loads(done.stdout)["seed"] == 7
