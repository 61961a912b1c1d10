"""The OpenAPI documents: they have fal's form, and the server conforms to them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema_rs import Draft4Validator
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
    use_after_free,
)

from longtake.endpoints import ENDPOINTS
from longtake.service.openapi import camel, document, document_json
from tests.service.serving import INPUTS, LTX2, LTXV, OLD, Served, serving

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
    use_after_free,
]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yields every JSON object in a schema."""
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        (LTXV, "Ltxv13b098DistilledExtend"),
        (OLD, "LtxVideoV097Extend"),
        (LTX2, "Ltx2322bExtendVideo"),
        ("fal-ai/ltx-2.3-22b/extend-video/lora", "Ltx2322bExtendVideoLora"),
        ("fal-ai/ltx-2.3/extend-video", "Ltx23ExtendVideo"),
        ("fal-ai/ltx-video-13b-dev/extend", "LtxVideo13bDevExtend"),
        ("fal-ai/bytedance/seedream/v4/text-to-image", "BytedanceSeedreamV4TextToImage"),
    ],
)
def test_schema_names_are_fals(endpoint: str, name: str) -> None:
    assert camel(endpoint) == name


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_document_has_fals_structure(client: httpx.Client, served: Served, endpoint: str) -> None:
    spec = client.get("/api/openapi/queue/openapi.json", params={"endpoint_id": endpoint}).json()
    assert spec["openapi"] == "3.0.4"
    assert spec["info"]["title"] == f"Queue OpenAPI for {endpoint}"
    assert spec["info"]["x-fal-metadata"]["endpointId"] == endpoint
    assert spec["servers"] == [{"url": served.queue}]
    assert spec["security"] == [{"apiKeyAuth": []}]
    one = f"/{endpoint}/requests/{{request_id}}"
    assert [(path, *methods) for path, methods in spec["paths"].items()] == [
        (f"{one}/status", "get"),
        (f"{one}/cancel", "put"),
        (f"/{endpoint}", "post"),
        (one, "get"),
    ]
    schemas, stem = spec["components"]["schemas"], camel(endpoint)
    assert next(iter(schemas)) == "QueueStatus"
    assert schemas["QueueStatus"]["required"] == ["status", "request_id"]
    request = ENDPOINTS[endpoint].Request
    assert schemas[f"{stem}Input"]["x-fal-order-properties"] == list(request.model_fields)
    assert schemas[f"{stem}Input"]["required"] == [
        name for name, field in request.model_fields.items() if field.is_required()
    ]
    assert {"VideoFile", f"{stem}Output"} <= set(schemas)


@pytest.mark.parametrize("url", ["http://a:1/queue", "https://queue.fal.run", 'http://a"\\b/queue'])
def test_a_document_is_made_once_for_all_names_of_the_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document_json(LTXV, "http://first/queue")
    expected = document(LTXV, url)
    monkeypatch.setattr("longtake.service.openapi.document", None)
    assert json.loads(document_json(LTXV, url)) == expected


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_schemas_are_openapi_3_0(endpoint: str) -> None:
    spec = document(endpoint, "http://localhost/queue")
    for schema in objects(spec["components"]["schemas"]):
        assert schema.get("type") != "null"
        assert "const" not in schema
        assert "$defs" not in schema
        assert not isinstance(schema.get("type"), list)
        assert "$ref" not in schema or len(schema) == 1
        assert isinstance(schema.get("exclusiveMinimum", False), bool)
    named = {schema["$ref"] for schema in objects(spec) if "$ref" in schema}
    assert named <= {f"#/components/schemas/{name}" for name in spec["components"]["schemas"]}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_example_and_default_is_valid_and_in_the_document(endpoint: str) -> None:
    schemas = document(endpoint, "http://localhost/queue")["components"]["schemas"]
    inputs, outputs = (schemas[f"{camel(endpoint)}{kind}"]["properties"] for kind in ("Input", "Output"))
    fields = [field for schema in schemas.values() for field in schema.get("properties", {}).values()]
    for field in fields:
        for value in (*field.get("examples", ()), *([field["default"]] if "default" in field else [])):
            Draft4Validator({"components": {"schemas": schemas}, "allOf": [field]}).validate(value)
    source = ENDPOINTS[endpoint].source_field[0]
    for name, field in [*outputs.items(), (source, inputs[source])]:
        assert field["examples"], name


def test_two_fields_of_098_have_the_step_that_fal_publishes() -> None:
    fields = document(LTXV, "http://localhost/queue")["components"]["schemas"][f"{camel(LTXV)}Input"]["properties"]
    steps = {name: field["step"] for name, field in fields.items() if "step" in field}
    assert steps == {"temporal_adain_factor": 0.05, "tone_map_compression_ratio": 0.05}


def test_fields_have_their_types_bounds_and_forms() -> None:
    schemas = document(LTX2, "http://localhost/queue")["components"]["schemas"]
    fields = schemas["Ltx2322bExtendVideoInput"]["properties"]
    assert fields["video_url"]["ui"] == {"field": "video"}
    assert fields["end_image_url"]["ui"] == {"field": "image"}
    assert (fields["num_frames"]["minimum"], fields["num_frames"]["maximum"], fields["num_frames"]["default"]) == (
        9, 481, 121,
    )  # fmt: skip
    assert "default" not in fields["seed"]
    assert fields["seed"]["type"] == "integer"
    size = fields["video_size"]["anyOf"]
    assert size[0] == {"$ref": "#/components/schemas/ImageSize"}
    assert size[1]["type"] == "string"
    assert "square_hd" in size[1]["enum"]


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("served")
    with serving(folder) as served:
        served.state.keys.create("somebody's", "run")
        yield served


@pytest.fixture(scope="module")
def key(shared_server: Served) -> dict[str, str]:
    return {"Authorization": f"Key {shared_server.state.keys.create('test', 'admin')}"}


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        *((endpoint, "") for endpoint in ENDPOINTS),
        *((LTX2, f"/requests/{{request_id}}{path}") for path in ("/status", "/cancel", "")),
    ],
)
def test_the_server_conforms_to_the_document(
    shared_server: Served, key: dict[str, str], endpoint: str, path: str
) -> None:
    schema = schemathesis.openapi.from_url(f"{shared_server.url}/api/openapi/queue/openapi.json?endpoint_id={endpoint}")
    found = (one.ok() for one in schema.get_all_operations() if isinstance(one, Ok))
    operation = next(one for one in found if one.path == f"/{endpoint}{path}")

    @given(case=operation.as_strategy())
    @settings(max_examples=15, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        case.call_and_validate(base_url=shared_server.queue, checks=CHECKS, headers=key)

    check()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_answers_of_a_request_conform_to_the_document(
    shared_server: Served, key: dict[str, str], endpoint: str
) -> None:
    schema = schemathesis.openapi.from_url(f"{shared_server.url}/api/openapi/queue/openapi.json?endpoint_id={endpoint}")
    full = f"/{endpoint}/requests/{{request_id}}"
    with shared_server.client(headers=key) as client:
        spec = client.post(f"/queue/{endpoint}", json=INPUTS[endpoint]).json()
        for method, path, url in (
            ("GET", f"{full}/status", spec["status_url"]),
            ("GET", full, spec["response_url"]),
            ("PUT", f"{full}/cancel", spec["cancel_url"]),
            ("GET", f"{full}/status", spec["status_url"]),
            ("GET", full, spec["response_url"]),
        ):
            schema[path][method].validate_response(client.request(method, url))
