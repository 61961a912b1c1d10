"""API keys on the server's pages."""

from typing import Any

import pytest

from tests.service.serving import Served, wait_for

PATH = "/page/keys"


def test_an_admin_creates_lists_and_revokes_keys(served: Served) -> None:
    with served.client() as client:
        assert client.get(PATH).json() == {"keys": []}
        made = client.post(PATH, json={"alias": "laptop", "scope": "admin", "max_in_flight": 3})
        assert made.status_code == 201
        key = made.json()["key"]
        assert key.startswith(made.json()["id"] + ":")
        wait_for(lambda: client.get(PATH).status_code == 401)
        client.headers["Authorization"] = f"Key {key}"
        second = client.post(PATH, json={"alias": "ü", "scope": "run"}).json()
        listed = client.get(PATH)
        assert "secret" not in listed.text
        assert key.partition(":")[2] not in listed.text
        facts = [(one["alias"], one["scope"], one["max_in_flight"], one["own"]) for one in listed.json()["keys"]]
        assert facts == [("laptop", "admin", 3, True), ("ü", "run", None, False)]
        assert served.state.keys.verify(second["key"]) is not None
        assert client.delete(f"{PATH}/{second['id']}").json() == {"id": second["id"], "revoked": True}
        assert served.state.keys.verify(second["key"]) is None
        assert client.get(PATH).json()["keys"][1]["revoked_at"] is not None
        for unknown in (second["id"], "unknown"):
            assert client.delete(f"{PATH}/{unknown}").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "alias"),
        ({"scope": "run"}, "alias"),
        ({"alias": "", "scope": "run"}, "alias"),
        ({"alias": "x" * 201, "scope": "run"}, "alias"),
        ({"alias": "a\nb", "scope": "run"}, "alias"),
        ({"alias": "a\0b", "scope": "run"}, "alias"),
        ({"alias": "a"}, "scope"),
        ({"alias": "a", "scope": "token"}, "scope"),
        ({"alias": "a", "scope": ["run"]}, "scope"),
        *(
            ({"alias": "a", "scope": "run", "max_in_flight": most}, "max_in_flight")
            for most in (0, True, "3", 1.5, 2**31)
        ),
    ],
)
def test_wrong_values_are_named(served: Served, body: Any, field: str) -> None:
    answer = served.client().post(PATH, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", field]
    assert served.state.keys.list() == []


@pytest.mark.parametrize(("method", "path"), [("GET", PATH), ("POST", PATH), ("DELETE", f"{PATH}/x")])
def test_only_admins_manage_keys(served: Served, method: str, path: str) -> None:
    with served.client() as client:
        assert client.request(method, path, headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert client.request(method, path, headers={"origin": "https://other.example"}).status_code == 403
        key = served.state.keys.create("1", "run")
        assert client.request(method, path, headers={"Authorization": f"Key {key}"}).status_code == 403
        wait_for(lambda: client.request(method, path).status_code == 401)
    assert len(served.state.keys.list()) == 1
