"""Random JSON bodies: every answer is JSON, none is an internal error, and the server stores what it answered."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from longtake.endpoints import ENDPOINTS
from tests.fuzz.mutants import VALUES, mutated, seeded, with_other_value
from tests.service.serving import INPUTS, serving


@pytest.fixture
def client(tmp_path: Path, database_url: str) -> Iterator[httpx.Client]:
    with serving(tmp_path, database_url=database_url) as served, served.client() as client:
        yield client


def body(draw: random.Random, endpoint: str) -> bytes:
    """Returns the body of a request in which some fields have values that they do not expect."""
    fields = list(ENDPOINTS[endpoint].Request.model_fields)
    document: Any = INPUTS[endpoint] | {name: draw.choice(VALUES) for name in draw.sample(fields, draw.randrange(4))}
    if draw.random() < 0.5:
        document = with_other_value(draw, document)
    raw = json.dumps(document, ensure_ascii=draw.random() < 0.5).encode()
    return mutated(draw, raw) if draw.random() < 0.3 else raw


def check(draw: random.Random, client: httpx.Client) -> None:
    endpoint = draw.choice(list(INPUTS))
    raw = body(draw, endpoint)
    answer = client.post(f"/queue/{endpoint}", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 413, 422), (answer.status_code, answer.text)
    document = answer.json()
    if answer.status_code == 200:
        result = client.get(f"/queue/{endpoint}/requests/{document['request_id']}")
        assert result.status_code in (200, 202, 400, 422), (result.status_code, result.text)
        document = result.json()
        if result.status_code == 422:
            assert document["detail"]
            assert {"loc", "msg", "type"} <= document["detail"][0].keys()
    assert len(json.dumps(document)) < 200_000


@pytest.mark.parametrize(
    "seeds", [range(80), pytest.param(range(80, 20_000), marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_random_bodies(client: httpx.Client, seeds: range) -> None:
    for seed in seeds:
        with seeded(seed) as draw:
            check(draw, client)
    assert client.get("/health").status_code == 200
