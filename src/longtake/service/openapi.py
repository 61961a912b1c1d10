"""Generates an endpoint's OpenAPI 3.0.4 document, in fal's form, from the endpoint's request and response models."""

import re
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.endpoints import ENDPOINTS
from longtake.service.responses import to_json
from longtake.service.state import ServerState
from longtake.service.submit import existing_endpoint

Schema = dict[str, Any]

ANY_SERVER = "https://server.invalid"
"""A placeholder for the server's URL in cached documents. Clients may reach the server under several URLs."""
REF = "#/components/schemas/{model}"
VALUE_KEYWORDS = {"default", "examples", "enum", "const", "example"}
"""Keywords of a schema whose values are plain data. `_convert` does not look for schemas inside them."""

QUEUE_STATUS: Schema = {
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
        "progress": {
            "type": "object",
            "description": "What a running request does: the stage as text and by name, its step of so many steps, and "
            "the window and the pass of so many.",
            "properties": {
                "message": {"type": "string"},
                "stage": {"type": "string"},
                **{name: {"type": "integer"} for name in ("step", "steps", "window", "windows", "pass", "passes")},
            },
        },
        "error": {"type": "string", "description": "What went wrong."},
        "error_type": {"type": "string", "description": "The kind of what went wrong."},
    },
    "required": ["status", "request_id"],
}
QUEUE_STATUS["x-fal-order-properties"] = list(QUEUE_STATUS["properties"])
CANCEL_ANSWER: Schema = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["OK", "CANCELLATION_REQUESTED", "ALREADY_COMPLETED", "NOT_FOUND"]}
    },
}
ERROR: Schema = {"type": "object", "additionalProperties": True}


def routes(_: ServerState) -> list[BaseRoute]:
    """Returns one route. It sends the OpenAPI document of the endpoint in the query parameter `endpoint_id`."""

    async def openapi(request: Request) -> Response:
        endpoint = existing_endpoint(request.query_params.get("endpoint_id", ""))
        return Response(document_json(endpoint, request.scope["longtake.base_url"]), media_type="application/json")

    return [Route("/api/openapi/queue/openapi.json", openapi)]


def document_json(endpoint: str, queue_url: str) -> bytes:
    """Returns the OpenAPI document of the endpoint with this id, as JSON. It is cached, because making it takes 30 ms.

    queue_url: the URL of the server's service `queue` as the client sees it, such as `http://host/queue`.
    """
    queue, server = (to_json(url)[1:-1] for url in (queue_url, queue_url.removesuffix("/queue")))
    return _template(endpoint).replace(f"{ANY_SERVER}/queue".encode(), queue).replace(ANY_SERVER.encode(), server)


@cache
def _template(endpoint: str) -> bytes:
    return to_json(document(endpoint, f"{ANY_SERVER}/queue"))


def document(endpoint: str, queue_url: str) -> Schema:
    """Returns the OpenAPI document of the endpoint with this id.

    `queue_url` is the URL of the server's service `queue` as the client sees it, such as `http://host/queue`. Raises
    KeyError for an unknown id.
    """
    schemas, input_name, output_name = _schemas(endpoint)
    server = queue_url.removesuffix("/queue")
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
                "playgroundUrl": f"{server}/models/{endpoint}",
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
            "schemas": {"QueueStatus": QUEUE_STATUS, **schemas},
        },
        "paths": _paths(endpoint, _ref(input_name), _ref(output_name)),
        "servers": [{"url": queue_url}],
        "security": [{"apiKeyAuth": []}],
    }


def camel(endpoint: str) -> str:
    """Returns an endpoint's id without its owner and in camel case: `owner/a-2b/extend` -> `A2bExtend`.

    fal forms the names of an endpoint's schemas in this way.
    """
    words = re.split(r"[^A-Za-z0-9]+", endpoint.partition("/")[2])
    return "".join(word[:1].upper() + word[1:] for word in words)


def _ref(name: str) -> Schema:
    return {"$ref": REF.format(model=name)}


def _paths(endpoint: str, input: Schema, output: Schema) -> Schema:
    request_path = f"/{endpoint}/requests/{{request_id}}"
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
        f"{request_path}/status": {
            "get": {
                "parameters": [request_id, logs],
                "responses": {
                    "200": _response("The request status.", _ref("QueueStatus")),
                    "202": _response("The request status, before it has ended.", _ref("QueueStatus")),
                    **_failures(),
                },
            }
        },
        f"{request_path}/cancel": {
            "put": {
                "parameters": [request_id],
                "responses": {
                    "200": _response("The request was cancelled.", CANCEL_ANSWER),
                    "202": _response("The request is being cancelled.", CANCEL_ANSWER),
                    "400": _response("The request had ended.", CANCEL_ANSWER),
                    **_failures(),
                },
            }
        },
        f"/{endpoint}": {
            "post": {
                "requestBody": {"required": True, "content": {"application/json": {"schema": input}}},
                "responses": {"200": _response("The request status.", _ref("QueueStatus")), **_failures()},
            }
        },
        request_path: {
            "get": {
                "parameters": [request_id],
                "responses": {"200": _response("Result of the request.", output), **_failures()},
            }
        },
    }


def _response(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _failures() -> Schema:
    return {"default": _response("An error: a sentence, or a list of what is wrong, under `detail`.", ERROR)}


@cache
def _schemas(endpoint: str) -> tuple[Schema, str, str]:
    """Returns (schemas, input name, output name) for the endpoint with this id.

    schemas: a mapping of the name of each schema to the schema.
    input name: the name of the schema of the endpoint's input.
    output name: the name of the schema of the endpoint's output.

    Raises KeyError if no endpoint has this id.
    """
    input_name, output_name = f"{camel(endpoint)}Input", f"{camel(endpoint)}Output"
    schemas: Schema = {}
    for name, model in ((input_name, ENDPOINTS[endpoint].Request), (output_name, ENDPOINTS[endpoint].Response)):
        schema = model.model_json_schema(ref_template=REF)
        for nested_name, nested in schema.pop("$defs", {}).items():
            schemas[nested_name] = _convert(nested)
        schemas[name] = _convert(schema)
    return schemas, input_name, output_name


def _convert(schema: Any) -> Any:
    """Returns a schema, with all schemas inside it, converted from JSON Schema 2020-12 to OpenAPI 3.0.

    `schema` may also be a list, whose items are converted, or a value of another type, which is returned unchanged.
    """
    if isinstance(schema, list):
        return [_convert(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return _convert_object({key: value if key in VALUE_KEYWORDS else _convert(value) for key, value in schema.items()})


def _convert_object(schema: Schema) -> Schema:
    """Returns one schema in the form of OpenAPI 3.0. The schemas inside it must have been converted before.

    - The alternative `null` and a default of null are removed, so that the field is only optional.
    - A constant becomes an enum of one value.
    - An exclusive bound becomes a bound and a flag: {"minimum": 0, "exclusiveMinimum": true}.
    - A reference that has other keywords beside it moves into `allOf`. OpenAPI 3.0 would ignore those keywords.
    - `x-fal-order-properties` is added: the names of the properties in their order.
    """
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
