"""The OpenAPI document of an endpoint, in the form of fal's: 3.0.4, made from the endpoint's own request model."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.endpoints import ENDPOINTS
from longtake.service.errors import answer
from longtake.service.intake import known
from longtake.service.parts import Parts

Schema = dict[str, Any]

REF = "#/components/schemas/{model}"

STATUS: Schema = {
    "type": "object",
    "title": "QueueStatus",
    "properties": {
        "status": {"type": "string", "enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]},
        "request_id": {"type": "string", "description": "The request id."},
        "response_url": {"type": "string", "description": "The response url."},
        "status_url": {"type": "string", "description": "The status url."},
        "cancel_url": {"type": "string", "description": "The cancel url."},
        "logs": {
            "type": "array",
            "nullable": True,
            "description": "The logs, where they are asked for.",
            "items": {"type": "object", "additionalProperties": True},
        },
        "metrics": {"type": "object", "description": "The metrics.", "additionalProperties": True},
        "queue_position": {"type": "integer", "description": "The queue position."},
        "error": {"type": "string", "description": "What went wrong."},
        "error_type": {"type": "string", "description": "The kind of what went wrong."},
    },
    "required": ["status", "request_id"],
}
STATUS["x-fal-order-properties"] = list(STATUS["properties"])
CANCELLED: Schema = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["OK", "CANCELLATION_REQUESTED", "ALREADY_COMPLETED", "NOT_FOUND"]}
    },
}
UNKNOWN: Schema = {"type": "object", "additionalProperties": True}


def routes(parts: Parts) -> list[BaseRoute]:
    async def openapi(request: Request) -> Response:
        endpoint = known(request.query_params.get("endpoint_id", ""))
        return answer(document(endpoint, request.scope["longtake.base"]))

    return [Route("/api/openapi/queue/openapi.json", openapi)]


def document(endpoint: str, queue: str) -> Schema:
    """The document; `queue` is the base of the queue as the client sees it."""
    schemas, given, made = _schemas(endpoint)
    server = queue.removesuffix("/queue")
    return {
        "openapi": "3.0.4",
        "info": {
            "title": f"Queue OpenAPI for {endpoint}",
            "version": "1.0.0",
            "description": f"The OpenAPI schema for the {endpoint} queue.",
            "x-fal-metadata": {
                "endpointId": endpoint,
                "category": "video-to-video",
                "thumbnailUrl": "",
                "playgroundUrl": f"{server}/",
                "documentationUrl": f"{server}/api/openapi/queue/openapi.json?endpoint_id={endpoint}",
            },
        },
        "components": {
            "securitySchemes": {
                "apiKeyAuth": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "Fal Key",
                }
            },
            "schemas": {"QueueStatus": STATUS, **schemas},
        },
        "paths": _paths(endpoint, _ref(given), _ref(made)),
        "servers": [{"url": queue}],
        "security": [{"apiKeyAuth": []}],
    }


def camel(endpoint: str) -> str:
    """`owner/some-model-2b/extend` -> `SomeModel2bExtend`"""
    words = re.split(r"[^A-Za-z0-9]+", endpoint.partition("/")[2])
    return "".join(word[:1].upper() + word[1:] for word in words)


def _ref(name: str) -> Schema:
    return {"$ref": REF.format(model=name)}


def _paths(endpoint: str, given: Schema, made: Schema) -> Schema:
    one = f"/{endpoint}/requests/{{request_id}}"
    request_id = {
        "name": "request_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "description": "Request ID"},
    }
    logs = {
        "name": "logs",
        "in": "query",
        "required": False,
        "schema": {
            "type": "number",
            "description": "Whether to include logs (`1`) in the response or not (`0`).",
        },
    }
    return {
        f"{one}/status": {
            "get": {
                "parameters": [request_id, logs],
                "responses": {
                    "200": _response("The request status.", _ref("QueueStatus")),
                    "202": _response("The request status, before it has ended.", _ref("QueueStatus")),
                    **_failures(),
                },
            }
        },
        f"{one}/cancel": {
            "put": {
                "parameters": [request_id],
                "responses": {
                    "200": _response("The request was cancelled.", CANCELLED),
                    "202": _response("The request is being cancelled.", CANCELLED),
                    "400": _response("The request had ended.", CANCELLED),
                    **_failures(),
                },
            }
        },
        f"/{endpoint}": {
            "post": {
                "requestBody": {"required": True, "content": {"application/json": {"schema": given}}},
                "responses": {"200": _response("The request status.", _ref("QueueStatus")), **_failures()},
            }
        },
        one: {
            "get": {
                "parameters": [request_id],
                "responses": {"200": _response("Result of the request.", made), **_failures()},
            }
        },
    }


def _response(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _failures() -> Schema:
    return {"default": _response("An error: a sentence, or a list of what is wrong, under `detail`.", UNKNOWN)}


@cache
def _schemas(endpoint: str) -> tuple[Schema, str, str]:
    """The components of an endpoint, and the names of its input and output among them."""
    known_endpoint, stem = ENDPOINTS[endpoint], camel(endpoint)
    found: Schema = {}
    for name, model in ((f"{stem}Input", known_endpoint.Request), (f"{stem}Output", known_endpoint.Response)):
        schema = _of(model)
        for nested, inner in schema.pop("$defs", {}).items():
            found[nested] = _walk(inner, _object)
        found[name] = _walk(schema, _object)
    return found, f"{stem}Input", f"{stem}Output"


def _of(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(ref_template=REF)


def _walk(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """Each schema within changed, the inner ones first."""
    if isinstance(schema, list):
        return [_walk(part, change) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {"default", "examples", "enum", "const", "example"}
    return change({key: value if key in kept else _walk(value, change) for key, value in schema.items()})


def _object(schema: Schema) -> Schema:
    """From JSON Schema 2020-12 to OpenAPI 3.0: what may be null is what may be absent; one value is an enum of one; an
    excluded bound is a mark beside the bound; beside a reference stands nothing."""
    schema = dict(schema)
    options = schema.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        rest = [option for option in options if option != {"type": "null"}]
        del schema["anyOf"]
        schema = {**rest[0], **schema} if len(rest) == 1 else {**schema, "anyOf": rest}
        if schema.get("default", ...) is None:
            del schema["default"]
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    for bound, mark in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(mark), int | float) and not isinstance(schema.get(mark), bool):
            schema[bound], schema[mark] = schema[mark], True
    if "$ref" in schema and len(schema) > 1:
        schema = {**{key: value for key, value in schema.items() if key != "$ref"}, "allOf": [{"$ref": schema["$ref"]}]}
    if isinstance(schema.get("properties"), dict):
        schema["x-fal-order-properties"] = list(schema["properties"])
    return schema
