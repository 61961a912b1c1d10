"""Plans of requests before they are submitted, and files that the server imports for them."""

import asyncio
import base64
import gc
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from PIL import Image
from starlette.requests import ClientDisconnect

from longtake.database.tables import derived_files
from longtake.derived.order import PICTURE
from longtake.endpoints import ENDPOINTS
from longtake.service import plans
from longtake.service.reports import MOST_OPEN
from longtake.service.responses import to_json
from longtake.settings import Settings
from longtake.storage import imports
from tests.cli.test_inspection import make_plan
from tests.service.serving import INPUTS, LTX2, LTXV, PATIENCE_S, Served, serving, wait_for
from tests.service.small_server import connected
from tests.service.test_derivations import Client, until
from tests.worker.site import Site

CLIP = (Path(__file__).parents[2] / "examples" / "clip.mp4").read_bytes()
DATA_URI = "data:video/mp4;base64," + base64.b64encode(CLIP).decode()


class Elsewhere:
    """A web server with one video. `paths`: the paths of all its requests."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        elsewhere = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                elsewhere.paths.append(self.path)
                content = CLIP if self.path.endswith(".mp4") else b"<html>no video</html>"
                self.send_response(404 if self.path.startswith("/missing") else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    site = Elsewhere()
    yield site
    site.server.shutdown()


@contextmanager
def served_to(folder: Path, **settings: Any) -> Iterator[tuple[Served, httpx.Client]]:
    with serving(folder, trusted_hosts=("127.0.0.1",), **settings) as served, served.client() as client:
        yield served, client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, httpx.Client]]:
    with served_to(tmp_path_factory.mktemp("plans")) as both:
        yield both


def planned(client: httpx.Client, endpoint: str, url: str, **fields: Any) -> httpx.Response:
    body = INPUTS[endpoint] | fields
    body = body | ({"video": body["video"] | {"video_url": url}} if "video" in body else {"video_url": url})
    return client.post(f"/models/{endpoint}/plan", json=body)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_has_plans(server: tuple[Served, httpx.Client], elsewhere: Elsewhere, endpoint: str) -> None:
    _, client = server
    answer = planned(client, endpoint, elsewhere.url("/clip.mp4"))
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert plan["plan"]["endpoint"] == endpoint
    assert plan["price_usd"] == plan["plan"]["price_usd"] > 0
    assert (plan["billed_units"] > 0, plan["unit"]) == (True, plan["plan"]["unit"])
    assert plan["stand_in"] in plan["notes"]
    assert [section["title"] for section in plan["sections"]] == ["What goes in", "What comes out", "How"]
    assert ["endpoint", endpoint] in plan["sections"][2]["rows"]
    source, context = plan["source"], plan["context"]
    assert (source["width"], source["height"], source["num_frames"], source["fps"]) == (112, 64, 33, 24)
    assert client.get(f"/{source['file']}").content == CLIP
    assert context["num_frames"] == context["new_frames"] + plan["plan"]["shown_frames"]
    assert 0 <= context["first"] < context["stop"] <= 33
    assert context["stop"] == 33, "the new frames follow the source"


def test_a_source_is_fetched_and_probed_once_for_plans_imports_and_the_request(
    tmp_path: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = elsewhere.url("/once.mp4")
    with served_to(tmp_path) as (served, client):
        first = planned(client, LTX2, url).json()
        answer = client.post("/media/import", json={"url": url}).json()
        assert answer["file"] == first["source"]["file"]
        assert answer["url"].endswith(f"/{answer['file']}")
        monkeypatch.setattr("longtake.service.derivations.Execution", None)  # no program can start
        second = planned(client, LTX2, url, num_frames=57).json()
        assert second["context"]["num_frames"] != first["context"]["num_frames"]
        assert planned(client, LTX2, answer["url"]).json()["source"]["file"] == answer["file"]
        found = imports.find(served.state.store, "local", url)
        assert found is not None
        assert imports.find(served.state.store, "another", url) is None
        assert f"cdn/files/{found[0]}" == answer["file"]
    assert elsewhere.paths.count("/once.mp4") == 1


def test_the_context_is_where_the_new_frames_are(server: tuple[Served, httpx.Client]) -> None:
    _, client = server
    backward = planned(client, LTX2, DATA_URI, extend_direction="backward", num_context_frames=8).json()["context"]
    assert (backward["first"], backward["stop"], backward["new_first"]) == (0, 8, True)
    forward = planned(client, LTX2, DATA_URI, num_context_frames=9).json()["context"]
    assert (forward["first"], forward["stop"], forward["new_first"]) == (24, 33, False)


def test_a_plan_says_which_source_frames_are_shown_counted_and_can_be_seen(
    server: tuple[Served, httpx.Client], elsewhere: Elsewhere
) -> None:
    _, client = server

    def frames(endpoint: str, **fields: Any) -> tuple[Any, ...]:
        found = planned(client, endpoint, elsewhere.url("/clip.mp4"), **fields).json()["context"]
        names = ("first", "stop", "shown_first", "shown_stop", "at_start", "counted", "most_seen", "rate")
        return tuple(found[name] for name in names)

    assert frames(LTX2) == (16, 33, 0, 33, False, 25, 17, 24)
    assert frames(LTX2, extend_direction="backward") == (0, 16, 0, 33, True, 24, 17, 24)
    assert frames(LTXV) == (16, 33, 0, 33, False, 33, 17, 24)
    limited = {"limit_num_frames": True, "max_num_frames": 12}
    assert frames(LTXV, video=limited) == (24, 33, 24, 33, False, 9, 17, 24)
    assert frames(LTXV, video=limited | {"reverse_video": True}) == (0, 9, 0, 9, True, 9, 17, 24)
    for direction in ("forward", "backward"):
        slower = frames(LTX2, match_input_fps=False, fps=10, extend_direction=direction)
        assert slower[2:4] == (0, 33), "no frame of the source is called left out because it is read at a lower rate"
    guide = frames(LTXV, video={"conditioning_type": "depth"})
    assert guide[2:6] == (33, 33, False, 0), "a source that only guides the model is not shown"


@pytest.mark.parametrize(
    ("endpoint", "fields", "url", "loc", "type"),
    [
        (LTX2, {"num_frames": "many"}, "/clip.mp4", ["body", "num_frames"], "int_parsing"),
        (LTX2, {}, "/missing", ["body", "video_url"], "file_download_error"),
        (LTXV, {}, "/page", ["body", "video", "video_url"], "unsupported_video_format"),
        (LTX2, {}, "file:///etc/passwd", ["body", "video_url"], "value_error"),
        (
            LTX2,
            {"end_image_url": "https://127.0.0.1:1/x.png"},
            "/clip.mp4",
            ["body", "end_image_url"],
            "file_download_error",
        ),
        (
            LTX2,
            {"end_image_url": "data:image/png;base64,AAAA"},
            "/clip.mp4",
            ["body", "end_image_url"],
            "unsupported_image_format",
        ),
    ],
)
def test_an_error_names_its_field(
    server: tuple[Served, httpx.Client],
    elsewhere: Elsewhere,
    endpoint: str,
    fields: dict[str, Any],
    url: str,
    loc: list[str],
    type: str,
) -> None:
    _, client = server
    answer = planned(client, endpoint, elsewhere.url(url) if url.startswith("/") else url, **fields)
    assert answer.status_code == 422, answer.text
    (detail,) = answer.json()["detail"]
    assert (detail["loc"], detail["type"]) == (loc, type)


def test_an_end_image_is_fetched_and_opened_for_the_plan(tmp_path: Path) -> None:
    content = BytesIO()
    Image.new("RGB", (40, 30)).save(content, "PNG")
    image = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    with served_to(tmp_path) as (served, client):
        assert planned(client, LTX2, DATA_URI, end_image_url=image).status_code == 200
        with served.engine.connect() as connection:
            rows = connection.execute(sa.select(derived_files.c.facts).where(derived_files.c.kind == PICTURE)).all()
    assert [row.facts for row in rows] == [{"width": 40, "height": 30}]


def test_the_source_and_the_end_image_are_fetched_at_the_same_time(tmp_path: Path) -> None:
    image = BytesIO()
    Image.new("RGB", (40, 30)).save(image, "PNG")
    contents = {"/clip.mp4": CLIP, "/end.png": image.getvalue()}
    both_asked = threading.Barrier(len(contents))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            both_asked.wait(PATIENCE_S)
            self.send_response(200)
            self.send_header("Content-Length", str(len(contents[self.path])))
            self.end_headers()
            self.wfile.write(contents[self.path])

        def log_message(self, format: str, *args: object) -> None:
            pass

    site = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    video, end = (f"http://127.0.0.1:{site.server_port}{path}" for path in contents)
    with served_to(tmp_path) as (_, client):
        assert planned(client, LTX2, video, end_image_url=end).status_code == 200
    site.shutdown()


def test_all_files_that_cannot_be_used_are_named(server: tuple[Served, httpx.Client], elsewhere: Elsewhere) -> None:
    _, client = server
    answer = planned(client, LTX2, elsewhere.url("/missing/too"), end_image_url="data:image/png;base64,AAAA")
    assert [one["loc"] for one in answer.json()["detail"]] == [["body", "video_url"], ["body", "end_image_url"]]


def test_a_field_that_the_source_does_not_allow_is_named(server: tuple[Served, httpx.Client]) -> None:
    _, client = server
    body = INPUTS[LTXV] | {"video": {"video_url": DATA_URI, "start_frame_num": 40}}
    answer = client.post(f"/models/{LTXV}/plan", json=body)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "video", "start_frame_num"])


def test_a_long_prompt_is_cut_in_the_answer(server: tuple[Served, httpx.Client]) -> None:
    answer = planned(server[1], LTX2, DATA_URI, prompt="x" * 100_000, negative_prompt="y" * 100_000)
    assert answer.json()["plan"]["prompt"] == "x" * plans.MOST_PROMPT + "..."
    assert len(answer.content) < 5 * plans.MOST_PROMPT


def test_what_is_not_public_is_not_fetched(tmp_path: Path, elsewhere: Elsewhere) -> None:
    with serving(tmp_path) as served, served.client() as client:
        answer = client.post("/media/import", json={"url": elsewhere.url("/private.mp4")})
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "url"])
        assert client.post("/media/import", json={"url": 7}).status_code == 422
        assert client.post("/media/import", json={"url": "data:,x"}, headers=CROSS_SITE).status_code == 403
    assert "/private.mp4" not in elsewhere.paths


CROSS_SITE = {"sec-fetch-site": "cross-site"}


def test_each_key_has_its_own_imports_and_needs_to_be_one(tmp_path: Path, elsewhere: Elsewhere) -> None:
    url = elsewhere.url("/keys.mp4")
    with served_to(tmp_path) as (served, client):
        keys = [served.state.keys.create(name, "run") for name in ("one", "other")]
        assert planned(client, LTX2, url).status_code == 401
        files = []
        for key in keys:
            headers = {"authorization": f"Key {key}"}
            files.append(client.post("/media/import", json={"url": url}, headers=headers).json()["file"])
        assert files[0] != files[1]
        token = client.post("/rest/tokens/", json={}, headers={"authorization": f"Key {keys[0]}"}).json()
        answer = client.post("/media/import", json={"url": url}, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 403
    assert elsewhere.paths.count("/keys.mp4") == 2


def test_plans_and_imports_are_limited_per_key(tmp_path: Path, elsewhere: Elsewhere) -> None:
    with served_to(tmp_path, key_requests_per_minute=2) as (served, client):
        served.state.reports._open["local"] = MOST_OPEN
        assert planned(client, LTX2, elsewhere.url("/a.mp4")).status_code == 429
        del served.state.reports._open["local"]
        for name in ("/a.mp4", "/b.mp4", "/a.mp4"):
            assert client.post("/media/import", json={"url": elsewhere.url(name)}).status_code == 200
        answer = client.post("/media/import", json={"url": elsewhere.url("/c.mp4")})
        assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
        two = planned(client, LTX2, elsewhere.url("/a.mp4"), end_image_url=elsewhere.url("/d.png"))
        assert two.status_code == 429, "each file that is fetched for a plan counts"
        large = {"video_url": "x" * plans.MOST_BYTES, "prompt": "x"}
        assert client.post(f"/models/{LTX2}/plan", json=large).status_code == 413


def test_a_failure_is_remembered_for_a_moment(tmp_path: Path, elsewhere: Elsewhere) -> None:
    with served_to(tmp_path) as (_, client):
        for _ in range(3):
            assert client.post("/media/import", json={"url": elsewhere.url("/missing/again")}).status_code == 422
        wrong = planned(client, LTXV, elsewhere.url("/missing/again")).json()["detail"][0]
        assert wrong["loc"] == ["body", "video", "video_url"], "the field of this request, not that of the imports"
    assert elsewhere.paths.count("/missing/again") == 1


def test_a_failed_import_is_remembered_without_its_data_uri(tmp_path: Path) -> None:
    large = "data:video/mp4;base64," + "!" * 1_000_000
    with served_to(tmp_path) as (_, client):
        client.post("/media/import", json={"url": "data:"})
        tracemalloc.start()
        for number in range(10):
            assert client.post("/media/import", json={"url": f"{large}{number}"}).status_code == 422
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 5_000_000  # 10 MB with the data


def test_an_import_ends_when_its_client_has_gone(tmp_path: Path) -> None:
    site = Site()
    body = to_json({"url": site.url("/endless.mp4")})
    head = f"POST /media/import HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with served_to(tmp_path, fetch_window_s=10 * PATIENCE_S) as (served, _):
        with connected(httpx.URL(served.url).port or 80) as line:
            line.sendall(head + body)
            wait_for(lambda: site.begun)
        wait_for(lambda: site.left)
    assert site.begun == site.left == ["/endless.mp4"]
    site.server.shutdown()


def test_the_operator_s_language_model_expands_the_prompt_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def expand(prompt: str, settings: Any) -> tuple[str, None]:
        calls.append(prompt)
        return f"{prompt}, in detail", None

    monkeypatch.setattr("longtake.prompts.expand", expand)
    with served_to(tmp_path, expansion_url="http://127.0.0.1:1/v1", expansion_model="m") as (_, client):
        for _ in range(2):
            answer = planned(client, LTX2, DATA_URI, enable_prompt_expansion=True).json()
            assert answer["prompt"] == {"expands": True, "expanded": "a cat, in detail"}
        answer = planned(client, LTX2, DATA_URI, enable_prompt_expansion=False).json()
        assert answer["prompt"] == {"expands": False, "expanded": None}
    assert calls == ["a cat"]


def test_keys_take_turns_at_the_language_model_and_a_client_that_has_gone_gets_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    goes_on = threading.Event()

    def expand(prompt: str, settings: Any) -> tuple[str, None]:
        calls.append(prompt)
        assert goes_on.wait(PATIENCE_S)
        return f"{prompt}, in detail", None

    async def ask() -> None:
        expansions = plans.Expansions(Settings(expansion_url="http://127.0.0.1:1/v1", expansion_model="m"))
        plan = replace(make_plan("forward"), expand_prompt=True)

        def asked(client: Client, key: str, prompt: str) -> "asyncio.Task[tuple[str | None, str | None]]":
            return asyncio.create_task(expansions.expanded(client.request, key, replace(plan, prompt=prompt)))

        here, gone = Client(), Client()
        gone.gone.set()
        mine = [asked(here, "mine", "first"), asked(here, "mine", "second"), asked(gone, "mine", "third")]
        await until(lambda: calls)
        theirs = asked(here, "theirs", "their first")
        await until(lambda: len(calls) == 2)
        assert calls == ["first", "their first"]
        goes_on.set()
        assert await theirs == ("their first, in detail", None)
        assert [await one for one in mine[:2]] == [("first, in detail", None), ("second, in detail", None)]
        with pytest.raises(ClientDisconnect):
            await mine[2]

    monkeypatch.setattr("longtake.prompts.expand", expand)
    asyncio.run(ask())
    assert calls == ["first", "their first", "second"]


def test_without_a_language_model_no_prompt_is_expanded(server: tuple[Served, httpx.Client]) -> None:
    answer = planned(server[1], LTX2, DATA_URI, enable_prompt_expansion=True).json()
    assert answer["prompt"] == {"expands": False, "expanded": None}
