"""Shared results: what everybody who knows the address of a result's file may see."""

from pathlib import Path
from typing import Any

import pytest

from longtake.derived.place import joint_place
from longtake.families import plan_to_json
from longtake.queue import engine as queue
from tests.cli.test_inspection import make_plan
from tests.service.finished import CLIP, finished
from tests.service.serving import INPUT, Served, serving, submit


def shared_file(served: Served, key: str | None = None, **headers: str) -> str:
    """Carries out a request. Returns the key of its result's file."""
    sent = {"Authorization": f"Key {key}"} if key else {}
    with served.client() as client:
        submit(client, headers={**sent, **headers})
    return finished(served, served.claim())


def status(served: Served, key: str, **headers: str) -> int:
    return served.client().get(f"/page/shared/{key}", headers=headers).status_code


def test_a_server_without_keys_shares_its_results(served: Served) -> None:
    key = shared_file(served)
    found: dict[str, Any] = served.client().get(f"/page/shared/{key}").json()
    assert set(found) == {"endpoint", "completed_at", "model", "stand_in", "prompt", "seed", "video", "joint"}
    assert found["stand_in"] is True, "the sentence for the operator is left out"
    assert found["joint"] is None, "the request has no plan"
    assert (found["prompt"], found["seed"], found["model"]) == (INPUT["prompt"], 7, "ltxv-tiny")
    assert served.client().get(found["video"]["url"]).content == CLIP.read_bytes()
    assert status(served, key, **{"sec-fetch-site": "cross-site"}) == 403
    served.state.store.delete(key)
    assert status(served, key) == 404


def test_a_shared_result_has_its_joint(served: Served) -> None:
    plan = make_plan("forward")
    with served.client() as client:
        submit(client)
    row = served.claim()
    queue.store_plan(served.engine, row, plan_to_json(plan))
    found = served.client().get(f"/page/shared/{finished(served, row)}").json()
    assert found["joint"] == joint_place(plan)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Fal-Store-IO": "0"},
        {"X-Fal-Object-Lifecycle-Preference": '{"initial_acl": {"default": "hide"}}'},
        {"X-Fal-Object-Lifecycle-Preference": '{"initial_acl": {"default": "forbid"}}'},
    ],
)
def test_what_the_client_keeps_for_itself_is_not_shared(served: Served, headers: dict[str, str]) -> None:
    assert status(served, shared_file(served, **headers)) == 404


def test_uploads_are_not_shared(served: Served) -> None:
    answer = served.client().post("/cdn/files/upload", content=CLIP.read_bytes())
    assert status(served, answer.json()["access_url"].rpartition("/")[2]) == 404
    assert status(served, "x" * 32) == status(served, "nonsense") == 404


@pytest.mark.parametrize(("chosen", "found"), [(None, 404), (False, 404), (True, 200)])
def test_a_server_with_keys_shares_results_only_if_it_is_set(tmp_path: Path, chosen: bool | None, found: int) -> None:
    with serving(tmp_path, share_links=chosen) as served:
        key = served.state.keys.create("1", "run")
        assert status(served, shared_file(served, key)) == found


def test_a_server_without_keys_shares_nothing_if_it_is_set(tmp_path: Path) -> None:
    with serving(tmp_path, share_links=False) as served:
        assert status(served, shared_file(served)) == 404
