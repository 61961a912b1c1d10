"""The HTML of the server's pages: their parts, their addresses, and what they may load."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
import sqlalchemy as sa

from longtake.service.pages import FOLDER
from tests.service.serving import LTX2, LTXV, Served, serving

PAGES = ("", f"models/{LTXV}", f"models/{LTX2}/api", "history", "compare", "server")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("pages")) as served:
        yield served


@pytest.mark.parametrize("path", PAGES)
def test_a_page_asks_for_its_parts_by_relative_addresses(served: Served, path: str) -> None:
    """So that it works behind a proxy that adds a path prefix."""
    page = served.client().get(f"/{path}").text
    parts = re.findall(r'<(?:link|script|img)[^>]*(?:href|src)="([^"]*)"', page)
    assert len(parts) >= 3
    for part in parts:
        assert urljoin(f"http://box.example/video/{path}", part).startswith("http://box.example/video/")
        assert served.client().get(urljoin(f"/{path}", unescape(part))).status_code == 200
    (root,) = re.findall(r'data-root="([^"]*)"', page)
    assert urljoin(f"http://box.example/video/{path}", root or ".") == "http://box.example/video/"


def test_the_data_of_a_form_is_loaded_with_its_scripts_unless_that_needs_a_key(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.client() as client:
        without_keys = client.get(f"/models/{LTX2}").text
        (models, pricing) = re.findall(r'<link rel="preload" as="fetch" crossorigin href="([^"]*)">', without_keys)
        found = client.get(urljoin(f"/models/{LTX2}", unescape(models)))
        assert found.json()["models"][0]["openapi"]["openapi"] == "3.0.4"
        assert found.headers["content-encoding"] == "gzip"
        assert client.get(urljoin(f"/models/{LTX2}", unescape(pricing))).json()["prices"][0]["endpoint_id"] == LTX2
        served.state.keys.create("first", "admin")
        with_keys = client.get(f"/models/{LTX2}").text
    assert 'as="fetch"' not in with_keys
    assert "static/endpoint.js" in with_keys


def test_pages_are_shown_while_the_database_does_not_answer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bool:
        raise sa.exc.OperationalError("SELECT", None, Exception("the database is away"))

    monkeypatch.setattr(served.state.keys, "any_exist", fail)
    for path in ("/", f"/models/{LTX2}"):
        page = served.client().get(path)
        assert page.status_code == 200
        assert 'as="fetch"' not in page.text


def test_scripts_ask_only_for_relative_addresses() -> None:
    for script in (FOLDER / "static").glob("*.js"):
        assert not re.findall(r"""(?:fetch|call|callJson|mediaAddress)\(\s*["'`]/""", script.read_text("utf-8")), script


@pytest.mark.parametrize("path", PAGES)
def test_a_page_may_load_nothing_from_elsewhere(served: Served, path: str) -> None:
    policy = served.client().get(f"/{path}").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "data:" not in policy
    assert not re.search(r"https?:|\*", policy)


def test_static_files_are_the_only_ones_served(served: Served) -> None:
    for name in ("nothing.css", "..%2fpages.py", "%2e%2e/pages.py", "..%2f..%2fsettings.py"):
        assert served.client().get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("/history/", "../history"),
        ("/history///", "../../../history"),
        ("//", "../"),
        (f"/models/{LTXV}/", "../extend"),
        (f"/models/{LTX2}/api/?a=b", "../api?a=b"),
        ("/shared/a%20b/", "../a%20b"),
        ("/compare/?a=1&b=2", "../compare?a=1&b=2"),
    ],
)
def test_slashes_at_the_end_lead_to_the_page_without_them(served: Served, address: str, wanted: str) -> None:
    """By a relative address, so that it works behind a proxy that adds a path prefix."""
    answer = served.client().get(f"{served.url}{address}")
    assert (answer.status_code, answer.headers["location"]) == (307, wanted)


@pytest.mark.parametrize("path", ["", "history", "static/dom.js", f"models/{LTX2}/llms.txt"])
def test_a_page_that_the_client_has_is_not_sent_again(served: Served, path: str) -> None:
    def asked(tag: str) -> httpx.Response:
        return served.client().get(f"/{path}", headers={"if-none-match": tag})

    whole = served.client().get(f"/{path}")
    tag = whole.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = asked(known)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert answer.headers["content-security-policy"] == whole.headers["content-security-policy"]
    for other in ("", '"other"', tag.strip('"')[:-1]):
        assert asked(other).content == whole.content


def test_the_openapi_document_names_the_playground(served: Served) -> None:
    document = json.loads(served.client().get(f"/api/openapi/queue/openapi.json?endpoint_id={LTX2}").content)
    address = document["info"]["x-fal-metadata"]["playgroundUrl"]
    assert address == f"{served.url}/models/{LTX2}"
    assert served.client().get(address).status_code == 200


def test_the_plain_text_has_the_address_of_this_server(served: Served) -> None:
    answer = served.client().get(f"/models/{LTX2}/llms.txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert f"POST {served.url}/run/{LTX2} " in answer.text
    assert "{server}" not in answer.text


def test_static_files_are_small_and_readable() -> None:
    assert sum(path.stat().st_size for path in (FOLDER / "static").glob("example*")) < 1_500_000
    for path in (FOLDER / "static").glob("*.*"):
        if path.suffix in (".jpg", ".mp4"):
            continue
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) <= 400, path
        assert path.suffix == ".css" or max(map(len, lines)) <= 300, path


def test_every_export_of_a_script_is_used_by_another_one() -> None:
    scripts = {path: path.read_text("utf-8") for path in (FOLDER / "static").glob("*.js")}
    for path, text in scripts.items():
        others = "\n".join(other for one, other in scripts.items() if one != path)
        for name in re.findall(r"^export (?:async )?(?:const|class|function\*?) (\w+)", text, re.MULTILINE):
            assert re.search(rf"\b{name}\b", others), f"{path.name}: {name}"


def test_one_script_makes_the_addresses_of_blobs_and_none_makes_html_from_text() -> None:
    scripts = {path.name: path.read_text("utf-8") for path in (FOLDER / "static").glob("*.js")}
    assert [name for name, text in scripts.items() if "createObjectURL" in text] == ["object_urls.js"]
    html = re.compile(r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|srcdoc|createContextualFragment|DOMParser|eval)\b")
    assert [name for name, text in scripts.items() if html.search(text)] == []


def test_texts_are_sent_compressed_to_clients_that_accept_it(served: Served) -> None:
    for path in ("/static/playground.js", f"/models/{LTX2}", "/static/examples.json"):
        kinds = ("br, GZip;q=0.5", "identity, gzip; q=0.0")
        packed, plain = (served.client().get(path, headers={"accept-encoding": kind}) for kind in kinds)
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert packed.content == plain.content
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        assert packed.headers["etag"] != plain.headers["etag"]
        assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in served.client().get("/static/example_ltx2.jpg").headers


def test_a_style_sheet_is_sent_with_those_that_it_imports(served: Served) -> None:
    sheet = served.client().get("/static/playground.css").text
    assert "@import" not in sheet
    assert (FOLDER / "static" / "player.css").read_text("utf-8") in sheet


def test_a_page_names_the_scripts_that_it_needs_first_before_those_that_it_imports_later(served: Served) -> None:
    page = served.client().get(f"/models/{LTX2}").text
    links = re.findall(r'<link rel="modulepreload"( fetchpriority="low")? href="[./]*static/([\w.]+)">', page)
    low = [name for priority, name in links if priority]
    assert [name for _, name in links][-len(low) :] == low
    assert {"output.js", "result.js", "player.js"} <= set(low)
    first = {name for priority, name in links if not priority}
    assert {"endpoint.js", "schema.js", "form.js", "controls.js"} <= first
    assert len(first) <= 18, "browsers load six at a time, so more of them would delay the form by a round trip"
