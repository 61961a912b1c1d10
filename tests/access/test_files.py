"""Who may read a file, and which URLs name one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtake.access.files import decide, find_own
from longtake.errors import FileLost
from longtake.storage.files import FileStore, NewFile, StoredFile
from longtake.storage.keys import new_key
from longtake.storage.local import LocalBlobs
from tests.database.fixtures import on_sqlite

RULES = {"default": "forbid", "rules": [{"user": "a", "decision": "allow"}, {"user": "b", "decision": "hide"}]}


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path) -> FileStore:
    return FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")


def stored(store: FileStore, rules: Mapping[str, Any] | None = None) -> str:
    """Stores a file of the owner `me` and returns its key."""
    key, path = new_key("clip.mp4", "video/mp4"), store.scratch_path()
    path.write_bytes(b"frames")
    store.add(key, NewFile("me", "clip.mp4", "video/mp4", {"initial_acl": rules} if rules else None), path)
    return key


@pytest.mark.parametrize(
    ("rules", "key_id", "decision"),
    [
        (None, None, "allow"),
        (RULES, "me", "allow"),
        (RULES, "a", "allow"),
        (RULES, "b", "hide"),
        (RULES, "c", "forbid"),
        (RULES, None, "forbid"),
        ({"rules": RULES["rules"]}, None, "allow"),
        ({"rules": RULES["rules"]}, "b", "hide"),
        ({"default": "hide"}, "c", "hide"),
    ],
)
def test_the_owner_a_rule_or_the_default_decides(rules: Any, key_id: str | None, decision: str) -> None:
    assert decide(StoredFile("blob", "me", "clip.mp4", "video/mp4", 6, 0.0, rules, None), key_id) == decision


@on_sqlite
def test_only_those_who_may_read_a_file_learn_that_it_is_lost(store: FileStore) -> None:
    key = stored(store, {"default": "hide"})
    file = store.find(key)
    assert file is not None
    store.blobs.delete(file.blob)
    assert find_own(store, f"http://h/files/{key}", "other") is None
    with pytest.raises(FileLost):
        find_own(store, f"http://h/files/{key}", "me")


@on_sqlite
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/cdn/files/{key}",
        "https://v3.fal.media/files/{key}",
        "https://video.example/ours/cdn/files/{key}?download=1#t=3",
    ],
)
def test_a_url_of_an_own_file_names_it(store: FileStore, url: str) -> None:
    key = stored(store)
    own = find_own(store, url.format(key=key), None)
    assert own is not None
    assert own[0] == key
    with store.blobs.local(own[1].blob) as path:
        assert path.read_bytes() == b"frames"


@on_sqlite
@pytest.mark.parametrize(
    "url",
    [
        "file:///files/{key}",
        "http://h/{key}",
        "http://h/files/b/{key}",
        "http://h/files/{key}/..",
        "http://[/files/{key}",
        "http://h/files/" + "x" * 32,
    ],
)
def test_other_urls_name_no_own_file(store: FileStore, url: str) -> None:
    assert find_own(store, url.format(key=stored(store)), None) is None


@on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(key=st.text(max_size=60))
def test_no_text_names_a_file_that_is_not_stored(store: FileStore, key: str) -> None:
    assert find_own(store, f"http://host/files/{key}", None) is None


@on_sqlite
def test_access_rules_hold_for_inputs_too(store: FileStore) -> None:
    rules = {"default": "hide", "rules": [{"user": "friend", "decision": "allow"}]}
    url = f"http://h/files/{stored(store, rules)}"
    assert find_own(store, url, "me") is not None
    assert find_own(store, url, "friend") is not None
    assert find_own(store, url, "stranger") is None
    assert find_own(store, url, None) is None
