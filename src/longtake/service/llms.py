"""Describes an endpoint as plain text for language models that write programs: addresses, fields, an example."""

import json
import shlex
from functools import cache
from typing import Any

from longtake.endpoints import ENDPOINTS
from longtake.service.openapi import document


@cache
def description(endpoint: str) -> str:
    """Returns the description of the endpoint with this id in Markdown, with `{server}` as the URL of the server.

    Raises KeyError for an unknown id.
    """
    found = document(endpoint, "{server}/queue")
    schemas = found["components"]["schemas"]
    operation = found["paths"][f"/{endpoint}"]["post"]
    body = _resolved(operation["requestBody"]["content"]["application/json"]["schema"], schemas)
    answer = found["paths"][f"/{endpoint}/requests/{{request_id}}"]["get"]["responses"]["200"]
    output = _resolved(answer["content"]["application/json"]["schema"], schemas)
    example = json.dumps(_example(body, schemas), indent=2)
    return "\n".join(
        [
            f"# {endpoint}",
            "",
            f"> {ENDPOINTS[endpoint].title} Served by longtake at {{server}}, with the HTTP API of fal.ai.",
            "",
            "## Calls",
            "",
            f"- Run and wait for the result: POST {{server}}/run/{endpoint} with the input as JSON.",
            f"- Submit to the queue: POST {{server}}/queue/{endpoint}; the answer has `request_id`, `status_url`, "
            "`response_url` and `cancel_url`.",
            f"- Status: GET {{server}}/queue/{endpoint}/requests/REQUEST_ID/status?logs=1, "
            "until `status` is COMPLETED.",
            f"- Result: GET {{server}}/queue/{endpoint}/requests/REQUEST_ID. "
            f"Cancel: PUT {{server}}/queue/{endpoint}/requests/REQUEST_ID/cancel.",
            "- Upload a file: POST {server}/rest/storage/upload/initiate with `file_name` and `content_type`; "
            "PUT the bytes to `upload_url`; use `file_url` in the input.",
            f"- Plan and price without running: POST {{server}}/models/{endpoint}/plan with the input as JSON.",
            "- Header: `Authorization: Key ID:SECRET`. A server without keys accepts calls of its own machine "
            "without it.",
            f"- OpenAPI: {{server}}/api/openapi/queue/openapi.json?endpoint_id={endpoint}",
            "",
            "## Input",
            "",
            *_fields(body, schemas),
            "",
            "## Output",
            "",
            *_fields(output, schemas),
            "",
            "An invalid input is answered with status 422 and `detail`, a list of {loc, msg, type}.",
            "",
            "## Example",
            "",
            f"curl -sS {{server}}/run/{endpoint} -H 'Authorization: Key ID:SECRET' -H 'Content-Type: application/json' "
            f"-d {shlex.quote(example)}",
            "",
        ]
    )


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON schema with its reference to another schema (`$ref`), if it has one, replaced by that schema.

    Keywords beside the reference replace those of the other schema. `schemas`: the name of each schema -> the schema.
    """
    reference = schema.get("$ref") or (schema["allOf"][0].get("$ref") if len(schema.get("allOf", ())) == 1 else None)
    if reference is None:
        return schema
    own = {name: value for name, value in schema.items() if name not in ("$ref", "allOf")}
    return {**schemas[reference.rpartition("/")[2]], **own}


def _fields(schema: dict[str, Any], schemas: dict[str, Any], prefix: str = "") -> list[str]:
    """Returns a line of Markdown for each property of a JSON schema, also for those of nested objects
    (`video.video_url`).

    `prefix` is put before the names of the properties.
    """
    lines = []
    required = schema.get("required", ())
    for name, reference in schema["properties"].items():
        field = _resolved(reference, schemas)
        facts = [_type(field, schemas), "required" if name in required else ""]
        facts += [f"{word} {field[key]}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in field]
        facts += [f"default {json.dumps(field['default'])}" if "default" in field else ""]
        text = f"- `{prefix}{name}` ({', '.join(filter(None, facts))}): {field.get('description', '')}"
        lines.append(text.rstrip(": "))
        if "properties" in field:
            lines += _fields(field, schemas, f"{prefix}{name}.")
    return lines


def _type(field: dict[str, Any], schemas: dict[str, Any]) -> str:
    if "enum" in field:
        return "one of " + ", ".join(json.dumps(value) for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(_resolved(one, schemas), schemas) for one in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type(_resolved(field['items'], schemas), schemas)}"
    if "properties" in field:
        return "object with " + ", ".join(field["properties"])
    return str(field.get("type", "any"))


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Returns an example of an endpoint's input: the required fields, with the examples in its JSON schema as values.
    Files and LoRAs have made-up addresses."""
    values: dict[str, Any] = {}
    for name in schema.get("required", ()):
        field = _resolved(schema["properties"][name], schemas)
        if "properties" in field:
            values[name] = _example(field, schemas)
        elif field.get("ui"):
            values[name] = "https://example.com/clip.mp4"
        elif field.get("type") == "array":
            values[name] = [{"path": "owner/repository"}]
        else:
            values[name] = next(iter(field.get("examples", ())), "")
    return values
