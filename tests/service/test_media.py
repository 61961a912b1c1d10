"""What the server's pages show of stored videos: who may have it, and what it is."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from longtake.families import plan_to_json
from longtake.queue import engine as queue
from longtake.service import derivations
from longtake.service.auth import EVERYBODY
from longtake.service.responses import to_json
from tests.cli.test_inspection import NEW, SHOWN, make_plan
from tests.derived.test_joint import written
from tests.media.clips import Clip, Tone
from tests.media.files_out import read
from tests.service.finished import finished
from tests.service.serving import FLAT, LTX2, LTXV, Served, serving, submit, wait_for

CROSS = {"sec-fetch-site": "cross-site"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("media")) as served:
        yield served


@pytest.fixture(scope="module")
def key(running: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The key of an uploaded ProRes video with sound."""
    tone = Tone("pcm_s16le", seconds=0.5, onset_s=0.0)
    path = Clip("a.mov", frames=12, codec="prores_ks", pix_fmt="yuv422p10le", sound=tone).write(
        tmp_path_factory.mktemp("clip")
    )
    return uploaded(running, path.read_bytes(), "video/quicktime")


def uploaded(served: Served, content: bytes, kind: str = "video/mp4", **headers: str) -> str:
    """Uploads a file and returns its key."""
    sent = {"content-type": kind, "x-fal-file-name": "my clip.mov", **headers}
    answer = served.client().post("/cdn/files/upload", content=content, headers=sent)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_url"].rpartition("/")[2])


def get(served: Served, path: str, **headers: str) -> httpx.Response:
    with served.client() as client:
        return client.get(path, headers=headers)


def carried_out(served: Served, path: Path, key: str | None = None) -> str:
    """Carries out a request whose result is the file at `path`. Returns its id."""
    with served.client() as client:
        submit(client, FLAT, endpoint=LTX2, headers={"Authorization": f"Key {key}"} if key else {})
    row = served.claim()
    queue.store_plan(served.engine, row, plan_to_json(make_plan("forward")))
    finished(served, row, path)
    return row.id


def test_facts(running: Served, key: str) -> None:
    found = get(running, f"/media/{key}/facts").json()
    assert (found["codec"], found["playable"], found["num_frames"]) == ("prores", False, 12)
    assert (found["name"], found["content_type"], found["has_audio"]) == ("my clip.mov", "video/quicktime", True)


def test_a_strip(running: Served, key: str) -> None:
    answer = get(running, f"/media/{key}/strip?frames=3&height=24")
    assert (answer.headers["content-type"], answer.headers["x-longtake-strip"]) == ("image/jpeg", "3,32,24")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (96, 24)
    assert get(running, f"/media/{key}/strip?frames=3&height=24").content == answer.content


def test_a_waveform(running: Served, key: str) -> None:
    found = get(running, f"/media/{key}/wave?points=5").json()
    assert found["duration"] == 0.5
    assert found["peaks"] == pytest.approx([0.5] * 5, abs=0.05)


def test_a_copy_is_made_and_sent_in_ranges(running: Served, key: str, tmp_path: Path) -> None:
    address = f"/media/{key}/copy"
    first = get(running, address, range="bytes=0-0")
    assert (first.status_code, set(first.json())) == (202, {"share"})
    wait_for(lambda: get(running, address, range="bytes=0-0").status_code == 206)
    whole = get(running, address)
    assert whole.headers["content-type"] == "video/mp4"
    assert "my%20clip.mp4" in whole.headers["content-disposition"]
    assert get(running, address, range="bytes=5-9").content == whole.content[5:10]
    (tmp_path / "copy.mp4").write_bytes(whole.content)
    found = read(tmp_path / "copy.mp4")
    assert (found.codec, found.sound_codec, len(found.frames)) == ("h264", "aac", 12)


def test_the_joint_of_a_result(running: Served, tmp_path: Path) -> None:
    request_id = carried_out(running, written(tmp_path / "a.mp4", SHOWN + NEW))
    address = f"/models/{LTX2}/requests/{request_id}/joint"
    place = get(running, f"{address}?figures=0").json()
    found = get(running, address).json()
    assert (found["frame"], found["seconds"], found["new_first"]) == (SHOWN, 1.5, False)
    assert place == {name: found[name] for name in place}
    assert [name for name, _ in found["rows"]][:2] == ["colour shift", "sharpness"]
    picture = get(running, f"{address}.png")
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).format == "PNG"
    assert get(running, address, **CROSS).status_code == 403
    assert get(running, address.replace(LTX2, LTXV)).status_code == 404
    assert get(running, address.replace(request_id, "unknown")).status_code == 404


def test_a_request_without_a_result_has_no_joint(running: Served) -> None:
    with running.client() as client:
        request_id = submit(client, FLAT, endpoint=LTX2)["request_id"]
    for name in ("joint", "joint.png"):
        assert get(running, f"/models/{LTX2}/requests/{request_id}/{name}").status_code == 404
    running.finish(running.claim())
    assert get(running, f"/models/{LTX2}/requests/{request_id}/joint").status_code == 404


def test_what_is_no_video_has_nothing(running: Served) -> None:
    key = uploaded(running, b"no video")
    for what in ("facts", "strip", "wave"):
        answer = get(running, f"/media/{key}/{what}")
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["type"] == "unsupported_video_format"
    assert get(running, f"/media/{key}/copy").status_code == 202
    wait_for(lambda: get(running, f"/media/{key}/copy").status_code == 422)


@pytest.mark.parametrize(
    "query",
    [
        "strip?frames=0",
        "strip?frames=65",
        "strip?frames=-1",
        "strip?height=15",
        "strip?height=241",
        "strip?height=x",
        "wave?points=0",
        "wave?points=4001",
        "wave?points=1.5",
    ],
)
def test_wrong_numbers(running: Served, key: str, query: str) -> None:
    answer = get(running, f"/media/{key}/{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "query"


@pytest.mark.parametrize("what", ["facts", "strip", "wave", "copy"])
def test_pages_of_other_sites_and_unknown_files_get_nothing(running: Served, key: str, what: str) -> None:
    assert get(running, f"/media/{key}/{what}", **CROSS).status_code == 403
    assert get(running, f"/media/{'x' * 32}.mp4/{what}").status_code == 404
    assert running.client().post(f"/media/{key}/{what}").status_code == 405


def test_with_keys_only_those_who_may_read_the_file_get_anything(tmp_path: Path) -> None:
    with serving(tmp_path / "locked") as served:
        keys = served.state.keys
        created = keys.create("owner", "run"), keys.create("stranger", "run"), keys.create("boss", "admin")
        owner, stranger, boss = ({"authorization": f"Key {key}"} for key in created)
        rules = {"x-fal-object-lifecycle": to_json({"initial_acl": {"default": "hide"}}).decode()}
        hidden = uploaded(served, b"no video", **owner, **rules)
        for headers in (owner, boss):
            assert get(served, f"/media/{hidden}/facts", **headers).status_code == 422
        clip = Clip("b.mp4", frames=2).write(tmp_path)
        video = uploaded(served, clip.read_bytes(), **owner, **rules)
        for what in ("facts", "strip"):
            answer = get(served, f"/media/{video}/{what}", **owner)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-store")
        for headers in (stranger, {}, {"authorization": "Key wrong:key"}):
            assert get(served, f"/media/{hidden}/facts", **headers).status_code == 404
            assert get(served, f"/media/{hidden}/copy", **headers).status_code == 404
        request_id = carried_out(served, clip, created[0])
        address = f"/models/{LTX2}/requests/{request_id}/joint"
        assert get(served, address, **stranger).status_code == 404
        assert get(served, address).status_code == 401
        assert get(served, address, **owner).json()["rows"] == []
        assert get(served, f"{address}.png", **owner).status_code == 404


def test_uploads_with_the_same_name_and_size_are_listed_once(served: Served) -> None:
    _, longer, newest = (uploaded(served, content) for content in (b"old", b"longer", b"new"))
    uploaded(served, b"no video", "text/plain")
    files = get(served, "/page/uploads").json()["files"]
    assert [file["url"] for file in files] == [f"cdn/files/{newest}", f"cdn/files/{longer}"]
    assert {(file["name"], file["content_type"]) for file in files} == {("my clip.mov", "video/mp4")}


def test_readers_without_a_key_use_up_no_turns_of_a_key(tmp_path: Path) -> None:
    with serving(tmp_path / "shared") as served:
        headers = {"authorization": f"Key {served.state.keys.create('owner', 'run')}"}
        key = uploaded(served, Clip("shared.mp4", frames=2).write(tmp_path).read_bytes(), **headers)
        served.state.derivations._open._open[EVERYBODY] = derivations.MOST_OPEN
        assert get(served, f"/media/{key}/strip").status_code == 429
        assert get(served, f"/media/{key}/strip", **headers).status_code == 200
