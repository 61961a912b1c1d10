"""The instructions of `longtake client-env`, and the shim for Python."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from longtake.service.client_env import SHIM, Reach, instructions
from longtake.service.tls import tls_files
from tests.cli.running import run


def exports(text: str) -> list[dict[str, str]]:
    """Returns the environment variables that each `export` line sets, as a shell reads it."""
    found = []
    for line in re.findall(r"^ *(export .*)$", text, re.M):
        names = re.findall(r"(?:^export| )\s*([A-Z_]+)=", line)
        shown = subprocess.run(
            ["sh", "-c", f"{line}\n" + "\n".join(f'printf "%s\\0" "${name}"' for name in names)],
            check=True,
            capture_output=True,
            env={},
        ).stdout.decode()
        found.append(dict(zip(names, shown.split("\0"), strict=False)))
    return found


def test_the_command_takes_the_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "FAL_LOCAL_URL=http://localhost:8000 " in run("client-env").out
    monkeypatch.setenv("LONGTAKE_PUBLIC_URL", "https://box.example/video/")
    assert "FAL_LOCAL_URL=https://box.example/video " in run("client-env").out
    assert "FAL_LOCAL_URL=http://10.0.0.1:9 " in run("client-env", "--url", "http://10.0.0.1:9").out


@pytest.mark.parametrize("url", ["box", "ftp://box", "http://", "https:///x", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    ran = run("client-env", "--url", url)
    assert (ran.status, ran.out) == (2, "")
    assert "It must be an address such as http://box:8000." in ran.err


def test_tls_is_told_if_the_data_folder_has_certificates(tmp_path: Path) -> None:
    args = ("client-env", "--data-dir", tmp_path, "--json")
    assert run(*args).document["https"] is None
    assert run(*args, "--tls").document["https"] == "https://localhost:8443"
    files = tls_files(tmp_path / "tls")
    files.certificate.parent.mkdir()
    files.certificate.touch()
    document = run(*args, "--tls-port", "9").document
    assert document["https"] == "https://localhost:9"
    assert document["environment"]["python_tls"]["SSL_CERT_FILE"] == str(files.bundle)
    assert run(*args, "--no-tls").document["https"] is None


def test_the_key_is_left_to_the_user_of_a_server_with_keys(tmp_path: Path) -> None:
    args = ("client-env", "--data-dir", tmp_path)
    assert "FAL_KEY=any:thing" in run(*args).out
    assert list(tmp_path.iterdir()) == []
    run("keys", "create", "--alias", "laptop", "--data-dir", tmp_path)
    assert "FAL_KEY='<id>:<secret>'" in run(*args).out
    assert run(*args, "--json").document["environment"]["python"]["FAL_KEY"] == "<id>:<secret>"


def test_the_variables_are_json_too() -> None:
    document = run("client-env", "--url", "http://10.0.0.1:9", "--json").document
    assert document["url"] == "http://10.0.0.1:9"
    assert document["environment"]["python"]["FAL_LOCAL_URL"] == "http://10.0.0.1:9"
    assert list(document["environment"].values()) == exports(run("client-env", "--url", "http://10.0.0.1:9").out)


def test_plain_http_has_three_recipes() -> None:
    text = instructions(Reach("http://127.0.0.1:8000"))
    assert exports(text) == [
        {"FAL_KEY": "any:thing", "FAL_LOCAL_URL": "http://127.0.0.1:8000", "PYTHONPATH": str(SHIM)},
        {
            "FAL_KEY": "any:thing",
            "FAL_LOCAL_URL": "http://127.0.0.1:8000",
            "NODE_OPTIONS": f"--import={(SHIM / 'fal_local.mjs').as_uri()}",
        },
    ]
    assert 'proxyUrl: { url: "http://127.0.0.1:8000/api/fal/proxy", when: "always" },' in text


def test_tls_adds_two_recipes(tmp_path: Path) -> None:
    tls = tls_files(tmp_path / "a folder's name")
    text = instructions(Reach("http://h:8000", "https://h:8443", "http://h:8888", tls))
    *_, hosts, tunnel = exports(text)
    assert hosts["FAL_RUN_HOST"] == "h:8443/run"
    assert hosts["FAL_QUEUE_RUN_HOST"] == "h:8443/queue"
    assert tunnel["HTTPS_PROXY"] == "http://h:8888"
    assert hosts["SSL_CERT_FILE"] == tunnel["SSL_CERT_FILE"] == str(tls.bundle)


def test_a_server_with_keys_has_a_placeholder_for_one() -> None:
    text = instructions(Reach("http://h:8000", has_keys=True))
    assert exports(text)[0]["FAL_KEY"] == "<id>:<secret>"
    assert "longtake keys create" in text
    assert "any:thing" not in text


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://127.0.0.1:8000/"])
def test_the_shim_redirects_the_client_when_it_is_imported(url: str) -> None:
    program = (
        "import sys; assert 'httpx' not in sys.modules; import fal_client.client as c; "
        "print(c.RUN_URL_FORMAT, c.QUEUE_URL_FORMAT, c.REST_URL, c.CDN_URL)"
    )
    env = {**os.environ, "PYTHONPATH": str(SHIM), "FAL_LOCAL_URL": url}
    shown = subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True, text=True).stdout
    assert shown.split() == [f"http://127.0.0.1:8000{path}" for path in ("/run/", "/queue/", "/rest", "/cdn")]


def test_the_shim_does_nothing_without_its_variable() -> None:
    env = {**os.environ, "PYTHONPATH": str(SHIM)}
    env.pop("FAL_LOCAL_URL", None)
    program = "import fal_client.client as c; print(c.REST_URL)"
    shown = subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "https://rest.fal.ai"


def test_the_shim_runs_another_sitecustomize(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.was_here = True\n")
    env = {**os.environ, "PYTHONPATH": f"{SHIM}{os.pathsep}{tmp_path}", "FAL_LOCAL_URL": "http://h"}
    subprocess.run([sys.executable, "-c", "assert was_here"], env=env, check=True)
