"""`longtake serve` on the data folder of an earlier version."""

import json
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
import sqlalchemy as sa

from longtake.database.connection import connect, file_url
from longtake.families import plan_from_json
from tests.upgraded import FOLDERS, Server, serving

OLD = FOLDERS / "c19c832.tar.xz"
KEY = "91e62dd2-b9fa-4e2c-83e1-0a1df3a1a219:2ded1158a422bc2f1520c71c0043a935e11bbc5a7d3f7be2f071fd5470260bcc"

LTX2, LTXV = "fal-ai/ltx-2.3-22b", "fal-ai/ltxv-13b-098-distilled"
FINISHED = (LTX2, "25b3c17d-7bb1-46c7-b60c-b79aa3d24c53")
FAILED = (LTXV, "46fe1a20-6755-492c-b2ab-c3bfcebbc9ef")
CANCELLED = "845fd6dc-5d17-464e-a24d-934b53e0dca1"
RUNNING = {"4e600a9e-23c3-4420-9ae0-55b08313668a": LTX2, "6d002a91-6e9b-46ca-a446-6f8f7ae76df1": LTXV}
WAITING = {"986a9989-e1dc-4b57-933b-924624cdeb3b": LTXV, "891c22dd-8991-4fcf-8b83-101b8ebb47d2": LTX2}

SMALLER: dict[str, dict[str, Any]] = {
    LTX2: {
        "num_frames": 9,
        "num_inference_steps": 8,
        "use_multiscale": False,
        "video_cfg_scale": 1,
        "video_stg_scale": 0,
        "video_modality_scale": 1,
        "audio_cfg_scale": 1,
        "audio_stg_scale": 0,
        "audio_modality_scale": 1,
    },
    LTXV: {"num_frames": 33, "aspect_ratio": "1:1", "first_pass_num_inference_steps": 2},
}
"""Endpoint -> fields of the body of a request to it that need less work than the old ones."""

HIDDEN = "hidden" + "x" * 26 + ".mp4"
"""The key of a file that only its owner may read."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old data folder, with a hidden file. Its unfinished requests get smaller bodies, which take less time."""
    folder = tmp_path_factory.mktemp("upgrade")
    with tarfile.open(OLD) as archive:
        archive.extractall(folder, filter="data")
    with closing(sqlite3.connect(folder / "data" / "longtake.db")) as database, database:
        for request_id, app in (RUNNING | WAITING).items():
            (body,) = database.execute("SELECT body FROM requests WHERE id = ?", [request_id]).fetchone()
            changed = json.dumps(json.loads(body) | SMALLER[app]).encode()
            database.execute("UPDATE requests SET body = ? WHERE id = ?", [changed, request_id])
        facts = (HIDDEN, KEY.partition(":")[0], None, "a.mp4", "video/mp4", 6, 1.0, None)
        database.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", facts)
    (folder / "data" / "files" / HIDDEN).write_bytes(b"frames")
    (folder / "data" / "files" / ".access").mkdir(exist_ok=True)
    rules = {"owner": KEY.partition(":")[0], "rules": {"default": "hide"}}
    (folder / "data" / "files" / ".access" / HIDDEN).write_text(json.dumps(rules))
    return folder / "data"


@pytest.fixture(scope="module")
def server(old: Path) -> Iterator[Server]:
    with closing(sqlite3.connect(old / "longtake.db")) as database:
        rows = {name: (state, plan) for name, state, plan in database.execute("SELECT id, state, plan FROM requests")}
    assert [rows[name][0] for name in (*RUNNING, *WAITING)] == ["IN_PROGRESS"] * 2 + ["IN_QUEUE"] * 2
    assert plan_from_json(json.loads(rows[next(iter(RUNNING))][1])) is None, "the old plan has another form"
    with serving(old, KEY, {}) as running:
        yield running


def test_finished_results_stay_readable(server: Server) -> None:
    app, request_id = FINISHED
    answer = server.get(f"/queue/{app}/requests/{request_id}")
    assert answer.status_code == 200
    assert answer.json()["seed"] == 31
    assert len(server.get(answer.json()["video"]["url"]).content) == answer.json()["video"]["file_size"]
    app, request_id = FAILED
    failed = server.get(f"/queue/{app}/requests/{request_id}")
    assert (failed.status_code, failed.json()["detail"][0]["type"]) == (422, "unsupported_video_format")
    assert server.row(CANCELLED).state == "CANCELLED"
    assert server.row(CANCELLED).price_usd == "0"


def test_hidden_files_stay_hidden(server: Server) -> None:
    assert httpx.get(f"{server.http}/cdn/files/{HIDDEN}", timeout=30).status_code == 404
    assert server.get(f"/cdn/files/{HIDDEN}").content == b"frames"
    assert list((server.data_dir / "files" / ".access").iterdir()) == []


@pytest.mark.parametrize("request_id", [*RUNNING, *WAITING])
def test_unfinished_requests_are_carried_out(server: Server, request_id: str) -> None:
    """Waiting requests run. Running ones return to the queue and get a new plan."""
    row, app = server.ended(request_id), (RUNNING | WAITING)[request_id]
    assert (row.state, row.status_code) == ("COMPLETED", 200), (row.error, server.log.read_text()[-2000:])
    assert row.attempt == (2 if request_id in RUNNING else 1)
    plan = plan_from_json(row.plan or {})
    assert plan is not None
    answer = server.get(f"/queue/{app}/requests/{request_id}").json()
    result = server.data_dir.parent / f"{request_id}.mp4"
    result.write_bytes(server.get(answer["video"]["url"]).content)
    with av.open(str(result)) as file:
        assert sum(1 for _ in file.decode(video=0)) == plan.num_frames == answer["video"]["num_frames"]
    assert answer["seed"] == plan.seed
    server.wait_until(lambda: not (server.data_dir / "work" / request_id).exists())


def test_the_database_is_of_this_version(server: Server) -> None:
    from longtake.database.migrate import CURRENT, version

    engine = connect(file_url(server.data_dir / "longtake.db"))
    with engine.connect() as connection:
        assert version(connection) == CURRENT
        assert connection.execute(sa.text("PRAGMA integrity_check")).scalar() == "ok"
        assert connection.execute(sa.text("PRAGMA auto_vacuum")).scalar() == 2, "the file can shrink"
    engine.dispose()
